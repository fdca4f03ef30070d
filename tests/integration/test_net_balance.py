"""Load balancers of net/: who gets connections, and what becomes of those that there are."""
import collections
import errno
import select
import socket

import pytest

from netns import (HOST4, HOST6, OUT4, OUT6, TCP, UDP, Refused, cannot_reach, talk_tcp)

UID = "ba1a"


class Balanced:
    """Some members that listen, and a balancer of them."""

    def __init__(self, world, count=3, kind=TCP, nat=True, target=8080):
        self.world, self.kind, self.target = world, kind, target
        self.network = world.network(nat=nat)
        self.members = [world.instance(self.network, f"{n + 1:04x}", f"web{n}", 10 + n)
                        for n in range(count)]
        self.servers4 = {m.ipv4: m.listen(target, kind) for m in self.members}
        self.servers6 = {m.ipv6: m.listen(target, kind, ipv6=True) for m in self.members}
        self.vip4, self.vip6 = self.network.address(200)

    def words(self, members=None, algorithm="rr", listen=None, vip=False, uid=UID, routed=False):
        members = self.members if members is None else members
        protocol = "tcp" if self.kind == TCP else "udp"
        listen = listen or f"{protocol},{'vip' if vip else ''},80,{self.target}"
        return (uid, self.network.uid, "routed" if routed else "", self.vip4 if vip else "",
                self.vip6 if vip else "", algorithm, listen,
                ";".join(f"{m.ipv4},{m.ipv6},{getattr(m, 'connections', 0)}" for m in members))

    def ensure(self, **more):
        self.world.net("balance", *self.words(**more))

    def servers(self, target):
        return self.servers6 if ":" in target else self.servers4

    def connect(self, side, target, port=80, source=None):
        """One connection: (the client's socket, the server's, the member, who it saw)."""
        client = side.open(target, socket.SOCK_STREAM)
        if source:
            client.bind((source, 0))
        client.connect((target, port))
        servers = self.servers(target)
        ready = select.select(list(servers.values()), [], [], 5)[0]
        assert len(ready) == 1
        at = next(a for a, s in servers.items() if s is ready[0])
        accepted, peer = ready[0].accept()
        return client, accepted, at, peer[0]

    def spread(self, side, target, count, port=80):
        """How many of `count` connections each member got, and the addresses that were seen."""
        got, seen = collections.Counter(), set()
        for _ in range(count):
            client, accepted, at, peer = self.connect(side, target, port)
            client.close()
            accepted.close()
            got[at] += 1
            seen.add(peer)
        return got, seen

    def udp(self, client):
        """Sends with a UDP socket that is connected; who got it."""
        target = client.getpeername()[0]
        client.send(b"ping")
        servers = self.servers(target)
        ready = select.select(list(servers.values()), [], [], 5)[0]
        assert len(ready) == 1
        data, peer = ready[0].recvfrom(16)
        assert data == b"ping"
        ready[0].sendto(b"pong", peer)
        assert client.recv(16) == b"pong"
        return next(a for a, s in servers.items() if s is ready[0])


def alive(client, accepted):
    client.sendall(b"ping")
    assert accepted.recv(16) == b"ping"
    accepted.sendall(b"pong")
    assert client.recv(16) == b"pong"


def table(world):
    return world.host.run("sh", "-c", "nft list table inet brume-b 2>/dev/null || true")


@pytest.mark.parametrize("target,seen", [(HOST4, OUT4), (HOST6, OUT6)])
def test_round_robin_is_even_and_keeps_the_source(world, target, seen):
    it = Balanced(world)
    it.ensure()
    got, peers = it.spread(world.outside, target, 300)
    assert sorted(got.values()) == [100, 100, 100]
    assert peers == {seen}, "members see the true address of clients from outside"


def test_from_everywhere_on_all_addresses(world):
    it = Balanced(world)
    it.ensure()
    got, peers = it.spread(world.host, "127.0.0.1", 6)
    assert sorted(got.values()) == [2, 2, 2] and peers == {it.network.gateway4}
    # A member is a client itself: it may be led to itself, and must get an answer.
    for client in it.members:
        got, peers = it.spread(client.side, it.network.gateway4, 6)
        assert sum(got.values()) == 6 and peers == {it.network.gateway4}
        got, peers = it.spread(client.side, it.network.gateway6, 6)
        assert sum(got.values()) == 6 and peers == {it.network.gateway6}
    other = world.network("bb22", 2)
    stranger = world.instance(other, "9999", "other", 5)
    got, peers = it.spread(stranger.side, HOST4, 6)
    assert sorted(got.values()) == [2, 2, 2] and peers == {stranger.ipv4}


