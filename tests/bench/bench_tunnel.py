"""A network between two nodes over VXLAN, beside the wire between them.

Both nodes are network namespaces on one switch.  The floors are the wire itself, from node to node, and the same tunnel
made by hand (VXLAN, bridge and veth, without a rule): what lies between these two is the kernel's, what is above, ours.
"""
import pathlib
import shutil
import tempfile

from bench_groups import requests, throughput
from common import Skip
from netns import Namespace
from test_net_tunnel import UNDERLAY, Wires, connect

BARE = {"d": ("203.0.113.1", "203.0.113.2", "10.92.0.1"), "e": ("203.0.113.2", "203.0.113.1", "10.92.0.2")}


def by_hand(wires):
    """Two nodes with an instance each, [(node, instance)], as a person with `ip` would join them."""
    sides = []
    for name, (own, other, address) in BARE.items():
        node, side = Namespace(), Namespace()
        node.ip("link", "add", "wire0", "type", "veth", "peer", "name", f"to-{name}", "netns", str(wires.switch.pid))
        node.ip("addr", "add", f"{own}/24", "dev", "wire0")
        node.ip("link", "set", "wire0", "up")
        wires.switch.ip("link", "set", "dev", f"to-{name}", "master", "sw", "up")
        node.ip("link", "add", "br0", "type", "bridge")
        node.ip("link", "add", "vx", "type", "vxlan", "id", "9", "dstport", "4789", "local", own, "remote", other)
        node.ip("link", "add", "v", "type", "veth", "peer", "name", "eth0", "netns", str(side.pid))
        for link in ("vx", "v"):
            node.ip("link", "set", link, "master", "br0", "up")
        node.ip("link", "set", "br0", "up")
        side.ip("addr", "add", f"{address}/24", "dev", "eth0")
        side.ip("link", "set", "eth0", "mtu", "1450", "up")
        sides.append((node, side))
    return sides


def run(bench):
    program = bench.build / "tests/net-driver"
    if not program.exists():
        raise Skip("tests/net-driver is not built")
    if not shutil.which("iperf3"):
        raise Skip("iperf3 is not installed")
    wires = Wires(program, pathlib.Path(tempfile.mkdtemp(dir=bench.scratch)))
    made = by_hand(wires)
    try:
        connect(wires)
        # As on a node: who does not ask for it has no bridged frames judged by IP's rules.
        for host in (wires.switch, wires.a.world.host, wires.b.world.host, made[0][0], made[1][0]):
            host.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done")
        tunnel = (wires.a.side, wires.b.side, wires.b.ipv4)
        wire = (wires.a.world.host, wires.b.world.host, UNDERLAY["b"][0])
        back = (wires.b.side, wires.a.side, wires.a.ipv4)
        wire_back = (wires.b.world.host, wires.a.world.host, UNDERLAY["a"][0])
        bare = (made[0][1], made[1][1], BARE["e"][2])
        bare_back = (made[1][1], made[0][1], BARE["d"][2])
        for what, *sides in (("", tunnel, wire, bare), (", the other way", back, wire_back, bare_back)):
            mine, floor, hand = bench.pairs(*(lambda _, it=it: throughput(*it) for it in sides), rounds=9)
            bench.at_least(f"TCP between two nodes over VXLAN{what}", mine, floor, 0.85, "the wire", "Gbit/s")
            bench.at_least(f"the same{what}", mine, hand, 0.95, "VXLAN by hand", "Gbit/s")
        mine, floor, hand = bench.pairs(*(lambda _, it=it: requests(*it) for it in (tunnel, wire, bare)), rounds=9)
        bench.at_least("requests and answers over VXLAN", mine, floor, 0.9, "the wire", "/s")
        bench.at_least("the same", mine, hand, 0.95, "VXLAN by hand", "/s")
    finally:
        wires.close()
        for side in sum(made, ()):
            side.close()
