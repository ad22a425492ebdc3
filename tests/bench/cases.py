"""The table: every case, what it measures and the rows that come of it.

To add one: write a function from a `Bench` to a dictionary of figures in measures.py, and list it in `CASES` here with a
`Row` per figure.
"""

from dataclasses import dataclass

from measures import (
    DEPTHS, Measure, backlog, bridge, churn, connections, connects, deep_backlog, flow, growth, idle, latency, mqtt_idle,
    neighbours, radio, radio_idle, start,
)


@dataclass(frozen=True)
class Row:
    """One line of the table. A target is a ratio to mosquitto where one exists, else an absolute figure."""

    figure: str
    title: str
    unit: str
    target: str
    target_ratio: float | None = None
    target_value: float | None = None
    more_is_better: bool = False

    def met(self, ours: float, theirs: float | None) -> bool | None:
        """None when there is nothing to compare with."""
        if self.target_value is not None:
            got, wanted = ours, self.target_value
        elif self.target_ratio is not None and theirs:
            got, wanted = ours / theirs, self.target_ratio
        else:
            return None
        return got >= wanted if self.more_is_better else got <= wanted


@dataclass(frozen=True)
class Case:
    name: str
    measure: Measure
    rows: list[Row]
    # Whether the bare forwarder can stand in for a broker here.
    has_limit: bool = False
    # Whether mosquitto can: it does not speak MQTT-SN.
    has_peer: bool = True


def growth_case(kind: str, counts: tuple[int, ...] = (10, 100, 1_000, 10_000), has_peer: bool = True) -> Case:
    rows = [Row(f"cpu_{count}", f"fan-in, QoS 0, beside {count:,} {kind}", "CPU s / million", "-") for count in counts]
    rows.append(Row("growth", f"the last by the first, {kind}", "times", "1.2", target_value=1.2))
    return Case(f"growth-{kind}", growth(kind, counts), rows, has_peer=has_peer)


def flow_case(name: str, measure: Measure, title: str, target: str, ratio: float) -> Case:
    return Case(name, measure, [Row("cpu", title, "CPU s / million", target, target_ratio=ratio)], has_limit=True)


