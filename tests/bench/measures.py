"""What the cases measure: each function starts a fresh broker, puts one kind of load on it and returns figures."""

import itertools
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from brokers import BenchError, Broker, MotewayWithRules, Running
from churn import all_leave, churn_round
from growth import KINDS
from outage import outage

LOAD_TIMEOUT = 300
DEPTHS = (10_000, 100_000, 1_000_000)
Figures = dict[str, float]


@dataclass
class Bench:
    """One measurement of one broker."""

    broker: Broker
    load: Path
    directory: Path
    quick: bool
    # The upstream of bridges.
    mosquitto: Path
    serial: itertools.count = field(default_factory=itertools.count)

    def start(self, tls: bool = False, rules: int = 0) -> Running:
        directory = self.directory / f"{self.broker.name}-{next(self.serial)}"
        broker = MotewayWithRules(self.broker.binary, rules) if rules else self.broker
        return Running(broker, directory, self.certificate() if tls else None)

    def certificate(self) -> Path:
        """A directory with cert.pem, which is its own CA, and key.pem."""
        directory = self.directory / "tls"
        if not directory.exists():
            directory.mkdir()
            subprocess.run([str(self.load), "certificate", "--dir", str(directory)], check=True)
        return directory

    def start_again(self, stopped: Running) -> Running:
        """Where another has been before."""
        return Running(self.broker, stopped.directory)

    def amount(self, count: int) -> int:
        return count // 5 if self.quick else count

    def drive(self, running: Running, mode: str, tls: bool = False, modest: bool = False, **options: int) -> Figures:
        """Runs the load generator to its end; an error when anything was lost or came out of order. A modest one gets out
        of the way of all else that wants to run."""
        command = ["nice", "-n", "19"] * modest + self.load_command(running, mode, options, tls)
        answer = subprocess.run(command, capture_output=True, text=True, timeout=LOAD_TIMEOUT, check=False)
        if answer.returncode != 0:
            reason = (answer.stderr or answer.stdout).strip()
            raise BenchError(f"{running.name}: the load failed with {answer.returncode}: {reason}")
        return json.loads(answer.stdout)

    def load_command(self, running: Running, mode: str, options: dict[str, int], tls: bool = False) -> list[str]:
        fixed = {"broker": f"127.0.0.1:{running.port}", "broker-pid": running.process.pid}
        if tls and running.tls:
            fixed |= {"broker": f"127.0.0.1:{running.tls.port}", "tls": running.tls.directory / "cert.pem"}
        pairs = [(f"--{name}", str(value)) for name, value in (fixed | options).items()]
        return [str(self.load), mode, *itertools.chain.from_iterable(pairs)]


Measure = Callable[[Bench], Figures]


def flow(messages: int, **options: int) -> Measure:
    """CPU per million delivered, publishers to subscribers."""

    def measure(bench: Bench) -> Figures:
        with bench.start() as running:
            result = bench.drive(running, "flow", messages=bench.amount(messages), **options)
        return {"cpu": result["broker_cpu_per_million"], "load": result["load_cpu_per_million"], **result}

    return measure


def latency(clients: int) -> Measure:
    """Each client subscribes, and publishes to its neighbour."""

    def measure(bench: Bench) -> Figures:
        with bench.start() as running:
            return bench.drive(running, "latency", clients=clients, rate=5000, seconds=bench.amount(10))

    return measure


def backlog(messages: int) -> Measure:
    """Messages made safe for a subscriber that is away, then fetched; and what that wrote to the disk."""

    def measure(bench: Bench) -> Figures:
        amount = bench.amount(messages)
        with bench.start() as running:
            before = running.written_bytes()
            result = bench.drive(running, "backlog", messages=amount, window=500, payload=256)
            written = (running.written_bytes() - before) / amount
        return {"load": result["store_load_cpu"], "written": written, **result}

    return measure


def deep_backlog(bench: Bench) -> Figures:
    """What a stored message costs by how many there are."""
    runs = {amount: backlog(amount)(bench) for amount in DEPTHS}
    figures = {f"{half}_{amount}": run[f"{half}_cpu"] for half in ("store", "drain") for amount, run in runs.items()}
    return {**figures, "load": runs[DEPTHS[0]]["load"]}


def growth(kind: str, counts: tuple[int, ...]) -> Measure:
    """Fan-in, QoS 0, with more and more of what has nothing to do with it."""

    def measure(bench: Bench) -> Figures:
        figures = {}
        for count in counts:
            with bench.start(rules=count if kind == "rules" else 0) as running:
                there = KINDS[kind](running.port, count) if kind in KINDS else []
                result = bench.drive(running, "flow", messages=bench.amount(500_000))
                all_leave(there)
            figures[f"cpu_{count}"] = result["broker_cpu_per_million"]
        growth = figures[f"cpu_{counts[-1]}"] / figures[f"cpu_{counts[0]}"]
        return {**figures, "growth": growth, "load": result["load_cpu_per_million"]}

    return measure


def radio(**options: int) -> Measure:
    """MQTT-SN nodes over UDP, to one MQTT subscriber. Nothing may be lost. The rate is that of a second run, for which
    the generator's messages go to the system as one: sent one by one they cost it more than the gateway."""

    def measure(bench: Bench) -> Figures:
        with bench.start() as running:
            drive = partial(bench.drive, running, "radio", radio=f"127.0.0.1:{running.port}", **options)
            result = drive()
            fast = result if options.get("paced") else drive(together=1)
        for run in (result, fast):
            if run["lost"] and not options.get("paced"):
                raise BenchError(f"{run['lost']:.0f} of {run['messages']:.0f} messages lost")
        return {
            "cpu": result["broker_cpu_per_million"],
            "load": result["load_cpu_per_million"],
            **result,
            "per_second": fast["per_second"],
        }

    return measure


