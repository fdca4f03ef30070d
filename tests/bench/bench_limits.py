"""Rates of ports: how exact they are; and counting: what packets pay for it.

The floor of counting is a second network of ours whose ports have lost their programs.
"""
import shutil
import tempfile

from bench_groups import requests, throughput
from common import Skip
from netns import World

RATES_MBIT = (10, 100, 500)
# Whole frames count: of 1514 bytes 1448 are data of TCP.
DATA = 1448 / 1514


def limit(world, instance, ingress, egress):
    world.net("limit", str(ingress), str(egress), "0")
    instance.attach()


def exactness(bench, world, web, db):
    for mbit in RATES_MBIT:
        for way, ours, sides in (("received", (mbit, 0), (web, db)), ("sent", (0, mbit), (db, web))):
            limit(world, db, *(number * 1_000_000 for number in ours))
            rates = [throughput(sides[0].side, sides[1].side, sides[1].ipv4, "-t", "3", "-O", "1") * 1e3
                     for _ in range(bench.rounds(5))]
            rate = sorted(rates)[len(rates) // 2]
            bench.at_least(f"{mbit} Mbit/s {way}: data of one TCP stream", rate, mbit * DATA, 0.95,
                           "what frames leave", "Mbit/s")
            bench.row(f"{mbit} Mbit/s {way}: no more than that", rate, mbit * DATA, 1.05,
                      "what frames leave", "Mbit/s", 1)
    limit(world, db, 0, 0)


def run(bench):
    program = bench.build / "tests/net-driver"
    if not program.exists():
        raise Skip("tests/net-driver is not built")
    if not shutil.which("iperf3") or not shutil.which("tc"):
        raise Skip("iperf3 or tc is not installed")
    world = World(program, tempfile.mkdtemp(dir=bench.scratch))
    try:
        counted, bare = world.network(), world.network("bb22", 2)
        web, db = world.instance(counted), world.instance(counted, "2222", "db", 6)
        others = world.instance(bare, "3333", "web", 5), world.instance(bare, "4444", "db", 6)
        exactness(bench, world, web, world.instance(counted, "5555", "slow", 7))
        for port in ("3333", "4444"):
            world.host.run("tc", "qdisc", "del", "dev", f"brumev{port}", "clsact")
        world.host.run("tc", "qdisc", "del", "dev", "brume-bb22", "clsact")
        ours, floor = (web.side, db.side, db.ipv4), (others[0].side, others[1].side, others[1].ipv4)
        mine, theirs = bench.pairs(lambda _: requests(*ours), lambda _: requests(*floor), rounds=15)
        bench.at_least("counted: requests and answers", mine, theirs, 0.98, "not counted", "/s")
        mine, theirs = bench.pairs(lambda _: throughput(*ours), lambda _: throughput(*floor), rounds=15)
        bench.at_least("counted: TCP", mine, theirs, 0.98, "not counted", "Gbit/s")
    finally:
        world.close()
