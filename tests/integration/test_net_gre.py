"""A network that goes on at other nodes by GRE, where the kernel has it (in the lab); as test_net_tunnel."""
import errno
import json
import socket
import struct
import subprocess

import pytest

from netns import TCP, UDP, Refused, cannot_reach
from test_net_tunnel import UNDERLAY, frame_for, link, talk_both_ways, wires  # noqa: F401 - a fixture

KEY = "gre:77"


@pytest.fixture
def gre(wires):  # noqa: F811
    for kind, remote in (("gretap", "192.0.2.99"), ("ip6gretap", "2001:db8::99")):
        try:
            wires.switch.ip("link", "add", "probe", "type", kind, "remote", remote, "key", "1")
        except subprocess.CalledProcessError:
            pytest.skip("this kernel has no GRE tunnels")
        wires.switch.ip("link", "del", "probe")
    return wires


def devices(node):
    found = [it for kind in ("gretap", "ip6gretap")
             for it in json.loads(node.world.host.run("ip", "-d", "-j", "link", "show", "type", kind) or "[]")]
    return {it["ifname"]: it for it in found if it.get("ifname", "").startswith("brumey")}


def connect(wires, *nodes, ipv6=False):  # noqa: F811
    for here in nodes:
        here.stretch(*[UNDERLAY[there.name][ipv6] for there in nodes if there is not here], vni=KEY)
        here.attach()


def test_a_kernel_without_it_says_so(wires):  # noqa: F811
    try:
        wires.a.stretch(UNDERLAY["b"][0], vni=KEY)
    except Refused as refused:
        assert refused.args[0] == errno.EOPNOTSUPP and "no GRE tunnels" in refused.args[1]
        with pytest.raises(Refused, match="no GRE tunnels over IPv6 .module ip6_gre.: use --kind vxlan"):
            wires.a.stretch(UNDERLAY["b"][1], vni=KEY)
    else:
        assert len(devices(wires.a)) == 1


@pytest.mark.parametrize("ipv6, mtu", [(False, 1458), (True, 1438)])
def test_two_nodes_have_one_network(gre, ipv6, mtu):
    connect(gre, gre.a, gre.b, ipv6=ipv6)
    talk_both_ways(gre)
    assert (gre.a.mtu(), gre.b.mtu()) == (mtu, mtu)
    server = gre.b.world.listen(gre.b.side, "0.0.0.0", 9000)
    with gre.a.side.open(gre.b.ipv4, TCP) as client:
        client.connect((gre.b.ipv4, 9000))
        connection, _ = server.accept()
        connection.settimeout(10)
        data, got, sent = bytes(range(256)) * 4096, b"", 0
        client.settimeout(10)
        while len(got) < len(data):
            sent += client.send(data[sent:sent + 65536]) if sent < len(data) else 0
            got += connection.recv(1 << 20)
        assert got == data
        connection.close()


@pytest.mark.parametrize("ipv6", [False, True])
def test_three_nodes_hear_each_frame_once(gre, ipv6):
    c = gre.node("c")
    connect(gre, gre.a, gre.b, c, ipv6=ipv6)
    talk_both_ways(gre)
    for node in (gre.a, gre.b, c):
        assert len(devices(node)) == 2
        assert all(it["linkinfo"]["info_slave_data"]["isolated"] for it in devices(node).values())
    server = c.world.listen(c.side, "0.0.0.0", 53, UDP)
    with gre.a.side.open("10.91.0.255", UDP) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for number in range(100):
            sender.sendto(struct.pack("!I", number), ("10.91.0.255", 53))
        # Sent by unicast, it comes behind the last of them.
        sender.sendto(b"last", (c.ipv4, 53))
    seen = []
    while not seen or seen[-1] != b"last":
        seen.append(server.recv(16))
    # A busy server may lose some, and processors overtake each other; none comes twice, as it would if one node passed
    # on what another sent to all.
    numbers = [struct.unpack("!I", data)[0] for data in seen[:-1]]
    assert len(numbers) > 50 and len(set(numbers)) == len(numbers)


