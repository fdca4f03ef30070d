"""Ports of a node: how soon a new one carries packets, how soon it has its lease, what publishing costs its data.

The floor of a published port is a bridge with a veth made by hand, without a rule, to which the same packets are
routed: from outside of the node, and from the node itself.
"""
import shutil
import socket
import subprocess
import tempfile
import time

import images
import kernel
from bench_groups import throughput
from common import Skip
from netns import HOST4, World

LEASE = ("busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-s", "/bin/true")


def until_refused(pid, address):
    """Waits until somebody at an address says that nothing listens there: packets go there and back."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with kernel.inside_network_of(pid):
            client = socket.socket()
        with client:
            client.settimeout(0.02)
            try:
                client.connect((address, 9))
            except ConnectionRefusedError:
                return
            except OSError:
                continue
    raise AssertionError(f"{address} does not answer")


def joins(bench, node, reference):
    """An instance joins a network again and again; another one, which is there already, talks to it."""
    node.cli("network", "create", "front", "--subnet", "10.71.0.0/24")
    node.cli("network", "create", "back", "--subnet", "10.72.0.0/24")
    node.launch(reference, "old", "--network", "back", command=("sleep", "100000"))
    node.launch(reference, "new", "--network", "front", command=("sleep", "100000"))
    seen_from = node.instance("old")["status"]["pid"]
    enter = node.command([node.build / "brume", "network", "attach"])
    times = []
    for number in range(bench.rounds(100)):
        address = f"10.72.0.{number + 20}"
        begin = time.perf_counter()
        subprocess.run([*enter, f"back,ip={address}", "new"], check=True, stdout=subprocess.DEVNULL,
                       env=node.environment())
        until_refused(seen_from, address)
        times.append(time.perf_counter() - begin)
        node.cli("network", "detach", "back", "new")
    bench.bound("a port from `brume network attach` to its first answer, p95", bench.p95(times) * 1e3, 20, "ms")


def leases(bench, node, reference):
    node.cli("network", "create", "served", "--dhcp", "--subnet", "10.73.0.0/24")
    node.launch(reference, "client", "--network", "served", command=("sleep", "100000"))
    pid = str(node.instance("client")["status"]["pid"])
    times = []
    for _ in range(bench.rounds(30)):
        begin = time.perf_counter()
        subprocess.run(["nsenter", "-t", pid, "-n", *LEASE], check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    bench.bound("a lease by DHCP, asked, offered, requested, given: p95", bench.p95(times) * 1e3, 200, "ms")


def bare_bridge(world):
    """A namespace behind a bridge of the host's, as anybody would make it by hand; its address."""
    side = world.namespace()
    for words in (("link", "add", "bare", "type", "bridge"), ("addr", "add", "10.50.0.1/24", "dev", "bare"),
                  ("link", "add", "bare0", "type", "veth", "peer", "name", "eth0", "netns", str(side.pid)),
                  ("link", "set", "bare0", "master", "bare", "up"), ("link", "set", "bare", "up")):
        world.host.ip(*words)
    side.ip("addr", "add", "10.50.0.2/24", "dev", "eth0")
    side.ip("link", "set", "eth0", "up")
    side.ip("route", "add", "default", "via", "10.50.0.1")
    world.outside.ip("route", "add", "10.50.0.0/24", "via", HOST4)
    return side, "10.50.0.2"


def published(bench):
    program = bench.build / "tests/net-driver"
    if not program.exists():
        raise Skip("tests/net-driver is not built")
    if not shutil.which("iperf3"):
        raise Skip("iperf3 is not installed")
    world = World(program, tempfile.mkdtemp(dir=bench.scratch))
    try:
        web = world.instance(world.network())
        web.publish(",5201,5201,tcp")
        side, address = bare_bridge(world)
        for where, client, target in (("from outside", world.outside, HOST4), ("on 127.0.0.1", world.host, "127.0.0.1")):
            for way, options in (("in", ("-t", "1")), ("out", ("-t", "1", "-R"))):
                mine, floor = bench.pairs(lambda _, c=client, t=target, o=options: throughput(c, web.side, t, *o),
                                          lambda _, c=client, o=options: throughput(c, side, address, *o), rounds=9)
                bench.at_least(f"a published port {where}, TCP {way}", mine, floor, 0.95, "bridge by hand", "Gbit/s")
    finally:
        world.close()


def run(bench):
    for program in ("dnsmasq", "busybox"):
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")
    with bench.node() as node:
        reference = node.registry.push(images.busybox(), "busybox:1")
        node.cli("image", "pull", "--insecure", reference)
        joins(bench, node, reference)
        leases(bench, node, reference)
    published(bench)
