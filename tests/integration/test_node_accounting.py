"""What instances have carried in all their life: exact, apart, and never less than it was told before."""
import os
import random
import signal
import threading

import images
import pytest

from node import OUTSIDE4, eventually
from vm_kernel import give_kernel

SEED = int(os.environ.get("BRUME_TEST_SEED", "20261121"))
# Not the outside where the node is one of two: they have the same.
GATEWAY = "10.90.0.1"
WAYS = [("in", "inside"), ("in", "outside"), ("out", "inside"), ("out", "outside")]


def usage(node, name, network="default"):
    """{(way, side): (bytes, packets)} of one port."""
    for port in node.json("network", "usage", name):
        if port["network"] == network:
            return {(way, side): (port[way][side]["bytes"], port[way][side]["packets"]) for way, side in WAYS}
    return None


def settled(node, name):
    """The same, when nothing more comes."""
    before = []

    def still():
        before.append(usage(node, name))
        return len(before) > 1 and before[-1] == before[-2]
    eventually(still, 30, "silence")
    return before[-1]


def grown(before, after, way, side):
    return tuple(b - a for a, b in zip(before[way, side], after[way, side]))


def send(node, name, address, count, size=100):
    """That many datagrams of an instance; nobody hears them."""
    node.sh(name, f"head -c {size} /dev/zero >/tmp/it; i=0; while [ $i -lt {count} ]; do "
                  f"nc -u -w 0 {address} 9 </tmp/it >/dev/null 2>&1; i=$((i+1)); done; true")


def node_image(node):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    return reference


@pytest.fixture
def pair(busybox):
    node, reference = busybox
    for name in ("web", "db"):
        node.launch(reference, name, command=("sleep", "1000"))
    return node, reference, {name: node.instance(name)["spec"]["ports"][0]["ipv4"] for name in ("web", "db")}


def test_inside_and_outside(pair):
    node, _, addresses = pair
    for address in (addresses["db"], OUTSIDE4):
        send(node, "web", address, 1)
    before, before_db = settled(node, "web"), settled(node, "db")
    node.sh("web", f"ping -c 4 -W 5 -s 1000 {addresses['db']}")
    after = settled(node, "web")
    assert grown(before, after, "out", "inside")[0] >= 4 * 1042
    assert grown(before, after, "in", "inside")[0] >= 4 * 1042
    assert grown(before, after, "out", "outside") == grown(before, after, "in", "outside") == (0, 0)
    assert grown(before_db, settled(node, "db"), "in", "inside")[0] >= 4 * 1042
    before = after
    node.sh("web", f"ping -c 3 -W 5 -s 1000 {OUTSIDE4}")
    after = settled(node, "web")
    assert grown(before, after, "out", "outside") == (3 * 1042, 3)
    assert grown(before, after, "in", "outside") == (3 * 1042, 3)
    # It is what the interface has carried.
    def agree():
        stats, now = node.api("GET", "/1.0/instances/web/stats")["network"], usage(node, "web")
        return stats["tx_bytes"] == now["out", "inside"][0] + now["out", "outside"][0] and \
            stats["rx_packets"] == now["in", "inside"][1] + now["in", "outside"][1]
    eventually(agree, 20, "the same counts")


def test_how_it_is_shown(pair):
    node, reference, _ = pair
    node.cli("network", "create", "back", "--subnet", "10.72.0.0/24")
    try:
        node.cli("network", "attach", "back", "web")
        rows = node.json("network", "usage")
        assert [(row["instance"], row["network"], row["interface"]) for row in rows] == [
            ("db", "default", "eth0"), ("web", "back", "eth1"), ("web", "default", "eth0")]
        assert [row["instance"] for row in node.json("network", "usage", "back")] == ["web"]
        assert {row["network"] for row in node.json("network", "usage", "web")} == {"back", "default"}
        table = node.out("network", "usage").splitlines()
        assert table[0].split()[:3] == ["INSTANCE", "NETWORK", "INTERFACE"] and len(table) == 4
        lines = node.out("network", "usage", "web", "-f", "csv").splitlines()
        assert lines[0].startswith("INSTANCE,NETWORK,INTERFACE,IN INSIDE,IN OUTSIDE") and "PACKETS" in lines[0]
        # One that it has left is still its own.
        node.sh("web", "ping -c 2 -W 5 10.72.0.1")
        before = usage(node, "web", "back")
        assert before["out", "inside"][1] >= 2
        node.cli("network", "detach", "back", "web")
        after = usage(node, "web", "back")
        assert all(after[key] >= before[key] for key in before)
        row = next(row for row in node.json("network", "usage", "web") if row["network"] == "back")
        assert "interface" not in row
        # And goes on when it comes back.
        node.cli("network", "attach", "back", "web")
        node.sh("web", "ping -c 2 -W 5 10.72.0.1")
        assert usage(node, "web", "back")["out", "inside"][1] >= after["out", "inside"][1] + 2
    finally:
        node.delete_all()
        node.cli("network", "delete", "back")
    done = node.cli("network", "usage", "nobody", code=1)
    assert 'no network and no instance "nobody"' in done.stderr
    for query in ("instance=nobody", "network=nobody"):
        status, _ = node.api("GET", "/1.0/usage?" + query, raw=True)
        assert status == 404
    status, _ = node.api("GET", "/1.0/usage?what=1", raw=True)
    assert status == 400


