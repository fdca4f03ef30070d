"""Routers of net/ without the daemons: a namespace that joins isolated networks, and leads outside."""
import errno
import json

import pytest

from netns import (HOST4, HOST6, OUT4, OUT6, TCP, UDP, Refused, cannot_reach, talk_tcp, talk_udp)

ROUTER, TRANSIT = "cc01", "100.64.0.0"
FLOATING4, FLOATING6 = "192.0.2.77", "2001:db8::77"


class Isolated:
    """A network without a gateway of the node, the same words as netns.Network has."""

    def __init__(self, world, uid, number):
        self.world, self.uid, self.number = world, uid, number
        self.words = (uid, f"10.91.{number}.0/24", f"fd00:91:{number}::/64", "isolated", 0, "")
        self.gateway4, self.gateway6 = f"10.91.{number}.1", f"fd00:91:{number}::1"
        world.net("network", *self.words)

    def leg(self, last=1):
        return ("leg", ",".join((self.uid, self.words[1], self.words[2], f"10.91.{self.number}.{last}",
                                 f"fd00:91:{self.number}::{last:x}", "1500")))

    def instance(self, uid, last=5, router=True):
        made = Member(self, uid, last)
        made.attach(router)
        return made


class Member:
    def __init__(self, network, uid, last):
        self.network, self.world, self.uid = network, network.world, uid
        self.ipv4, self.ipv6 = f"10.91.{network.number}.{last}", f"fd00:91:{network.number}::{last:x}"
        self.side = self.world.namespace()

    def attach(self, router=True):
        gateways = (self.network.gateway4, self.network.gateway6) if router else ("", "")
        self.world.net("attach", self.side.pid, self.uid, f"i{self.uid}", "", self.ipv4, self.ipv6,
                       *self.network.words, *gateways)

    def own(self, ipv6):
        return self.ipv6 if ipv6 else self.ipv4

    def listen(self, port, kind=TCP, ipv6=False):
        return self.world.listen(self.side, "::" if ipv6 else "0.0.0.0", port, kind)

    def routes(self):
        return self.side.ip("route", "show", "default") + self.side.ip("-6", "route", "show", "default")


@pytest.fixture
def pair(world):
    """Two networks that a router with an uplink joins, an instance in each."""
    world.a, world.b = Isolated(world, "aa01", 1), Isolated(world, "aa02", 2)
    world.setup = ["router", ROUTER, "uplink", "nat", TRANSIT, *world.a.leg(), *world.b.leg()]
    world.net(*world.setup)
    world.one, world.two = world.a.instance("1111"), world.b.instance("2222")
    return world


def links(side, match):
    return sorted(it["ifname"] for it in json.loads(side.run("ip", "-j", "link")) if match in it["ifname"])


def inside(world, *argv):
    return world.host.run("nsenter", f"--net={world.run}/routers/{ROUTER}/net", *argv)


def talk_all(client_side, server_of, ipv6, target, port=80):
    with server_of.listen(port, TCP, ipv6) as server:
        seen = talk_tcp(client_side, target, port, server)
    with server_of.listen(port, UDP, ipv6) as server:
        assert talk_udp(client_side, target, port, server) == seen
    return seen


class Outside:
    """Listens as an instance does."""

    def __init__(self, world):
        self.world = world

    def listen(self, port, kind=TCP, ipv6=False):
        return self.world.listen(self.world.outside, "::" if ipv6 else "0.0.0.0", port, kind)


@pytest.mark.parametrize("ipv6", [False, True])
def test_networks_are_joined_and_lead_outside(pair, ipv6):
    one, two = pair.one, pair.two
    assert talk_all(one.side, two, ipv6, two.own(ipv6)) == one.own(ipv6)
    assert talk_all(two.side, one, ipv6, one.own(ipv6)) == two.own(ipv6)
    assert talk_all(one.side, Outside(pair), ipv6, OUT6 if ipv6 else OUT4) == (HOST6 if ipv6 else HOST4)
    # Nothing comes in by itself, whatever route somebody has.
    via, subnet = (HOST6, "fd00:91::/32") if ipv6 else (HOST4, "10.91.0.0/16")
    pair.outside.ip(*(["-6"] if ipv6 else []), "route", "add", subnet, "via", via)
    one.listen(81, TCP, ipv6)
    assert cannot_reach(pair.outside, one.own(ipv6), 81)


