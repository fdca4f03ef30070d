"""Security groups, as src/net/ makes them: who reaches whom, and what a change costs nobody."""
import errno
import re
import socket

import pytest

from conftest import need
from netns import HOST4, HOST6, OUT4, TCP, UDP, Refused, cannot_reach, talk_tcp

ALL, NONE = "all", ""
OWN = "any,0,0,group:"


@pytest.fixture
def world(world):
    need("busybox")
    return world


def guard(world, instance, *groups, spoofing=""):
    """Guards an instance's port; its uid is the port's."""
    mac = re.search(r"link/ether (\S+)", instance.side.ip("link", "show", "eth0"))[1]
    instance.mac = mac
    world.net("guard", instance.uid, "brumev" + instance.uid, "brume-" + instance.network.uid, mac,
              instance.ipv4, instance.ipv6, ",".join(groups), spoofing)


def index_of(instance):
    return int(instance.side.ip("-o", "link", "show", "eth0").split(":")[0])


@pytest.fixture
def two(world):
    """web in group aa, db in group bb, both on one network."""
    network = world.network()
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    for uid in ("aa", "bb"):
        world.net("group", uid, ALL, OWN + uid)
    guard(world, web, "aa")
    guard(world, db, "bb")
    return web, db


def reaches(client, server, port=80, ipv6=False):
    listening = server.listen(port, ipv6=ipv6)
    try:
        talk_tcp(client.side, server.ipv6 if ipv6 else server.ipv4, port, listening)
        return True
    except TimeoutError:
        return False
    finally:
        listening.close()
        server.world.sockets.remove(listening)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("netns.TIMEOUT_S", 0.6)


def ping(side, target):
    return "1 packets received" in side.run("sh", "-c", f"busybox ping -c1 -W1 {target} || true")


@pytest.mark.parametrize("ipv6", [False, True])
def test_who_reaches_whom(world, two, ipv6):
    web, db = two
    address = db.ipv6 if ipv6 else db.ipv4
    assert not reaches(web, db, ipv6=ipv6) and not reaches(db, web, ipv6=ipv6)
    # Members of a group, who are let in by themselves.
    guard(world, web, "aa", "bb")
    assert reaches(web, db, ipv6=ipv6)
    assert reaches(db, web, ipv6=ipv6), "it is a member of bb as well"
    guard(world, web, "aa")
    assert not reaches(web, db, ipv6=ipv6)
    # By port, by a range, by address, by group.
    for rule, good, bad in (("tcp,80,80,", 80, 81), ("tcp,80,90,", 90, 91),
                            (f"tcp,80,80,{web.ipv6 if ipv6 else web.ipv4}/{128 if ipv6 else 32}", 80, 81),
                            (f"tcp,80,80,{'fd00:90::/32' if ipv6 else '10.0.0.0/9'}", 80, 81),
                            ("tcp,80,80,group:aa", 80, 81), ("any,0,0,", 80, None)):
        world.net("group", "bb", ALL, rule)
        assert reaches(web, db, good, ipv6), rule
        assert bad is None or not reaches(web, db, bad, ipv6), rule
    for rule in ("tcp,80,80,group:bb", f"tcp,80,80,{'fd01::/16' if ipv6 else '11.0.0.0/8'}",
                 "udp,80,80,", f"tcp,80,80,{'0.0.0.0/0' if ipv6 else '::/0'}"):
        world.net("group", "bb", ALL, rule)
        assert not reaches(web, db, 80, ipv6), rule
    assert not ping(web.side, address)
    world.net("group", "bb", ALL, "icmp,0,0,")
    assert ping(web.side, address)


def test_egress(world, two):
    web, db = two
    world.net("group", "bb", ALL, "any,0,0,")
    server = world.listen(world.outside, OUT4, 9000)
    assert reaches(web, db)
    world.net("group", "aa", NONE, "egress", "tcp,81,81,group:bb")
    assert not reaches(web, db) and reaches(web, db, 81)
    assert cannot_reach(web.side, OUT4, 9000)
    world.net("group", "aa", NONE, "egress", f"tcp,0,0,{OUT4}/32")
    assert not reaches(web, db, 81)
    talk_tcp(web.side, OUT4, 9000, server)


