"""Traces of one real packet, as src/net/ makes them: what is told of it, and that nothing is left."""
import errno
import json
import os
import re
import signal
import time

import pytest

from conftest import need
from netns import HOST4, OUT4, OUT6, TCP, UDP, Refused
from test_net_drivers import GATEWAY, Lan
from test_net_router import ROUTER, TRANSIT, Isolated

ALL, NONE = "all", ""


def guard(world, instance, *groups):
    mac = re.search(r"link/ether (\S+)", instance.side.ip("link", "show", "eth0"))[1]
    world.net("guard", instance.uid, "brumev" + instance.uid, "brume-" + instance.network.uid, mac,
              instance.ipv4, instance.ipv6, ",".join(groups), "")


@pytest.fixture
def two(world):
    """web in group aa, db in group bb, both on one network."""
    network = world.network()
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    for uid in ("aa", "bb"):
        world.net("group", uid, ALL, "any,0,0,group:" + uid)
    guard(world, web, "aa")
    guard(world, db, "bb")
    return web, db


def trace(sender, to, port=80, protocol="tcp", timeout_ms=2000, slot=0, driver="bridge"):
    source = sender.ipv6 if ":" in to else sender.ipv4
    return json.loads(sender.world.net("trace", slot, sender.side.pid, protocol, source, to, port,
                                       timeout_ms, f"{sender.uid},{driver},")[0])


def tables(side):
    return side.run("nft", "list", "tables").split("\n")


def nothing_left(world, *sides):
    for run in sides or (world.host.run,):
        assert "-t" not in run("nft", "list", "tables")


def fds(world):
    # The driver is a child of nsenter, which has become it.
    return sorted(os.listdir(f"/proc/{world.net.process.pid}/fd"))


@pytest.mark.parametrize("ipv6", [False, True])
def test_delivered(world, two, ipv6):
    web, db = two
    world.net("group", "bb", ALL, "tcp,80,80,")
    db.listen(80, ipv6=ipv6)
    seen = trace(web, db.ipv6 if ipv6 else db.ipv4)
    assert seen["sent"] and seen["answer"] == "connected" and seen["dropped_by"] == -1
    steps = seen["steps"]
    assert not seen["truncated"] and all(it["router"] == "" for it in steps)
    assert all(it["ends"][0] == (web.ipv6 if ipv6 else web.ipv4) for it in steps)
    # The guard is the first that looks, the group that lets it in is named by its rule.
    assert (steps[0]["family"], steps[0]["table"], steps[0]["hook"]) == ("bridge", "brume", "prerouting")
    assert steps[0]["iif"] == "brumev1111"
    allowed = [it for it in steps if it["chain"].startswith("g-") and it["kind"] == "rule"]
    assert allowed and allowed[0]["comment"] == "1" and "dport 80" in allowed[0]["expression"]
    assert allowed[0]["hook"] == "forward"
    assert seen["left_by"] == "brumev2222"
    nothing_left(world)


def test_nobody_listens(world, two):
    web, db = two
    world.net("group", "bb", ALL, "any,0,0,")
    assert trace(web, db.ipv4)["answer"] == "refused"
    seen = trace(web, db.ipv4, protocol="udp")
    assert seen["answer"] == "refused" and seen["answer_from"] == db.ipv4
    seen = trace(web, db.ipv4, 0, "icmp")
    assert seen["answer"] == "reply" and seen["steps"]
    assert trace(web, db.ipv6, 0, "icmp")["answer"] == "reply"
    server = db.listen(9, UDP)
    world.net.process.stdin.write(f"trace 0 {web.side.pid} udp {web.ipv4} {db.ipv4} 9 4000 1111,bridge,\n")
    world.net.process.stdin.flush()
    text, peer = server.recvfrom(100)
    assert text == b"brume network trace"
    server.sendto(b"yes", peer)
    assert json.loads(world.net.answer()[0])["answer"] == "reply"


