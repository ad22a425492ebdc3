"""Discovery on a network of its own: multicast_node.py BINARY DIRECTORY, as root of a network namespace.

Two gateways are on one interface, a node is at the other end of it, in a namespace of its own. Ends with 0 if the node
found both, over IPv4 and over IPv6, and connected where the answer came from.
"""

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

BOUND = 30
GROUPS = {socket.AF_INET: "225.1.1.1", socket.AF_INET6: "ff02::1:5e"}
PORT = 1883
GATEWAYS = {11: 1883, 22: 1993}
ADVERTISE, SEARCHGW, GWINFO, CONNECT, CONNACK = 0x00, 0x01, 0x02, 0x04, 0x05


def run(*command):
    subprocess.run(command, check=True)


def node():
    """At the far end of the wire."""
    index = socket.if_nametoindex("node0")
    for family, group in GROUPS.items():
        link = socket.socket(family, socket.SOCK_DGRAM)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET:
            link.bind((group, PORT))
            request = struct.pack("4s4si", socket.inet_aton(group), bytes(4), index)
            link.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            target = (group, PORT)
        else:
            link.bind((group, PORT, 0, index))
            request = socket.inet_pton(family, group) + struct.pack("@I", index)
            link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            target = (group, PORT, 0, index)
        own = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET:
            own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", bytes(4), bytes(4), index))
        else:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        advertised = {}
        listen(link, advertised, ADVERTISE)
        informed = {}
        end = time.monotonic() + BOUND
        while len(informed) < len(GATEWAYS):
            assert time.monotonic() < end, informed
            # The first may come before a gateway has joined, or before the node's own address is its own.
            with contextlib.suppress(OSError):
                own.sendto(bytes([3, SEARCHGW, 1]), target)
            listen(own, informed, GWINFO, 0.2)
        for found in (advertised, informed):
            assert {gateway: address[1] for gateway, address in found.items()} == GATEWAYS, found
        assert all(address[0].startswith("fe80:") for address in informed.values()) == (family == socket.AF_INET6)
        for gateway, address in informed.items():
            name = b"node-%d" % gateway
            own.sendto(bytes([len(name) + 6, CONNECT, 4, 1, 0, 60]) + name, address)
            answer, sender = receive(own)
            while answer[1] == GWINFO:
                answer, sender = receive(own)
            assert (answer, sender) == (bytes([3, CONNACK, 0]), address), (answer, sender, address)
        print("found", socket.AddressFamily(family).name, informed, flush=True)


def receive(link, patience=BOUND):
    if not select.select([link], [], [], patience)[0]:
        return None, None
    return link.recvfrom(2048)


def listen(link, found, kind, patience=BOUND):
    """Waits for a message of this kind from each gateway."""
    end = time.monotonic() + patience
    while len(found) < len(GATEWAYS):
        octets, sender = receive(link, max(0, end - time.monotonic()))
        if octets is None:
            assert patience < BOUND, found
            return
        if octets[1] == kind:
            found[octets[2]] = sender


def main(binary, directory):
    far = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    gateways = []
    try:
        # Until it has its namespace.
        mine = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + BOUND
        while os.readlink(f"/proc/{far.pid}/ns/net") == mine:
            assert time.monotonic() < end
        inside = ["nsenter", f"--net=/proc/{far.pid}/ns/net"]
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "gw0", "type", "veth", "peer", "name", "node0", "netns", str(far.pid))
        for prefix, name, address in ([], "gw0", "10.9.0.1/24"), (inside, "node0", "10.9.0.2/24"):
            run(*prefix, "ip", "address", "add", address, "dev", name)
            run(*prefix, "ip", "link", "set", name, "up")
        for identity, port in GATEWAYS.items():
            path = os.path.join(directory, f"{identity}.toml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"""
                    [gateway]
                    name = "gateway-{identity}"
                    state_dir = "{directory}/{identity}"
                    [[listener]]
                    name = "local"
                    bind = "127.0.0.1:{port}"
                    [admin]
                    http = ""
                    socket = ""
                    [sn]
                    gateway_id = {identity}
                    advertise_interval = "1s"
                    [[link]]
                    name = "radio"
                    kind = "udp"
                    bind = "[::]:{port}"
                    multicast = ["{GROUPS[socket.AF_INET]}:{PORT}", "[{GROUPS[socket.AF_INET6]}]:{PORT}"]
                    multicast_interfaces = ["gw0"]
                """)
            gateways.append(subprocess.Popen([binary, "run", "--config", path]))
        run(*inside, sys.executable, __file__, "node")
        for gateway in gateways:
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(BOUND) == 0
    finally:
        for process in [*gateways, far]:
            process.kill()
            process.wait()


if sys.argv[1:] == ["node"]:
    node()
else:
    main(*sys.argv[1:])