@pytest.mark.parametrize("ipv6", [False, True])
def test_without_an_uplink_nothing_leads_out(pair, ipv6):
    pair.setup[2:5] = ["", "", ""]
    pair.net(*pair.setup)
    one, two = pair.one, pair.two
    assert talk_all(one.side, two, ipv6, two.own(ipv6)) == one.own(ipv6)
    Outside(pair).listen(82, TCP, ipv6)
    assert cannot_reach(one.side, OUT6 if ipv6 else OUT4, 82)
    assert links(pair.host, "brumer") == [] and "uplink" not in inside(pair, "ip", "link")


@pytest.mark.parametrize("ipv6", [False, True])
def test_without_nat_addresses_stay(pair, ipv6):
    pair.setup[3] = ""
    pair.net(*pair.setup)
    via, subnet = (HOST6, "fd00:91::/32") if ipv6 else (HOST4, "10.91.0.0/16")
    pair.outside.ip(*(["-6"] if ipv6 else []), "route", "add", subnet, "via", via)
    assert talk_all(pair.one.side, Outside(pair), ipv6, OUT6 if ipv6 else OUT4) == pair.one.own(ipv6)
    assert talk_all(pair.outside, pair.two, ipv6, pair.two.own(ipv6)) == (OUT6 if ipv6 else OUT4)


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_floating_address_both_ways(pair, ipv6):
    floating = FLOATING6 if ipv6 else FLOATING4
    one, two = pair.one, pair.two
    pair.net(*pair.setup, "public", f"{floating},{one.own(ipv6)}")
    out = OUT6 if ipv6 else OUT4
    assert talk_all(pair.outside, one, ipv6, floating) == out, "the caller's own address is seen"
    assert talk_all(one.side, Outside(pair), ipv6, out) == floating
    assert talk_all(two.side, Outside(pair), ipv6, out) == (HOST6 if ipv6 else HOST4)
    # From the other network, from its own neighbour and from itself, and from the node.
    assert talk_all(two.side, one, ipv6, floating) == two.own(ipv6)
    neighbour = pair.a.instance("1112", 6)
    talk_all(neighbour.side, one, ipv6, floating)
    talk_all(one.side, one, ipv6, floating)
    talk_all(pair.host, one, ipv6, floating)
    # From a network whose gateway is the node.
    other = pair.instance(pair.network("aa09", 9), "9999", "other")
    talk_all(other.side, one, ipv6, floating)
    one.listen(83, TCP, ipv6)
    assert cannot_reach(other.side, one.own(ipv6), 83)
    # It moves, and goes.
    pair.net(*pair.setup, "public", f"{floating},{two.own(ipv6)}")
    assert talk_all(pair.outside, two, ipv6, floating) == out
    pair.net(*pair.setup)
    assert cannot_reach(pair.outside, floating, 83)
    assert floating not in pair.host.ip("neigh", "show", "proxy") + pair.host.ip("-6", "neigh", "show", "proxy")
    assert floating not in pair.host.ip("route") + pair.host.ip("-6", "route")


@pytest.mark.parametrize("ipv6", [False, True])
def test_forwards(pair, ipv6):
    one, two = pair.one, pair.two
    target = ",".join(("", one.ipv6) if ipv6 else (one.ipv4, ""))
    floating = FLOATING6 if ipv6 else FLOATING4
    doors = [word for protocol in ("tcp", "udp") for word in
             ("door", f",{protocol},8080,{target},80", "door", f"{floating},{protocol},90,{target},80")]
    pair.net(*pair.setup, "public", floating, *doors)
    host, out = (HOST6, OUT6) if ipv6 else (HOST4, OUT4)
    for kind, talk in ((TCP, talk_tcp), (UDP, talk_udp)):
        with one.listen(80, kind, ipv6) as server:
            assert talk(pair.outside, host, 8080, server) == out
            assert talk(pair.outside, floating, 90, server) == out
            talk(pair.host, host, 8080, server)
            talk(two.side, host, 8080, server)
            talk(two.side, floating, 90, server)
            talk(one.side, host, 8080, server)
            if not ipv6:
                talk(pair.host, "127.0.0.1", 8080, server)
    assert cannot_reach(pair.outside, floating, 80)
    pair.net(*pair.setup)
    one.listen(80, TCP, ipv6)
    assert cannot_reach(pair.outside, host, 8080)