@pytest.mark.parametrize("ipv6", [False, True])
def test_dropped_by_a_group(world, two, ipv6):
    web, db = two
    db.listen(80, ipv6=ipv6)
    began = time.monotonic()
    seen = trace(web, db.ipv6 if ipv6 else db.ipv4, timeout_ms=5000)
    # What was dropped is not waited for.
    assert time.monotonic() - began < 3
    assert seen["answer"] == "none" and seen["sent"]
    last = seen["steps"][seen["dropped_by"]]
    assert last["drop"] and last["table"] == "brume" and last["chain"].startswith("c-"), last
    assert seen["dropped_by"] == len(seen["steps"]) - 1


def test_dropped_by_the_guard(world, two):
    web, db = two
    # Somebody has given the instance an address that is not its own.
    web.side.ip("addr", "add", "10.90.1.99/24", "dev", "eth0")
    web.ipv4 = "10.90.1.99"
    web.side.ip("neigh", "add", db.ipv4, "lladdr", "02:00:00:00:00:77", "dev", "eth0")
    seen = trace(web, db.ipv4)
    assert seen["answer"] == "none"
    last = seen["steps"][seen["dropped_by"]]
    assert (last["family"], last["chain"], last["hook"]) == ("bridge", "from4", "prerouting")
    with pytest.raises(Refused) as caught:
        web.ipv4 = "10.90.1.98"
        trace(web, db.ipv4)
    assert "10.90.1.98" in str(caught.value.args[1])
    nothing_left(world)


def test_dropped_by_somebody_else(world, two):
    web, db = two
    world.net("group", "bb", ALL, "tcp,80,80,")
    db.listen(80)
    world.host.run("nft", "-f", "-", input="""
        table ip corporate {
            chain strict {
                type filter hook forward priority 5; policy accept;
                tcp dport { 80, 443 } jump web
            }
            chain web {
                ip daddr 10.90.1.6 counter drop comment "ask the office"
            }
        }""")
    seen = trace(web, db.ipv4)
    assert seen["answer"] == "none"
    last = seen["steps"][seen["dropped_by"]]
    assert (last["family"], last["table"], last["chain"]) == ("ip", "corporate", "web")
    assert last["hook"] == "forward" and last["comment"] == "ask the office"
    assert last["expression"] == "ip daddr 10.90.1.6 counter drop", last
    jump = [it for it in seen["steps"] if it["table"] == "corporate" and it["to"] == "web"]
    assert jump and jump[0]["expression"].startswith("tcp dport { 80, 443 }")


def test_refused_by_a_rule(world, two):
    web, db = two
    world.net("group", "bb", ALL, "tcp,80,80,")
    world.host.run("nft", "add table inet fw; add chain inet fw f { type filter hook forward priority 5; };"
                   "add rule inet fw f tcp dport 80 reject with icmpx admin-prohibited")
    seen = trace(web, db.ipv4)
    assert seen["answer"] == "unreachable" and seen["answer_from"], seen
    assert seen["steps"][seen["dropped_by"]]["table"] == "fw"


def test_nobody_has_the_address(world, two):
    web, _ = two
    seen = trace(web, "10.90.1.200", timeout_ms=5000)
    assert seen["answer"] in ("unreachable", "none") and seen["steps"] == []
    seen = trace(web, OUT4)
    assert seen["answer"] == "refused"


def test_others_are_not_told(world, two):
    web, db = two
    world.net("group", "bb", ALL, "any,0,0,")
    world.host.run("nft", "add table inet every; add chain inet every p { type filter hook prerouting priority "
                   "-400; }; add rule inet every p meta nftrace set 1")
    server = db.listen(80)
    with web.side.open(db.ipv4, TCP) as client:
        client.connect((db.ipv4, 80))
        connection, _ = server.accept()
        seen = trace(web, db.ipv4)
        client.sendall(b"x")
        connection.close()
    assert seen["answer"] == "connected"
    assert len({tuple(it["ends"]) for it in seen["steps"]}) == 1
    # Once each: neither the handshake's end nor the answer.
    walked = [(it["table"], it["chain"], it["hook"]) for it in seen["steps"] if it["kind"] == "policy"]
    assert len(walked) == len(set(walked)), walked


