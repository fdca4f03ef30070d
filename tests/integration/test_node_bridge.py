"""Somebody takes away what a network stands on: the agent hears of it and makes it again, with all that was on it."""
import json

import pytest
from conftest import need
from netns import TCP, talk_tcp
from node import NODE4, OUTSIDE4, OUTSIDE6, eventually
from test_node_dhcp import CLIENT, SCRIPT, facts
from test_node_router import OUTSIDE, Instance, talk_all
from vm_kernel import give_kernel

REMOTE = "198.51.100.2"


def bridge_of(node, network):
    return node.json("network", "show", network)["status"]["bridge"]


def link(node, name):
    done = node.run(["ip", "-j", "link", "show", "dev", name], check=False)
    return json.loads(done.stdout)[0] if done.returncode == 0 and done.stdout else None


def in_time(check, what):
    """`check` talks: until everything is there again it may fail in any way."""
    def tried():
        try:
            check()
        except (OSError, AssertionError):
            return False
        return True
    eventually(tried, 30, what)


@pytest.fixture
def open_node(busybox):
    node, reference = busybox
    node.reference = reference
    node.cli("group", "create", "open")
    node.cli("group", "allow", "--in", "any", "open")
    yield node
    node.delete_all()
    for kind in ("balancer", "router"):
        for it in node.json(kind, "list"):
            node.cli(kind, "delete", it["meta"]["name"])
    for it in node.json("network", "list"):
        if it["meta"]["name"] != "default":
            node.cli("network", "delete", it["meta"]["name"])
    node.cli("group", "delete", "open")


def launch(node, name, network, *options):
    node.launch(node.reference, name, "--network", network, "--group", "open", *options, command=("sleep", "100000"))
    return Instance(node, name)


def launch_routed(node, *subnets):
    """The instances `one` and `two`, each on an isolated network, and the router `border` between these."""
    for name, subnet in zip("ab", subnets):
        node.cli("network", "create", "--isolated", "--ipv6" if ":" in subnet else "--ipv4", subnet, name)
    node.cli("router", "create", "border", "--network", "a", "--network", "b")
    return launch(node, "one", "a"), launch(node, "two", "b")


def test_a_bridge_that_is_deleted_or_turned_off(open_node):
    node = open_node
    node.cli("network", "create", "shop", "--subnet", "10.86.0.0/24", "--ipv6", "fd86::/64", "--dhcp")
    web = launch(node, "web", "shop", "-p", "8086:80", "-l", "role=web")
    db = launch(node, "db", "shop")
    node.cli("balancer", "create", "lb", "--network", "shop", "--vip", "10.86.0.200", "--listen", "90:80", "--selector", "role=web")
    eventually(lambda: node.json("balancer", "show", "lb")["status"]["state"] == "ready", 10, "a member")
    node.sh("web", SCRIPT)
    bridge, pid = bridge_of(node, "shop"), web.pid

    def works():
        for ipv6 in (False, True):
            assert talk_all(web, db, db.own(ipv6), ipv6) == web.own(ipv6)
            talk_all(db, OUTSIDE, OUTSIDE6 if ipv6 else OUTSIDE4, ipv6)
        with web.listen(80) as server:
            assert talk_tcp(OUTSIDE, NODE4, 8086, server) == OUTSIDE4
            talk_tcp(db, "10.86.0.200", 90, server)
        assert web.ipv4 in node.cli("exec", "db", "--", "nslookup", "web.shop.default.internal", code=None).stdout
        assert node.cli("exec", "web", "--", "sh", "-c", CLIENT % "eth0", code=None).returncode == 0
        assert facts(node, "web")["ip"] == web.ipv4
    works()
    carried = node.json("network", "usage", "db")[0]["out"]["inside"]["bytes"]
    for damage in (["link", "del", bridge], ["link", "set", bridge, "down"], ["link", "del", bridge]):
        before = link(node, bridge)["ifindex"]
        node.run(["ip", *damage])
        eventually(lambda: (link(node, bridge) or {"flags": ()})["flags"].count("UP"), 10, "the bridge")
        in_time(works, "a network that works again")
        assert (link(node, bridge)["ifindex"] == before) == ("down" in damage)
        now = node.json("network", "usage", "db")[0]["out"]["inside"]["bytes"]
        assert now > carried, "what was carried stays counted"
        carried = now
    assert "its bridge was removed by somebody else, repaired" in node.log()
    assert node.instance("web")["status"]["pid"] == pid
    eventually(lambda: node.json("network", "show", "shop")["status"]["state"] == "ready", 10, "a network that is ready")
    # Who comes later is on the same one, and nothing is made again and again.
    index = link(node, bridge)["ifindex"]
    late = launch(node, "late", "shop")
    assert talk_all(late, db, db.ipv4) == late.ipv4
    assert link(node, bridge)["ifindex"] == index


