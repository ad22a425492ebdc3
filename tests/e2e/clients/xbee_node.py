"""A node with digi-xbee (PyPI), and two radio modules that stand for real ones: xbee_node.py MODE.

MODE is the API mode (1 or 2) of the module at the gateway. Prints the device that the gateway has to open, waits for a
line, and talks. The modules take and make frames with the library's own classes. Ends with 0 if all was as it should.
"""

import os
import pty
import queue
import sys
import threading
import tty

from digi.xbee.devices import RemoteXBeeDevice, XBeeDevice
from digi.xbee.models.address import XBee16BitAddress, XBee64BitAddress
from digi.xbee.models.mode import OperatingMode
from digi.xbee.models.options import ReceiveOptions
from digi.xbee.models.status import ATCommandStatus, DiscoveryStatus, TransmitStatus
from digi.xbee.packets import factory
from digi.xbee.packets.common import (ATCommPacket, ATCommQueuePacket, ATCommResponsePacket, ReceivePacket,
                                      TransmitPacket, TransmitStatusPacket)
from scapy.contrib import mqttsn as sn

BOUND = 30
GATEWAY, NODE, ABSENT = "0013A20040000001", "0013A200400000AA", "0013A200400000FF"
BROADCAST = XBee64BitAddress.BROADCAST_ADDRESS


class Module:
    """What the firmware of a module does with its serial line, and the air between two."""

    def __init__(self, address, mode):
        self.address, self.mode = XBee64BitAddress.from_hex_string(address), mode
        self.escapes = mode == OperatingMode.ESCAPED_API_MODE
        self.line, self.host = pty.openpty()
        tty.setraw(self.line)
        tty.setraw(self.host)
        self.device = os.ttyname(self.host)
        self.other = None
        self.requests = queue.Queue()
        threading.Thread(target=self.serve, daemon=True).start()

    def read(self, count, raw=False):
        out = bytearray()
        while len(out) < count:
            octet = os.read(self.line, 1)[0]
            if octet == 0x7D and self.escapes and not raw:
                octet = os.read(self.line, 1)[0] ^ 0x20
            out.append(octet)
        return bytes(out)

    def serve(self):
        while True:
            if self.read(1, raw=True) != b"\x7e":
                continue
            length = self.read(2)
            frame = b"\x7e" + length + self.read(int.from_bytes(length, "big") + 1)
            self.take(factory.build_frame(bytearray(frame), OperatingMode.API_MODE))

    def write(self, packet):
        os.write(self.line, bytes(packet.output(escaped=self.escapes)))

    def take(self, packet):
        if isinstance(packet, (ATCommPacket, ATCommQueuePacket)):
            values = {"AP": bytes([2 if self.escapes else 1]), "HV": b"\x2d\x41", "VR": b"\x10\x0a",
                      "SH": bytes(self.address.address[:4]), "SL": bytes(self.address.address[4:]),
                      "NI": b"node", "MY": b"\x12\x34", "OP": bytes(8), "CE": b"\x00", "AO": b"\x00"}
            command = packet.command
            value = values.get(command, b"\x00")
            self.write(ATCommResponsePacket(packet.frame_id, command, response_status=ATCommandStatus.OK,
                                            comm_value=bytearray(value)))
        elif isinstance(packet, TransmitPacket):
            self.requests.put(packet)
            target = packet.x64bit_dest_addr
            arrives = target in (self.other.address, BROADCAST)
            if arrives:
                way = ReceiveOptions.BROADCAST_PACKET if target == BROADCAST else ReceiveOptions.PACKET_ACKNOWLEDGED
                self.other.write(ReceivePacket(self.address, XBee16BitAddress.UNKNOWN_ADDRESS, way.value,
                                               packet.rf_data))
            status = TransmitStatus.SUCCESS if arrives else TransmitStatus.ADDRESS_NOT_FOUND
            self.write(TransmitStatusPacket(packet.frame_id, XBee16BitAddress.UNKNOWN_ADDRESS, 0, status,
                                            DiscoveryStatus.NO_DISCOVERY_OVERHEAD))

    def receive_from(self, address, data):
        """As if a node sent this that is not there any more."""
        self.write(ReceivePacket(XBee64BitAddress.from_hex_string(address), XBee16BitAddress.UNKNOWN_ADDRESS,
                                 ReceiveOptions.PACKET_ACKNOWLEDGED.value, bytearray(data)))


