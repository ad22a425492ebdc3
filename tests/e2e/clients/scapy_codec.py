"""Scapy's MQTT-SN layer as a codec of its own: scapy_codec.py PORT PCAP.

Each message of a client is put together by scapy, and each answer of the gateway is taken apart by it. All that went
over the wire is written to PCAP. Ends with 0 if all was as it should be.
"""

import socket
import sys

from scapy.contrib import mqttsn as sn
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

PORT, PCAP = int(sys.argv[1]), sys.argv[2]
BOUND = 30
wire = []


def on_wire(source, target, octets):
    wire.append(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x800)
                / IP(src="127.0.0.1", dst="127.0.0.1") / UDP(sport=source, dport=target) / Raw(octets))


class Node:
    def __init__(self, forwarded_as=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(BOUND)
        self.socket.connect(("127.0.0.1", PORT))
        self.port = self.socket.getsockname()[1]
        self.node = forwarded_as

    def send(self, kind, message=None):
        # It cannot find out the length of a DISCONNECT without a duration.
        packet = sn.MQTTSN(type=kind, len=2) if message is None else sn.MQTTSN(type=kind) / message
        octets = bytes(packet)
        if self.node is not None:
            octets = bytes([len(self.node) + 3, sn.ENCAPS_MSG, 0]) + self.node + octets
        on_wire(self.port, PORT, octets)
        self.socket.send(octets)

    def receive(self, kind):
        octets = self.socket.recv(2048)
        on_wire(PORT, self.port, octets)
        if self.node is not None:
            head = bytes([len(self.node) + 3, sn.ENCAPS_MSG])
            assert octets[:2] == head and octets[3:3 + len(self.node)] == self.node, octets
            octets = octets[3 + len(self.node):]
        packet = sn.MQTTSN(octets)
        assert packet.len == len(octets) and packet.type == kind, packet.show(dump=True)
        # What scapy understood says the same when scapy writes it.
        again = packet.copy()
        again.len = None
        # It cannot write a DISCONNECT without a duration.
        assert kind == sn.DISCONNECT or bytes(again) == octets, (bytes(again), octets)
        return packet.payload

    def connect(self, name, **flags):
        self.send(sn.CONNECT, sn.MQTTSNConnect(cleansess=1, duration=60, client_id=name, **flags))

    def expect(self, kind, **fields):
        payload = self.receive(kind)
        for field, value in fields.items():
            assert getattr(payload, field) == value, (field, payload.show(dump=True))
        return payload


def publish(topic, data, qos, mid=0, tid_type=sn.TID_NORMAL, retain=0):
    return sn.MQTTSNPublish(qos=qos, retain=retain, tid_type=tid_type, tid=topic, mid=mid, data=data)


# Discovery, and a will.
node = Node()
node.send(sn.SEARCHGW, sn.MQTTSNSearchGW(radius=0))
assert node.expect(sn.GWINFO).gw_id == 1
node.connect("first", will=1)
node.receive(sn.WILLTOPICREQ)
node.send(sn.WILLTOPIC, sn.MQTTSNWillTopic(qos=1, will_topic="will/first"))
node.receive(sn.WILLMSGREQ)
node.send(sn.WILLMSG, sn.MQTTSNWillMsg(will_msg="gone"))
node.expect(sn.CONNACK, return_code=sn.ACCEPTED)
node.send(sn.WILLTOPICUPD, sn.MQTTSNWillTopicUpd(qos=0, will_topic="will/other"))
node.expect(sn.WILLTOPICRESP, return_code=sn.ACCEPTED)
node.send(sn.WILLMSGUPD, sn.MQTTSNWillMsgUpd(will_msg="changed"))
node.expect(sn.WILLMSGRESP, return_code=sn.ACCEPTED)

# All levels of service, to itself, under a name, a short name and a known number; a long message too.
node.send(sn.REGISTER, sn.MQTTSNRegister(mid=1, topic_name="a/b"))
topic = node.expect(sn.REGACK, mid=1, return_code=sn.ACCEPTED).tid
node.send(sn.SUBSCRIBE, sn.MQTTSNSubscribe(qos=sn.QOS_2, mid=2, topic_name="a/b"))
node.expect(sn.SUBACK, mid=2, tid=topic, qos=sn.QOS_2, return_code=sn.ACCEPTED)
node.send(sn.PUBLISH, publish(topic, b"zero", sn.QOS_0))
node.expect(sn.PUBLISH, tid=topic, qos=sn.QOS_0, data=b"zero")
node.send(sn.PUBLISH, publish(topic, b"one", sn.QOS_1, 3))
kinds = {}
for _ in range(2):
    octets = node.socket.recv(2048)
    on_wire(PORT, node.port, octets)
    packet = sn.MQTTSN(octets)
    kinds[packet.type] = packet.payload
assert kinds[sn.PUBACK].mid == 3 and kinds[sn.PUBACK].return_code == sn.ACCEPTED
assert kinds[sn.PUBLISH].data == b"one" and kinds[sn.PUBLISH].qos == sn.QOS_1
node.send(sn.PUBACK, sn.MQTTSNPuback(tid=topic, mid=kinds[sn.PUBLISH].mid))

other = Node(forwarded_as=b"\x01\x02\x03")
other.connect("second")
other.expect(sn.CONNACK, return_code=sn.ACCEPTED)
other.send(sn.REGISTER, sn.MQTTSNRegister(mid=1, topic_name="a/b"))
theirs = other.expect(sn.REGACK, mid=1).tid
other.send(sn.PUBLISH, publish(theirs, b"two" * 100, sn.QOS_2, 4))
other.expect(sn.PUBREC, mid=4)
other.send(sn.PUBREL, sn.MQTTSNPubrel(mid=4))
other.expect(sn.PUBCOMP, mid=4)
heard = node.expect(sn.PUBLISH, tid=topic, qos=sn.QOS_2, data=b"two" * 100)
node.send(sn.PUBREC, sn.MQTTSNPubrec(mid=heard.mid))
node.expect(sn.PUBREL, mid=heard.mid)
node.send(sn.PUBCOMP, sn.MQTTSNPubcomp(mid=heard.mid))

node.send(sn.SUBSCRIBE, sn.MQTTSNSubscribe(mid=5, tid_type=sn.TID_SHORT, short_topic="xy"))
node.expect(sn.SUBACK, mid=5, return_code=sn.ACCEPTED)
other.send(sn.PUBLISH, publish(int.from_bytes(b"xy", "big"), b"short", sn.QOS_0, tid_type=sn.TID_SHORT))
node.expect(sn.PUBLISH, tid=int.from_bytes(b"xy", "big"), tid_type=sn.TID_SHORT, data=b"short")
node.send(sn.SUBSCRIBE, sn.MQTTSNSubscribe(mid=6, tid_type=sn.TID_PREDEF, tid=7))
node.expect(sn.SUBACK, mid=6, tid=7, return_code=sn.ACCEPTED)
stranger = Node()
stranger.send(sn.PUBLISH, publish(7, b"minus one", sn.QOS_NEG1, tid_type=sn.TID_PREDEF))
node.expect(sn.PUBLISH, tid=7, tid_type=sn.TID_PREDEF, data=b"minus one")

# A topic that the gateway has to name first, and one that nobody named.
node.send(sn.SUBSCRIBE, sn.MQTTSNSubscribe(mid=8, topic_name="wild/#"))
node.expect(sn.SUBACK, mid=8, tid=0, return_code=sn.ACCEPTED)
other.send(sn.REGISTER, sn.MQTTSNRegister(mid=9, topic_name="wild/card"))
wild = other.expect(sn.REGACK, mid=9).tid
other.send(sn.PUBLISH, publish(wild, b"named", sn.QOS_0))
named = node.expect(sn.REGISTER, topic_name=b"wild/card")
node.send(sn.REGACK, sn.MQTTSNRegack(tid=named.tid, mid=named.mid))
node.expect(sn.PUBLISH, tid=named.tid, data=b"named")
other.send(sn.PUBLISH, publish(0x7777, b"?", sn.QOS_1, 10))
other.expect(sn.PUBACK, mid=10, return_code=sn.REJ_TID)

# Sleep, and the end.
other.send(sn.PINGREQ)
other.receive(sn.PINGRESP)
node.send(sn.UNSUBSCRIBE, sn.MQTTSNUnsubscribe(mid=11, topic_name="wild/#"))
node.expect(sn.UNSUBACK, mid=11)
node.send(sn.DISCONNECT, sn.MQTTSNDisconnect(duration=60))
node.receive(sn.DISCONNECT)
other.send(sn.PUBLISH, publish(theirs, b"asleep", sn.QOS_1, 12))
other.expect(sn.PUBACK, mid=12, return_code=sn.ACCEPTED)
node.send(sn.PINGREQ, sn.MQTTSNPingReq(client_id="first"))
heard = node.expect(sn.PUBLISH, tid=topic, data=b"asleep")
node.send(sn.PUBACK, sn.MQTTSNPuback(tid=topic, mid=heard.mid))
node.receive(sn.PINGRESP)
for one in (node, other):
    one.send(sn.DISCONNECT)
    one.receive(sn.DISCONNECT)
wrpcap(PCAP, wire)
