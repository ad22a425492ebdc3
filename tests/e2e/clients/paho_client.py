"""Eclipse Paho against the gateway: paho_client.py PORT PROTOCOL [CA]. PROTOCOL is mqtt, ws or wss.

Says "restart VERSION" when the gateway is to be killed and started again, and goes on when it reads a line. Ends
with 0 if all was as it should be.
"""

import queue
import sys

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PORT, PROTOCOL, CA = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
TRANSPORT = "tcp" if PROTOCOL == "mqtt" else "websockets"
BOUND = 30


class Peer:
    """A client whose callbacks go into queues."""

    def __init__(self, version, name, keep=False, will=None):
        self.is_5 = version == "5.0"
        self.session_present = None
        self.connected, self.subscribed, self.messages = queue.Queue(), queue.Queue(), queue.Queue()
        protocol = paho.MQTTv5 if self.is_5 else paho.MQTTv311
        clean = {} if self.is_5 else {"clean_session": not keep}
        version_2 = paho.CallbackAPIVersion.VERSION2
        client_id = f"{name}-{version}"
        self.client = paho.Client(version_2, client_id, protocol=protocol, transport=TRANSPORT, **clean)
        if CA:
            self.client.tls_set(*CA)
        self.client.on_connect = lambda _, __, flags, reason, ___: self.connected.put((flags, reason))
        self.client.on_subscribe = lambda _, __, ___, reasons, ____: self.subscribed.put(reasons)
        self.client.on_message = lambda _, __, message: self.messages.put(message)
        if will:
            self.client.will_set(*will, qos=1)
        options = {}
        if self.is_5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600 if keep else 0
            options = {"clean_start": not keep, "properties": properties}
        self.client.connect("localhost" if CA else "127.0.0.1", PORT, keepalive=60, **options)
        self.client.loop_start()
        flags, reason = self.connected.get(timeout=BOUND)
        assert not reason.is_failure, reason
        self.session_present = flags.session_present

    def subscribe(self, topic, qos):
        options = {"options": SubscribeOptions(qos=qos)} if self.is_5 else {"qos": qos}
        self.client.subscribe(topic, **options)
        reasons = self.subscribed.get(timeout=BOUND)
        assert [reason.value for reason in reasons] == [qos], reasons

    def publish(self, topic, payload, qos, **more):
        sent = self.client.publish(topic, payload, qos=qos, **more)
        sent.wait_for_publish(timeout=BOUND)
        assert sent.is_published(), f"{topic} was not acknowledged"

    def expect(self, topic, payload, qos, retain=False):
        message = self.messages.get(timeout=BOUND)
        got = (message.topic, message.payload.decode(), message.qos, bool(message.retain))
        assert got == (topic, payload, qos, retain), f"{got} instead of {(topic, payload, qos, retain)}"
        return message

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """Goes without DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()


def exchange(version):
    both = Peer(version, "both")
    for qos in (0, 1, 2):
        topic = f"{version}/level/{qos}"
        both.subscribe(topic, qos)
        for number in range(10):
            both.publish(topic, f"{number} grüße", qos)
        for number in range(10):
            both.expect(topic, f"{number} grüße", qos)
    both.disconnect()


def retained(version):
    peer, topic = Peer(version, "retained"), f"{version}/retained"
    peer.publish(topic, "kept", 1, retain=True)
    peer.subscribe(topic, 1)
    peer.expect(topic, "kept", 1, retain=True)
    peer.publish(topic, "", 1, retain=True)
    peer.expect(topic, "", 1)
    late = Peer(version, "late")
    late.subscribe(f"{version}/#", 1)
    late.publish(f"{version}/end", "cleared", 1)
    late.expect(f"{version}/end", "cleared", 1)
    late.disconnect()
    peer.disconnect()


def wills(version):
    witness, topic = Peer(version, "witness"), f"{version}/will"
    witness.subscribe(topic, 1)
    Peer(version, "polite", will=(topic, "never")).disconnect()
    Peer(version, "doomed", will=(topic, "gone")).vanish()
    witness.expect(topic, "gone", 1)
    witness.disconnect()


def persistence(version):
    topic = f"{version}/session"
    first = Peer(version, "keeper", keep=True)
    assert not first.session_present
    first.subscribe(topic, 2)
    first.disconnect()
    publisher = Peer(version, "publisher")
    # Paho hands a QoS 2 message over when PUBREL comes, so one of QoS 1 may overtake it, but not the other way round.
    levels = [1] * 10 + [2] * 10
    for number, qos in enumerate(levels):
        publisher.publish(topic, str(number), qos)
    publisher.disconnect()

    print(f"restart {version}", flush=True)
    assert sys.stdin.readline(), "nobody restarted the gateway"

    back = Peer(version, "keeper", keep=True)
    assert back.session_present
    for number, qos in enumerate(levels):
        back.expect(topic, str(number), qos)
    back.publish(topic, "live", 2)
    back.expect(topic, "live", 2)
    back.disconnect()


def properties():
    topic = "properties"
    peer = Peer("5.0", "properties")
    peer.subscribe(topic, 1)
    given = Properties(PacketTypes.PUBLISH)
    given.UserProperty = [("unit", "K"), ("unit", "°C")]
    given.ContentType = "text/plain"
    given.ResponseTopic = "answer/here"
    given.CorrelationData = b"\x00\xff7"
    given.MessageExpiryInterval = 600
    peer.publish(topic, "293", 1, properties=given)
    shown = peer.expect(topic, "293", 1).properties
    assert shown.UserProperty == given.UserProperty, shown
    assert shown.ContentType == given.ContentType, shown
    assert shown.ResponseTopic == given.ResponseTopic, shown
    assert shown.CorrelationData == given.CorrelationData, shown
    assert 570 <= shown.MessageExpiryInterval <= 600, shown
    peer.disconnect()


for each in ("3.1.1", "5.0"):
    exchange(each)
    retained(each)
    wills(each)
    persistence(each)
properties()