@pytest.fixture
def pair(world):
    world.a, world.b = Isolated(world, "aa01", 1), Isolated(world, "aa02", 2)
    world.setup = ["router", ROUTER, "uplink", "nat", TRANSIT, *world.a.leg(), *world.b.leg()]
    world.net(*world.setup)
    world.one, world.two = world.a.instance("1111"), world.b.instance("2222")
    return world


def inside(world, *argv):
    return world.host.run("nsenter", f"--net={world.run}/routers/{ROUTER}/net", *argv)


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_an_answer_that_is_dropped(pair, where):
    """The probe arrives; what drops that which comes back is told."""
    to = pair.two.ipv4 if where == "inside" else OUT4
    if where == "inside":
        pair.two.listen(80)
        inside(pair, "nft", "add table ip fw; add chain ip fw f { type filter hook forward priority 5; }; "
               "add rule ip fw f tcp sport 80 drop")
    else:
        pair.listen(pair.outside, "0.0.0.0", 80)
        pair.host.run("nft", "add table ip fw; add chain ip fw f { type filter hook prerouting priority -190; }; "
                      "add rule ip fw f tcp sport 80 drop")
    began = time.monotonic()
    seen = trace(pair.one, to, timeout_ms=5000)
    assert time.monotonic() - began < 3
    assert seen["answer"] == "none" and seen["dropped_by"] == -1 and seen["answer_dropped"], seen
    last = seen["steps"][-1]
    assert (last["table"], last["chain"], last["expression"]) == ("fw", "f", "tcp sport 80 drop")
    assert last["router"] == (ROUTER if where == "inside" else "") and last["ends"][1] == 80
    assert all(it["ends"][3] == 80 for it in seen["steps"][:-1])


@pytest.mark.parametrize("ipv6", [False, True])
def test_through_a_router(pair, ipv6):
    server = pair.listen(pair.outside, "::" if ipv6 else "0.0.0.0", 80)
    to = OUT6 if ipv6 else OUT4
    seen = trace(pair.one, to)
    assert seen["answer"] == "connected", seen
    places = [it["router"] for it in seen["steps"]]
    first = places.index(ROUTER)
    last = len(places) - 1 - places[::-1].index(ROUTER)
    assert set(places[:first]) == {""} and set(places[first:last + 1]) == {ROUTER}
    assert set(places[last + 1:]) == {""} and last + 1 < len(places)
    before, after = seen["steps"][0]["ends"], seen["steps"][-1]["ends"]
    own = "fd62:7275:6d65:6400::1" if ipv6 else "100.64.0.1"
    assert before[0] == (pair.one.ipv6 if ipv6 else pair.one.ipv4) and after[0] == own
    assert before[1:] == after[1:]
    # And the node translates once more.
    assert seen["left"][0] != own and seen["left_by"] == "up0"
    assert seen["tracked_router"] == ROUTER and seen["tracked"][0] == before[0] and seen["reply"][2] == own
    server.close()
    pair.sockets.remove(server)
    nothing_left(pair, pair.host.run, lambda *argv: inside(pair, *argv))


def test_between_networks(pair):
    pair.two.listen(80)
    seen = trace(pair.one, pair.two.ipv4)
    assert seen["answer"] == "connected"
    assert seen["left_by"] == "brumev2222"
    assert seen["steps"][-1]["router"] in ("", ROUTER) and any(it["router"] for it in seen["steps"])
    # Somebody's own rule in the router's namespace.
    inside(pair, "nft", "add table inet x; add chain inet x f { type filter hook forward priority 9; policy "
           "drop; }")
    seen = trace(pair.one, pair.two.ipv4)
    last = seen["steps"][seen["dropped_by"]]
    assert (last["router"], last["table"], last["kind"], last["hook"]) == (ROUTER, "x", "policy", "forward")
    assert last["iif"] and last["oif"]


