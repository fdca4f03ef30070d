"""Network namespaces, sockets inside them, and a small world for tests of net/.

A socket stays in the namespace it was made in, so one process can be client and server on all sides
and needs no waiting for others to be ready.

In the world the outside (192.0.2.2, 2001:db8::2) is wired to the host (192.0.2.1, 2001:db8::1);
instances are bare network namespaces.
"""
import contextlib
import ctypes
import ipaddress
import os
import pathlib
import re
import socket
import struct
import subprocess

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
TIMEOUT_S = 10
# How long silence must last to count as "dropped".
SILENCE_S = 0.4


class Namespace:
    """A network namespace that a process holds open."""

    def __init__(self, mounts=False):
        flags = "-nm" if mounts else "-n"
        self.holder = subprocess.Popen(["unshare", flags, "sh", "-c", "echo; exec cat"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.pid = self.holder.pid
        self.fd = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        self.mounts = mounts
        self.ip("link", "set", "lo", "up")

    def command(self, *argv):
        return ["nsenter", "-t", str(self.pid), "-n"] + (["-m"] if self.mounts else []) + list(argv)

    def run(self, *argv, **kwargs):
        return subprocess.run(self.command(*argv), check=True, capture_output=True, text=True,
                              **kwargs).stdout

    def ip(self, *argv):
        return self.run("ip", *argv)

    @contextlib.contextmanager
    def inside(self):
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            if LIBC.setns(self.fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            if LIBC.setns(here, CLONE_NEWNET) != 0:
                os.abort()
            os.close(here)

    def open(self, address, kind):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside():
            made = socket.socket(family, kind)
        made.settimeout(TIMEOUT_S)
        return made

    def listen(self, address, port, kind=socket.SOCK_STREAM):
        server = self.open(address, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if server.family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((address, port))
        if kind == socket.SOCK_STREAM:
            server.listen(64)
        return server

    def close(self):
        os.close(self.fd)
        self.holder.stdin.close()
        self.holder.wait()
        self.holder.stdout.close()


def talk_tcp(client_side, target, port, server, source=None):
    """Connects, sends a word each way; returns the address that the server saw."""
    with client_side.open(target, socket.SOCK_STREAM) as client:
        if source:
            client.bind((source, 0))
        client.connect((target, port))
        connection, peer = server.accept()
        with connection:
            connection.settimeout(TIMEOUT_S)
            client.sendall(b"ping")
            assert connection.recv(16) == b"ping"
            connection.sendall(b"pong")
            assert client.recv(16) == b"pong"
    return peer[0]


def talk_udp(client_side, target, port, server):
    with client_side.open(target, socket.SOCK_DGRAM) as client:
        client.connect((target, port))
        client.send(b"ping")
        data, peer = server.recvfrom(16)
        assert data == b"ping"
        server.sendto(b"pong", peer)
        assert client.recv(16) == b"pong"
    return peer[0]


def cannot_reach(client_side, target, port, source=None):
    """Whether a connection is refused, or nobody answers."""
    with client_side.open(target, socket.SOCK_STREAM) as client:
        if source:
            client.bind((source, 0))
        client.settimeout(SILENCE_S)
        try:
            client.connect((target, port))
        except OSError:
            return True
    return False


def resolve(side, server, name, kind="A"):
    """Asks a DNS server; returns the addresses as text, or None when the name does not exist."""
    number = {"A": 1, "AAAA": 28}[kind]
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    with side.open(server, socket.SOCK_DGRAM) as client:
        client.connect((server, 53))
        client.send(struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + question +
                    struct.pack(">2H", number, 1))
        answer = client.recv(4096)
    flags, _, count = struct.unpack(">3H", answer[2:8])
    if flags & 0xf == 3:
        return None
    assert flags & 0xf == 0, f"DNS answer code {flags & 0xf} for {name}"
    found, at = [], 12 + len(question) + 4
    for _ in range(count):
        at += 2  # names in answers are pointers
        type_, _, _, size = struct.unpack(">2HIH", answer[at:at + 10])
        at += 10
        if type_ == number:
            family = socket.AF_INET if kind == "A" else socket.AF_INET6
            found.append(socket.inet_ntop(family, answer[at:at + size]))
        at += size
    return found


def read_name(packet, at):
    """A name of a DNS answer, and where it ends."""
    labels, end = [], None
    while packet[at]:
        if packet[at] >= 0xc0:
            end = end or at + 2
            at = struct.unpack(">H", packet[at:at + 2])[0] & 0x3fff
            continue
        labels.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(labels), end or at + 1


def reverse(side, server, address):
    """The name that a DNS server has for an address, or None."""
    question = b"".join(bytes([len(part)]) + part.encode()
                        for part in ipaddress.ip_address(address).reverse_pointer.split(".")) + b"\0"
    with side.open(server, socket.SOCK_DGRAM) as client:
        client.connect((server, 53))
        client.send(struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + question + struct.pack(">2H", 12, 1))
        answer = client.recv(4096)
    if struct.unpack(">H", answer[6:8])[0] == 0:
        return None
    _, at = read_name(answer, 12 + len(question) + 4)
    return read_name(answer, at + 10)[0]


HOST4, HOST6, OUT4, OUT6 = "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


class Refused(Exception):
    """The driver answered with an error: (errno, message)."""


class Driver:
    def __init__(self, program, side, prefix, run):
        self.process = subprocess.Popen(side.command(str(program), prefix, str(run)), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.answer()

    def answer(self):
        line = self.process.stdout.readline().rstrip("\n")
        if line.startswith("error "):
            code, message = line.split(" ", 2)[1:]
            raise Refused(int(code), message)
        assert line.startswith("ok"), line
        return line.split(" ")[1:]

    def __call__(self, *words):
        self.process.stdin.write(" ".join(str(w) or "-" for w in words) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def fields(self, *words):
        pairs = (word.split("=", 1) for word in self(*words))
        return {k: int(v) if words[0] == "gc" or k == "elements" else [x for x in v.split(",") if x]
                for k, v in pairs}

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Network:
    def __init__(self, uid, number, nat=True, domain=""):
        self.uid, self.number = uid, number
        self.words = (uid, f"10.90.{number}.0/24", f"fd00:90:{number}::/64", "nat" if nat else "",
                      0, domain)
        self.gateway4, self.gateway6 = f"10.90.{number}.1", f"fd00:90:{number}::1"

    def address(self, last):
        return f"10.90.{self.number}.{last}", f"fd00:90:{self.number}::{last:x}"


class Instance:
    """A namespace that was attached to a network."""

    def __init__(self, world, network, uid, name, last, words=None):
        self.world, self.network, self.uid, self.name = world, network, uid, name
        self.ipv4, self.ipv6 = network.address(last)
        self.words = words or network.words
        self.side = world.namespace()

    def attach(self):
        self.world.net("attach", self.side.pid, self.uid, self.name, "", self.ipv4, self.ipv6,
                       *self.words)

    def publish(self, *specs):
        self.world.net("publish", self.uid, self.ipv4, self.ipv6, *specs)

    def listen(self, port, kind=TCP, ipv6=False):
        return self.world.listen(self.side, "::" if ipv6 else "0.0.0.0", port, kind)


class World:
    def __init__(self, program, folder):
        self.program, self.run = program, pathlib.Path(folder) / "run"
        self.namespaces, self.sockets, self.servers = [], [], []
        self.host = self.namespace(mounts=True)
        self.outside = self.namespace()
        self.host.ip("link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns",
                     str(self.outside.pid))
        for side, link, ipv4, ipv6 in ((self.host, "up0", HOST4, HOST6),
                                       (self.outside, "eth0", OUT4, OUT6)):
            side.ip("addr", "add", f"{ipv4}/24", "dev", link)
            side.ip("addr", "add", f"{ipv6}/64", "dev", link, "nodad")
            side.ip("link", "set", link, "up")
        self.net = None
        self.start()

    def start(self, prefix="brume"):
        self.net = Driver(self.program, self.host, prefix, self.run)

    def namespace(self, **kwargs):
        made = Namespace(**kwargs)
        self.namespaces.append(made)
        return made

    def listen(self, side, *args):
        made = side.listen(*args)
        self.sockets.append(made)
        return made

    def network(self, uid="aa11", number=1, **kwargs):
        network = Network(uid, number, **kwargs)
        self.net("network", *network.words)
        return network

    def instance(self, network, uid="1111", name="web", last=5, words=None):
        """`words` say another network that has the same subnets."""
        instance = Instance(self, network, uid, name, last, words)
        instance.attach()
        return instance

    def serve_names(self, network):
        """Starts the network's dnsmasq; returns a function that waits for a line of its log."""
        argv = self.net("network", *network.words)[2:]
        server = subprocess.Popen(self.host.command(*argv), stderr=subprocess.PIPE, text=True)
        self.servers.append(server)

        def wait_for(pattern):
            for line in server.stderr:
                if re.search(pattern, line):
                    return line
            raise AssertionError(f"dnsmasq ended before it said {pattern}")
        wait_for("started")
        return wait_for

    def close(self):
        if self.net:
            self.net.close()
        for server in self.servers:
            server.kill()
            server.wait()
            server.stderr.close()
        for made in self.sockets + self.namespaces:
            made.close()
