"""A day of comings and goings in a minute: clients, sessions, subscriptions, queued and retained messages, all of them
new each round, and all of them gone at its end. What a broker's memory does about it is the question."""

import socket
import struct

from brokers import BenchError

TIMEOUT = 20.0
CONNACK, PUBACK, SUBACK = 0x20, 0x40, 0x90


def text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode()


def packet(first: int, body: bytes) -> bytes:
    length, rest = b"", len(body)
    while True:
        rest, digit = rest >> 7, rest & 0x7F
        length += bytes([digit | (0x80 if rest else 0)])
        if not rest:
            return bytes([first]) + length + body


class Client:
    """MQTT 3.1.1. What many say at a time is said by all of them first and waited for then: a broker that makes things
    safe before it answers does so for all of them at once."""

    def __init__(self, port: int, name: str, clean: bool):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.read = self.socket.makefile("rb").read
        self.send(packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0, 0, 60]) + text(name)))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait(self, answer: int) -> None:
        """For a packet of this type."""
        first, length = self.read(2) or (0, 0)
        self.read(length)
        if first != answer:
            raise BenchError(f"churn: packet {first:#x} where {answer:#x} was expected")

    def close(self) -> None:
        self.send(bytes([0xE0, 0]))

    def wait_for_close(self) -> None:
        while self.read(1):
            pass
        self.socket.close()


def all_do(clients: list[Client], data: list[bytes], answer: int) -> None:
    for client, each in zip(clients, data, strict=True):
        client.send(each)
    for client in clients:
        client.wait(answer)


def all_connect(port: int, names: list[str], clean: bool) -> list[Client]:
    clients = [Client(port, name, clean) for name in names]
    for client in clients:
        client.wait(CONNACK)
    return clients


def all_leave(clients: list[Client]) -> None:
    for client in clients:
        client.close()
    for client in clients:
        client.wait_for_close()


def publish(number: int, topic: str, payload: bytes, retain: bool) -> bytes:
    return packet(0x33 if retain else 0x32, text(topic) + struct.pack(">H", number) + payload)


def churn_round(port: int, number: int, clients: int) -> None:
    names = [f"{number}-{client}" for client in range(clients)]
    # Sessions that stay while their clients are away, with a message that waits and one that is retained.
    first = all_connect(port, names, clean=False)
    all_do(first, [packet(0x82, b"\0\1" + text(f"churn/{name}/#") + b"\1") for name in names], SUBACK)
    all_leave(first)
    [sender] = all_connect(port, [f"sender-{number}"], clean=True)
    for payload, kind, retain in [(b"x" * 100, "state", True), (b"x" * 100, "event", False), (b"", "state", True)]:
        for at, name in enumerate(names, 1):
            sender.send(publish(at, f"churn/{name}/{kind}", payload, retain))
        for _ in names:
            sender.wait(PUBACK)
    all_leave([sender])
    # They come back as new ones, which ends the sessions.
    all_leave(all_connect(port, names, clean=True))