def test_one_address_of_the_node(world):
    it = Balanced(world)
    it.ensure(listen=f"tcp,{HOST4},80,8080")
    assert sum(it.spread(world.outside, HOST4, 6)[0].values()) == 6
    assert cannot_reach(world.outside, HOST6, 80)
    assert cannot_reach(it.members[0].side, it.network.gateway4, 80)


def test_source_hash_is_sticky_and_stays_when_others_go(world):
    it = Balanced(world, count=5)
    sources = [f"192.0.2.{n}" for n in range(10, 60)]
    for source in sources:
        world.outside.ip("addr", "add", f"{source}/24", "dev", "eth0")
    it.ensure(algorithm="sh")

    def homes():
        found = {}
        for source in sources:
            client, accepted, at, peer = it.connect(world.outside, HOST4, source=source)
            client.close()
            accepted.close()
            assert peer == source
            found[source] = at
        return found
    before = homes()
    assert homes() == before
    assert len(set(before.values())) == 5, "every member has clients"
    gone = it.members[2]
    it.ensure(algorithm="sh", members=[m for m in it.members if m is not gone])
    after = homes()
    stayed = [s for s in sources if before[s] != gone.ipv4]
    moved = [s for s in stayed if before[s] != after[s]]
    assert gone.ipv4 not in after.values()
    assert len(moved) <= len(stayed) // 4, "few others change hands"


def test_least_connections_prefers_the_idle(world):
    it = Balanced(world, count=2)
    it.members[0].connections, it.members[1].connections = 100, 0
    it.ensure(algorithm="lc")
    got, _ = it.spread(world.outside, HOST4, 300)
    busy, idle = got[it.members[0].ipv4], got[it.members[1].ipv4]
    assert busy > 20 and idle > 2 * busy, "one to three, by lot"


def test_counts_connections(world):
    it = Balanced(world, count=2)
    it.ensure()
    open_ = [it.connect(world.outside, HOST4) for _ in range(6)]
    open_.append(it.connect(world.outside, HOST6))
    counts = [int(n) for n in world.net("balance-count", *it.words())]
    assert sum(counts) == 7 and min(counts) >= 3
    # What was sent to a member itself is not the balancer's.
    direct = talk_tcp(world.host, it.members[0].ipv4, 8080, it.servers4[it.members[0].ipv4])
    assert direct == it.network.gateway4
    for client, accepted, _, _ in open_:
        client.close()
        accepted.close()
    assert [int(n) for n in world.net("balance-count", *it.words())] == [0, 0]


def test_connections_stay_when_their_member_leaves(world):
    it = Balanced(world)
    it.ensure()
    open_ = [it.connect(world.outside, HOST4) for _ in range(6)]
    left = it.members[0]
    it.ensure(members=it.members[1:])
    for client, accepted, _, _ in open_:
        alive(client, accepted)
    got, _ = it.spread(world.outside, HOST4, 10)
    assert left.ipv4 not in got and sum(got.values()) == 10
    it.ensure()
    got, _ = it.spread(world.outside, HOST4, 9)
    assert got[left.ipv4] == 3
    for client, accepted, _, _ in open_:
        alive(client, accepted)
        client.close()
        accepted.close()


def test_nobody_is_there(world):
    it = Balanced(world, count=1)
    it.ensure(members=[])
    for side, target in ((world.outside, HOST4), (world.outside, HOST6), (world.host, "127.0.0.1")):
        with side.open(target, TCP) as client:
            with pytest.raises(ConnectionRefusedError):
                client.connect((target, 80))


@pytest.mark.parametrize("ipv6", [False, True])
def test_udp(world, ipv6):
    it = Balanced(world, kind=UDP)
    it.ensure()
    target = HOST6 if ipv6 else HOST4
    clients = [world.outside.open(target, UDP) for _ in range(9)]
    for client in clients:
        client.connect((target, 80))
    homes = [it.udp(client) for client in clients]
    assert sorted(collections.Counter(homes).values()) == [3, 3, 3]
    assert [it.udp(client) for client in clients] == homes, "a flow stays where it is"
    # A member that has left is forgotten, and its flows find another one.
    gone = it.members[0]
    it.ensure(members=it.members[1:])
    world.net("balance-forget", *it.words(members=[gone]))
    after = [it.udp(client) for client in clients]
    lost = gone.ipv6 if ipv6 else gone.ipv4
    assert lost not in after
    assert all(a == h for a, h in zip(after, homes) if h != lost)
    it.ensure(members=[])
    world.net("balance-forget", *it.words(members=it.members[1:]))
    clients[0].send(b"ping")
    with pytest.raises(ConnectionRefusedError):
        clients[0].recv(16)
    for client in clients:
        client.close()


