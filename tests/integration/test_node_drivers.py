"""brume network create --driver: from the command line to an instance on the LAN behind the node, and back."""
import json

import pytest
from conftest import need
from netns import Namespace
from node import eventually
from vm_kernel import give_kernel

GATEWAY, SUBNET, RANGE = "10.50.0.1", "10.50.0.0/24", "10.50.0.100-10.50.0.120"
BOOT = 240  # seconds: emulated, on a machine with other work
MACVLAN = ("--driver", "macvlan", "--uplink", "lan0", "--subnet", SUBNET, "--range", RANGE)


class Lan:
    """A switch beside the node, and a server in it that is the gateway of its LAN."""

    def __init__(self, node):
        self.node, self.switch = node, Namespace()
        self.switch.ip("link", "add", "sw", "type", "bridge")
        self.switch.ip("addr", "add", f"{GATEWAY}/24", "dev", "sw")
        self.switch.ip("link", "set", "sw", "up")
        self.plug()

    def plug(self):
        self.node.run(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "to-node", "netns",
                       str(self.switch.pid)])
        self.switch.ip("link", "set", "dev", "to-node", "master", "sw", "up")
        self.node.run(["ip", "link", "set", "lan0", "up"])

    def unplug(self):
        self.node.run(["ip", "link", "del", "lan0"], check=False)

    def pings(self, name):
        return self.node.cli("exec", name, "--", "ping", "-c", "1", "-W", "5", GATEWAY, code=None).returncode == 0


@pytest.fixture
def lan(busybox):
    node, reference = busybox
    made = Lan(node)
    node.write_policy(uplinks=[{"name": name} for name in ("lan0", "br0", "nope0")] + [
        {"name": "far0", "projects": ["somebody"]}])
    yield node, reference, made
    node.delete_all()
    for network in node.json("network", "list"):
        if network["spec"]["driver"] != "bridge":
            node.cli("network", "delete", network["meta"]["name"])
    made.unplug()
    made.switch.close()


def sleeper(node, reference, name, *options):
    return node.launch(reference, name, *options, "--cap-add", "NET_RAW", command=("sleep", "1000"))


def test_instances_on_the_lan(lan):
    node, reference, wire = lan
    node.cli("network", "create", "lan", *MACVLAN)
    shown = node.json("network", "info", "lan")
    assert shown["spec"]["driver"] == "macvlan" and shown["spec"]["mode"] == "bridge"
    assert shown["spec"]["gateway4"] == GATEWAY and shown["status"]["mtu"] == 1500
    assert "macvlan" in node.out("network", "list")
    text = node.out("network", "info", "lan")
    assert "macvlan" in text and "lan0" in text and RANGE in text
    sleeper(node, reference, "one", "--network", "lan")
    sleeper(node, reference, "two", "--network", "lan")
    addresses = [node.json("info", name)["spec"]["ports"][0]["ipv4"] for name in ("one", "two")]
    assert all(100 <= int(address.split(".")[3]) <= 120 for address in addresses)
    assert wire.pings("one") and wire.pings("two")
    assert node.cli("exec", "one", "--", "ping", "-c", "1", "-W", "5", addresses[1]).returncode == 0
    # What macvlans hand each other no rule sees; what leaves by the uplink is seen there.
    for to, verdict in (("two", "delivered"), (GATEWAY, "leaves")):
        seen = json.loads(node.out("network", "trace", "--from", "one", "--to", to, "--live", "-f", "json"))
        assert seen["verdict"] == verdict and seen["live"]["answer"] == "reply" and seen["live"]["agrees"], seen
    node.run(["nft", "add table netdev fw; add chain netdev fw f { type filter hook egress device lan0 priority 5; }; "
              "add rule netdev fw f icmp type echo-request drop"])
    seen = json.loads(node.cli("network", "trace", "--from", "one", "--to", GATEWAY, "--live", "-f", "json", code=1).stdout)["live"]
    node.run(["nft", "delete", "table", "netdev", "fw"])
    assert seen["steps"][seen["dropped_by"]]["table"] == "fw" and "not brume's" in seen["text"]
    assert f"via {GATEWAY}" in node.sh("one", "ip route")
    assert GATEWAY not in node.sh("one", "cat /etc/resolv.conf"), "the LAN's gateway is not asked for names"
    # Whoever dies, what is there stays as it is.
    index = node.sh("one", "cat /sys/class/net/eth0/ifindex")
    for name in ("agentd", "brumed"):
        node.kill(name)
        node.start_missing()
        node.wait_ready()
    assert node.sh("one", "cat /sys/class/net/eth0/ifindex") == index and wire.pings("one")
    node.cli("restart", "one")
    assert wire.pings("one")


