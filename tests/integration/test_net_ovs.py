"""Networks of driver ovs, net/ without the daemons, against a real Open vSwitch in the host's namespaces.

A bridge that is there works with its datapath in user space; one of brume's own needs the kernel's (the lab has it).
"""
import errno
import json
import pathlib
import shutil
import subprocess

import pytest
from conftest import need
from netns import Refused, World
from open_vswitch import OpenVSwitch

UID, SUBNET = "aa11", "10.60.0.0/24"
MAC = "02:62:0a:3c:00:09"


class Switch(OpenVSwitch):
    def __init__(self, net_driver, folder):
        self.world = World(net_driver, folder)
        self.host, self.net, self.words = self.world.host, self.world.net, None
        self.host.run("mount", "-t", "tmpfs", "tmpfs", "/run")
        self.host.run("mkdir", "-m", "755", "/run/openvswitch")
        super().__init__(self.host.run, folder)

    def network(self, uplink="", mtu=0, uid=UID, gateway=""):
        self.net("via", "ovs", "", uplink, gateway)
        self.words = (uid, SUBNET, "", "", mtu, "")
        return self.net("network", *self.words)[0]

    def close(self):
        super().close()
        self.world.close()


class Instance:
    def __init__(self, switch, uid, last):
        self.switch, self.uid, self.address = switch, uid, f"10.60.0.{last}"
        self.side = switch.world.namespace()

    def attach(self):
        self.switch.net("attach", self.side.pid, self.uid, "web", "", self.address, "", *self.switch.words)
        return self

    def reaches(self, address, wait=10):
        """By ping: a datapath in user space hands checksums on that veths have left to nobody."""
        done = subprocess.run(self.side.command("busybox", "ping", "-c", "1", "-W", str(wait), address), check=False,
                              capture_output=True)
        return done.returncode == 0


@pytest.fixture
def switch(build, scratch):
    need("nft", "busybox")
    net_driver = build / "tests/net-driver"
    if not net_driver.exists():
        pytest.skip(f"{net_driver} is not there")
    made = Switch(net_driver, scratch)
    yield made
    made.close()


def test_a_bridge_that_is_there(switch):
    switch.add_bridge()
    before = switch.vsctl("show")
    assert switch.network("br-ex") == "br-ex"
    one, two = Instance(switch, "1111", 5).attach(), Instance(switch, "2222", 6).attach()
    assert one.reaches(two.address)
    assert switch.vsctl("list-ports", "br-ex").split() == ["brumev1111", "brumev2222"]
    assert switch.rows("Port")["brumev1111"] == {"brume-owner": "brume", "brume-network": UID, "brume-port": "1111"}
    one.attach()
    assert one.reaches(two.address), "what is right stays"
    # The instance ends, its namespace with it; the row goes when that is told.
    switch.net("detach", UID, "1111")
    assert switch.vsctl("list-ports", "br-ex").split() == ["brumev2222"]
    switch.net("remove-port", UID, "2222")
    switch.net("remove-network", UID)
    assert switch.vsctl("show") == before


def test_what_a_crash_has_left_is_found(switch):
    switch.add_bridge()
    switch.network("br-ex")
    Instance(switch, "1111", 5).attach()
    Instance(switch, "2222", 6).attach()
    switch.vsctl("add-port", "br-ex", "foreign", "--", "set", "Interface", "foreign", "type=internal",
                 "--", "set", "Port", "foreign", "external_ids:brume-owner=other")
    switch.net.kill()
    # As after a reboot: of the run folder nothing is left, of Open vSwitch's database all.
    shutil.rmtree(switch.world.run)
    switch.world.start()
    switch.net = switch.world.net
    assert switch.net.fields("observe")["ports"] == ["1111", "2222"]
    assert switch.net.fields("gc", UID, "2222", "")["ports"] >= 1
    assert sorted(switch.vsctl("list-ports", "br-ex").split()) == ["brumev2222", "foreign"]
    switch.net("destroy")
    assert switch.vsctl("list-ports", "br-ex").split() == ["foreign"]