def test_restart_of_the_instance_goes_on(pair):
    node, _, addresses = pair
    node.sh("web", f"ping -c 5 -W 5 {addresses['db']}")
    before = settled(node, "web")
    node.cli("stop", "-t", "0", "web")
    stopped = usage(node, "web")
    assert all(stopped[key] >= before[key] for key in before)
    assert usage(node, "web") == stopped, "and not twice"
    node.cli("start", "web")
    node.sh("web", f"ping -c 5 -W 5 {addresses['db']}")
    after = settled(node, "web")
    assert grown(stopped, after, "out", "inside")[1] >= 5
    # Its own run is what stats shows, as before.
    stats = node.api("GET", "/1.0/instances/web/stats")["network"]
    assert stats["tx_packets"] < after["out", "inside"][1]


def test_end_while_the_agent_is_dead(node):
    """The interface goes while nobody looks; what it has carried is there nevertheless, once."""
    reference = node_image(node)
    node.stop_supervision()
    node.launch(reference, "web", command=("sleep", "1000"))
    node.launch(reference, "db", command=("sleep", "1000"))
    address = node.instance("db")["spec"]["ports"][0]["ipv4"]
    node.sh("web", f"ping -c 9 -W 5 -s 1000 {address}")
    before = settled(node, "web")
    link = f"{node.prefix}v{node.instance('web')['spec']['ports'][0]['uid']}"[:15]
    pid = node.instance("web")["status"]["pid"]
    node.sh("web", f"ping -c 7 -W 5 -s 1000 {address}")
    node.kill("agentd")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: link not in node.links(), 20, "the end of the interface")
    node.start_missing()
    node.wait_ready()
    node.wait_state("web", ("stopped", "failed"))
    after = usage(node, "web")
    assert 7 * 1042 <= grown(before, after, "out", "inside")[0] < 8 * 1042
    for _ in range(3):
        node.kill("agentd")
        node.start_missing()
        node.wait_ready()
        assert usage(node, "web") == after


@pytest.mark.slow
def test_storm_of_kills(node):
    """Daemons die again and again while it works, stops and starts: sums only grow, and end exact."""
    reference = node_image(node)
    for name in ("web", "db"):
        node.launch(reference, name, command=("sleep", "1000"))
    address = node.instance("db")["spec"]["ports"][0]["ipv4"]
    chance = random.Random(SEED)
    told, ending = {}, threading.Event()

    def look():
        try:
            now = usage(node, "web")
        except Exception:  # noqa: BLE001 - nobody answers while they are dead
            return
        for key, value in (now or {}).items():
            assert value >= told.get(key, (0, 0)), (key, value, told)
        told.update(now or {})

    def storm():
        while not ending.wait(chance.uniform(0.1, 0.8)):
            node.kill(chance.choice(("agentd", "agentd", "brumed", "keeper")))
    carried = 0
    killer = threading.Thread(target=storm)
    killer.start()
    try:
        for _ in range(8):
            done = node.cli("exec", "web", "--", "ping", "-c", "3", "-W", "5", "-s", "1000", address, code=None)
            carried += 3 if done.returncode == 0 else 0
            look()
            node.cli("restart", "-t", "0", "web", code=None, timeout=120)
            look()
    finally:
        ending.set()
        killer.join()
    node.wait_ready()
    node.cli("start", "web", code=None)
    look()
    assert told["out", "inside"][0] >= carried * 1042
    # Nothing twice: what its neighbour has heard is no less.
    heard = usage(node, "db")["in", "inside"]
    assert told["out", "inside"][0] <= heard[0] + 100_000


@pytest.mark.slow
def test_reboot_of_the_node(node):
    reference = node_image(node)
    node.launch(reference, "web", "--restart", "always", command=("sleep", "1000"))
    node.sh("web", f"ping -c 5 -W 5 {GATEWAY}")
    before = settled(node, "web")
    node.pretend_reboot()
    node.start()
    node.wait_state("web", "running")
    after = usage(node, "web")
    assert all(after[key] >= before[key] for key in before)
    node.sh("web", f"ping -c 5 -W 5 {GATEWAY}")
    assert grown(before, settled(node, "web"), "out", "inside")[1] >= 5


@pytest.mark.slow
def test_virtual_machine(busybox):
    node, reference = busybox
    give_kernel(node)
    node.launch(reference, "vm", "--vm", command=("sleep", "1000"), timeout=240)
    node.sh("vm", f"ping -c 3 -W 5 -s 1000 {OUTSIDE4}")
    before = settled(node, "vm")
    assert before["out", "outside"] == (3 * 1042, 3)
    # Its device ends with the monitor, before the agent hears of it.
    node.cli("stop", "-t", "0", "vm")
    after = usage(node, "vm")
    assert after["out", "outside"] == before["out", "outside"]


def test_sums_that_cannot_be_read(busybox):
    """A file that a broken disk left is no reason not to run; sums begin anew."""
    node, reference = busybox
    node.launch(reference, "it", command=("sleep", "1000"))
    settled(node, "it")
    path = node.state / "instances" / node.instance("it")["meta"]["uid"] / "traffic.json"
    assert path.exists()
    path.write_text('{"ports": [{"network_uid": 5}]}')
    assert usage(node, "it")["out", "inside"][0] >= 0
    node.cli("restart", "-t", "0", "it")
    assert usage(node, "it") is not None