CASES = [
    flow_case("fan-in-0", flow(500_000), "fan-in 20 to 1, QoS 0, 64 B", "0.8, 0.14x", 0.14),
    flow_case("fan-in-1", flow(300_000, qos=1, payload=256), "fan-in 20 to 1, QoS 1, 256 B", "1.5, 0.13x", 0.13),
    flow_case(
        "one-in-flight-0",
        flow(200_000, publishers=200, window=1),
        "200 publishers, one in flight, QoS 0",
        "2.7, 0.45x",
        0.45,
    ),
    flow_case(
        "one-in-flight-1",
        flow(200_000, publishers=200, window=1, qos=1, payload=256),
        "200 publishers, one in flight, QoS 1",
        "5, 0.4x",
        0.4,
    ),
    flow_case(
        "fan-out-20-0",
        flow(30_000, publishers=1, subscribers=20),
        "fan-out 1 to 20, QoS 0, 64 B",
        "as 1 to 100",
        0.17,
    ),
    flow_case(
        "fan-out-20-1",
        flow(30_000, publishers=1, subscribers=20, qos=1),
        "fan-out 1 to 20, QoS 1, 64 B",
        "as 1 to 100",
        0.3,
    ),
    flow_case(
        "fan-out-100-0",
        flow(6_000, publishers=1, subscribers=100),
        "fan-out 1 to 100, QoS 0, 64 B",
        "0.7, 0.17x",
        0.17,
    ),
    flow_case(
        "fan-out-100-1",
        flow(6_000, publishers=1, subscribers=100, qos=1),
        "fan-out 1 to 100, QoS 1, 64 B",
        "1.4, 0.3x",
        0.3,
    ),
    Case(
        "radio-0",
        radio(clients=100, window=4, messages=500_000),
        [
            Row("cpu", "100 MQTT-SN nodes, QoS 0, 64 B", "CPU s / million", "3", target_value=3),
            Row("per_second", "the same, rate", "per second", "250000", target_value=250_000, more_is_better=True),
            Row("connect_p50_ms", "the same, CONNACK when all come at once, p50", "ms", "5", target_value=5),
        ],
        has_peer=False,
    ),
    Case(
        "radio-1",
        radio(clients=100, window=4, messages=300_000, qos=1),
        [
            Row("cpu", "100 MQTT-SN nodes, QoS 1, 64 B", "CPU s / million", "6", target_value=6),
            Row("per_second", "the same, rate", "per second", "120000", target_value=120_000, more_is_better=True),
        ],
        has_peer=False,
    ),
    Case(
        "radio-200",
        radio(clients=200, window=2, messages=300_000),
        [
            Row("cpu", "200 MQTT-SN nodes, QoS 0, as fast as they can", "CPU s / million", "-"),
            Row("per_second", "the same, rate", "per second", "-"),
        ],
        has_peer=False,
    ),
    Case(
        "mqtt-200",
        flow(300_000, publishers=200, window=2),
        [
            Row("cpu", "the same load over MQTT", "CPU s / million", "-"),
            Row("per_second", "the same, rate", "per second", "-"),
        ],
    ),
    Case(
        "radio-rate",
        radio(clients=100, paced=1, rate=10_000, seconds=5),
        [Row("lost", "100 nodes, 10 000 msg/s, QoS 0, lost of 50 000", "messages", "0", target_value=0)],
        has_peer=False,
    ),
    Case(
        "radio-rate-20000",
        radio(clients=100, paced=1, rate=20_000, seconds=5),
        [Row("lost", "100 nodes, 20 000 msg/s, QoS 0, lost of 100 000", "messages", "0", target_value=0)],
        has_peer=False,
    ),
    Case(
        "radio-5000",
        radio_idle(5000),
        [
            Row("each", "RSS per node of 5 000, 1 message a minute", "bytes", "-"),
            Row("busy", "the same, CPU", "% of one", "-"),
        ],
        has_peer=False,
    ),
    Case(
        "mqtt-5000",
        mqtt_idle(5000),
        [
            Row("each", "RSS per MQTT client of 5 000, 1 message a minute", "bytes", "-"),
            Row("busy", "the same, CPU", "% of one", "-"),
        ],
    ),
    Case(
        "backlog",
        backlog(200_000),
        [
            Row("store_cpu", "QoS 1 stored for one who is away, 256 B", "CPU s / million", "5", target_value=5),
            Row(
                "store_per_second",
                "the same, rate",
                "per second",
                "100000",
                target_value=100_000,
                more_is_better=True,
            ),
            Row("drain_cpu", "drain of that queue", "CPU s / million", "6", target_value=6),
            Row(
                "drain_per_second",
                "the same, rate",
                "per second",
                "60000",
                target_value=60_000,
                more_is_better=True,
            ),
            Row("written", "written to disk for both", "bytes/message", "800", target_value=800),
        ],
    ),
    Case(
        "backlog-depth",
        deep_backlog,
        [
            *(Row(f"store_{depth}", f"QoS 1 stored, {depth:,} in all", "CPU s / million", "-") for depth in DEPTHS),
            *(Row(f"drain_{depth}", f"drained, {depth:,} in all", "CPU s / million", "-") for depth in DEPTHS),
        ],
    ),
    growth_case("subscriptions"),
    growth_case("retained"),
    growth_case("sessions"),
    # A gateway has a thousand at most.
    growth_case("rules", (10, 100, 1_000), has_peer=False),
    Case(
        "outage",
        bridge(20_000, stock=True),
        [
            Row("lost", "bridge in an outage, QoS 1, 256 B: acknowledged and lost", "% of 20 000", "0", target_value=0),
            Row("duplicated", "the same, duplicated", "% of 20 000", "-"),
            Row("drain_per_second", "the same, drain of what was kept", "per second", "-", more_is_better=True),
            Row("written", "the same, written to disk", "bytes/message", "800", target_value=800),
            Row("rss", "the same, RSS before the drain", "MB", "-"),
        ],
    ),
    Case(
        "outage-kill",
        bridge(2_000, stock=True, kill=True),
        [Row("lost", "the same with a kill -9 meanwhile, lost", "% of 2 000", "0", target_value=0)],
    ),
    Case(
        "drain-20ms",
        bridge(100_000, delay=0.01),
        [
            Row(
                "drain_per_second",
                "drain of a bridge at 20 ms round trip, QoS 1, 256 B",
                "per second",
                "40000",
                target_value=40_000,
                more_is_better=True,
            ),
            Row("written", "the same, stored and drained", "bytes/message", "800", target_value=800),
        ],
    ),
    Case("latency", latency(1000), [Row("p99_us", "1 000 clients, 5 000 msg/s, p99", "us", "1x", target_ratio=1.0)]),
    Case(
        "latency-5000",
        latency(5000),
        [
            Row("p99_us", "5 000 clients, 5 000 msg/s, p99", "us", "1x", target_ratio=1.0),
            Row("p50_us", "the same, median", "us", "-"),
        ],
    ),
    Case(
        "idle",
        idle,
        [
            Row("rss", "idle RSS", "MB", "6", target_value=6),
            Row("pss", "idle PSS", "MB", "4", target_value=4),
            Row("wakeups", "idle wake-ups", "per second", "at most 1", target_value=1),
        ],
    ),
    Case(
        "churn",
        churn,
        [
            Row("rss", "RSS after 15 000 clients came and went", "MB", "-"),
            Row("growth", "of which since the first 1 000 had gone", "kB", "1000", target_value=1000),
        ],
    ),
    Case(
        "connections",
        connections(1000),
        [
            Row("rss", "RSS with 1 000 connections", "MB", "6 + 1.5", target_value=7.5),
            Row("each", "RSS per connection", "bytes", "1500", target_value=1500),
        ],
    ),
    Case(
        "connections-5000",
        connections(5000),
        [Row("each", "RSS per connection of 5 000", "bytes", "1500", target_value=1500)],
    ),
    Case(
        "connections-tls",
        connections(1000, tls=True),
        [Row("each", "RSS per TLS connection", "bytes", "12000", target_value=12_000)],
    ),
    Case(
        "connects",
        connects(5000, parallel=50),
        [
            Row("rate", "connects", "per second", "40000, 0.87x", target_ratio=0.87, more_is_better=True),
            Row("cpu", "CPU per connect", "us", "as connects", target_ratio=1.15),
        ],
    ),
    Case("storm", connects(1000, parallel=1000), [Row("p99", "1 000 connects at once, p99", "ms", "1x", target_ratio=1.0)]),
    Case(
        "storm-tls",
        connects(1000, parallel=1000, tls=True),
        [
            Row("p99", "1 000 TLS connects at once, p99", "ms", "1x", target_ratio=1.0),
            Row("rate", "the same, rate", "per second", "3700, 1x", target_ratio=1.0, more_is_better=True),
            Row("cpu", "the same, CPU per connect", "us", "270, 1x", target_ratio=1.0),
        ],
    ),
    Case(
        "storm-others",
        neighbours("connects", tls=True, clients=1000, parallel=1000),
        [
            Row("quiet", "100 clients, 1 000 msg/s, p99", "ms", "-"),
            Row("loud", "the same during 1 000 TLS connects at once", "ms", "1x", target_ratio=1.0),
            Row("max", "the same, the longest", "ms", "1x", target_ratio=1.0),
            Row("rate", "connects meanwhile", "per second", "-"),
        ],
    ),
    Case(
        "flood-others",
        neighbours("flow", publishers=20, window=400, messages=1_000_000),
        [
            Row("quiet", "100 clients, 1 000 msg/s, p99", "ms", "-"),
            Row("loud", "the same beside 20 publishers that flood", "ms", "-"),
            Row("max", "the same, the longest", "ms", "-"),
            Row("rate", "the flood meanwhile", "per second", "-"),
        ],
    ),
    Case(
        "start",
        start,
        [
            Row("start", "start to first CONNACK, empty", "ms", "10", target_value=10),
            Row("first", "the first start ever", "ms", "-"),
        ],
    ),
]
