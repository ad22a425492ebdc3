#!/usr/bin/env python3
"""Receives what moteway gateways send, drops copies and tells gaps.

    pip install paho-mqtt
    consumer.py --host broker.example.com --topic 'fleet/#'

Writes one line of JSON for each message, and for each gap that is certain. The rule needs `trace = true` and the
gateway a topic of its own: the first two levels of the topic (fleet/GATEWAY/...) name it here. See receiving.md.
"""

import argparse
import json
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# Numbers that are remembered as missing, for each book; and books, for each gateway.
MAX_MISSING = 10_000
MAX_BOOKS = 100


class Book:
    """The numbers of one rule of one gateway, since one start of it."""

    def __init__(self):
        self.highest = 0
        self.missing = set()
        self.copies = 0

    def take(self, number):
        """Says whether the number is new, and which numbers it leaves out."""
        if number <= self.highest and number not in self.missing:
            self.copies += 1
            return False, range(0)
        if number in self.missing:
            # Late: QoS 2 behind QoS 1, or a backlog behind live traffic.
            self.missing.discard(number)
            return True, range(0)
        gap = range(self.highest + 1, number)
        self.missing.update(gap[-MAX_MISSING:])
        while len(self.missing) > MAX_MISSING:
            self.missing.remove(min(self.missing))
        self.highest = number
        return True, gap


class Receiver:
    """What all gateways sent."""

    def __init__(self, out):
        self.books = {}
        self.out = out

    def book(self, gateway, epoch):
        books = self.books.setdefault(gateway, {})
        if epoch not in books and len(books) >= MAX_BOOKS:
            # The oldest start of the gateway.
            del books[next(iter(books))]
        return books.setdefault(epoch, Book())

    def handle(self, topic, payload, properties):
        said = dict(properties)
        gateway = "/".join(topic.split("/")[:2])
        measured = int(said["mw-time"]) if "mw-time" in said else int(time.time() * 1000)
        if "mw-seq" in said:
            number, epoch = int(said["mw-seq"]), said["mw-epoch"]
            is_new, gap = self.book(gateway, epoch).take(number)
            if gap:
                self.say(gap=[gap[0], gap[-1]], gateway=gateway, epoch=epoch)
            if not is_new:
                return
        self.say(topic=topic, time=measured, payload=payload.decode("utf-8", "replace"))

    def say(self, **what):
        print(json.dumps(what), file=self.out, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--topic", default="fleet/#")
    parser.add_argument("--client-id", default="moteway-consumer")
    args = parser.parse_args()
    receiver = Receiver(sys.stdout)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=args.client_id, protocol=mqtt.MQTTv5)

    def on_connect(client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            sys.exit(f"the broker says no: {reason}")
        client.subscribe(args.topic, qos=2)

    def on_subscribe(_client, _userdata, _mid, _reasons, _properties):
        print("subscribed", file=sys.stderr, flush=True)

    def on_message(_client, _userdata, message):
        properties = getattr(message.properties, "UserProperty", [])
        receiver.handle(message.topic, message.payload, properties)

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    # A session of its own, so that the broker keeps messages while this program is away.
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 7 * 24 * 3600
    client.connect(args.host, args.port, keepalive=60, clean_start=False, properties=properties)
    client.loop_forever()


if __name__ == "__main__":
    main()
