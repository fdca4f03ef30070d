"""brume network peer: from the command line to the device, and back when it cannot be."""
import json

import pytest

from node import eventually

REMOTE, NOWHERE = "198.51.100.2", "203.0.113.7"


@pytest.fixture
def wired(node):
    """The node with a wire that leads to REMOTE's neighbourhood."""
    for words in ("link add wire0 type veth peer name wire1", "addr add 198.51.100.1/24 dev wire0",
                  "link set wire0 up", "link set wire1 up",
                  "route add unreachable 203.0.113.0/24"):
        node.run(["ip", *words.split()])
    yield node
    node.run(["ip", "link", "del", "wire0"])
    node.run(["ip", "route", "del", "unreachable", "203.0.113.0/24"])


def devices(node):
    return json.loads(node.run(["ip", "-d", "-j", "link", "show", "type", "vxlan"]).stdout or "[]")


def test_peers_come_and_go(wired):
    node = wired
    node.cli("network", "create", "--isolated", "stretched")
    done = node.cli("network", "peer", "add", "stretched", "--remote", REMOTE, "--vni", "77")
    assert "1450" in done.stdout
    device, = devices(node)
    assert device["linkinfo"]["info_data"]["id"] == 77 and device["mtu"] == 1450
    node.cli("network", "peer", "add", "stretched", "--remote", "198.51.100.3")
    assert node.out("network", "peer", "list", "stretched").split() == [REMOTE, "198.51.100.3"]
    table = node.run(["bridge", "fdb", "show", "dev", device["ifname"]]).stdout
    assert f"dst {REMOTE} " in table and "dst 198.51.100.3 " in table
    for name in ("agentd", "brumed"):
        node.kill(name)
        node.start_missing()
        node.wait_ready()
    assert [it["ifindex"] for it in devices(node)] == [device["ifindex"]]
    node.cli("network", "peer", "remove", "stretched", "--remote", REMOTE)
    assert node.out("network", "peer", "list", "stretched").split() == ["198.51.100.3"]
    node.api("PATCH", "/1.0/networks/stretched", {"tunnel": None})
    eventually(lambda: not devices(node), 10, "the end of the device")
    node.cli("network", "delete", "stretched")


def test_what_cannot_be_changes_nothing(wired):
    node = wired
    node.cli("network", "create", "--isolated", "one")
    node.cli("network", "create", "--isolated", "two")
    for words, text in ((["--remote", REMOTE], "vni"), (["--remote", "node-b", "--vni", "5"], "not an IP address"),
                        (["--vni", "5"], "address of the other node is missing"),
                        (["--remote", NOWHERE, "--vni", "5"], f"no way to peer {NOWHERE}"),
                        (["--remote", REMOTE, "--vni", "99999999"], "--vni"),
                        (["--remote", REMOTE, "--vni", "5", "--local", "fd00::1"], "all must be IPv4")):
        done = node.cli("network", "peer", "add", "one", *words, code=None)
        assert done.returncode in (1, 2) and text in done.stderr, done.stderr
        assert "tunnel" not in node.json("network", "info", "one")["spec"]
        assert not devices(node)
    assert node.json("network", "info", "one")["status"]["state"] == "ready", "as it was before"
    node.cli("network", "peer", "add", "one", "--remote", REMOTE, "--vni", "5")
    done = node.cli("network", "peer", "add", "two", "--remote", REMOTE, "--vni", "5", code=1)
    assert "belongs to network" in done.stderr and "one" in done.stderr
    done = node.cli("network", "peer", "add", "one", "--remote", NOWHERE, code=1)
    assert "no way to peer" in done.stderr
    assert node.out("network", "peer", "list", "one").split() == [REMOTE], "a peer that cannot be is taken back"
    assert len(devices(node)) == 1
    done = node.cli("network", "peer", "remove", "one", "--remote", NOWHERE, code=1)
    assert "has no peer" in done.stderr
    node.cli("network", "delete", "one")
    node.cli("network", "delete", "two")
    assert not devices(node)
    node.cli("network", "create", "big", "--mtu", "1500")
    done = node.cli("network", "peer", "add", "big", "--remote", REMOTE, "--vni", "5", code=1)
    assert "1450" in done.stderr
    node.cli("network", "delete", "big")
    node.check_clean()


def test_gre_is_there_or_refused(wired):
    node = wired
    node.cli("network", "create", "--isolated", "one")
    for words, text in ((["--key", "7"], "tunnel.key"), (["--kind", "gre"], "tunnel.key"),
                        (["--kind", "gre", "--vni", "7"], "belongs to vxlan"), (["--kind", "ipip", "--key", "7"], "--kind"),
                        (["--kind", "gre", "--key", "0"], "--key"), (["--kind", "gre", "--key", "7", "--port", "9"], "tunnel.port")):
        done = node.cli("network", "peer", "add", "one", "--remote", REMOTE, *words, code=None)
        assert done.returncode in (1, 2) and text in done.stderr, done.stderr
    done = node.cli("network", "peer", "add", "one", "--remote", REMOTE, "--kind", "gre", "--key", "7", code=None)
    if done.returncode == 0:  # the lab's kernel has it
        assert "1458" in done.stdout
        done = node.cli("network", "peer", "add", "one", "--remote", "198.51.100.3", "--vni", "9", code=1)
        assert "one kind of tunnel" in done.stderr
    else:
        assert "this kernel has no GRE tunnels" in done.stderr and "--kind vxlan" in done.stderr
        assert "tunnel" not in node.json("network", "info", "one")["spec"]
        node.cli("network", "peer", "add", "one", "--remote", REMOTE, "--vni", "9")
        done = node.cli("network", "peer", "add", "one", "--remote", "198.51.100.3", "--kind", "gre", "--key", "9", code=1)
        assert "one kind of tunnel" in done.stderr
    node.cli("network", "delete", "one")
    node.check_clean()
