"""mqtt-sn-12 (PyPI): mqttsn12_client.py PORT. Each of its calls meets the gateway. Ends with 0 if all was as it should be."""

import logging
import sys
import time

from mqttsn12.client.MqttSnClient import MqttSnClient, MqttSnListener

logging.disable(logging.CRITICAL)
PORT = int(sys.argv[1])
BOUND = 30


class Inbox(MqttSnListener):
    def __init__(self):
        self.messages = []

    def message_arrived(self, msg):
        self.messages.append((msg.get_topic_name(), bytes(msg.get_payload())))


def client(name):
    it = MqttSnClient()
    it.set_client_id(name)
    it.set_timeout(BOUND)
    it.open("127.0.0.1", PORT)
    return it


def wait(who, inbox, wanted):
    end = time.monotonic() + BOUND
    while len(inbox.messages) < len(wanted) and time.monotonic() < end:
        who.polling()
    assert inbox.messages == wanted, (inbox.messages, wanted)


searcher = client("searcher")
searcher.send_search_gateway(0)
searcher.close()

listener = client("listener")
listener.send_connect()
named, wild, short, known = Inbox(), Inbox(), Inbox(), Inbox()
# It never acknowledges what comes with QoS 1 (it compares shifted flags with unshifted ones), so it asks for 0.
listener.send_subscribe("field/barn", 0, named)

sender = client("sender")
sender.set_will("field/will", "gone", 1, False)
sender.send_connect()
for qos in (0, 1, 2):
    sender.send_publish("field/barn", b"at %d" % qos, qos)
wait(listener, named, [("field/barn", b"at %d" % qos) for qos in (0, 1, 2)])

listener.send_unsubscribe("field/barn")
listener.send_subscribe("field/+", 0, wild)
sender.send_publish("field/north", b"by a wildcard", 1)
wait(listener, wild, [("field/north", b"by a wildcard")])

listener.send_subscribe_predefined(7, 0, known)
sender.send_publish_predefined(7, b"predefined", 1)
wait(listener, known, [(None, b"predefined")])

stranger = client("stranger")
stranger.send_publish_predefined(7, b"without a connection", -1)
stranger.close()
wait(listener, known, [(None, b"predefined"), (None, b"without a connection")])

sender.send_will_topic_update("field/last")
sender.send_will_message_update("changed")
sender.send_ping_req()
sender.send_disconnect()
sender.close()
listener.send_disconnect()
listener.close()
