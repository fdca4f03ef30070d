"""brume network create --driver ovs, on a node with a real Open vSwitch beside it."""
import json
import pathlib

import pytest
from conftest import need
from node import eventually
from open_vswitch import OpenVSwitch, program

SUBNET, RANGE = "10.60.0.0/24", "10.60.0.100-10.60.0.120"


@pytest.fixture
def ovs(busybox, scratch):
    node, reference = busybox
    need("nft")
    program("ovs-vswitchd")
    if str(node.run_folder).startswith("/run/"):
        pytest.skip("the node's own run folder is there")
    node.run(["mount", "-t", "tmpfs", "tmpfs", "/run"])
    node.run(["mkdir", "-m", "755", "/run/openvswitch"])
    node.write_policy(uplinks=[{"name": "br-ex"}])
    # The daemons of the node see it, too: they are in the same namespaces.
    made = OpenVSwitch(lambda *argv: node.run(argv).stdout, scratch)
    yield node, reference, made
    node.delete_all()
    for network in node.json("network", "list"):
        if network["spec"]["driver"] == "ovs":
            node.cli("network", "delete", network["meta"]["name"])
    left = made.vsctl("show")
    made.close()
    node.run(["umount", "/run"])
    assert node.prefix not in left, left


def pings(node, name, other):
    address = node.json("info", other)["spec"]["ports"][0]["ipv4"]
    return node.cli("exec", name, "--", "ping", "-c", "1", "-W", "10", address, code=None).returncode == 0


def launch_two(node, reference, network):
    for name in ("one", "two"):
        node.launch(reference, name, "--network", network, command=("sleep", "1000"))


def live(node, to, code=0):
    return json.loads(node.cli("network", "trace", "--from", "one", "--to", to, "--live", "-f", "json", code=code).stdout)


def traces(node):
    """What the switch does by itself no rule sees, but what comes from the instance is seen, and who drops it named."""
    seen = live(node, "two")
    assert seen["verdict"] == "delivered" and "Open vSwitch" in " ".join(hop["text"] for hop in seen["hops"])
    assert seen["live"]["sent"] and seen["live"]["answer"] == "reply" and seen["live"]["agrees"], seen["live"]
    device = (node.prefix + "v" + node.json("info", "one")["spec"]["ports"][0]["uid"])[:15]
    node.run(["nft", f"add table netdev fw; add chain netdev fw f {{ type filter hook ingress device {device} priority 5; }}; "
              "add rule netdev fw f icmp type echo-request drop"])
    try:
        seen = live(node, "two", code=1)["live"]
        last = seen["steps"][seen["dropped_by"]]
        assert (last["family"], last["table"], last["iif"]) == ("netdev", "fw", device) and not seen["agrees"]
        assert "icmp type echo-request drop" in last["expression"] and "not brume's" in seen["text"]
    finally:
        node.run(["nft", "delete", "table", "netdev", "fw"])
    assert "-t" not in node.run(["nft", "list", "tables"]).stdout


def test_on_a_bridge_that_is_there(ovs):
    node, reference, switch = ovs
    done = node.cli("network", "create", "far", "--driver", "ovs", "--uplink", "br-ex", "--subnet", SUBNET, code=1)
    assert "uplink br-ex: Open vSwitch has no such bridge" in done.stderr
    switch.add_bridge()
    node.cli("network", "create", "far", "--driver", "ovs", "--uplink", "br-ex", "--subnet", SUBNET, "--range", RANGE,
             "--gateway", "none")
    assert node.json("network", "info", "far")["status"]["bridge"] == "br-ex"
    launch_two(node, reference, "far")
    assert pings(node, "one", "two")
    traces(node)
    for name in ("agentd", "brumed"):
        node.kill(name)
        node.start_missing()
        node.wait_ready()
    assert pings(node, "one", "two")
    node.cli("restart", "one")
    assert pings(node, "two", "one") and len(switch.vsctl("list-ports", "br-ex").split()) == 2
    # The bridge goes and comes: the network says so, and the ports are put back.
    switch.vsctl("del-br", "br-ex")
    eventually(lambda: node.json("network", "info", "far")["status"]["state"] == "failed", 20, "the failure")
    switch.add_bridge()
    eventually(lambda: node.json("network", "info", "far")["status"]["state"] == "ready", 20, "the return")
    assert eventually(lambda: pings(node, "one", "two"), 20, "the ports")
    node.cli("delete", "--force", "one")
    eventually(lambda: len(switch.vsctl("list-ports", "br-ex").split()) == 1, 10, "the end of the port")
    node.cli("network", "attach", "default", "two")
    node.cli("network", "detach", "far", "two")
    assert switch.vsctl("list-ports", "br-ex") == ""


def test_on_a_bridge_of_its_own(ovs):
    node, reference, switch = ovs
    if not pathlib.Path("/sys/module/openvswitch").exists():
        done = node.cli("network", "create", "own", "--driver", "ovs", code=1)
        assert "Open vSwitch has made no interface" in done.stderr
        assert switch.vsctl("list-br") == "", "what could not be is taken back"
        pytest.skip("this kernel has no openvswitch")
    # The agent waits five seconds for the switch; on an emulated processor that makes its first datapath, they may pass.
    eventually(lambda: node.cli("network", "create", "own", "--driver", "ovs", code=None).returncode == 0, 30, "the network")
    shown = node.json("network", "info", "own")
    assert shown["spec"]["gateway4"] == "none" and shown["status"]["bridge"] in switch.vsctl("list-br").split()
    launch_two(node, reference, "own")
    assert pings(node, "one", "two")
    traces(node)
    assert json.loads(node.run(["ip", "-j", "addr", "show", "dev", shown["status"]["bridge"]]).stdout)[0]["addr_info"] == []
