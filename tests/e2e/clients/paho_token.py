"""Eclipse Paho with tokens: paho_token.py PORT LASTING SHORT OVER ELSEWHERE. Ends with 0 if all was as it should be."""

import queue
import sys

import paho.mqtt.client as paho

PORT = int(sys.argv[1])
LASTING, SHORT, OVER, ELSEWHERE = sys.argv[2:6]
BOUND = 30


def connect(version, token):
    """A client that logs in with a token, the answer that it gets, and the queue of its ends."""
    answers, ends = queue.Queue(), queue.Queue()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "", protocol=version, reconnect_on_failure=False)
    client.on_connect = lambda _, __, ___, reason, ____: answers.put(reason.value)
    client.on_disconnect = lambda _, __, ___, reason, ____: ends.put(reason.value)
    client.username_pw_set("device", token)
    client.connect("127.0.0.1", PORT)
    client.loop_start()
    return client, answers.get(timeout=BOUND), ends


for version in (paho.MQTTv311, paho.MQTTv5):
    client, answer, _ = connect(version, LASTING)
    assert answer == 0, answer
    client.publish("t", "hello", qos=1).wait_for_publish(BOUND)
    client.disconnect()
    client.loop_stop()
    for token in (OVER, ELSEWHERE, LASTING[:-2] + "AA", "no token"):
        client, answer, _ = connect(version, token)
        # Bad user name or password; Paho says it in the words of 5.0 in both versions.
        assert answer == 134, answer
        client.loop_stop()

client, answer, ends = connect(paho.MQTTv5, SHORT)
assert answer == 0, answer
# Paho overlooks the reason of a DISCONNECT that has no properties.
ends.get(timeout=BOUND)
client.loop_stop()
