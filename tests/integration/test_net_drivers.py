"""Networks on somebody else's segment: macvlan in its four modes, and a bridge of the host; net/ without the daemons.

The host's uplink `eth0` is a port of a switch in a namespace of its own, where a server (the LAN's gateway) is, too.
"""
import errno
import fcntl
import json
import os
import pathlib
import struct
import threading

import pytest

from conftest import need
from netns import LIBC, Refused, World, cannot_reach, talk_tcp

GATEWAY, SUBNET = "10.50.0.1", "10.50.0.0/24"
UID = "aa11"
WORDS = (UID, SUBNET, "", "", 0, "")


def links(side):
    return {link["ifname"]: link for link in json.loads(side.run("ip", "-d", "-j", "link"))}


class Lan:
    def __init__(self, program, folder):
        self.world = World(program, folder)
        self.host, self.net = self.world.host, self.world.net
        self.switch, self.server = self.world.namespace(), self.world.namespace()
        self.switch.ip("link", "add", "sw", "type", "bridge")
        self.switch.ip("link", "set", "sw", "up")
        self.plug(self.server, "server")
        self.server.ip("addr", "add", f"{GATEWAY}/24", "dev", "eth0")
        self.server.ip("link", "set", "eth0", "up")
        self.plug(self.host, "host")
        self.host.ip("link", "set", "eth0", "up")

    def plug(self, side, name):
        side.ip("link", "add", "eth0", "type", "veth", "peer", "name", f"to-{name}", "netns", str(self.switch.pid))
        self.switch.ip("link", "set", "dev", f"to-{name}", "master", "sw", "up")

    def hairpin(self, on):
        self.switch.run("bridge", "link", "set", "dev", "to-host", "hairpin", "on" if on else "off")

    def network(self, driver, mode="", uplink="eth0", gateway=GATEWAY, mtu=0):
        self.net("via", driver, mode, uplink, gateway)
        self.words = (*WORDS[:4], mtu, "")
        return self.net("network", *self.words)

    def instance(self, uid, last):
        made = Instance(self, uid, f"10.50.0.{last}")
        made.attach()
        return made


class Instance:
    def __init__(self, lan, uid, address):
        self.lan, self.uid, self.address = lan, uid, address
        self.mac = f"02:62:0a:32:00:{int(address.split('.')[3]):02x}"
        self.side = lan.world.namespace()

    def attach(self):
        self.lan.net("attach", self.side.pid, self.uid, "web", self.mac, self.address, "", *self.lan.words)

    def reaches(self, other):
        server = other.side.listen(other.address, 80)
        try:
            if cannot_reach(self.side, other.address, 80):
                return False
            server.accept()[0].close()
            return talk_tcp(self.side, other.address, 80, server) == self.address
        finally:
            server.close()

    def reaches_server(self):
        server = self.lan.server.listen(GATEWAY, 80)
        try:
            return talk_tcp(self.side, GATEWAY, 80, server) == self.address
        finally:
            server.close()


@pytest.fixture
def lan(build, scratch):
    need("nft", "bridge")
    program = build / "tests/net-driver"
    if not program.exists():
        pytest.skip(f"{program} is not there")
    made = Lan(program, scratch)
    yield made
    made.world.close()


@pytest.mark.parametrize("mode, directly, by_switch", [
    ("private", False, False), ("vepa", False, True), ("bridge", True, True)])
def test_who_hears_whom(lan, mode, directly, by_switch):
    lan.network("macvlan", mode)
    one, two = lan.instance("1111", 5), lan.instance("2222", 6)
    inside = links(one.side)["eth0"]
    assert inside["linkinfo"]["info_kind"] == "macvlan" and inside["linkinfo"]["info_data"]["mode"] == mode
    assert inside["address"] == one.mac and inside["operstate"] == "UP"
    assert GATEWAY in one.side.ip("route", "show", "default")
    assert one.reaches_server() and two.reaches_server()
    assert one.reaches(two) is directly
    lan.hairpin(True)
    one.side.ip("neigh", "flush", "dev", "eth0")  # a question without an answer is not asked again at once
    assert one.reaches(two) is by_switch
    assert not [name for name in links(lan.host) if name.startswith("brume")], "nothing of it is on the host"