@pytest.mark.parametrize("ipv6", [False, True])
def test_an_address_of_its_own(world, ipv6):
    it = Balanced(world)
    it.ensure(vip=True)
    vip = it.vip6 if ipv6 else it.vip4
    gateway = it.network.gateway6 if ipv6 else it.network.gateway4
    client = world.instance(it.network, "7777", "client", 50)
    got, peers = it.spread(client.side, vip, 9)
    assert sorted(got.values()) == [3, 3, 3] and peers == {gateway}
    got, _ = it.spread(it.members[0].side, vip, 6)
    assert sorted(got.values()) == [2, 2, 2], "a member may be led to itself"
    assert sum(it.spread(world.host, vip, 3)[0].values()) == 3
    assert cannot_reach(world.outside, HOST6 if ipv6 else HOST4, 80), "only there"
    # It answers pings, and nothing of the host is reached by it.
    client.side.run("busybox", "ping", "-c1", "-W2", vip)
    world.listen(world.host, "::" if ipv6 else "0.0.0.0", 7000)
    assert not cannot_reach(client.side, gateway, 7000)
    assert cannot_reach(client.side, vip, 7000)
    # Neither from another network nor from outside, for those who know a route.
    stranger = world.instance(world.network("bb22", 2), "9999", "other", 5)
    assert cannot_reach(stranger.side, vip, 80)
    world.outside.ip("route", "add", vip, "via", HOST6 if ipv6 else HOST4)
    assert cannot_reach(world.outside, vip, 80)
    # The network is made sure of again, by the next agent say: the address stays.
    world.net("network", *it.network.words)
    assert f" {vip}/" in world.host.ip("addr")
    assert sum(it.spread(client.side, vip, 3)[0].values()) == 3
    world.net("remove-balance", UID)
    assert f" {vip}/" not in world.host.ip("addr")


def test_an_address_in_a_routed_network_is_reached_from_outside(world):
    it = Balanced(world, nat=False)
    it.ensure(vip=True, routed=True)
    world.outside.ip("route", "add", "10.90.1.0/24", "via", HOST4)
    got, peers = it.spread(world.outside, it.vip4, 6)
    assert sorted(got.values()) == [2, 2, 2] and peers == {OUT4}
    stranger = world.instance(world.network("bb22", 2), "9999", "other", 5)
    assert cannot_reach(stranger.side, it.vip4, 80)


def test_many_balancers_stand_apart_and_leave_nothing(world):
    it = Balanced(world)
    world.host.run("nft", "add table inet foreign; add chain inet foreign c "
                   "{ type filter hook forward priority 5; }; add rule inet foreign c accept")
    before = world.net.fields("observe")
    rules = world.host.run("nft", "-a", "list", "ruleset")
    it.ensure()
    it.ensure(uid="ba1b", listen="tcp,,81,8080;udp,,81,8080", members=it.members[:1])
    it.ensure(uid="ba1c", listen="tcp,vip,82,8080", vip=True)
    assert world.net.fields("observe")["balancers"] == ["ba1a", "ba1b", "ba1c"]
    assert set(it.spread(world.outside, HOST4, 4, port=81)[0]) == {it.members[0].ipv4}
    assert sum(it.spread(world.host, it.vip4, 3, port=82)[0].values()) == 3
    # The ports of one change, the others go on.
    it.ensure(uid="ba1b", listen="tcp,,83,8080")
    assert cannot_reach(world.outside, HOST4, 81)
    assert sum(it.spread(world.outside, HOST4, 2, port=83)[0].values()) == 2
    world.net("remove-balance", "ba1b")
    assert "ba1b" not in table(world)
    assert cannot_reach(world.outside, HOST4, 83)
    assert sum(it.spread(world.outside, HOST4, 3)[0].values()) == 3
    world.net("remove-balance", "ba1a")
    world.net("remove-balance", "ba1c")
    world.net("remove-balance", "ba1c")
    assert table(world) == "" and world.net.fields("observe") == before
    assert world.host.run("nft", "-a", "list", "ruleset") == rules


