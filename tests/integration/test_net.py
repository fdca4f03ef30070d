"""net/ without the daemons: reachability, published ports, names, isolation, repair, garbage."""
import errno
import os
import pathlib
import re
import subprocess

import pytest

from netns import (HOST4, HOST6, OUT4, OUT6, TCP, UDP, Instance, Refused, cannot_reach, resolve,
                   talk_tcp, talk_udp)


def foreign_rules(world):
    return world.host.run("nft", "-a", "list", "table", "inet", "foreign")


def test_reaches_gateway_neighbour_and_outside(world):
    network = world.network()
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    for ipv6, target, host in ((False, OUT4, HOST4), (True, OUT6, HOST6)):
        server = world.listen(world.outside, target, 9000)
        assert talk_tcp(web.side, target, 9000, server) == host, "not masqueraded"
        server = world.listen(world.outside, target, 9000, UDP)
        assert talk_udp(web.side, target, 9000, server) == host
        neighbour = db.listen(80, ipv6=ipv6)
        seen = talk_tcp(web.side, db.ipv6 if ipv6 else db.ipv4, 80, neighbour)
        assert seen == (web.ipv6 if ipv6 else web.ipv4), "a neighbour sees the true address"
        gateway = world.listen(world.host, "::" if ipv6 else "0.0.0.0", 7000)
        talk_tcp(web.side, network.gateway6 if ipv6 else network.gateway4, 7000, gateway)


def test_network_without_nat_is_routed(world):
    network = world.network(nat=False)
    web = world.instance(network)
    world.outside.ip("route", "add", "10.90.1.0/24", "via", HOST4)
    server = world.listen(world.outside, OUT4, 9000)
    assert talk_tcp(web.side, OUT4, 9000, server) == web.ipv4
    assert talk_tcp(world.outside, web.ipv4, 80, web.listen(80)) == OUT4


@pytest.mark.parametrize("bridge_filter", ["0", "1"])
def test_published_port_from_everywhere(world, bridge_filter):
    switch = pathlib.Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if switch.exists():
        for name in ("iptables", "ip6tables"):
            world.host.run("sh", "-c", f"echo {bridge_filter} > {switch.with_name('bridge-nf-call-' + name)}")
    network, other = world.network(), world.network("bb22", 2)
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    far = world.instance(other, "3333", "far", 7)
    web.publish(",8080,80,tcp", ",5353,53,udp")
    for ipv6 in (False, True):
        out, host = (OUT6, HOST6) if ipv6 else (OUT4, HOST4)
        own = web.ipv6 if ipv6 else web.ipv4
        tcp, udp = web.listen(80, ipv6=ipv6), web.listen(53, UDP, ipv6)
        assert talk_tcp(world.outside, host, 8080, tcp) == out, "the caller's address is kept"
        assert talk_udp(world.outside, host, 5353, udp) == out
        # From the host by its own address, and by 127.0.0.1.
        talk_tcp(world.host, host, 8080, tcp)
        talk_udp(world.host, host, 5353, udp)
        if not ipv6:
            talk_tcp(world.host, "127.0.0.1", 8080, tcp)
            talk_udp(world.host, "127.0.0.1", 5353, udp)
        # From a neighbour, from another network, and from itself.
        for side in (db.side, far.side, web.side):
            assert talk_tcp(side, host, 8080, tcp) != own
            talk_udp(side, host, 5353, udp)
        talk_tcp(web.side, network.gateway6 if ipv6 else network.gateway4, 8080, tcp)
    # ::1 is not led anywhere: it must be refused at once, not hang.
    with world.host.open("::1", TCP) as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(("::1", 8080))


def test_publish_on_one_address(world):
    network = world.network()
    web = world.instance(network)
    web.publish("127.0.0.1,8080,80,tcp", f"{HOST4},8081,81,tcp", f"{HOST6},8081,81,tcp",
                "0.0.0.0,8082,82,tcp", "::,8083,83,tcp")
    talk_tcp(world.host, "127.0.0.1", 8080, web.listen(80))
    talk_tcp(world.outside, HOST4, 8081, web.listen(81))
    talk_tcp(world.outside, HOST6, 8081, web.listen(81, ipv6=True))
    talk_tcp(world.outside, HOST4, 8082, web.listen(82))
    talk_tcp(world.outside, HOST6, 8083, web.listen(83, ipv6=True))
    assert cannot_reach(world.outside, HOST4, 8080)
    assert cannot_reach(world.host, "127.0.0.1", 8081)
    assert cannot_reach(world.outside, HOST6, 8082)
    assert cannot_reach(world.outside, HOST4, 8083)