def test_joins_and_leaves_while_it_runs(lan):
    node, reference, wire = lan
    node.cli("network", "create", "lan", *MACVLAN, "--gateway", "none")
    sleeper(node, reference, "one")
    before = node.sh("one", "ip route")
    node.cli("network", "attach", "lan", "one")
    assert wire.pings("one") and "eth1" in node.sh("one", "ip link")
    assert f"via {GATEWAY}" not in node.sh("one", "ip route")
    node.cli("network", "detach", "lan", "one")
    assert "eth1" not in node.sh("one", "ip link")
    assert node.sh("one", "ip route") == before
    assert not node.json("network", "info", "lan")["status"].get("error")


def test_an_uplink_that_vanishes_and_returns(lan):
    node, reference, wire = lan
    node.cli("network", "create", "lan", *MACVLAN)
    sleeper(node, reference, "one", "--network", "lan")
    assert wire.pings("one")

    def status():
        return node.json("network", "info", "lan")["status"]
    wire.unplug()
    eventually(lambda: status()["state"] == "failed", 10, "the failure")
    assert "uplink lan0: the node has no such interface" in status()["error"]
    assert node.json("info", "one")["status"]["state"] == "running", "it goes on"
    assert "uplink lan0" in node.cli("launch", reference, "late", "--network", "lan", "--", "true", code=1).stderr
    wire.plug()
    eventually(lambda: status()["state"] == "ready", 10, "the return")
    assert eventually(lambda: wire.pings("one"), 10, "the port")
    node.run(["ip", "link", "set", "lan0", "down"])
    eventually(lambda: "is down" in status().get("error", ""), 10, "the failure")
    node.run(["ip", "link", "set", "lan0", "up"])
    eventually(lambda: status()["state"] == "ready", 10, "the return")
    assert wire.pings("one")


def test_a_bridge_of_the_node(lan):
    node, reference, wire = lan
    for words in ("link add br0 type bridge", "link set lan0 master br0", "link set br0 up"):
        node.run(["ip", *words.split()])
    try:
        node.cli("network", "create", "office", "--driver", "bridged", "--uplink", "br0", "--subnet", SUBNET,
                 "--range", RANGE)
        shown = node.json("network", "info", "office")
        assert shown["spec"]["driver"] == "physical" and shown["status"]["bridge"] == "br0"
        sleeper(node, reference, "one", "--network", "office")
        assert wire.pings("one")
        # Rates: of what it sends, and of what it receives.
        node.cli("network", "limit", "--ingress", "50M", "--egress", "8M", "office", "one")
        queues = json.loads(node.run(["tc", "-j", "qdisc", "show"]).stdout)
        assert sorted(it["options"]["rate"] * 8 for it in queues if it["kind"] == "tbf") == [8_000_000, 50_000_000]
        assert wire.pings("one")
        node.cli("network", "limit", "--none", "office", "one")
        assert not [it for it in json.loads(node.run(["tc", "-j", "qdisc", "show"]).stdout) if it["kind"] == "tbf"]
        ports = {link["ifname"] for link in json.loads(node.run(["ip", "-j", "link", "show", "master", "br0"]).stdout)}
        assert len(ports) == 2
        node.cli("delete", "--force", "one")
        node.cli("network", "delete", "office")
        eventually(lambda: json.loads(node.run(["ip", "-j", "link", "show", "master", "br0"]).stdout)[1:] == [], 10,
                   "the end of the port")
    finally:
        node.run(["ip", "link", "del", "br0"])