@pytest.mark.parametrize("algorithm", ["rr", "lc", "sh"])
def test_a_thousand_members(world, algorithm):
    it = Balanced(world, count=1)
    real, listens = it.members[0], ";".join(f"tcp,,{80 + n},8080" for n in range(20))
    words = list(it.words(algorithm=algorithm, listen=listens))
    others = [f"10.90.1.{n % 200 + 20},fd00:90:1::{n + 1000:x},0" for n in range(1000)]
    words[7] = ";".join(others[:-1] + [f"{real.ipv4},{real.ipv6},0"])
    world.net("balance", *words)
    assert real.ipv4 in world.net("balance-members", UID)
    assert world.net("repair") == ["fine"]
    words[7] = ";".join([*others, others[0]])
    with pytest.raises(Refused) as refused:
        world.net("balance", *words)
    assert refused.value.args == (errno.E2BIG, "a balancer has 1000 members at most")
    it.ensure(algorithm=algorithm, listen=listens)
    assert sum(it.spread(world.outside, HOST4, 3, port=99)[0].values()) == 3


def test_takes_over_what_another_life_has_left(world):
    it = Balanced(world)
    it.ensure(listen="tcp,,80,8080;tcp,,81,8080")
    open_ = it.connect(world.outside, HOST4)
    world.net.kill()
    world.start()
    found = world.net("balance-members", UID)
    assert set(found) == {a for m in it.members for a in (m.ipv4, m.ipv6)}
    it.ensure(listen="tcp,,80,8080;tcp,,82,8080", members=it.members[:2])
    alive(*open_[:2])
    assert set(it.spread(world.outside, HOST4, 4)[0]) == {m.ipv4 for m in it.members[:2]}
    assert cannot_reach(world.outside, HOST4, 81)
    assert sum(it.spread(world.outside, HOST4, 2, port=82)[0].values()) == 2
    assert world.net("repair") == ["fine"]
    world.net.kill()
    world.start()
    world.net("remove-balance", UID)
    assert table(world) == ""


@pytest.mark.parametrize("damage", [
    "flush ruleset", "delete table inet brume-b", "flush chain inet brume-b prerouting",
    "flush map inet brume-b any", f"flush map inet brume-b m4-{UID}",
    "add rule inet brume-b input drop"])
def test_what_others_break_is_repaired(world, damage):
    it = Balanced(world)
    it.ensure(vip=True, listen="tcp,,80,8080;tcp,vip,81,8080")
    open_ = it.connect(world.outside, HOST4)
    world.host.run("nft", damage)
    assert world.net("repair") == ["damaged"]
    assert world.net("repair") == ["fine"]
    alive(*open_[:2])
    assert sorted(it.spread(world.outside, HOST4, 6)[0].values()) == [2, 2, 2]
    assert sum(it.spread(world.host, it.vip4, 3, port=81)[0].values()) == 3
    assert "drop" not in table(world)


def test_refusals_change_nothing(world):
    it = Balanced(world, count=1)
    world.listen(world.host, "0.0.0.0", 80)
    cases = [
        (dict(), errno.EADDRINUSE, "port 80/tcp is in use by a process of the host"),
        (dict(listen="tcp,198.51.100.7,81,1"), errno.EADDRNOTAVAIL, "not an address of this host"),
        (dict(listen="sctp,,81,1"), errno.EINVAL, "must be tcp or udp"),
        (dict(listen="tcp,,0,1"), errno.EINVAL, "must be 1 to 65535"),
        (dict(listen="tcp,vip,81,1"), errno.EINVAL, "no address of its own"),
        (dict(listen="tcp,10.0.0.1;drop,81,1"), errno.EINVAL, None),
        (dict(uid="x;y"), errno.EINVAL, "uid"),
    ]
    for more, code, words in cases:
        with pytest.raises(Refused) as refused:
            it.ensure(**more)
        assert refused.value.args[0] == code and (words or "") in refused.value.args[1], more
        assert table(world) == ""
    with pytest.raises(Refused) as refused:
        world.net("balance", UID, "dead", "", "10.9.9.9", "", "rr", "tcp,vip,81,80", "10.90.1.10,,0")
    assert refused.value.args[0] == errno.ENODEV