def test_passthru_takes_one(lan):
    before = links(lan.host)["eth0"]
    lan.network("macvlan", "passthru")
    one = lan.instance("1111", 5)
    assert one.reaches_server()
    with pytest.raises(Refused) as refused:
        lan.instance("2222", 6)
    assert "one port only" in refused.value.args[1]
    lan.net("remove-inside", one.side.pid, "eth0", one.mac)
    assert "eth0" not in links(one.side)
    two = lan.instance("3333", 7)
    assert two.reaches_server()
    lan.net("remove-inside", two.side.pid, "eth0", two.mac)
    assert links(lan.host)["eth0"]["address"] == before["address"], "the uplink has its own MAC again"


def test_an_agent_that_comes_again_keeps_what_is_right(lan):
    lan.network("macvlan", "bridge")
    one = lan.instance("1111", 5)
    index = links(one.side)["eth0"]["ifindex"]
    lan.net.kill()
    lan.world.start()
    lan.net = lan.world.net
    lan.network("macvlan", "bridge")
    one.attach()
    assert links(one.side)["eth0"]["ifindex"] == index and one.reaches_server()
    # Of another mode: it is made anew, under the same name.
    lan.network("macvlan", "private")
    one.attach()
    assert links(one.side)["eth0"]["linkinfo"]["info_data"]["mode"] == "private" and one.reaches_server()
    found = lan.net.fields("gc", "", "", "")
    assert found["ports"] == 0 and found["networks"] == 0


def test_an_uplink_that_vanishes_and_returns(lan):
    lan.network("macvlan")
    one = lan.instance("1111", 5)
    lan.host.ip("link", "del", "eth0")
    assert "eth0" not in links(one.side), "the kernel takes it along"
    with pytest.raises(Refused) as refused:
        lan.network("macvlan")
    assert refused.value.args[0] == errno.ENODEV and "uplink eth0" in refused.value.args[1]
    with pytest.raises(Refused):
        one.attach()
    lan.plug(lan.host, "host")
    lan.host.ip("link", "set", "eth0", "up")
    lan.network("macvlan")
    one.attach()
    assert one.reaches_server()


def test_a_bridge_of_the_host(lan):
    host = lan.host
    host.ip("link", "add", "br0", "type", "bridge")
    host.ip("link", "set", "eth0", "master", "br0")
    host.ip("link", "set", "br0", "up")
    before = links(host)
    assert lan.network("physical", "", "br0")[0] == "br0"
    one, two = lan.instance("1111", 5), lan.instance("2222", 6)
    assert one.reaches_server() and one.reaches(two)
    assert links(host)["brumev1111"]["master"] == "br0"
    # Another's address is not for it to send with.
    one.side.ip("addr", "add", "10.50.0.77/24", "dev", "eth0")
    assert cannot_reach(one.side, GATEWAY, 80, source="10.50.0.77")
    lan.net("remove-port", UID, "1111")
    lan.net("remove-port", UID, "2222")
    lan.net("remove-network", UID)
    after = links(host)
    assert set(after) == set(before)
    for name in ("br0", "eth0"):
        assert {k: after[name].get(k) for k in ("mtu", "address", "master")} == \
               {k: before[name].get(k) for k in ("mtu", "address", "master")}
        assert after[name]["linkinfo"]["info_kind"] == before[name]["linkinfo"]["info_kind"]
    assert not lan.world.net.fields("observe")["guarded"]


def test_a_smaller_mtu_leaves_the_bridge_as_it_is(lan):
    host = lan.host
    host.ip("link", "add", "br0", "type", "bridge")
    host.ip("link", "set", "br0", "up")
    lan.network("physical", "", "br0", mtu=1400)
    one = lan.instance("1111", 5)
    assert links(one.side)["eth0"]["mtu"] == 1400 and links(host)["br0"]["mtu"] == 1500
    one.attach()
    lan.net("tap", 0, "2222", "web", "02:62:0a:32:00:06", "10.50.0.6", "", *lan.words)
    assert links(host)["br0"]["mtu"] == 1500


def test_both_families(lan):
    lan.server.ip("addr", "add", "fd00:50::1/64", "dev", "eth0", "nodad")
    lan.net("via", "macvlan", "", "eth0", GATEWAY)
    lan.words = (UID, SUBNET, "fd00:50::/64", "", 0, "")
    lan.net("network", *lan.words)
    side = lan.world.namespace()
    lan.net("attach", side.pid, "1111", "web", "", "10.50.0.5", "fd00:50::5", *lan.words)
    server = lan.world.listen(lan.server, "fd00:50::1", 80)
    assert talk_tcp(side, "fd00:50::1", 80, server) == "fd00:50::5"
    server = lan.world.listen(lan.server, GATEWAY, 80)
    assert talk_tcp(side, GATEWAY, 80, server) == "10.50.0.5"
    assert not side.ip("-6", "route", "show", "default"), "nobody said who is the gateway"