def test_loopback_cannot_be_reached_from_a_wire(world):
    """A neighbour on the wire may send packets to 127.0.0.1 (the known weakness of route_localnet)."""
    network = world.network()
    web = world.instance(network)
    web.publish("127.0.0.1,8080,80,tcp")
    web.listen(80)
    world.listen(world.host, "127.0.0.1", 7000)
    for side, link, gateway in ((world.outside, "eth0", HOST4), (web.side, "eth0", network.gateway4)):
        side.ip("addr", "del", "127.0.0.1/8", "dev", "lo")
        side.ip("route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local") \
            if "127.0.0.0/8" in side.ip("route", "show", "table", "local") else None
        side.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv4/conf/{link}/route_localnet")
        side.ip("route", "add", "127.0.0.0/8", "via", gateway, "dev", link)
        assert cannot_reach(side, "127.0.0.1", 8080)
        assert cannot_reach(side, "127.0.0.1", 7000)


def test_networks_are_isolated(world):
    network, other = world.network(), world.network("bb22", 2)
    web, far = world.instance(network), world.instance(other, "3333", "far", 7)
    for ipv6 in (False, True):
        web.listen(80, ipv6=ipv6)
        assert cannot_reach(far.side, web.ipv6 if ipv6 else web.ipv4, 80)
        gateway = world.listen(world.host, "::" if ipv6 else "0.0.0.0", 7000)
        talk_tcp(far.side, other.gateway6 if ipv6 else other.gateway4, 7000, gateway)
        assert cannot_reach(far.side, network.gateway6 if ipv6 else network.gateway4, 7000)
    # Nor from outside by somebody who knows the way.
    world.outside.ip("route", "add", "10.90.0.0/16", "via", HOST4)
    world.outside.ip("-6", "route", "add", "fd00:90::/32", "via", HOST6)
    assert cannot_reach(world.outside, web.ipv4, 80)
    assert cannot_reach(world.outside, web.ipv6, 80)
    assert cannot_reach(world.outside, network.gateway4, 7000)
    assert cannot_reach(world.outside, network.gateway6, 7000)
    # Nor with a borrowed address.
    server = world.listen(world.outside, OUT4, 9000)
    far.side.ip("addr", "add", "10.90.1.77/32", "dev", "lo")
    assert cannot_reach(far.side, OUT4, 9000, source="10.90.1.77")
    talk_tcp(far.side, OUT4, 9000, server)


def test_names(world):
    network = world.network(domain="cloud.test")
    web = world.instance(network)
    wait_for = world.serve_names(network)
    for server in (network.gateway4, network.gateway6):
        for name in ("web", "web.cloud.test"):
            assert resolve(web.side, server, name) == [web.ipv4]
            assert resolve(web.side, server, name, "AAAA") == [web.ipv6]
        assert resolve(web.side, server, "nobody.cloud.test") is None
    db = world.instance(network, "2222", "db", 6)
    wait_for("hosts/2222 - ")
    assert resolve(web.side, network.gateway4, "db") == [db.ipv4]
    world.net("detach", network.uid, "2222")
    wait_for("flushed .*hosts/2222")
    assert resolve(web.side, network.gateway4, "db.cloud.test") is None
    # A second ensure must not ask for a restart; another domain must.
    assert world.net("network", *network.words)[1] == "0"
    assert world.net("network", *network.words[:-1], "other.test")[1] == "1"


def test_names_are_served_on_the_bridge_only_and_forwarded(world, scratch):
    upstream = subprocess.Popen(
        world.outside.command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
                              "--no-hosts", "--address=/example.test/203.0.113.7", "--pid-file=",
                              "--bind-interfaces", f"--listen-address={OUT4}", "--user=nobody",
                              "--log-facility=-"), stderr=subprocess.PIPE, text=True)
    world.servers.append(upstream)
    while "started" not in upstream.stderr.readline():
        assert upstream.poll() is None
    resolv = pathlib.Path(scratch) / "resolv.conf"
    resolv.write_text(f"nameserver {OUT4}\n")
    resolv.chmod(0o644)
    world.host.run("mount", "--bind", str(resolv), os.path.realpath("/etc/resolv.conf"))
    network, other = world.network(), world.network("bb22", 2)
    web, far = world.instance(network), world.instance(other, "3333", "far", 7)
    world.serve_names(network)
    assert resolve(web.side, network.gateway4, "www.example.test") == ["203.0.113.7"]
    for side, server in ((world.outside, HOST4), (far.side, network.gateway4)):
        with side.open(server, UDP) as client:
            client.connect((server, 53))
            client.settimeout(0.4)
            with pytest.raises(OSError):
                client.send(bytes(12))
                client.recv(512)