def test_what_cannot_be_says_why(switch):
    switch.add_bridge()
    with pytest.raises(Refused) as refused:
        switch.network("br-no")
    assert refused.value.args[0] == errno.ENODEV and "Open vSwitch has no such bridge" in refused.value.args[1]
    with pytest.raises(Refused) as refused:
        switch.network("br-ex", mtu=9000)
    assert "mtu 9000: uplink br-ex has" in refused.value.args[1]
    switch.network("br-ex")
    # Somebody else's port of our name is not touched.
    switch.vsctl("add-port", "br-ex", "brumev3333", "--", "set", "Interface", "brumev3333", "type=internal")
    with pytest.raises(Refused):
        Instance(switch, "3333", 7).attach()
    assert "brumev3333" in switch.vsctl("list-ports", "br-ex")
    switch.vsctl("del-port", "br-ex", "brumev3333")
    # A bridge that goes: its ports cannot be made, and can again when it is back.
    switch.vsctl("del-br", "br-ex")
    one = Instance(switch, "1111", 5)
    with pytest.raises(Refused) as refused:
        one.attach()
    assert "Open vSwitch has no bridge br-ex" in refused.value.args[1]
    switch.add_bridge()
    two = Instance(switch, "2222", 6).attach()
    assert one.attach().reaches(two.address)


def test_a_switch_that_does_not_run(switch):
    switch.add_bridge()
    switch.network("br-ex")
    Instance(switch, "1111", 5).attach()
    switch.stop("ovs-vswitchd")
    with pytest.raises(Refused) as refused:
        Instance(switch, "2222", 6).attach()
    assert refused.value.args[0] == errno.ETIMEDOUT and "does it run?" in refused.value.args[1]
    switch.stop("ovsdb-server")
    with pytest.raises(Refused) as refused:
        switch.network("br-ex")
    assert "Open vSwitch does not run here" in refused.value.args[1]
    # What ends is not held up by it.
    switch.net("detach", UID, "1111")
    assert switch.net.fields("gc", "", "", "")["networks"] == 1
    switch.start_database()
    switch.start_switch()
    switch.net.fields("gc", "", "", "")
    assert switch.vsctl("list-ports", "br-ex") == ""


def test_a_packet_of_a_machine_is_traced(switch):
    """What comes back to a machine no bridge tells of: it is seen on its way out by the tap."""
    switch.add_bridge()
    switch.network("br-ex")
    two = Instance(switch, "2222", 6).attach()
    switch.net("tap", "", "3333", "guest", MAC, "10.60.0.9", "", *switch.words)

    def trace(to, port=0, protocol="icmp"):
        return json.loads(switch.net("trace", 0, "tap", protocol, "10.60.0.9", to, port, 2000, "3333,ovs,br-ex", MAC,
                                     SUBNET, "")[0])
    seen = trace(two.address)
    assert seen["sent"] and seen["answer"] == "reply", seen
    assert trace(two.address, 80, "tcp")["answer"] == "refused"
    with pytest.raises(Refused, match="only IPv4"):
        switch.net("trace", 0, "tap", "icmp", "fd00::9", "fd00::6", 0, 2000, "3333,ovs,br-ex", MAC, "fd00::/64", "")
    seen = trace("10.60.0.77")
    assert not seen["sent"] and seen["answer"] == "unreachable"
    assert "-t" not in switch.host.run("nft", "list", "tables")


def test_a_bridge_of_its_own(switch):
    if not pathlib.Path("/sys/module/openvswitch").exists():
        pytest.skip("this kernel has no openvswitch")
    before = switch.vsctl("show")
    bridge = switch.network()
    assert bridge == f"brume-{UID}" and switch.rows("Bridge")[bridge] == {"brume-owner": "brume", "brume-network": UID}
    one, two = Instance(switch, "1111", 5).attach(), Instance(switch, "2222", 6).attach()
    assert one.reaches(two.address)
    # Another network of the same addresses is another segment.
    switch.network(uid="bb22")
    three = Instance(switch, "3333", 5).attach()
    assert not three.reaches(two.address, 1)
    switch.vsctl("add-br", "brume-cc33")
    with pytest.raises(Refused) as refused:
        switch.network(uid="cc33")
    assert "does not belong to network cc33" in refused.value.args[1]
    switch.vsctl("del-br", "brume-cc33")
    found = switch.net.fields("observe")
    assert {"aa11", "bb22"} <= set(found["networks"]) and found["ports"] == ["1111", "2222", "3333"]
    switch.net("remove-network", "bb22")
    assert switch.vsctl("list-br").split() == [bridge]
    switch.net.fields("gc", "", "", "")
    assert switch.vsctl("show") == before
    assert not [name for name in json.loads(switch.host.run("ip", "-j", "link")) if name["ifname"].startswith("brume")]