def test_link_local_addresses_are_no_way_round(world, two):
    web, db = two
    local = re.search(r"inet6 (fe80:\S+)/", db.side.ip("addr"))[1]
    index = index_of(web)
    server = db.listen(80, ipv6=True)
    with web.side.open("::", TCP) as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.connect((local, 80, 0, index))
    world.net("group", "bb", ALL, "tcp,80,80,group:aa")
    with web.side.open("::", TCP) as client:
        client.connect((local, 80, 0, index))
    server.close()


def test_change_spares_established_connections(world, two):
    web, db = two
    world.net("group", "bb", ALL, "tcp,80,80,")
    server = db.listen(80)
    with web.side.open(db.ipv4, TCP) as client:
        client.connect((db.ipv4, 80))
        connection, _ = server.accept()
        world.net("group", "bb", ALL)
        for _ in range(3):
            client.sendall(b"ping")
            assert connection.recv(4) == b"ping"
        connection.close()
    assert cannot_reach(web.side, db.ipv4, 80)


@pytest.mark.parametrize("ipv6", [False, True])
def test_published_ports_are_open(world, two, ipv6):
    web, db = two
    db.publish(",8080,80,tcp")
    server = db.listen(80, ipv6=ipv6)
    host = HOST6 if ipv6 else HOST4
    talk_tcp(world.outside, host, 8080, server)
    talk_tcp(web.side, host, 8080, server)
    talk_tcp(db.side, host, 8080, server)
    talk_tcp(world.host, host, 8080, server)
    assert cannot_reach(web.side, db.ipv6 if ipv6 else db.ipv4, 80)


def test_networks_stay_apart_whatever_a_group_says(world, two):
    web, db = two
    far = world.instance(world.network("cc33", 3), "3333", "far", 7)
    world.net("group", "bb", ALL, "any,0,0,")
    guard(world, far, "bb")
    assert cannot_reach(web.side, far.ipv4, 80)
    assert cannot_reach(far.side, web.ipv4, 80)


def test_routed_network_is_judged_too(world):
    network = world.network(nat=False)
    web = world.instance(network)
    world.outside.ip("route", "add", "10.90.1.0/24", "via", HOST4)
    server = web.listen(80)
    talk_tcp(world.outside, web.ipv4, 80, server)
    world.net("group", "aa", ALL, OWN + "aa")
    guard(world, web, "aa")
    assert cannot_reach(world.outside, web.ipv4, 80)
    world.net("group", "aa", ALL, "tcp,80,80,192.0.2.0/24")
    talk_tcp(world.outside, web.ipv4, 80, server)
    # The node's own probes need no rule.
    world.net("group", "aa", ALL)
    talk_tcp(world.host, web.ipv4, 80, server)


def broadcast_arrives(sender, receiver, to):
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with receiver.side.open("::" if ":" in to else "0.0.0.0", UDP) as ear, \
            sender.side.open(to, UDP) as mouth:
        ear.bind(("::" if ":" in to else "0.0.0.0", 5000))
        ear.settimeout(0.4)
        if family == socket.AF_INET6:
            mouth.sendto(b"hello", (to, 5000, 0, index_of(sender)))
        else:
            mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            mouth.sendto(b"hello", (to, 5000))
        try:
            return ear.recv(16) == b"hello"
        except TimeoutError:
            return False


def test_broadcasts_need_a_rule_for_everything(world, two):
    web, db = two
    for to in ("10.90.1.255", "255.255.255.255", "ff02::1"):
        world.net("group", "bb", ALL, "tcp,80,80,", "udp,5000,5000,")
        assert not broadcast_arrives(web, db, to), to
        world.net("group", "bb", ALL, "any,0,0,")
        assert broadcast_arrives(web, db, to), to
    guard(world, db)
    world.net("group", "bb", ALL)
    assert broadcast_arrives(web, db, "10.90.1.255"), "no groups: open"


def filters(world):
    return "nf_call_iptables 1" in world.host.ip("-d", "link", "show", "brume-aa11")


def test_only_networks_with_groups_pay(world):
    world.host.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done")
    network = world.network()
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    assert not filters(world) and reaches(web, db)
    world.net("group", "aa", ALL)
    guard(world, db, "aa")
    assert filters(world) and not reaches(web, db)
    # A bridge that was taken away comes back as it was.
    world.host.ip("link", "del", "brume-aa11")
    world.network()
    assert filters(world)


def elements(world):
    return {family: sorted(re.findall(r"^\s*(?:elements = )?\{?(.*)", world.host.run(
        "nft", "list", "table", family, "brume"), re.M)) for family in ("inet", "bridge")}


