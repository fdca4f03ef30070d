"""Networks without IPv4: what instances on them reach, how they are reached, and what they are told."""
import json

import pytest
from netns import TCP, cannot_reach, talk_tcp, talk_udp, UDP
from node import NODE4, NODE6, OUTSIDE4, OUTSIDE6, eventually
from test_node_bridge import launch, launch_routed, open_node  # noqa: F401 - a fixture
from test_node_router import OUTSIDE, talk_all


@pytest.fixture
def six(open_node):  # noqa: F811
    node = open_node
    node.cli("network", "create", "six", "--ipv6", "fd86::/64")
    return node


def test_all_that_a_network_has(six):
    node = six
    shown = node.json("network", "show", "six")["spec"]
    assert shown["ipv6"] == "fd86::/64" and "ipv4" not in shown and shown["gateway6"] == "fd86::1"
    web = launch(node, "web", "six", "-p", "8186:80", "-l", "role=web")
    db = launch(node, "db", "six")
    assert web.ipv4 is None and web.ipv6.startswith("fd86::")
    assert "inet " not in node.sh("web", "ip addr show dev eth0")
    assert talk_all(web, db, db.ipv6, True) == web.ipv6
    assert talk_all(web, OUTSIDE, OUTSIDE6, True) == NODE6
    with OUTSIDE.listen(80, TCP) as _:
        assert cannot_reach(web, OUTSIDE4, 80)
    # Published: by IPv6, and by IPv4 nothing is there.
    with web.listen(80, TCP, True) as server:
        assert talk_tcp(OUTSIDE, NODE6, 8186, server) == OUTSIDE6
        assert cannot_reach(OUTSIDE, NODE4, 8186)
    # Names, both ways, by a resolver that has no IPv4 either.
    assert "nameserver fd86::1\n" in node.sh("db", "cat /etc/resolv.conf")
    assert web.ipv6 in node.sh("db", "nslookup web.six.default.internal fd86::1; true")
    assert "web.six.default.internal" in node.sh("db", f"nslookup {web.ipv6} fd86::1; true")
    assert f"{web.ipv6}\tweb\n" in node.sh("web", "cat /etc/hosts")
    # A balancer with an address of its own.
    node.cli("balancer", "create", "lb", "--network", "six", "--vip", "auto", "--listen", "90:80", "--selector", "role=web")
    eventually(lambda: node.json("balancer", "show", "lb")["status"]["state"] == "ready", 10, "a member")
    vip = node.json("balancer", "show", "lb")["spec"]["vip"]
    assert "ipv4" not in vip
    with web.listen(80, TCP, True) as server:
        talk_tcp(db, vip["ipv6"], 90, server)
    # What happens to a packet is known, and true.
    seen = json.loads(node.out("network", "trace", "--from", "web", "--to", "db", "--live", "-f", "json"))
    assert seen["verdict"] == "delivered" and seen["live"]["answer"] == "reply" and seen["live"]["agrees"]
    assert "fd86::/64" in node.out("network", "show", "--graph")
    done = node.cli("launch", node.reference, "no", "--network", "six,ip=10.1.0.5", code=1)
    assert 'has no IPv4 subnet' in done.stderr


def test_behind_a_router(open_node):  # noqa: F811
    node = open_node
    one, two = launch_routed(node, "fd87::/64", "fd88::/64")
    assert talk_all(one, two, two.ipv6, True) == one.ipv6
    assert talk_all(one, OUTSIDE, OUTSIDE6, True) == NODE6
    node.cli("router", "forward", "add", "border", "8187:two:80")
    node.cli("router", "forward", "add", "border", "8187:two:80/udp")
    for kind, talk in ((TCP, talk_tcp), (UDP, talk_udp)):
        with two.listen(80, kind, True) as server:
            assert talk(OUTSIDE, NODE6, 8187, server) == OUTSIDE6