def test_ensure_and_attach_again_change_nothing(world):
    network = world.network()
    web = world.instance(network)
    web.publish(",8080,80,tcp")

    def state():
        return (world.host.run("nft", "list", "ruleset"), world.host.ip("addr"),
                web.side.ip("addr"), web.side.ip("route"), web.side.ip("-6", "route"))
    before = state()
    for restart in (False, True):
        if restart:  # another process, as after a crash
            world.net.kill()
            world.start()
        world.network()
        web.attach()
        web.publish(",8080,80,tcp")
        assert state() == before
    assert world.net("repair") == ["fine"]


def test_damage_is_repaired(world):
    network = world.network()
    web = world.instance(network)
    web.publish(",8080,80,tcp")
    tcp = web.listen(80)
    whole = world.host.run("nft", "list", "ruleset")
    for damage in ("flush ruleset", "flush table inet brume", "flush map inet brume publish4_any",
                   "flush chain inet brume publish", "add element inet brume publish4_any "
                   "{ tcp . 8081 : 10.90.1.9 . 1 }", "delete element inet brume bridges { brume-aa11 }"):
        world.host.run("nft", damage)
        assert world.net("repair") == ["damaged"], damage
        assert world.host.run("nft", "list", "ruleset") == whole, damage
        assert world.net("repair") == ["fine"]
    # Without an explicit look, too.
    world.host.run("nft", "flush", "ruleset")
    web.publish(",8080,80,tcp")
    assert world.host.run("nft", "list", "ruleset") == whole
    talk_tcp(world.outside, HOST4, 8080, tcp)
    # Links.
    world.host.ip("link", "del", "brume-aa11")
    world.network()
    web.attach()
    talk_tcp(world.outside, HOST4, 8080, tcp)
    world.host.ip("link", "del", "brumev1111")
    web.attach()
    talk_tcp(world.outside, HOST4, 8080, tcp)
    web.side.ip("addr", "flush", "dev", "eth0")
    web.side.ip("addr", "add", "10.90.1.99/24", "dev", "eth0")
    web.side.ip("link", "set", "eth0", "down")
    web.attach()
    assert "10.90.1.99" not in web.side.ip("addr")
    talk_tcp(world.outside, HOST4, 8080, tcp)
    talk_tcp(world.outside, HOST6, 8080, web.listen(80, ipv6=True))


def test_instance_starts_again_while_its_old_namespace_dies(world):
    network = world.network()
    for _ in range(5):
        web = world.instance(network)
        web.publish(",8080,80,tcp")
        talk_tcp(world.outside, HOST4, 8080, web.listen(80))
        for made in world.sockets:
            made.close()
        world.sockets.clear()
        world.namespaces.remove(web.side)
        web.side.close()


def test_what_is_not_ours_is_left_alone(world):
    world.host.run("nft", "-f", "-", input="""
        table inet foreign {
            set s { type inet_service; elements = { 1, 2 }; }
            chain c { type filter hook forward priority 10; policy accept; tcp dport @s drop; }
        }
        table inet brumex {
            chain c { type filter hook input priority 0; counter; }
        }\n""")
    world.host.ip("link", "add", "brumexx-aa", "type", "bridge")
    before = foreign_rules(world), world.host.run("nft", "-s", "list", "table", "inet", "brumex")
    network = world.network()
    web = world.instance(network)
    web.publish(",8080,80,tcp")
    world.net("gc", "", "")
    world.net("destroy")
    assert (foreign_rules(world), world.host.run("nft", "-s", "list", "table", "inet", "brumex")) == before
    assert "brumexx-aa" in world.host.ip("link")
    assert "inet brume\n" not in world.host.run("nft", "list", "tables")
    assert "brume-" not in world.host.ip("link") and "brumev" not in world.host.ip("link")
    assert not (world.run / "networks").exists()


