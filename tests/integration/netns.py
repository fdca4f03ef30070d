"""Network namespaces, and sockets inside them, for tests of net/.

A socket stays in the namespace it was made in, so one process can be client and server on all sides
and needs no waiting for others to be ready.
"""
import contextlib
import ctypes
import os
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
