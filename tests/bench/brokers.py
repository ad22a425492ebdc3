"""The brokers under test: how each is configured, started, watched and stopped."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
# CONNECT and CONNACK, MQTT 3.1.1: clean session, no keep-alive, client "probe".
CONNECT = bytes([0x10, 17, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 0, 0, 5]) + b"probe"
CONNACK = bytes([0x20, 2, 0, 0])
DISCONNECT = bytes([0xE0, 0])


@dataclass(frozen=True)
class Tls:
    """A listener beside the plain one; the directory has cert.pem, which is its own CA, and key.pem."""

    port: int
    directory: Path


class BenchError(Exception):
    """A measurement that cannot be trusted; the text is for the user."""


class Broker:
    """A program that can be started on a port with a directory of its own."""

    name: str

    def __init__(self, binary: Path):
        self.binary = binary

    def configure(self, directory: Path, port: int, tls: "Tls | None") -> list[str]:
        """Writes the configuration, with a plain listener and perhaps a TLS listener; returns the command line."""
        raise NotImplementedError

    def version(self) -> str:
        raise NotImplementedError


class Moteway(Broker):
    name = "moteway"

    # The defaults, but for limits that the load would reach.
    CONFIG = """\
[gateway]
state_dir = "{directory}/state"

[broker]
max_connections = 20000
max_queued_messages = 1000000
max_queued_bytes = "1GiB"
max_sessions = 20000
max_retained_messages = 20000

[[listener]]
name = "bench"
bind = "127.0.0.1:{port}"
allow_anonymous = true
max_connections = 20000

[sn]
max_clients = 20000

[[link]]
name = "radio"
kind = "udp"
bind = "127.0.0.1:{port}"
"""
    TLS = """
[[listener]]
name = "bench-tls"
bind = "127.0.0.1:{tls.port}"
allow_anonymous = true
max_connections = 20000
tls = {{ cert = "{tls.directory}/cert.pem", key = "{tls.directory}/key.pem" }}
"""

    def configure(self, directory: Path, port: int, tls: Tls | None) -> list[str]:
        (directory / "state").mkdir(exist_ok=True)
        config = directory / "moteway.toml"
        second = self.TLS.format(tls=tls) if tls else ""
        config.write_text(self.CONFIG.format(directory=directory, port=port) + second)
        return [str(self.binary), "run", "--config", str(config)]

    def version(self) -> str:
        return first_line([str(self.binary), "--version"])


class MotewayWithRules(Moteway):
    """So many bridge rules for other topics, to an upstream that nobody is."""

    RULE = """
[[upstream.rule]]
name = "rule-{number}"
filter = "site/{number}/+/state"
"""

    def __init__(self, binary: Path, rules: int):
        super().__init__(binary)
        each = (self.RULE.format(number=number) for number in range(rules))
        self.CONFIG += '\n[[upstream]]\nname = "nobody"\nurl = "mqtt://127.0.0.1:9"\n' + "".join(each)


class Mosquitto(Broker):
    name = "mosquitto"

    # Debian's defaults, but nothing is dropped, stored or logged per connection. `set_tcp_nodelay` and
    # `max_inflight_messages` stay at their defaults: both other choices cost it more CPU.
    CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_queued_messages 0
connection_messages false
log_dest stderr
log_type error
log_type warning
user {user}
"""
    TLS = """
listener {tls.port} 127.0.0.1
certfile {tls.directory}/cert.pem
keyfile {tls.directory}/key.pem
"""

    def configure(self, directory: Path, port: int, tls: Tls | None) -> list[str]:
        config = directory / "mosquitto.conf"
        # Started as root it would change to a user that may not read this directory.
        user = "root" if os.geteuid() == 0 else "mosquitto"
        second = self.TLS.format(tls=tls) if tls else ""
        config.write_text(self.CONFIG.format(directory=directory, port=port, user=user) + second)
        return [str(self.binary), "-c", str(config)]

    def version(self) -> str:
        return first_line([str(self.binary), "-h"])


class Forwarder(Broker):
    """The load generator's own bare forwarder: the floor that no broker can go below."""

    name = "limit"

    def configure(self, directory: Path, port: int, tls: Tls | None) -> list[str]:
        return [str(self.binary), "forward", "--broker", f"127.0.0.1:{port}"]

    def version(self) -> str:
        return "limit: mqtt-load forward"


class Running:
    """A started broker that has accepted a client. Use it in a `with`: leaving stops it by its pid."""

    def __init__(self, broker: Broker, directory: Path, certificate: Path | None = None):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.name = broker.name
        self.port = free_port()
        self.tls = Tls(free_port(), certificate) if certificate else None
        self.log = directory / "log"
        command = broker.configure(directory, self.port, self.tls)
        with self.log.open("wb") as log:
            spawned_at = time.monotonic()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.wait_until_accepting(spawned_at + START_TIMEOUT)
            self.start_seconds = time.monotonic() - spawned_at
        except BaseException:
            self.stop()
            raise

    def wait_until_accepting(self, give_up_at: float) -> None:
        while not (accepts(self.port) and (self.tls is None or accepts(self.tls.port, self.tls.directory))):
            if self.process.poll() is not None:
                raise BenchError(f"{self.name} ended with {self.process.returncode}: {self.log_tail()}")
            if time.monotonic() > give_up_at:
                raise BenchError(f"{self.name} did not accept a client in {START_TIMEOUT:.0f} s: {self.log_tail()}")
            time.sleep(0.0002)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def memory(self) -> tuple[int, int]:
        """RSS and PSS in bytes."""
        fields = {}
        for line in self.proc("smaps_rollup").splitlines()[1:]:
            key, size, _ = line.split()
            fields[key] = int(size) * 1024
        return fields["Rss:"], fields["Pss:"]

    def wakeups(self) -> int:
        """How often any thread has gone to sleep and come back, since the start."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        lines = [line for task in tasks.iterdir() for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    def written_bytes(self) -> int:
        """What it has sent to the disk, or will."""
        fields = dict(line.split(": ") for line in self.proc("io").splitlines())
        return int(fields["write_bytes"])

    def proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-400:].strip() or "its log is empty"


def accepts(port: int, trusted: Path | None = None) -> bool:
    """Whether a client gets its CONNACK, over TLS where there is a certificate to trust."""
    try:
        with dial(port, trusted) as client:
            client.sendall(CONNECT)
            answer = client.recv(4)
            client.sendall(DISCONNECT)
            return answer == CONNACK
    except OSError:
        return False


def dial(port: int, trusted: Path | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    if trusted is None:
        return plain
    return ssl.create_default_context(cafile=trusted / "cert.pem").wrap_socket(plain, server_hostname="127.0.0.1")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def first_line(command: list[str]) -> str:
    """What a program says first; brokers exit with all sorts of codes after their help."""
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False)
    return (answer.stdout or answer.stderr).strip().partition("\n")[0] or "unknown version"