def test_two_nodes_in_one_namespace(world):
    first = world.net
    network = world.network()
    web = world.instance(network)
    world.run = world.run.with_name("run2")
    world.start("other")
    try:
        second = world.network("aa11", 2)
        db = world.instance(second, "1111", "db", 6)
        db.publish(",8081,80,tcp")
        talk_tcp(world.outside, HOST4, 8081, db.listen(80))
        world.net("destroy")
        server = world.listen(world.outside, OUT4, 9000)
        assert talk_tcp(web.side, OUT4, 9000, server) == HOST4
    finally:
        first.close()


def test_port_in_use(world):
    network = world.network()
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    world.listen(world.host, "0.0.0.0", 8080)
    world.listen(world.host, "127.0.0.1", 5353, UDP)
    for spec in (",8080,80,tcp", f"{HOST4},8080,80,tcp", ",5353,53,udp"):
        with pytest.raises(Refused, match="is in use by a process of the host") as caught:
            web.publish(",9999,99,tcp", spec)
        assert caught.value.args[0] == errno.EADDRINUSE
    assert world.net.fields("observe")["published"] == [], "all or nothing"
    web.publish(",8090,80,tcp", f"{HOST4},8091,80,tcp")
    for spec in (",8090,80,tcp", f"{HOST4},8090,80,tcp", ",8091,80,tcp"):
        with pytest.raises(Refused, match="published by instance 1111 already"):
            db.publish(spec)
    with pytest.raises(Refused, match="published twice"):
        db.publish(",7777,80,tcp", ",7777,81,tcp")
    with pytest.raises(Refused, match="is not an address of this host"):
        db.publish("198.51.100.1,80,80,tcp")
    db.publish(",8090,80,udp")
    # What is not asked for any more goes.
    web.publish(",8091,80,tcp")
    db.publish(",8090,80,tcp")


def test_udp_flow_follows_the_published_port(world):
    network = world.network()
    web, db = world.instance(network), world.instance(network, "2222", "db", 6)
    first, second = web.listen(53, UDP), db.listen(53, UDP)
    for target in (HOST4, HOST6):
        ipv6 = target == HOST6
        if ipv6:
            first, second = web.listen(53, UDP, True), db.listen(53, UDP, True)
        with world.outside.open(target, UDP) as client:
            client.connect((target, 5353))
            client.send(b"too early")  # tracked, led to nobody; the answer is "port unreachable"
            with pytest.raises(ConnectionRefusedError):
                client.recv(16)
            web.publish(",5353,53,udp")
            client.send(b"one")
            assert first.recv(16) == b"one"
            world.net("unpublish", web.uid)
            db.publish(",5353,53,udp")
            client.send(b"two")
            assert second.recv(16) == b"two"
            world.net("unpublish", db.uid)


def test_only_flows_of_the_port_are_forgotten(world):
    web = world.instance(world.network())
    web.publish(",5353,53,udp", ",5454,54,udp", ",5353,53,tcp")
    tcp = web.listen(53)
    for port, inner in ((5353, 53), (5454, 54)):
        talk_udp(world.outside, HOST4, port, web.listen(inner, UDP))
    talk_tcp(world.outside, HOST4, 5353, tcp)

    def flows():
        return world.host.run("cat", "/proc/net/nf_conntrack")
    if "dport=5353" not in flows():
        pytest.skip("this kernel does not list its flows")
    web.publish(",5454,54,udp", ",5353,53,tcp")
    udp = [line for line in flows().splitlines() if " udp " in line]
    assert any("dport=5454" in line for line in udp)
    assert not any("dport=5353" in line for line in udp)
    assert any(" tcp " in line and "dport=5353" in line for line in flows().splitlines())


NOTHING = {"networks": [], "routers": [], "ports": [], "published": [], "guarded": [], "groups": [], "balancers": [],
           "elements": 0}


def test_garbage_is_found_and_removed(world):
    network, other = world.network(), world.network("bb22", 2)
    web, far = world.instance(network), world.instance(other, "3333", "far", 7)
    web.publish(",8080,80,tcp")
    far.publish(",8081,80,tcp", ",8082,80,udp")
    seen = world.net.fields("observe")
    assert seen["networks"] == ["aa11", "bb22"]
    assert seen["ports"] == ["1111", "3333"] == seen["published"]
    world.net.kill()
    world.start()
    assert world.net.fields("observe") == seen
    # An instance of a network that stays, then everything of the other.
    assert world.net.fields("gc", "aa11,bb22", "1111") == {"networks": 0, "routers": 0, "ports": 1, "published": 1,
                                                           "names": 1, "guards": 1, "groups": 0}
    assert world.net.fields("gc", "aa11", "1111")["networks"] == 1
    seen = world.net.fields("observe")
    assert seen["networks"] == ["aa11"] and seen["ports"] == ["1111"] == seen["published"]
    talk_tcp(world.outside, HOST4, 8080, web.listen(80))
    world.net("gc", "", "")
    seen = world.net.fields("observe")
    assert seen == NOTHING
    assert list((world.run / "networks").iterdir()) == []


