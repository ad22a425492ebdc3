"""The brokers under test: how each is configured, started, watched and stopped."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
# CONNECT and CONNACK, MQTT 3.1.1: clean session, no keep-alive, client "probe".
CONNECT = bytes([0x10, 17, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 0, 0, 5]) + b"probe"
CONNACK = bytes([0x20, 2, 0, 0])
DISCONNECT = bytes([0xE0, 0])


class BenchError(Exception):
    """A measurement that cannot be trusted; the text is for the user."""


class Broker:
    """A program that can be started on a port with a directory of its own."""

    name: str

    def __init__(self, binary: Path):
        self.binary = binary

    def configure(self, directory: Path, port: int, tls: Path | None) -> list[str]:
        """Writes the configuration; returns the command line. `tls` has cert.pem and key.pem for a TLS listener."""
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

[[listener]]
name = "bench"
bind = "127.0.0.1:{port}"
allow_anonymous = true
max_connections = 20000
{tls}

[sn]
max_clients = 20000

[[link]]
name = "radio"
kind = "udp"
bind = "127.0.0.1:{port}"
"""

    def configure(self, directory: Path, port: int, tls: Path | None) -> list[str]:
        (directory / "state").mkdir(exist_ok=True)
        config = directory / "moteway.toml"
        pair = f'tls = {{ cert = "{tls}/cert.pem", key = "{tls}/key.pem" }}' if tls else ""
        config.write_text(self.CONFIG.format(directory=directory, port=port, tls=pair))
        return [str(self.binary), "run", "--config", str(config)]

    def version(self) -> str:
        return first_line([str(self.binary), "--version"])


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
{tls}
"""

    def configure(self, directory: Path, port: int, tls: Path | None) -> list[str]:
        config = directory / "mosquitto.conf"
        # Started as root it would change to a user that may not read this directory.
        user = "root" if os.geteuid() == 0 else "mosquitto"
        pair = f"certfile {tls}/cert.pem\nkeyfile {tls}/key.pem" if tls else ""
        config.write_text(self.CONFIG.format(port=port, user=user, tls=pair))
        return [str(self.binary), "-c", str(config)]

    def version(self) -> str:
        return first_line([str(self.binary), "-h"])


class Forwarder(Broker):
    """The load generator's own bare forwarder: the floor that no broker can go below."""

    name = "limit"

    def configure(self, directory: Path, port: int, tls: Path | None) -> list[str]:
        return [str(self.binary), "forward", "--broker", f"127.0.0.1:{port}"]

    def version(self) -> str:
        return "limit: mqtt-load forward"


class Running:
    """A started broker that has accepted a client. Use it in a `with`: leaving stops it by its pid."""

    def __init__(self, broker: Broker, directory: Path, tls: Path | None = None):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.tls = tls
        self.name = broker.name
        self.port = free_port()
        self.log = directory / "log"
        command = broker.configure(directory, self.port, tls)
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
        while not accepts(self.port, self.tls):
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


def accepts(port: int, tls: Path | None) -> bool:
    """Whether a client gets its CONNACK."""
    try:
        with dial(port, tls) as client:
            client.sendall(CONNECT)
            answer = client.recv(4)
            client.sendall(DISCONNECT)
            return answer == CONNACK
    except OSError:
        return False


def dial(port: int, tls: Path | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    if tls is None:
        return plain
    return ssl.create_default_context(cafile=tls / "cert.pem").wrap_socket(plain, server_hostname="127.0.0.1")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def first_line(command: list[str]) -> str:
    """What a program says first; brokers exit with all sorts of codes after their help."""
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False)
    return (answer.stdout or answer.stderr).strip().partition("\n")[0] or "unknown version"
