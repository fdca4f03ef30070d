"""brume network create --dhcp: a port gets exactly its addresses when it asks, and nobody else gets any."""
import os
import pathlib
import re
import signal
import socket
import struct

import pytest

from conftest import need
from node import eventually

SCRIPT = r"""printf '#!/bin/sh\nenv >/tmp/$1.new && mv /tmp/$1.new /tmp/$1\n' >/tmp/script; chmod 755 /tmp/script"""
CLIENT = "udhcpc -i %s -f -q -n -t 5 -T 1 -s /tmp/script -O search -O mtu -O hostname"


@pytest.fixture
def served(busybox):
    """The node with a network that serves DHCP, and one more; gives (node, reference)."""
    node, reference = busybox
    node.cli("network", "create", "--dhcp", "served", "--subnet", "10.73.0.0/24", "--ipv6", "fd73::/64",
             "--dns-domain", "served.test", "--mtu", "1400")
    node.cli("network", "create", "--dhcp", "second", "--subnet", "10.74.0.0/24")
    yield node, reference
    for name in node.out("list", "-q").split():
        node.cli("delete", "--force", name)
    node.cli("network", "delete", "served", "second")


def launch(node, reference, name, *networks):
    words = [word for network in networks for word in ("--network", network)]
    node.launch(reference, name, *words, command=("sleep", "1000"))
    node.sh(name, SCRIPT)
    return {port["network"]: port for port in node.instance(name)["spec"]["ports"]}


def facts(node, name, what="bound"):
    return dict(line.split("=", 1) for line in node.sh(name, f"cat /tmp/{what}").splitlines() if "=" in line)


def lease(node, name, interface="eth0"):
    node.sh(name, CLIENT % interface)
    return facts(node, name)


def server(node, network, what="dhcp.conf"):
    """The process of a network's dnsmasq, for leases or for names."""
    uid = node.json("network", "info", network)["meta"]["uid"]
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if "dnsmasq" in words and f"networks/{uid}/{what}" in words:
                return int(entry.name)
    return None


def test_a_port_gets_what_is_its_own(served):
    node, reference = served
    port = launch(node, reference, "box", "served")["served"]
    got = lease(node, "box")
    assert got["ip"] == port["ipv4"] and got["mask"] == "24" and got["serverid"] == "10.73.0.1"
    assert got["router"] == got["dns"] == "10.73.0.1" and got["mtu"] == "1400"
    assert got["hostname"] == "box" and got["domain"] == "served.default.internal"
    assert got["search"].split() == ["served.default.internal", "served.test"]
    # Released and asked for again, renewed, rebound: it is the same.
    node.sh("box", "udhcpc -i eth0 -s /tmp/script -p /tmp/pid -b >/tmp/log 2>&1")
    for how, what in (("USR2", "deconfig"), ("USR1", "bound"), ("USR1", "renew")):
        node.sh("box", f"rm -f /tmp/{what}; kill -{how} $(cat /tmp/pid)")
        eventually(lambda w=what: node.cli("exec", "box", "--", "test", "-e", f"/tmp/{w}", code=None).returncode == 0,
                   15, what)
        assert what == "deconfig" or facts(node, "box", what)["ip"] == port["ipv4"]


def test_a_second_interface_learns_of_no_router(served):
    node, reference = served
    ports = launch(node, reference, "two", "served", "second")
    assert lease(node, "two", "eth0")["router"] == "10.73.0.1"
    inner = lease(node, "two", "eth1")
    assert inner["ip"] == ports["second"]["ipv4"] and "router" not in inner and inner["dns"] == "10.74.0.1"


def test_who_comes_later_or_instead(served):
    node, reference = served
    first = launch(node, reference, "first", "served,ip=10.73.0.50")["served"]
    assert lease(node, "first")["ip"] == "10.73.0.50"
    names = server(node, "served", "dnsmasq.conf")
    node.cli("delete", "--force", "first")
    # The address goes to another hardware address, and that one to another address.
    launch(node, reference, "second", "served,ip=10.73.0.50,mac=02:00:5e:00:00:01")
    assert first["mac"] != "02:00:5e:00:00:01"
    eventually(lambda: "10.73.0.50" == lease(node, "second")["ip"], 20, "the address of before")
    node.cli("delete", "--force", "second")
    launch(node, reference, "third", "served,ip=10.73.0.51,mac=02:00:5e:00:00:01")
    eventually(lambda: "10.73.0.51" == lease(node, "third")["ip"], 20, "the new address")
    node.cli("rename", "third", "last")
    eventually(lambda: "last" == lease(node, "last")["hostname"], 20, "the new name")
    assert server(node, "served", "dnsmasq.conf") == names


def test_it_survives(served):
    node, reference = served
    port = launch(node, reference, "box", "served")["served"]
    assert lease(node, "box")["ip"] == port["ipv4"]
    node.sh("box", "udhcpc -i eth0 -s /tmp/script -p /tmp/pid -b >/tmp/log 2>&1")
    pid = server(node, "served")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: server(node, "served") not in (None, pid), 20, "a new dnsmasq")
    node.sh("box", "rm -f /tmp/renew; kill -USR1 $(cat /tmp/pid)")
    eventually(lambda: node.cli("exec", "box", "--", "test", "-e", "/tmp/renew", code=None).returncode == 0, 30,
               "a renewal by a server that has never heard of the lease")
    assert facts(node, "box", "renew")["ip"] == port["ipv4"]
    pid = server(node, "served")
    names, inner = server(node, "served", "dnsmasq.conf"), node.instance("box")["status"]["pid"]
    for name in ("agentd", "brumed"):
        node.kill(name)
        # While nobody looks; `exec` needs the daemons.
        node.run(["nsenter", "-t", inner, "-n", "-m", "--", "/bin/busybox", *(CLIENT % "eth0").split()])
        assert pathlib.Path(f"/proc/{inner}").exists()
        node.start_missing()
        node.wait_ready()
    # What one of before has not had read any more is read now.
    eventually(lambda: server(node, "served") not in (None, pid), 20, "a server that knows all that is")
    assert lease(node, "box")["ip"] == port["ipv4"]
    assert server(node, "served", "dnsmasq.conf") == names, "nobody disturbs who answers names"