def test_two_routers_with_a_network_between(world):
    a, b, between = Isolated(world, "aa01", 1), Isolated(world, "aa02", 2), Isolated(world, "aa03", 3)
    world.net("router", "cc01", "uplink", "nat", TRANSIT, *a.leg(), *between.leg(1),
              "route", f"10.91.2.0/24,10.91.3.2", "route", "fd00:91:2::/64,fd00:91:3::2")
    world.net("router", "cc02", "", "", "", *b.leg(), *between.leg(2),
              "route", "0.0.0.0/0,10.91.3.1", "route", "::/0,fd00:91:3::1")
    one, two = a.instance("1111"), b.instance("2222")
    for ipv6 in (False, True):
        assert talk_all(one.side, two, ipv6, two.own(ipv6)) == one.own(ipv6)
        assert talk_all(two.side, Outside(world), ipv6, OUT6 if ipv6 else OUT4) == (HOST6 if ipv6 else HOST4)


def test_two_tenants_with_the_same_subnets(world):
    sides = []
    for i, (uid, router, transit) in enumerate((("aa01", "cc01", "100.64.0.0"), ("bb01", "cc02", "100.64.0.2"))):
        network = Isolated(world, uid, 1)
        world.net("router", router, "uplink", "nat", transit, *network.leg(),
                  "public", f"192.0.2.{70 + i},10.91.1.5")
        sides.append(network.instance(f"{i + 1}" * 4))
    for i, side in enumerate(sides):
        assert talk_all(side.side, Outside(world), False, OUT4) == f"192.0.2.{70 + i}"
        assert talk_all(world.outside, side, False, f"192.0.2.{70 + i}") == OUT4
        assert talk_all(side.side, sides[1 - i], False, f"192.0.2.{71 - i}") == f"192.0.2.{70 + i}"


def test_forged_senders_go_no_further(pair):
    """From a port that may send what it likes the router takes only what it would answer there."""
    pair.one.side.ip("addr", "add", "10.91.2.99/32", "dev", "lo")
    pair.one.side.ip("addr", "add", "198.51.100.9/32", "dev", "lo")
    pair.net("guard", "1111", "brumev1111", "brume-aa01", "02:00:00:00:00:01", "", "", "", "spoofing")
    pair.two.listen(84)
    Outside(pair).listen(84)
    assert cannot_reach(pair.one.side, OUT4, 84, source="198.51.100.9")
    assert cannot_reach(pair.one.side, pair.two.ipv4, 84, source="10.91.2.99")


def connection(client_side, target, port, server):
    client = client_side.open(target, TCP)
    client.connect((target, port))
    accepted, _ = server.accept()
    accepted.settimeout(10)
    return client, accepted


def goes_on(client, accepted):
    client.sendall(b"still")
    assert accepted.recv(16) == b"still"
    accepted.sendall(b"there")
    assert client.recv(16) == b"there"