@pytest.mark.parametrize("words, message", [
    (("network", "AA", "10.0.0.0/24"), "network uid 'AA'"),
    (("network", "a/../b", "10.0.0.0/24"), "network uid"),
    (("network", "a", "10.0.0.1/24"), "host bits zero"),
    (("network", "a", "10.0.0.0/33"), "must be like"),
    (("network", "a", "127.0.0.0/24"), "cannot live"),
    (("network", "a", "", "fe80::/64"), "cannot live"),
    (("network", "a", "fd00::/64"), "must be like"),
    (("network", "a"), "neither"),
    (("network", "a", "10.0.0.0/24", "", "", "70000"), "mtu 70000"),
    (("network", "a", "10.0.0.0/24", "fd01::/64", "", "600"), "mtu 600"),
    (("network", "a", "10.0.0.0/24", "", "", "", "a..b"), "dns_domain"),
    (("network", "a", "192.0.2.0/25"), "meets the host's own address"),
    (("network", "a", "192.0.0.0/16"), "meets the host's own address"),
    (("publish", "1", "10.90.1.5", "", ",0,80,tcp"), "1 to 65535"),
    (("publish", "1", "10.90.1.5", "", ",80,80,sctp"), "must be tcp or udp"),
    (("publish", "1", "10.90.1.5", "", "::,80,80,tcp"), "no address of that family"),
    (("publish", "1", "10.90.1.5", "", "bad,80,80,tcp"), "must be an IPv4 or IPv6"),
    (("publish", "1", "10.90.1.5;", "", ",80,80,tcp"), "must be an IPv4 address"),
    (("publish", "zz", "10.90.1.5", "", ",80,80,tcp"), "instance uid 'zz'"),
])
def test_bad_input_is_refused(world, words, message):
    with pytest.raises(Refused, match=re.escape(message)):
        world.net(*words)
    seen = world.net.fields("observe")
    assert seen == NOTHING


@pytest.mark.parametrize("name, ipv4, mac, message", [
    ("a b\n10.0.0.1 evil".replace("\n", "_").replace(" ", "_"), "10.90.1.5", "", "name '"),
    ("-x", "10.90.1.5", "", "name '-x'"),
    ("web", "10.90.2.5", "", "not in the network's subnet"),
    ("web", "10.90.1.1", "", "is the network's gateway"),
    ("web", "10.90.1.255", "", "not in the network's subnet"),
    ("web", "10.90.1.5", "01:00:00:00:00:01", "mac '"),
])
def test_bad_port_is_refused(world, name, ipv4, mac, message):
    network = world.network()
    instance = Instance(world, network, "1111", name, 5)
    with pytest.raises(Refused, match=re.escape(message)):
        world.net("attach", instance.side.pid, "1111", name, mac, ipv4, "", *network.words)
    assert world.net.fields("observe")["ports"] == []


def test_own_namespace_is_refused(world):
    network = world.network()
    with pytest.raises(Refused, match="no network namespace of its own"):
        world.net("attach", world.host.pid, "1111", "web", "", "10.90.1.5", "", *network.words)


def test_foreign_bridge_of_our_name_is_refused(world):
    world.host.ip("link", "add", "brume-aa11", "type", "bridge")
    world.host.ip("link", "set", "brume-aa11", "alias", "somebody's")
    with pytest.raises(Refused, match="does not belong to network aa11"):
        world.network()
    assert "somebody's" in world.host.ip("link")


def test_router_advertisements_of_the_host_survive(world):
    """Turning on forwarding must not make the host deaf to its own router."""
    world.net.close()
    def shell(text):
        return world.host.run("sh", "-c", text).strip()
    shell("echo 0 > /proc/sys/net/ipv6/conf/all/forwarding; echo 1 > /proc/sys/net/ipv6/conf/up0/accept_ra")
    world.start()
    assert shell("cat /proc/sys/net/ipv6/conf/all/forwarding") == "1"
    assert shell("cat /proc/sys/net/ipv6/conf/up0/accept_ra") == "2"
