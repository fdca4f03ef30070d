"""Anti-spoofing and security groups: what a change costs on a busy node, and what packets pay.

The floor is a bare bridge with two veths; the many ports are guards of interfaces that are not there,
which costs the kernel's rules as much.
"""
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from common import Skip
from netns import World

PORTS, GROUPS, RULES, CHANGES = 1000, 20, 50, 200

CLIENT = """
import socket, sys, time
s = socket.socket(); s.connect((sys.argv[1], 7000)); s.setsockopt(6, 1, 1)
begin, n = time.monotonic(), 0
while time.monotonic() - begin < 0.5:
    s.send(b"x"); s.recv(1); n += 1
print(n / (time.monotonic() - begin))
"""
SERVER = """
import socket
l = socket.socket(); l.setsockopt(1, 2, 1); l.bind(("", 7000)); l.listen(); print("ready", flush=True)
c, _ = l.accept(); c.setsockopt(6, 1, 1)
while c.send(c.recv(1)): pass
"""


def rules(number):
    """As many rules as a group may reasonably have; `number` makes two versions differ."""
    return [f"tcp,{1000 + number + i},{2000 + i},10.{i}.0.0/16" for i in range(RULES - 1)] + ["any,0,0,"]


def guard(world, number):
    address = f"10.99.{number // 250}.{number % 250 + 1}"
    begin = time.perf_counter()
    world.net("guard", f"f{number:07x}", f"brumevf{number:07x}"[:15], "brume-aa11",
              f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}", address, "", f"a{number % GROUPS:02x}")
    return time.perf_counter() - begin


def fill(world, count):
    for group in range(GROUPS):
        world.net("group", f"a{group:02x}", "all", *rules(0))
    return [guard(world, number) for number in range(count)]


def change(world):
    took = []
    for i in range(CHANGES):
        begin = time.perf_counter()
        world.net("group", f"a{i % GROUPS:02x}", "all", *rules(1 + i))
        took.append(time.perf_counter() - begin)
    return sorted(took)


def pair_of_ports(world):
    """Two instances of one group that lets itself in, and the same bare."""
    network = world.network()
    ours = [world.instance(network), world.instance(network, "2222", "db", 6)]
    world.net("group", "bb", "all", "any,0,0,group:bb")
    for it in ours:
        mac = re.search(r"link/ether (\S+)", it.side.ip("link", "show", "eth0"))[1]
        world.net("guard", it.uid, "brumev" + it.uid, "brume-aa11", mac, it.ipv4, it.ipv6, "bb")
    world.host.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done")
    world.host.ip("link", "add", "bare", "type", "bridge")
    world.host.ip("link", "set", "bare", "up")
    bare = [world.namespace(), world.namespace()]
    for i, side in enumerate(bare):
        world.host.ip("link", "add", f"bare{i}", "type", "veth", "peer", "name", "eth0", "netns", str(side.pid))
        world.host.ip("link", "set", f"bare{i}", "master", "bare", "up")
        side.ip("addr", "add", f"10.50.0.{i + 1}/24", "dev", "eth0")
        side.ip("link", "set", "eth0", "up")
    return (ours[0].side, ours[1].side, ours[1].ipv4), (*bare, "10.50.0.2")


def throughput(client, server, address, *options):
    listening = subprocess.Popen(server.command("iperf3", "-s", "-1", "--forceflush"),
                                 stdout=subprocess.PIPE, text=True)
    for line in listening.stdout:
        if "listening" in line:
            break
    done = json.loads(client.run("iperf3", "-c", address, *(options or ("-t", "1")), "-J", timeout=30))
    listening.communicate(timeout=30)
    return done["end"]["sum_received"]["bits_per_second"] / 1e9


def requests(client, server, address):
    listening = subprocess.Popen(server.command("python3", "-c", SERVER), stdout=subprocess.PIPE, text=True)
    listening.stdout.readline()
    rate = float(client.run("python3", "-c", CLIENT, address, timeout=30))
    listening.wait(timeout=30)
    return rate


def run(bench):
    program = bench.build / "tests/net-driver"
    if not program.exists():
        raise Skip("tests/net-driver is not built")
    world = World(program, tempfile.mkdtemp(dir=bench.scratch))
    try:
        took = fill(world, PORTS)
        # Of the middle of ten: one port alone is a matter of chance.
        first, last = statistics.median(took[5:25]), statistics.median(took[-20:])
        bench.at_least(f"adding a port, {PORTS} there", 1 / last, 1 / first, 1 / 1.2, "10 there", "/s")
        changes = change(world)
        bench.note(f"one group of {RULES} rules changed, {PORTS} ports in {GROUPS} groups: median "
                   f"{changes[len(changes) // 2] * 1e3:.1f} ms, p99 {changes[int(len(changes) * .99)] * 1e3:.1f} ms")
        world.net.kill()
        begin = time.perf_counter()
        world.start()
        for group in range(GROUPS):
            world.net("group", f"a{group:02x}", "all", *rules(0))
        for number in range(PORTS):
            guard(world, number)
        bench.note(f"a new agent has seen to all of it in {time.perf_counter() - begin:.2f} s")
    finally:
        world.close()
    if not shutil.which("iperf3"):
        raise Skip("iperf3 is not installed")
    world = World(program, tempfile.mkdtemp(dir=bench.scratch))
    try:
        ours, bare = pair_of_ports(world)
        mine, floor = bench.pairs(lambda _: requests(*ours), lambda _: requests(*bare), rounds=9)
        bench.at_least("requests and answers between two instances", mine, floor, 0.9, "bare bridge", "/s")
        mine, floor = bench.pairs(lambda _: throughput(*ours), lambda _: throughput(*bare), rounds=9)
        bench.at_least("TCP between two instances", mine, floor, 0.9, "bare bridge", "Gbit/s")
    finally:
        world.close()
