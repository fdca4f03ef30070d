"""Every port of a node is guarded from its first frame to its last, unless it was asked not to be."""
import json
import socket

import pytest
from test_node_router import Instance


def guarded(node):
    """Interfaces in the set `guarded`, and the addresses that they may use."""
    done = node.run(["nft", "-j", "list", "table", "bridge", node.prefix])
    sets = {it["set"]["name"]: it["set"].get("elem", []) for it in json.loads(done.stdout)["nftables"] if "set" in it}

    def value(element):
        return element["elem"]["val"] if "elem" in element else element
    return ({value(it) for it in sets["guarded"]},
            {value(it)["concat"][2] for it in sets["own4"] + sets["own6"]})


def ports_of(node, name):
    return node.instance(name)["spec"]["ports"]


def test_a_port_is_guarded_while_it_lives(busybox):
    node, image = busybox
    before = guarded(node)
    node.cli("launch", image, "web", "--", "sleep", "1000")
    port = ports_of(node, "web")[0]
    interfaces, addresses = guarded(node)
    interface = (node.prefix + "v" + port["uid"])[:15]
    assert interfaces - before[0] == {interface}
    assert {port["ipv4"], port["ipv6"]} <= addresses
    node.kill("agentd")
    node.wait_ready()
    assert guarded(node) == (interfaces, addresses)
    node.run(["nft", "flush", "ruleset"])
    node.cli("restart", "--force", "web")
    assert guarded(node) == (interfaces, addresses)
    node.cli("delete", "--force", "web")
    assert guarded(node) == before


def hears_a_forged_sender(node, hearer):
    """What comes from an address that the sender does not have."""
    there, sender = Instance(node, hearer), Instance(node, "gate")
    node.run(["nsenter", "-t", str(sender.pid), "-n", "ip", "addr", "replace", "10.90.0.250/32", "dev", "lo"])
    with there.listen(9, socket.SOCK_DGRAM) as server, sender.open("10.90.0.250", socket.SOCK_DGRAM) as client:
        client.bind(("10.90.0.250", 0))
        server.settimeout(1)
        client.sendto(b"forged", (there.ipv4, 9))
        try:
            return server.recv(16) == b"forged"
        except TimeoutError:
            return False


@pytest.mark.parametrize("how", ["launch", "attach"])
def test_a_port_that_may_spoof(busybox, how):
    node, image = busybox
    node.cli("group", "create", "open")
    node.cli("group", "allow", "--in", "any", "open")
    try:
        node.launch(image, "db", "--group", "open", command=("sleep", "1000"))
        node.launch(image, "gate", "--group", "open", command=("sleep", "1000"))
        assert not hears_a_forged_sender(node, "db")
        if how == "attach":
            node.cli("network", "detach", "default", "gate")
            node.cli("network", "attach", "--spoofing", "--group", "open", "default", "gate")
        else:
            node.cli("delete", "--force", "gate")
            node.launch(image, "gate", "--network", "default,group=open,spoofing", command=("sleep", "1000"))
        assert ports_of(node, "gate")[0]["spoofing"] and "may send with any address" in node.out("info", "gate")
        assert hears_a_forged_sender(node, "db")
    finally:
        node.delete_all()
        node.cli("group", "delete", "open")