def test_changes_crashes_and_foreign_hands(gre):
    connect(gre, gre.a, gre.b)
    talk_both_ways(gre)
    (name, device), = devices(gre.a).items()
    gre.a.world.net.kill()
    gre.a.world.start()
    gre.a.stretch(UNDERLAY["b"][0], vni=KEY)
    assert link(gre.a.world.host, name)["ifindex"] == device["ifindex"], "what is right stays"
    for harm in (["ip", "link", "del", name], ["ip", "link", "set", name, "down"], ["ip", "link", "set", name, "nomaster"]):
        gre.a.world.host.run(*harm)
        gre.a.stretch(UNDERLAY["b"][0], vni=KEY)
        talk_both_ways(gre)
    gre.a.stretch(UNDERLAY["b"][0], vni="gre:78")
    assert cannot_reach(gre.a.side, gre.b.ipv4, 80), "another key is another network"
    gre.a.stretch(vni=KEY)
    assert not devices(gre.a)
    gre.a.stretch(UNDERLAY["b"][0], vni=KEY)
    # Of vxlan nothing of gre stays, nor the other way.
    gre.a.stretch(UNDERLAY["b"][0], vni=9)
    assert not devices(gre.a) and gre.a.device() == "1"
    gre.a.stretch(UNDERLAY["b"][0], vni=KEY)
    assert len(devices(gre.a)) == 1 and gre.a.device() == "0"
    # Nor of one family anything of the other's; the address of ours that it has is the kernel's choice, or ours.
    gre.a.stretch(UNDERLAY["b"][1], vni=KEY)
    (name, device), = devices(gre.a).items()
    assert device["linkinfo"]["info_kind"] == "ip6gretap" and device["linkinfo"]["info_data"]["local"] == UNDERLAY["a"][1]
    gre.a.world.net.kill()
    gre.a.world.start()
    gre.a.stretch(UNDERLAY["b"][1], vni=KEY)
    assert link(gre.a.world.host, name)["ifindex"] == device["ifindex"], "what is right stays"
    found = gre.a.world.net.fields("gc", "", "")
    assert found["networks"] == 1 and not devices(gre.a)


@pytest.mark.parametrize("ipv6", [False, True])
def test_forged_frames_of_a_stranger_reach_nobody(gre, ipv6):
    connect(gre, gre.a, gre.b, ipv6=ipv6)
    talk_both_ways(gre)
    stranger = gre.a.world.namespace()
    gre.plug(stranger, "stranger")
    mac = link(gre.a.side, "eth0")["address"]
    server = gre.a.world.listen(gre.a.side, "0.0.0.0", 53, UDP)
    for side, key, text in ((stranger, 77, b"forged"), (gre.b.world.host, 78, b"wrong key"), (gre.b.world.host, 77, b"true")):
        with side.inside():
            sender = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_GRE)
        with sender:
            for _ in range(100):
                frame = frame_for(mac, gre.b.ipv4, gre.a.ipv4, text)[8:]  # behind the header of VXLAN
                sender.sendto(struct.pack("!HHI", 0x2000, 0x6558, key) + frame, (UNDERLAY["a"][ipv6], 0))
    seen = [server.recv(100) for _ in range(100)]
    assert set(seen) == {b"true"}, "what a peer sends arrives, and nothing else"


def test_what_cannot_be(gre):
    with pytest.raises(Refused) as refused:
        gre.a.stretch(UNDERLAY["b"][0], vni=KEY, mtu=1500)
    assert refused.value.args[0] == errno.EMSGSIZE and "1458" in refused.value.args[1]
    gre.a.world.host.ip("link", "add", "foreign", "type", "gretap", "remote", UNDERLAY["b"][0], "key", "77")
    with pytest.raises(Refused) as refused:
        gre.a.stretch(UNDERLAY["b"][0], vni=KEY)
    assert refused.value.args[0] == errno.EEXIST and "key 77" in refused.value.args[1]
