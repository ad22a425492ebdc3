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


def published(port: int, count: int, topic: str, retain: bool) -> list[Client]:
    """A message to each of so many topics; the sender stays."""
    [sender] = all_connect(port, ["sender"], clean=True)
    for numbers in pieces(count):
        for at, each in enumerate(numbers, 1):
            sender.send(publish(at, topic.format(each), b"x" * 32, retain))
        for _ in numbers:
            sender.wait(PUBACK)
    return [sender]


def retained(port: int, count: int) -> list[Client]:
    return published(port, count, "site/{}/state", retain=True)


def sessions(port: int, count: int) -> list[Client]:
    """Of clients that are away, with a subscription and a message that waits."""
    for numbers in pieces(count):
        clients = all_connect(port, [f"away-{each}" for each in numbers], clean=False)
        filters = [packet(0x82, b"\0\1" + text(f"away/{each}") + b"\1") for each in numbers]
        all_do(clients, filters, SUBACK)
        all_leave(clients)
    return published(port, count, "away/{}", retain=False)


KINDS = {"subscriptions": subscriptions, "retained": retained, "sessions": sessions}