def test_a_new_agent_finds_it_and_nobody_notices(pair):
    words = [*pair.setup, "public", f"{FLOATING4},{pair.one.ipv4}", "door", f",tcp,8080,{pair.two.ipv4},,80"]
    pair.net(*words)
    outer = connection(pair.outside, FLOATING4, 85, pair.one.listen(85))
    across = connection(pair.one.side, pair.two.ipv4, 85, pair.two.listen(85))
    out = connection(pair.two.side, OUT4, 85, Outside(pair).listen(85))
    forwarded = connection(pair.outside, HOST4, 8080, pair.two.listen(80))
    before = inside(pair, "ip", "-d", "-o", "link"), inside(pair, "nft", "-a", "list", "ruleset")
    pair.net.kill()
    pair.start()
    assert ROUTER in pair.net.fields("observe")["routers"]
    assert ROUTER not in pair.net.fields("observe")["networks"]
    for pair_of_ends in (outer, across, out, forwarded):
        goes_on(*pair_of_ends)
    pair.net(*words)
    assert before == (inside(pair, "ip", "-d", "-o", "link"), inside(pair, "nft", "-a", "list", "ruleset"))
    for pair_of_ends in (outer, across, out, forwarded):
        goes_on(*pair_of_ends)
        for end in pair_of_ends:
            end.close()


def test_foreign_hands_are_repaired(pair):
    words = [*pair.setup, "public", f"{FLOATING4},{pair.one.ipv4}", "route", "10.99.0.0/16,10.91.2.9"]
    pair.net(*words)

    def works():
        pair.net(*words)
        assert talk_all(pair.outside, pair.one, False, FLOATING4) == OUT4
        assert talk_all(pair.one.side, pair.two, False, pair.two.ipv4) == pair.one.ipv4
        assert talk_all(pair.two.side, Outside(pair), True, OUT6) == HOST6
        assert "10.99.0.0/16 via 10.91.2.9" in inside(pair, "ip", "route")
    for damage in (lambda: inside(pair, "nft", "flush", "ruleset"),
                   lambda: inside(pair, "nft", "add", "rule", "inet", "brume", "forward", "drop"),
                   lambda: inside(pair, "nft", "delete", "chain", "inet", "brume", "leave"),
                   lambda: inside(pair, "ip", "link", "del", "uplink"),
                   lambda: inside(pair, "ip", "link", "del", "naa01"),
                   lambda: inside(pair, "ip", "link", "set", "naa02", "down"),
                   lambda: inside(pair, "ip", "link", "set", "naa02", "down", "name", "eth9"),
                   lambda: inside(pair, "ip", "addr", "flush", "dev", "naa01"),
                   lambda: inside(pair, "ip", "addr", "add", "10.91.7.7/24", "dev", "naa01"),
                   lambda: inside(pair, "ip", "route", "flush", "proto", "static"),
                   lambda: [pair.host.ip("link", "del", name) for name in links(pair.host, "brumen")],
                   lambda: pair.host.ip("route", "del", FLOATING4),
                   lambda: pair.host.run("nft", "flush", "ruleset")):
        damage()
        works()
    assert "10.91.7.7" not in inside(pair, "ip", "addr")


def test_nothing_is_left(pair):
    def everything():
        return (links(pair.host, "brume"), pair.host.run("nft", "list", "ruleset"), pair.host.ip("route"),
                pair.host.ip("-6", "route"), pair.host.ip("neigh", "show", "proxy"),
                pair.host.run("ls", f"{pair.run}/routers"), pair.host.run("cat", "/proc/self/mountinfo").count("routers"))
    pair.net("remove-router", ROUTER)
    before = everything()
    assert before[0] == ["brume-aa01", "brume-aa02", "brumev1111", "brumev2222"] and before[5:] == ("", 0)
    for end in (lambda: pair.net("remove-router", ROUTER), lambda: pair.net("gc", "aa01,aa02", "1111,2222")):
        pair.net(*pair.setup, "public", f"{FLOATING4},{pair.one.ipv4}", "door", f",tcp,8080,{pair.two.ipv4},,80")
        pair.net("gc", "aa01,aa02", "1111,2222", "", ROUTER)
        talk_all(pair.outside, pair.one, False, FLOATING4)
        end()
        assert everything() == before
    pair.net("remove-router", ROUTER)
    pair.net(*pair.setup)
    pair.net("destroy")
    assert not (pair.run / "routers").exists() and links(pair.host, "brume") == ["brumev1111", "brumev2222"] or \
        links(pair.host, "brume") == []


