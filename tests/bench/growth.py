"""Growth: what a broker may already have when a message comes that has nothing to do with it. Each function puts so many of one
thing into a running broker; a message's cost must not grow with them."""

import struct

from churn import PUBACK, SUBACK, Client, all_connect, all_do, all_leave, packet, publish, text

TOGETHER = 500


def pieces(count: int) -> list[range]:
    return [range(first, min(first + TOGETHER, count)) for first in range(0, count, TOGETHER)]


def subscriptions(port: int, count: int) -> list[Client]:
    """Of clients with 500 each, who stay."""
    clients = []
    for number, filters in enumerate(pieces(count)):
        [client] = all_connect(port, [f"subscriber-{number}"], clean=True)
        body = b"".join(text(f"site/{each}/+/state") + b"\0" for each in filters)
        client.send(packet(0x82, struct.pack(">H", 1) + body))
        client.wait(SUBACK)
        clients.append(client)
    return clients


def retained(port: int, count: int) -> list[Client]:
    [sender] = all_connect(port, ["retainer"], clean=True)
    for numbers in pieces(count):
        for at, each in enumerate(numbers, 1):
            sender.send(publish(at, f"site/{each}/state", b"x" * 32, retain=True))
        for _ in numbers:
            sender.wait(PUBACK)
    return [sender]


def sessions(port: int, count: int) -> list[Client]:
    """Of clients that are away, with a subscription and a message that waits."""
    for numbers in pieces(count):
        clients = all_connect(port, [f"away-{each}" for each in numbers], clean=False)
        filters = [packet(0x82, b"\0\1" + text(f"away/{each}") + b"\1") for each in numbers]
        all_do(clients, filters, SUBACK)
        all_leave(clients)
    [sender] = all_connect(port, ["sender"], clean=True)
    for numbers in pieces(count):
        for at, each in enumerate(numbers, 1):
            sender.send(publish(at, f"away/{each}", b"x" * 32, retain=False))
        for _ in numbers:
            sender.wait(PUBACK)
    return [sender]


KINDS = {"subscriptions": subscriptions, "retained": retained, "sessions": sessions}
