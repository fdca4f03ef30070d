"""New connections per second through a published port, with 1 and with 5,000 published ports."""
import subprocess
import tempfile
import time

from common import Skip
from netns import HOST4, Refused, World

PORTS, CONNECTIONS = 5000, 2000


def run(bench):
    if not (bench.build / "tests/net-driver").exists():
        raise Skip("tests/net-driver is not built")
    program = bench.floor("connect")
    worlds = []
    try:
        for count in (1, PORTS):
            world = World(bench.build / "tests/net-driver", tempfile.mkdtemp(dir=bench.scratch))
            worlds.append(world)
            world.web = world.instance(world.network())
            world.web.publish(",8080,80,tcp")
            begin = time.perf_counter()
            try:
                world.net("fill", count - 1)
            except Refused as reason:
                raise Skip(f"cannot publish {count} ports: {reason}") from reason
            if count > 1:
                bench.note(f"{count} ports one by one: "
                           f"{(time.perf_counter() - begin) / count * 1e6:.0f} us each")

        def connect(world):
            # outside -> the host's address -> the instance; each connection is closed at once.
            done = subprocess.run([program, str(world.outside.pid), str(world.web.side.pid), HOST4,
                                   "8080", "80", str(CONNECTIONS)],
                                  check=True, capture_output=True, text=True)
            return float(done.stdout)
        one, many = bench.pairs(lambda _: connect(worlds[0]), lambda _: connect(worlds[1]), rounds=41)
        bench.at_least(f"connections through a published port, {PORTS} published", CONNECTIONS / many,
                       CONNECTIONS / one, 0.9, "with 1 published", "/s")
    finally:
        for world in worlds:
            world.close()
