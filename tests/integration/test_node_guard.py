"""Every port of a node is guarded from its first frame to its last, unless it was asked not to be."""
import json


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