def octets(kind, message=None):
    return bytes(sn.MQTTSN(type=kind) if message is None else sn.MQTTSN(type=kind) / message)


mode = OperatingMode.ESCAPED_API_MODE if sys.argv[1] == "2" else OperatingMode.API_MODE
at_gateway, at_node = Module(GATEWAY, mode), Module(NODE, OperatingMode.API_MODE)
at_gateway.other, at_node.other = at_node, at_gateway
node = XBeeDevice(at_node.device, 115200)
node.open()
inbox = queue.Queue()


def hear(message):
    if message.data[1] != sn.ADVERTISE:
        inbox.put((message.remote_device.get_64bit_addr(), bytes(message.data)))


node.add_data_received_callback(hear)
gateway = RemoteXBeeDevice(node, x64bit_addr=at_gateway.address)


def send(kind, message=None):
    node.send_data(gateway, octets(kind, message))


def expect(kind):
    sender, data = inbox.get(timeout=BOUND)
    packet = sn.MQTTSN(data)
    assert sender == at_gateway.address and packet.type == kind, (sender, packet.show(dump=True))
    return packet.payload


print("device", at_gateway.device, flush=True)
sys.stdin.readline()

# The gateway says that it is there, to all.
first = at_gateway.requests.get(timeout=BOUND)
assert first.x64bit_dest_addr == BROADCAST and sn.MQTTSN(bytes(first.rf_data)).type == sn.ADVERTISE, first
node.send_data_broadcast(octets(sn.SEARCHGW, sn.MQTTSNSearchGW(radius=1)))
expect(sn.GWINFO)
send(sn.CONNECT, sn.MQTTSNConnect(cleansess=1, duration=600, client_id="x~}"))
assert expect(sn.CONNACK).return_code == sn.ACCEPTED
send(sn.REGISTER, sn.MQTTSNRegister(mid=1, topic_name="xbee/node"))
topic = expect(sn.REGACK).tid
send(sn.SUBSCRIBE, sn.MQTTSNSubscribe(qos=sn.QOS_1, mid=2, topic_name="xbee/node"))
assert expect(sn.SUBACK).return_code == sn.ACCEPTED
# All octets, those that have to be escaped among them.
for begin in range(0, 256, 64):
    data = bytes(range(begin, begin + 64))
    send(sn.PUBLISH, sn.MQTTSNPublish(qos=sn.QOS_1, tid=topic, mid=10 + begin, data=data))
    got = {}
    for _ in range(2):
        _, answer = inbox.get(timeout=BOUND)
        got[sn.MQTTSN(answer).type] = sn.MQTTSN(answer).payload
    assert got[sn.PUBACK].mid == 10 + begin and got[sn.PUBLISH].data == data, got
    send(sn.PUBACK, sn.MQTTSNPuback(tid=topic, mid=got[sn.PUBLISH].mid))
# Each request has a frame id; the module answers each, and nobody waits for that.
ids = []
while not at_gateway.requests.empty():
    ids.append(at_gateway.requests.get().frame_id)
assert 0 not in ids and ids == sorted(ids), ids
# A node whose answers cannot be delivered holds up nobody.
at_gateway.receive_from(ABSENT, octets(sn.CONNECT, sn.MQTTSNConnect(cleansess=1, duration=600, client_id="absent")))
send(sn.PINGREQ)
expect(sn.PINGRESP)
while at_gateway.requests.get(timeout=BOUND).x64bit_dest_addr != XBee64BitAddress.from_hex_string(ABSENT):
    pass
node.close()
print("good", flush=True)
os._exit(0)
