"""An MQTT-SN node on a serial line, which a socket of the emulator is the other end of: `node.py SOCKET TOPIC PAYLOAD`.

It connects, registers `up/TOPIC`, publishes with QoS 1, and ends when that is acknowledged. As a radio may lose
frames, it says everything again until there is an answer.
"""

import socket
import struct
import sys
import time

CONNECT, CONNACK, REGISTER, REGACK, PUBLISH, PUBACK = 0x04, 0x05, 0x0A, 0x0B, 0x0C, 0x0D
ACCEPTED = 0


def frame(kind, body):
    return bytes([len(body) + 2, kind]) + body


class Line:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(3)
        self.buffer = b""

    def ask(self, question, answer):
        """The body of the answer; other messages are passed over."""
        end = time.monotonic() + 90
        while time.monotonic() < end:
            self.socket.sendall(question)
            try:
                while True:
                    kind, body = self.read()
                    if kind == answer:
                        return body
            except TimeoutError:
                pass
        sys.exit(f"no answer to {question.hex()}")

    def read(self):
        while len(self.buffer) < 2 or len(self.buffer) < self.buffer[0]:
            data = self.socket.recv(256)
            if not data:
                sys.exit("the line was closed")
            self.buffer += data
        length = self.buffer[0]
        message, self.buffer = self.buffer[:length], self.buffer[length:]
        return message[1], message[2:]


def main():
    path, topic, payload = sys.argv[1:]
    line = Line(path)
    clean_session, protocol, keep_alive = 0x04, 0x01, 60
    body = line.ask(frame(CONNECT, struct.pack(">BBH", clean_session, protocol, keep_alive) + b"node"), CONNACK)
    assert body[0] == ACCEPTED, body.hex()
    body = line.ask(frame(REGISTER, struct.pack(">HH", 0, 1) + b"up/" + topic.encode()), REGACK)
    topic_id, _, code = struct.unpack(">HHB", body)
    assert code == ACCEPTED, body.hex()
    qos_1 = 0x20
    body = line.ask(frame(PUBLISH, struct.pack(">BHH", qos_1, topic_id, 2) + payload.encode()), PUBACK)
    assert body[-1] == ACCEPTED, body.hex()
    print("acknowledged")


main()