def test_survives_kill_and_flush(world, two):
    web, db = two
    world.net("group", "bb", ALL, "tcp,80,80,group:aa")
    before = elements(world)
    world.net.kill()
    world.start()
    assert elements(world) == before
    seen = world.net.fields("observe")
    assert seen["guarded"] == ["1111", "2222"] and seen["groups"] == ["aa", "bb"]
    assert reaches(web, db) and not reaches(web, db, 81)
    for uid, rule in (("aa", OWN + "aa"), ("bb", "tcp,80,80,group:aa")):
        world.net("group", uid, ALL, rule)
    assert elements(world) == before
    for damage in ("flush ruleset", "delete table bridge brume", "flush chain bridge brume prerouting",
                   "flush chain inet brume to_port", "flush set bridge brume own4",
                   "flush map inet brume ways_in", "flush chain inet brume c-3",
                   "flush set bridge brume loud"):
        world.host.run("nft", "-f", "-", input=damage + "\n")
        assert world.net("repair") == ["damaged"], damage
        assert elements(world) == before, damage
        assert world.net("repair") == ["fine"]
    assert reaches(web, db) and not reaches(web, db, 81)


def test_flushed_while_nobody_knows_the_rules(world, two):
    """After a kill the rules of groups are in the kernel alone; flushed there, nothing is let in."""
    web, db = two
    world.net("group", "bb", ALL, "tcp,80,80,")
    world.net.kill()
    world.start()
    for damage in ("flush chain inet brume g-2-bb", "flush ruleset"):
        world.host.run("nft", "-f", "-", input=damage + "\n")
        world.net("repair")
        assert not reaches(web, db)
    world.net("group", "bb", ALL, "tcp,80,80,")
    world.net("group", "aa", ALL)
    assert reaches(web, db)


def test_garbage(world, two):
    web, _ = two
    with pytest.raises(Refused, match="has ports") as caught:
        world.net("remove-group", "aa")
    assert caught.value.args[0] == errno.EBUSY
    seen = world.net.fields("observe")
    assert seen["guarded"] == ["1111", "2222"] and seen["groups"] == ["aa", "bb"]
    gone = world.net.fields("gc", "aa11", "1111", "aa")
    assert gone["ports"] == gone["guards"] == gone["groups"] == 1
    seen = world.net.fields("observe")
    assert seen["guarded"] == ["1111"] and seen["groups"] == ["aa"]
    assert world.net.fields("gc", "", "", "")["groups"] == 1
    text = world.host.run("nft", "list", "ruleset")
    assert not re.search(r"chain [gxce]-|comment \"1111", text)
    assert world.net.fields("observe")["elements"] == 0


@pytest.mark.parametrize("words, message", [
    (("group", "zz", ALL), "group uid 'zz'"),
    (("group", "aa", ALL, "sctp,0,0,"), "protocol 'sctp'"),
    (("group", "aa", ALL, "icmp,80,80,"), "only tcp and udp"),
    (("group", "aa", ALL, "tcp,80,79,"), "from the least to the greatest"),
    (("group", "aa", ALL, "tcp,80,80,10.0.0.1/8"), "host bits zero"),
    (("group", "aa", ALL, "tcp,80,80,here"), "must be like"),
    (("group", "aa", ALL, "tcp,80,80,group:xy"), "group uid 'xy'"),
    (("guard", "1111", "brumev1", "br", "02:00:00:00:00:01", "10.0.0.1", "", "dd"), "not on this node yet"),
    (("guard", "1111", "brumev1", "br", "02:00:00:00:00:01", "fd00::1", "", ""), "must be an IPv4"),
    (("guard", "1111", "", "br", "02:00:00:00:00:01", "", "", ""), "interface ''"),
    (("guard", "11-1", "x", "br", "02:00:00:00:00:01", "", "", ""), "port uid '11-1'"),
    (("guard", "1111", "x", "br", "02:00:00:00:00:01", "", "", "ee,ee"), "twice"),
])
def test_bad_input_is_refused(world, words, message):
    world.net("group", "ee", ALL)
    before = elements(world)
    with pytest.raises(Refused, match=re.escape(message)):
        world.net(*words)
    assert elements(world) == before


def test_address_of_another_port_is_refused(world, two):
    web, db = two
    db.ipv4 = web.ipv4
    with pytest.raises(Refused, match="is port 1111's on brume-aa11"):
        guard(world, db, "bb")