def radio_idle(clients: int) -> Measure:
    """Nodes that say something once a minute."""

    def measure(bench: Bench) -> Figures:
        seconds = 2 if bench.quick else 10
        with bench.start() as running:
            before, _ = running.memory()
            options = {"radio": f"127.0.0.1:{running.port}", "clients": clients, "payload": 32, "paced": 1, "hold": 1,
                       "rate": max(1, clients // 60), "seconds": seconds}
            command = bench.load_command(running, "radio", options)
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
                result = json.loads(holder.stdout.readline() or "{}")
                if result.get("lost") != 0:
                    raise BenchError(f"{running.name}: {result}")
                loaded, _ = running.memory()
                holder.communicate()
        return {"each": (loaded - before) / clients, "busy": result["broker_cpu_seconds"] / result["seconds"] * 100,
                "load": result["load_cpu_per_million"]}

    return measure


def mqtt_idle(clients: int) -> Measure:
    """The same over MQTT: what they cost while they are connected, and what each takes."""

    def measure(bench: Bench) -> Figures:
        seconds = 2 if bench.quick else 10
        with bench.start() as running:
            result = bench.drive(running, "latency", clients=clients, payload=32, rate=max(1, clients // 60), seconds=seconds)
        busy = result["broker_cpu_seconds"] / result["seconds"] * 100
        return {"each": connections(clients)(bench)["each"], "busy": busy, "load": result["load_cpu_per_million"]}

    return measure


def idle(bench: Bench) -> Figures:
    window = 2 if bench.quick else 5
    with bench.start() as running:
        time.sleep(1)
        before = running.wakeups()
        time.sleep(window)
        wakeups = (running.wakeups() - before) / window
        rss, pss = running.memory()
    return {"rss": rss / 1e6, "pss": pss / 1e6, "wakeups": wakeups}


def churn(bench: Bench) -> Figures:
    """Memory after many rounds of clients that are all gone again, against that after the second."""
    rounds, clients = (4, 100) if bench.quick else (30, 500)
    with bench.start() as running:
        for number in range(rounds):
            churn_round(running.port, number, clients)
            if number == 1:
                settled, _ = running.memory()
        rss, _ = running.memory()
    return {"rss": rss / 1e6, "growth": (rss - settled) / 1e3}


def bridge(messages: int, **how: float) -> Measure:
    """An outage of the upstream, with the broker as the bridge."""

    def measure(bench: Bench) -> Figures:
        directory = bench.directory / f"{bench.broker.name}-{next(bench.serial)}"
        return outage(bench.broker, bench.mosquitto, directory, bench.amount(messages), **how)

    return measure


def connections(clients: int, tls: bool = False) -> Measure:
    """Memory of connections that subscribed and wait."""

    def measure(bench: Bench) -> Figures:
        with bench.start(tls) as running:
            before, _ = running.memory()
            command = bench.load_command(running, "idle", {"clients": clients}, tls)
            # Closing its stdin, on leaving, ends the load generator.
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
                if json.loads(holder.stdout.readline() or "{}").get("subscribed") != clients:
                    raise BenchError(f"{running.name} did not take {clients} connections")
                loaded, _ = running.memory()
                holder.communicate()
        return {"rss": loaded / 1e6, "each": (loaded - before) / clients}

    return measure


def connects(clients: int, parallel: int, tls: bool = False) -> Measure:
    """Connections that come and stay; with as many in parallel as there are clients, all at one moment."""

    def measure(bench: Bench) -> Figures:
        with bench.start(tls) as running:
            result = bench.drive(running, "connects", tls, clients=clients, parallel=parallel)
        cpu, p99 = result["broker_cpu_per_million"], result["p99_us"] / 1e3
        return {"rate": result["per_second"], "cpu": cpu, "p99": p99, **result}

    return measure


def neighbours(mode: str, tls: bool = False, **options: int) -> Measure:
    """What 100 quiet clients feel of others: their latency alone, and while the other load comes again and again."""

    def measure(bench: Bench) -> Figures:
        quiet_load = {"clients": 100, "rate": 1000, "seconds": bench.amount(10)}
        with bench.start(tls) as running, ThreadPoolExecutor(1) as other:
            quiet = bench.drive(running, "latency", **quiet_load)
            over = threading.Event()
            others = other.submit(again_and_again, over, lambda: bench.drive(running, mode, tls, modest=True, **options))
            try:
                loud = bench.drive(running, "latency", **quiet_load)
            finally:
                over.set()
            rate = statistics.median(others.result())
        return {"quiet": quiet["p99_us"] / 1e3, "loud": loud["p99_us"] / 1e3, "max": loud["max_us"] / 1e3, "rate": rate}

    return measure


def again_and_again(over: threading.Event, load: Callable[[], Figures]) -> list[float]:
    """How much a second each time."""
    rates = []
    while not over.is_set():
        rates.append(load()["per_second"])
    return rates


def start(bench: Bench) -> Figures:
    """Starts in a directory that an earlier run left; the very first, which makes the files, is told apart."""
    with bench.start() as running:
        first = running.start_seconds
    seconds = []
    for _ in range(5):
        with bench.start_again(running) as running:
            seconds.append(running.start_seconds)
    return {"start": statistics.median(seconds) * 1e3, "first": first * 1e3}
