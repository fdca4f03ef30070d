"""A network between two nodes over VXLAN, beside the wire between them.

Both nodes are network namespaces on one switch.  The floor is the wire itself, from node to node; the instances pay the
tunnel and, on both sides, a veth and the bridge with anti-spoofing on.
"""
import pathlib
import shutil
import tempfile

from bench_groups import requests, throughput
from common import Skip
from test_net_tunnel import UNDERLAY, Wires, connect


def run(bench):
    program = bench.build / "tests/net-driver"
    if not program.exists():
        raise Skip("tests/net-driver is not built")
    if not shutil.which("iperf3"):
        raise Skip("iperf3 is not installed")
    wires = Wires(program, pathlib.Path(tempfile.mkdtemp(dir=bench.scratch)))
    try:
        connect(wires)
        tunnel = (wires.a.side, wires.b.side, wires.b.ipv4)
        wire = (wires.a.world.host, wires.b.world.host, UNDERLAY["b"][0])
        back = (wires.b.side, wires.a.side, wires.a.ipv4)
        wire_back = (wires.b.world.host, wires.a.world.host, UNDERLAY["a"][0])
        for what, ours, plain in (("", tunnel, wire), (", the other way", back, wire_back)):
            mine, floor = bench.pairs(lambda _, o=ours: throughput(*o), lambda _, p=plain: throughput(*p), rounds=9)
            bench.at_least(f"TCP between two nodes over VXLAN{what}", mine, floor, 0.85, "the wire", "Gbit/s")
        mine, floor = bench.pairs(lambda _: requests(*tunnel), lambda _: requests(*wire), rounds=9)
        bench.at_least("requests and answers over VXLAN", mine, floor, 0.9, "the wire", "/s")
    finally:
        wires.close()