def test_a_bridge_that_a_router_joins(open_node):
    node = open_node
    one, two = launch_routed(node, "10.87.0.0/24", "10.88.0.0/24")

    def works():
        assert talk_all(one, two, two.ipv4) == one.ipv4
        assert talk_all(one, OUTSIDE, OUTSIDE4) == NODE4
    works()
    node.run(["ip", "link", "del", bridge_of(node, "a")])
    in_time(works, "a router that is on the new bridge")


def test_a_tunnel_that_is_deleted_unplugged_or_turned_off(open_node):
    node = open_node
    for words in ("link add wire0 type veth peer name wire1", "addr add 198.51.100.1/24 dev wire0", "link set wire0 up"):
        node.run(["ip", *words.split()])
    try:
        node.cli("network", "create", "--isolated", "far", "--subnet", "10.89.0.0/24")
        node.cli("network", "peer", "add", "far", "--remote", REMOTE, "--vni", "89")
        bridge = bridge_of(node, "far")
        (name,) = [it["ifname"] for it in json.loads(node.run(["ip", "-j", "link", "show", "type", "vxlan"]).stdout)]

        def plugged():
            it = link(node, name)
            return it and "UP" in it["flags"] and it.get("master") == bridge and \
                f"dst {REMOTE} " in node.run(["bridge", "fdb", "show", "dev", name]).stdout
        assert plugged()
        for damage in (["del", name], ["set", name, "nomaster"], ["set", name, "down"], ["del", bridge]):
            node.run(["ip", "link", *damage])
            eventually(plugged, 10, f"the tunnel after {damage}")
    finally:
        node.run(["ip", "link", "del", "wire0"])


def test_what_is_not_ours_may_go(open_node):
    """Bridges and interfaces of others come and go, and nobody makes them, or ours, again."""
    node = open_node
    bridge = bridge_of(node, "default")
    before, said = link(node, bridge)["ifindex"], node.log(10000).count("repaired")
    node.run(["ip", "link", "add", "br9", "type", "bridge"])
    node.run(["ip", "link", "set", "br9", "up"])
    node.run(["ip", "link", "del", "br9"])
    one = launch(node, "one", "default")
    with OUTSIDE.listen(80, TCP) as server:
        assert talk_tcp(one, OUTSIDE4, 80, server) == NODE4
    assert link(node, "br9") is None and link(node, bridge)["ifindex"] == before
    assert node.log(10000).count("repaired") == said


@pytest.mark.slow
def test_a_virtual_machine_is_on_the_new_bridge(open_node):
    node = open_node
    need("qemu-system-x86_64", "mke2fs")
    give_kernel(node)
    node.cli("network", "create", "shop", "--subnet", "10.86.0.0/24")
    node.launch(node.reference, "vm", "--vm", "-m", "128M", "--network", "shop", command=("sleep", "1000"), timeout=240)
    node.run(["ip", "link", "del", bridge_of(node, "shop")])

    def works():
        done = node.cli("exec", "vm", "--", "ping", "-c", "1", "-W", "5", OUTSIDE4, code=None, timeout=60)
        assert done.returncode == 0
    in_time(works, "a machine that reaches the outside again")
    assert not node.instance("vm")["status"].get("ports_error")