def wait_for(what):
    """Something that another process is about to do; there is no event for it."""
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_by_one_that_is_killed(pair, number):
    driver = pair.net.process
    driver.stdin.write(f"trace 1 {pair.one.side.pid} udp {pair.one.ipv4} {OUT4} 9 5000 1111,bridge,\n")
    pair.outside.run("nft", "add table ip no; add chain ip no i { type filter hook input priority 0; policy "
                     "drop; }")
    driver.stdin.flush()
    sides = pair.host.run, lambda *argv: inside(pair, *argv)
    for run in sides:
        wait_for(lambda: "brume-t2" in run("nft", "list", "tables"))
    os.kill(driver.pid, number)
    driver.wait()
    nothing_left(pair, *sides)
    pair.start()
    assert trace(pair.one, pair.two.ipv4)["answer"] == "refused"


def test_two_at_a_time(two):
    web, db = two
    world = web.world
    world.host.run("nft", "add table inet brume-t2; add chain inet brume-t2 enter { type filter hook "
                   "prerouting priority -500; }")
    seen = trace(web, db.ipv4)
    assert seen["answer"] == "none" and {it["table"] for it in seen["steps"]} == {"brume"}
    with pytest.raises(Refused) as caught:
        trace(web, db.ipv4, slot=1)
    assert caught.value.args[0] == errno.EEXIST and "brume-t2" in caught.value.args[1]


def test_many_leave_nothing(pair):
    pair.two.listen(80)
    trace(pair.one, pair.two.ipv4)
    before, mounts = fds(pair), pair.host.run("cat", "/proc/self/mountinfo")
    for i in range(20):
        assert trace(pair.one, pair.two.ipv4, slot=i % 2)["answer"] == "connected"
    assert fds(pair) == before and pair.host.run("cat", "/proc/self/mountinfo") == mounts
    nothing_left(pair, pair.host.run, lambda *argv: inside(pair, *argv))
    sockets = pair.host.run("cat", "/proc/net/netlink")
    trace(pair.one, pair.two.ipv4)
    assert len(pair.host.run("cat", "/proc/net/netlink").split("\n")) <= len(sockets.split("\n"))
    # Nothing waits in the instance for its connection to time out.
    assert "TIME-WAIT" not in pair.one.side.run("ss", "-tan")


@pytest.mark.parametrize("words, wrong", [
    (("sctp", "10.90.1.5", "10.90.1.6", 80, 1000), "protocol"),
    (("tcp", "10.90.1.5", "10.90.1.6", 0, 1000), "port"),
    (("icmp", "10.90.1.5", "10.90.1.6", 1, 1000), "port"),
    (("tcp", "x", "10.90.1.6", 80, 1000), "source"),
    (("tcp", "10.90.1.5", "fd00::1", 80, 1000), "destination"),
    (("tcp", "10.90.1.5", "224.0.0.1", 80, 1000), "destination"),
    (("tcp", "10.90.1.5", "0.0.0.0", 80, 1000), "destination"),
    (("tcp", "10.90.1.5", "127.0.0.1", 80, 1000), "destination"),
    (("tcp", "10.90.1.5", "10.90.1.6", 80, 0), "timeout"),
    (("tcp", "10.90.1.5", "10.90.1.6", 80, 5001), "timeout"),
])
def test_bad_wishes(two, words, wrong):
    web, _ = two
    with pytest.raises(Refused) as caught:
        web.world.net("trace", 0, web.side.pid, *words, "1111,bridge,")
    assert caught.value.args[0] == errno.EINVAL and wrong in caught.value.args[1]


# ---- networks of other drivers: what of them passes rules of the node

@pytest.fixture
def lan(build, scratch):
    need("nft")
    made = Lan(build / "tests/net-driver", scratch)
    yield made
    made.world.close()


def trace_from(instance, to, driver, uplink, port=80):
    return json.loads(instance.lan.net("trace", 0, instance.side.pid, "tcp", instance.address, to, port, 4000,
                                       f"{instance.uid},{driver},{uplink}")[0])


