"""An outage of the upstream: what a bridge was given meanwhile, what of it arrives, how fast, and what that took.

The upstream is a mosquitto that keeps up with anything; between it and the bridge is a line that can be down, and long.
"""

import contextlib
import copy
import socket
import threading
import time
from collections import deque
from pathlib import Path

from brokers import BenchError, Broker, Mosquitto, Moteway, Running, free_port

TOPIC = b"data/t"
PAYLOAD = 256
# Nothing more comes when nothing came for so long.
QUIET = 5.0
TIMEOUT = 120.0

UPSTREAM = {
    Moteway.name: """
[[upstream]]
name = "cloud"
url = "mqtt://127.0.0.1:{upstream}"
client_id = "bench-bridge"
reconnect_min = "100ms"
reconnect_max = "1s"

[[upstream.rule]]
name = "data"
filter = "data/#"
""",
    Mosquitto.name: """
connection cloud
address 127.0.0.1:{upstream}
remote_clientid bench-bridge
topic data/# out 1
cleansession false
restart_timeout 1
notifications false
""",
}


def bridging(broker: Broker, upstream: int, stock: bool) -> Broker:
    """The same broker with a bridge. `stock`: mosquitto as Debian configures it, with persistence and a bounded queue."""
    bridge = copy.copy(broker)
    bridge.CONFIG = broker.CONFIG + UPSTREAM[broker.name].replace("{upstream}", str(upstream))
    if stock and broker.name == Mosquitto.name:
        bridge.CONFIG = bridge.CONFIG.replace("max_queued_messages 0\n", "")
        kept = "persistence true\npersistence_location {directory}/\n"
        bridge.CONFIG = bridge.CONFIG.replace("persistence false\n", kept)
    return bridge


class Line:
    """Between the bridge and its upstream: down at first, then with so many seconds to each side."""

    def __init__(self, target: int, delay: float):
        self.port = free_port()
        self.target = target
        self.delay = delay
        self.open: list[socket.socket] = []
        self.listener: socket.socket | None = None

    def up(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.open += [near, far]
                for one, other in ((near, far), (far, near)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.carry(one, other)

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        pieces: deque[tuple[float, bytes]] = deque()
        arrived = threading.Semaphore(0)

        def read() -> None:
            with contextlib.suppress(OSError):
                while piece := source.recv(1 << 16):
                    pieces.append((time.monotonic() + self.delay, piece))
                    arrived.release()
            pieces.append((0.0, b""))
            arrived.release()

        def write() -> None:
            with contextlib.suppress(OSError):
                while arrived.acquire() and (piece := pieces.popleft())[1]:
                    time.sleep(max(0.0, piece[0] - time.monotonic()))
                    sink.sendall(piece[1])
                sink.shutdown(socket.SHUT_RDWR)

        for run in (read, write):
            threading.Thread(target=run, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in [*self.open, *filter(None, [self.listener])]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def connect(port: int, name: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2) + name
    client.sendall(bytes([0x10, len(body)]) + body)
    if client.recv(4) != b"\x20\x02\x00\x00":
        raise BenchError("no CONNACK")
    return client


def publish(port: int, messages: int) -> int:
    """Publishes numbers with QoS 1, 500 in flight; how many were acknowledged."""
    acked = 0
    with connect(port, b"publisher") as client:
        for first in range(0, messages, 500):
            numbers = range(first, min(first + 500, messages))
            client.sendall(b"".join(packet(number) for number in numbers))
            due = 4 * len(numbers)
            while due and (answers := client.recv(due)):
                due -= len(answers)
            if due:
                raise BenchError(f"the publisher was cut off after {acked} messages")
            acked += len(numbers)
    return acked


def packet(number: int) -> bytes:
    pkid = number % 60_000 + 1
    body = len(TOPIC).to_bytes(2) + TOPIC + pkid.to_bytes(2) + b"%-*d" % (PAYLOAD, number)
    return bytes([0x32, len(body) & 0x7F | 0x80, len(body) >> 7]) + body


class Receiver:
    """Subscribes at the upstream and counts how often each number came."""

    def __init__(self, port: int, messages: int):
        self.seen = [0] * messages
        self.missing = messages
        self.times = (0.0, 0.0)
        self.client = connect(port, b"receiver")
        self.client.sendall(b"\x82\x0b\x00\x01\x00\x06data/#\x00")
        if self.client.recv(5)[0] != 0x90:
            raise BenchError("no SUBACK")

    def run(self) -> None:
        """Until all came, or nothing more does."""
        first = last = 0.0
        rest = b""
        self.client.settimeout(QUIET + 15)
        with self.client, contextlib.suppress(TimeoutError):
            while self.missing and (piece := self.client.recv(1 << 18)):
                last = time.monotonic()
                first = first or last
                rest = self.take(rest + piece)
                self.client.settimeout(QUIET)
        self.times = (first, last)

    def take(self, data: bytes) -> bytes:
        at, start = 0, 3 + 2 + len(TOPIC)
        size = start + PAYLOAD
        while at + size <= len(data):
            number = int(data[at + start : at + size])
            self.missing -= not self.seen[number]
            self.seen[number] += 1
            at += size
        return data[at:]


def outage(broker: Broker, mosquitto: Path, directory: Path, messages: int, **how: float) -> dict[str, float]:
    """`delay`: seconds to each side; `stock`: with mosquitto's own limits; `kill`: the bridge dies before the line is up."""
    cloud = Mosquitto(mosquitto)
    cloud.CONFIG += "max_inflight_messages 0\n"
    with (
        Running(cloud, directory / "cloud") as upstream,
        Line(upstream.port, how.get("delay", 0.0)) as line,
        contextlib.ExitStack() as stack,
    ):
        bridge = bridging(broker, line.port, bool(how.get("stock")))
        running = stack.enter_context(Running(bridge, directory / "bridge"))
        before = running.written_bytes()
        acked = publish(running.port, messages)
        rss, _ = running.memory()
        if how.get("kill"):
            running.process.kill()
            running.process.wait()
            running = stack.enter_context(Running(bridge, directory / "bridge"))
            before = 0
        receiver = Receiver(upstream.port, messages)
        line.up()
        receiver.run()
        written = running.written_bytes() - before
    arrived = messages - receiver.missing
    first, last = receiver.times
    return {
        "lost": (acked - arrived) / acked * 100,
        "duplicated": sum(count - 1 for count in receiver.seen if count > 1) / acked * 100,
        "drain_per_second": (arrived - 1) / (last - first) if last > first else 0.0,
        "written": written / messages,
        "rss": rss / 1e6,
    }