def test_what_it_lacks_is_refused_in_one_line(lan):
    node, reference, _ = lan
    node.cli("network", "create", "lan", *MACVLAN)
    node.cli("network", "create", "one", "--driver", "macvlan", "--mode", "passthru", "--uplink", "lan0", "--subnet",
             "10.51.0.0/24")
    for words, code, text in (
            (("launch", reference, "x", "--network", "lan", "-p", "8080:80"), 1, "no published ports; use one of driver bridge"),
            (("launch", reference, "x", "--network", "lan,egress=5M"), 1, "no rate limits; use one of driver bridge"),
            (("launch", reference, "x", "--network", "lan,group=default"), 1, "no security groups; use one of driver bridge"),
            (("balancer", "create", "x", "--network", "lan", "--listen", "80", "--selector", "a"), 1, "no load balancers"),
            (("router", "create", "x", "--network", "lan"), 1, "driver bridge only"),
            (("network", "update", "--flow-log", "lan"), 1, "no flow log"),
            (("network", "peer", "add", "lan", "--remote", "192.0.2.9", "--vni", "5"), 1, "no tunnels"),
            (("network", "create", "a", *MACVLAN, "--isolated"), 1, "no isolation; driver bridge has"),
            (("network", "create", "a", *MACVLAN, "--nat"), 1, "no address translation"),
            (("network", "create", "a", *MACVLAN, "--dns-domain", "x.y"), 1, "no name server"),
            (("network", "create", "a", *MACVLAN, "--mtu", "9000"), 1, "mtu 9000: uplink lan0 has 1500"),
            (("network", "create", "a", *MACVLAN, "--mode", "loud"), 2, "private, vepa, bridge, passthru"),
            (("network", "create", "a", "--driver", "ipvlan"), 2, "bridge, macvlan, physical, ovs"),
            (("network", "create", "a", "--mode", "vepa"), 2, "only --driver macvlan"),
            (("network", "create", "a", "--gateway", "10.1.0.1"), 2, "the node is the gateway"),
            (("network", "create", "a", *MACVLAN, "--gateway", "10.9.9.9"), 2, "not an address of the subnet"),
            (("network", "create", "a", *MACVLAN[:6], "--range", "10.50.0.9-10.50.0.3"), 2, "ends before it begins"),
            (("network", "create", "a", *MACVLAN[:4]), 1, "subnet of the LAN"),
            (("network", "create", "a", "--driver", "macvlan", "--uplink", "nope0", "--subnet", SUBNET), 1,
             "uplink nope0: the node has no such interface"),
            (("network", "create", "a", "--driver", "physical", "--uplink", "lan0", "--subnet", SUBNET), 1,
             "for a plain interface use driver macvlan"),
            (("network", "create", "a", "--driver", "macvlan", "--subnet", SUBNET), 1, "needs one"),
            (("network", "create", "a", "--driver", "macvlan", "--uplink", "uplink", "--subnet", SUBNET), 1,
             "uplink uplink: this node's policy does not give it"),
            (("network", "create", "a", "--driver", "macvlan", "--uplink", "far0", "--subnet", SUBNET), 1,
             "uplink far0: this node's policy does not give it"),
            (("network", "create", "a", "--driver", "ovs"), 1, "Open vSwitch does not run here")):
        done = node.cli(*words, code=code)
        assert text in done.stderr, (words, done.stderr)
        assert len([line for line in done.stderr.strip().splitlines() if not line.startswith("hint: ")]) == 1, done.stderr
        assert {it["meta"]["name"] for it in node.json("network", "list")} == {"default", "lan", "one"}
    sleeper(node, reference, "first", "--network", "one")
    done = node.cli("launch", reference, "second", "--network", "one", "--", "true", code=1)
    assert "takes one instance only, and \"first\" has it" in done.stderr


@pytest.mark.slow
def test_a_machine_on_the_lan(lan):
    node, reference, wire = lan
    need("qemu-system-x86_64", "mke2fs")
    give_kernel(node)
    node.cli("network", "create", "lan", *MACVLAN)
    done = node.cli("launch", reference, "vm", "--vm", "-m", "128M", "--network", "lan", "--", "sleep", "1000", code=None,
                    timeout=BOOT)
    if done.returncode:
        assert "run it as a container" in done.stderr, done.stderr
        pytest.skip(done.stderr.strip())
    assert node.cli("exec", "vm", "--", "ping", "-c", "1", "-W", "5", GATEWAY, timeout=BOOT).returncode == 0
    taps = [link["ifname"] for link in json.loads(node.run(["ip", "-d", "-j", "link", "show", "type", "macvtap"]).stdout)]
    assert len(taps) == 1 and taps[0].startswith(node.prefix)
    node.kill("agentd")
    node.start_missing()
    node.wait_ready()
    assert node.cli("exec", "vm", "--", "ping", "-c", "1", "-W", "5", GATEWAY, timeout=BOOT).returncode == 0
    node.cli("stop", "-t", "1", "vm", timeout=BOOT)
    assert not json.loads(node.run(["ip", "-j", "link", "show", "type", "macvtap"]).stdout or "[]")