def open_of(process, fd):
    """A descriptor of another process."""
    pidfd = os.pidfd_open(process.pid)
    try:
        got = LIBC.syscall(438, pidfd, fd, 0)
        assert got >= 0, "pidfd_getfd"
        return got
    finally:
        os.close(pidfd)


def test_a_machine_has_a_macvtap(lan):
    lan.network("macvlan")
    try:
        number, = lan.net("tap", 0, "1111", "web", "02:62:0a:32:00:05", "10.50.0.5", "", *lan.words)
    except Refused as refused:
        assert "this host shows no /dev/tap" in refused.args[1] or "another network namespace" in refused.args[1]
        pytest.skip(refused.args[1])
    link = links(lan.host)["brumev1111"]
    assert link["linkinfo"]["info_kind"] == "macvtap" and link["address"] == "02:62:0a:32:00:05"
    # Who has the gateway's address?  The answer comes back through the descriptor.
    fd = open_of(lan.net.process, int(number))
    try:
        mac = bytes.fromhex("02620a320005")
        ask = b"\xff" * 6 + mac + b"\x08\x06" + struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, mac, bytes([10, 50, 0, 5]),
                                                         bytes(6), bytes([10, 50, 0, 1]))
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
        os.write(fd, bytes(12) + ask)
        alarm = threading.Timer(10, lambda: os._exit(1))
        alarm.start()
        while True:
            frame = os.read(fd, 2048)[12:]
            if frame[:6] == mac and frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
                break
        alarm.cancel()
        assert frame[28:32] == bytes([10, 50, 0, 1])
    finally:
        os.close(fd)
    assert lan.net.fields("observe")["ports"] == ["1111"]
    lan.net("detach", UID, "1111")
    assert "brumev1111" not in links(lan.host)
    lan.net("tap", 0, "2222", "web", "02:62:0a:32:00:06", "10.50.0.6", "", *lan.words)
    assert lan.net.fields("gc", "", "", "")["ports"] == 1 and "brumev2222" not in links(lan.host)


def test_what_cannot_be_says_why(lan):
    host = lan.host
    host.ip("link", "add", "off0", "type", "veth", "peer", "name", "off1")
    host.ip("link", "add", "br0", "type", "bridge")
    host.ip("link", "add", "in0", "type", "veth", "peer", "name", "in1")
    host.ip("link", "set", "in0", "master", "br0", "up")
    host.ip("link", "add", "mac0", "link", "eth0", "type", "macvlan")
    before = set(links(host))
    for driver, mode, uplink, mtu, text in (
            ("macvlan", "", "nowhere0", 0, "uplink nowhere0: the node has no such interface"),
            ("physical", "", "nowhere0", 0, "uplink nowhere0: the node has no such interface"),
            ("macvlan", "loud", "eth0", 0, "must be private, vepa, bridge or passthru"),
            ("macvlan", "", "lo", 0, "leads nowhere"),
            ("macvlan", "", "mac0", 0, "is a macvlan itself"),
            ("macvlan", "", "off0", 0, "off0 is down; 'ip link set off0 up'"),
            ("macvlan", "", "in0", 0, "is a port of a bridge"),
            ("macvlan", "", "eth0", 9000, "mtu 9000: uplink eth0 has 1500"),
            ("physical", "", "eth0", 0, "for a plain interface use driver macvlan"),
            ("physical", "", "br0", 0, "br0 is down"),
            ("physical", "bridge", "br0", 0, "only driver macvlan has modes"),
            ("macvlan", "", "", 0, "needs an uplink"),
            ("bridge", "", "eth0", 0, "driver bridge has none"),
            ("macvlan", "", "../x", 0, "is not the name of an interface"),
            ("ipvlan", "", "eth0", 0, "must be bridge, macvlan, physical or ovs"),
            ("ovs", "", "", 0, "Open vSwitch does not run here")):
        with pytest.raises(Refused) as refused:
            lan.network(driver, mode, uplink, mtu=mtu)
        assert text in refused.value.args[1], (driver, mode, uplink, refused.value.args[1])
        assert "\n" not in refused.value.args[1]
        assert set(links(host)) == before
        folder = pathlib.Path(lan.world.run) / "networks" / UID
        assert driver == "ovs" or not folder.exists()
    lan.net("remove-network", UID)
