"""New connections per second through a load balancer, beside a published port."""
import subprocess
import tempfile

from common import Skip
from netns import HOST4, World

OTHERS, CONNECTIONS = 50, 2000


def run(bench):
    if not (bench.build / "tests/net-driver").exists():
        raise Skip("tests/net-driver is not built")
    program = bench.floor("connect")
    world = World(bench.build / "tests/net-driver", tempfile.mkdtemp(dir=bench.scratch))
    try:
        network = world.network()
        web = world.instance(network)
        web.publish(",8080,80,tcp")
        # One member, for the program listens at one place; and other balancers, which must not count.
        for n in range(OTHERS + 1):
            world.net("balance", f"ba{n:04x}", network.uid, "", "", "", "rr", f"tcp,,{9000 + n},80",
                      f"{web.ipv4},{web.ipv6},0")

        def connect(port):
            done = subprocess.run([program, str(world.outside.pid), str(web.side.pid), HOST4, str(port),
                                   "80", str(CONNECTIONS)], check=True, capture_output=True, text=True)
            return float(done.stdout)
        published, balanced = bench.pairs(lambda _: connect(8080), lambda _: connect(9000), rounds=41)
        bench.at_least(f"connections through a balancer, {OTHERS} others there", CONNECTIONS / balanced,
                       CONNECTIONS / published, 0.9, "through a published port", "/s")
    finally:
        world.close()