def question(mac, number):
    """A frame with a DHCPDISCOVER."""
    raw = bytes.fromhex(mac.replace(":", ""))
    body = struct.pack("!BBBBIHH4s4s4s4s", 1, 1, 6, 0, number, 0, 0x8000, *[bytes(4)] * 4)
    body += raw + bytes(10) + bytes(192) + b"\x63\x82\x53\x63" + b"\x35\x01\x01" + b"\xff"
    udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xffff) + (total >> 16)
    head = head[:10] + struct.pack("!H", 0xffff ^ ((total & 0xffff) + (total >> 16))) + head[12:]
    return b"\xff" * 6 + raw + b"\x08\0" + head + udp


def test_strangers_get_nothing(served):
    node, reference = served
    port = launch(node, reference, "box", "served")["served"]
    bridge = node.json("network", "info", "served")["status"]["bridge"]
    node.run(["ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1"])
    node.run(["ip", "link", "set", "in1", "master", bridge, "up"])
    node.run(["ip", "link", "set", "in0", "up"])
    try:
        with node.inside(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as wire:
            wire.bind(("in0", 0x0800))
            wire.settimeout(0.2)
            answers = {}
            for _ in range(100):
                # Both again and again: a bridge's new port takes a moment to pass frames.
                for mac, number in (("02:00:5e:77:77:77", 1), (port["mac"], 2)):
                    wire.send(question(mac, number))
                try:
                    frame = wire.recv(2048)
                    while True:
                        if frame[23] == 17 and frame[34:36] == b"\0\x43":
                            answers[struct.unpack("!I", frame[46:50])[0]] = socket.inet_ntoa(frame[58:62])
                        if 2 in answers:
                            break
                        frame = wire.recv(2048)
                except TimeoutError:
                    continue
                break
            assert answers == {2: port["ipv4"]}
    finally:
        node.run(["ip", "link", "del", "in0"])


def test_what_cannot_be(served):
    node, _ = served
    done = node.cli("network", "create", "--dhcp", "--isolated", "none", code=2)
    assert "isolated" in done.stderr
    status, answer = node.api("POST", "/1.0/networks", {"name": "none", "dhcp": True, "isolated": True}, raw=True)
    assert status == 400 and "dhcp" in answer["error"]
    assert "yes" in node.out("network", "show", "served") and node.json("network", "show", "served")["spec"]["dhcp"]
    assert server(node, "default", "dnsmasq.conf"), "names are there in any case"
    assert not server(node, "default")


def test_a_disk_that_boots_is_answered_by_itself(busybox, scratch):
    need("qemu-system-x86_64")
    node, reference = busybox
    # Firmware takes it for a disk, and finds nothing on it.
    disk = scratch / "appliance.raw"
    disk.write_bytes(bytes(510) + b"\x55\xaa" + bytes((1 << 20) - 512))
    node.cli("image", "import", "--format", "raw", disk, "appliance")
    node.cli("network", "create", "machines", "--subnet", "10.75.0.0/24", "--ipv6", "fd75::/64")
    node.cli("network", "create", "inside", "--isolated")
    try:
        launch(node, reference, "early", "machines")
        assert "no" in re.search(r"^dhcp +(\w+)", node.out("network", "show", "machines"), re.M)[1]
        assert server(node, "machines") is None
        done = node.cli("launch", "--vm", "-m", "128M", "appliance", "box", "--network", "machines", "--network", "inside",
                        code=None, timeout=120)
        if done.returncode:
            assert "run it as a container" in done.stderr, done.stderr
            pytest.skip(done.stderr.strip())
        assert "yes" in re.search(r"^dhcp +(\w+)", node.out("network", "show", "machines"), re.M)[1]
        assert "dhcp" not in node.json("network", "show", "inside")["spec"], "nobody could answer there"
        assert eventually(lambda: server(node, "machines"), 10, "who gives leases")
        port = node.instance("box")["spec"]["ports"][0]
        uid = node.json("network", "info", "machines")["meta"]["uid"]
        reserved = (node.run_folder / "networks" / uid / "dhcp" / port["uid"]).read_text()
        assert reserved.startswith(port["mac"] + ",id:*") and f",{port['ipv4']},[{port['ipv6']}],box," in reserved
        # Others, too, get what is theirs, and go on when there is another agent.
        late = launch(node, reference, "late", "machines")["machines"]
        assert lease(node, "late")["ip"] == late["ipv4"]
        node.kill("agentd")
        node.start_missing()
        node.wait_ready()
        assert lease(node, "late")["ip"] == late["ipv4"]
    finally:
        for name in node.out("list", "-q").split():
            node.cli("delete", "--force", name)
        node.cli("network", "delete", "machines", "inside")
        node.cli("image", "delete", "appliance")