@pytest.mark.parametrize("driver", ["macvlan", "physical"])
def test_of_other_drivers(lan, driver):
    uplink = "eth0"
    if driver == "physical":
        uplink = "br9"
        lan.host.ip("link", "add", uplink, "type", "bridge")
        lan.host.ip("link", "set", uplink, "up")
        lan.host.ip("link", "set", "eth0", "master", uplink)
    lan.network(driver, "bridge" if driver == "macvlan" else "", uplink)
    one = lan.instance("1111", 5)
    lan.server.listen(GATEWAY, 80).close()
    assert trace_from(one, GATEWAY, driver, uplink)["answer"] == "refused"
    family, hook, where = (("netdev", "egress", "device eth0") if driver == "macvlan"
                           else ("bridge", "forward", ""))
    lan.host.run("nft", f"add table {family} fw; add chain {family} fw f {{ type filter hook {hook} {where} "
                 f"priority 5; }}; add rule {family} fw f tcp dport 80 drop")
    seen = trace_from(one, GATEWAY, driver, uplink)
    assert seen["sent"] and seen["answer"] == "none"
    last = seen["steps"][seen["dropped_by"]]
    assert (last["family"], last["table"], last["hook"], last["expression"]) == (family, "fw", hook,
                                                                                   "tcp dport 80 drop")
    assert "-t" not in lan.host.run("nft", "list", "tables")


# ---- of virtual machines: the driver has the tap open, as a monitor has

MAC = "02:62:0a:5a:01:09"


@pytest.fixture
def machine(world):
    network = world.network()
    db = world.instance(network, "2222", "db", 6)
    world.net("tap", "", "3333", "guest", MAC, "10.90.1.9", "fd00:90:1::9", *network.words)

    def run(to, port=80, protocol="tcp", gateway="10.90.1.1", timeout_ms=1500):
        ipv6 = ":" in to
        return json.loads(world.net(
            "trace", 0, "tap", protocol, "fd00:90:1::9" if ipv6 else "10.90.1.9", to, port, timeout_ms,
            "3333,bridge,", MAC, network.words[2 if ipv6 else 1],
            "fd00:90:1::1" if ipv6 else gateway)[0])
    world.machine, world.db = run, db
    return world


@pytest.mark.parametrize("ipv6", [False, True])
def test_of_a_machine(machine, ipv6):
    to = machine.db.ipv6 if ipv6 else machine.db.ipv4
    seen = machine.machine(to)
    assert seen["sent"] and seen["answer"] == "refused", seen
    assert seen["steps"][0]["iif"] == "brumev3333" and seen["left_by"] == "brumev2222"
    machine.db.listen(80, ipv6=ipv6)
    assert machine.machine(to)["answer"] == "connected"
    assert machine.machine(to, 0, "icmp")["answer"] == "reply"
    seen = machine.machine(to, 9, "udp")
    assert seen["answer"] == "refused" and seen["answer_from"] == to
    # By the gateway, which asks again for its own part.
    machine.listen(machine.outside, "::" if ipv6 else "0.0.0.0", 80)
    seen = machine.machine(OUT6 if ipv6 else OUT4)
    assert seen["answer"] == "connected" and seen["left_by"] == "up0", seen
    assert seen["left"][0] == ("2001:db8::1" if ipv6 else HOST4)
    nothing_left(machine)


def test_of_a_machine_that_reaches_nobody(machine):
    seen = machine.machine("10.90.1.77")
    assert not seen["sent"] and seen["answer"] == "unreachable" and seen["answer_from"] == "10.90.1.9"
    with pytest.raises(Refused) as caught:
        machine.machine(OUT4, gateway="")
    assert caught.value.args[0] == errno.ENETUNREACH
    machine.host.run("nft", "add table inet fw; add chain inet fw f { type filter hook forward priority 5; "
                     "policy drop; }")
    seen = machine.machine(OUT4)
    assert seen["sent"] and seen["answer"] == "none"
    assert seen["steps"][seen["dropped_by"]]["table"] == "fw"