def test_the_default_route_comes_and_goes(world):
    network = Isolated(world, "aa01", 1)
    one = network.instance("1111", router=False)
    assert one.routes() == ""
    one.attach()
    assert "via 10.91.1.1 " in one.routes() and "via fd00:91:1::1 " in one.routes()
    one.attach(router=False)
    assert one.routes() == ""


@pytest.mark.parametrize("words, code, text", [
    (["uplink", "nat", "100.64.0.1"], errno.EINVAL, "even address"),
    (["uplink", "nat", "10.0.0.0"], errno.EINVAL, "100.64.0.0/16"),
    (["", "", "", "leg", "aa01,10.91.1.0/24,,10.91.2.1,,1500"], errno.EINVAL, "address of 10.91.1.0/24"),
    (["", "", "", "leg", "aa01,10.91.1.0/24,,10.91.1.1,,1500", "leg", "aa02,10.91.1.0/25,,10.91.1.2,,1500"],
     errno.EINVAL, "in common"),
    (["", "", "", "leg", "aa01,10.91.1.0/24,,10.91.1.1,,15"], errno.EINVAL, "mtu"),
    (["", "", "", "leg", "aa01,,,,,1500"], errno.EINVAL, "no address"),
    (["", "", "", "leg", "zz,10.91.1.0/24,,10.91.1.1,,1500"], errno.EINVAL, "network uid"),
    (["", "", "", "leg", "aa77,10.91.1.0/24,,10.91.1.1,,1500"], errno.ENODEV, "has no bridge"),
    (["", "", "", "route", "10.0.0.0/8,10.91.1.9"], errno.EINVAL, "none of the router's networks"),
    (["", "", "", "route", "10.0.0.0/8,fd00::1"], errno.EINVAL, "same kind"),
    (["uplink", "nat", TRANSIT, "leg", "aa01,10.91.1.0/24,,10.91.1.1,,1500", "route", "0.0.0.0/0,10.91.1.9"],
     errno.EINVAL, "that one already"),
    (["", "", "", "public", "192.0.2.9,"], errno.EINVAL, "without an uplink"),
    (["", "", "", "door", ",tcp,80,10.91.1.5,,80"], errno.EINVAL, "without an uplink"),
    (["uplink", "nat", TRANSIT, "public", "127.0.0.1,"], errno.EINVAL, "127.0.0.1"),
    (["uplink", "nat", TRANSIT, "public", "192.0.2.9,", "public", "192.0.2.9,"], errno.EINVAL, "twice"),
    (["uplink", "nat", TRANSIT, "public", "192.0.2.9,fd00::1"], errno.EINVAL, "IPv4"),
    (["uplink", "nat", TRANSIT, "public", f"{HOST4},"], errno.EADDRINUSE, "of the node itself"),
    (["uplink", "nat", TRANSIT, "door", "192.0.2.9,tcp,80,10.91.1.5,,80"], errno.EINVAL, "floating address"),
    (["uplink", "nat", TRANSIT, "door", ",sctp,80,10.91.1.5,,80"], errno.EINVAL, "tcp or udp"),
    (["uplink", "nat", TRANSIT, "door", ",tcp,0,10.91.1.5,,80"], errno.EINVAL, "1 to 65535"),
    (["uplink", "", TRANSIT, "leg", "aa01,192.0.2.0/24,,192.0.2.4,,1500"], errno.EADDRINUSE, "host's own"),
])
def test_what_cannot_be(world, words, code, text):
    Isolated(world, "aa01", 1)
    with pytest.raises(Refused) as refused:
        world.net("router", ROUTER, *words)
    assert refused.value.args[0] == code and text in refused.value.args[1], refused.value.args


def test_ports_of_the_node_are_taken_once(pair):
    web = pair.instance(pair.network("aa09", 9), "9999", "web")
    web.publish(",8080,80,tcp")
    with pytest.raises(Refused) as refused:
        pair.net(*pair.setup, "door", f",tcp,8080,{pair.one.ipv4},,80")
    assert refused.value.args[0] == errno.EADDRINUSE and "8080" in refused.value.args[1]
