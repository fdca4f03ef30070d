"""Who knows which names: net/dns without the daemons, networks of two projects on one node."""
import os
import pathlib
import subprocess

from netns import OUT4, resolve, reverse


def serve(world, uid, number, name, project):
    """A network with its resolver, and one instance `web` of it."""
    world.net("zone", f"{name}.{project}.internal", project, "")
    network = world.network(uid, number)
    wait_for = world.serve_names(network)
    web = world.instance(network, f"{number}1", "web", 5)
    wait_for(f"hosts/{number}1 - ")
    return network, web


def test_a_project_knows_its_own_names_and_no_others(world):
    front, one = serve(world, "aa11", 1, "front", "shop")
    back, two = serve(world, "bb22", 2, "back", "shop")
    other, three = serve(world, "cc33", 3, "front", "bank")
    for network, side in ((front, one), (back, two)):
        for server in (network.gateway4, network.gateway6):
            assert resolve(side.side, server, "web") == [side.ipv4], "the short name is that of the own network"
            assert resolve(side.side, server, "web.brume.internal") == [side.ipv4]
            for name, of in (("front", one), ("back", two)):
                assert resolve(side.side, server, f"web.{name}.shop.internal") == [of.ipv4]
                assert resolve(side.side, server, f"web.{name}.shop.internal", "AAAA") == [of.ipv6]
                for address in (of.ipv4, of.ipv6):
                    assert reverse(side.side, server, address) == f"web.{name}.shop.internal"
            for name in ("web.front.bank.internal", "web.front.internal", "nobody.front.shop.internal"):
                assert resolve(side.side, server, name) is None
            assert reverse(side.side, server, three.ipv4) is None
    assert resolve(three.side, other.gateway4, "web.front.bank.internal") == [three.ipv4]
    assert resolve(three.side, other.gateway4, "web.front.shop.internal") is None
    assert reverse(three.side, other.gateway4, one.ipv4) is None


def test_names_go_with_their_port_and_come_back_with_it(world):
    front, one = serve(world, "aa11", 1, "front", "shop")
    world.net("zone", "inside.shop.internal", "shop", "")
    words = ("dd44", "10.9.0.0/24", "", "isolated", 0, "")
    world.net("network", *words)
    side = world.namespace()
    world.net("attach", side.pid, "44", "db", "", "10.9.0.5", "", *words)
    from node import eventually
    eventually(lambda: resolve(one.side, front.gateway4, "db.inside.shop.internal") == ["10.9.0.5"], 10,
               "a name of the isolated network")
    assert reverse(one.side, front.gateway4, "10.9.0.5") == "db.inside.shop.internal"
    assert resolve(one.side, front.gateway4, "db") is None, "short names are the own network's"
    world.net("remove-network", "dd44")
    eventually(lambda: resolve(one.side, front.gateway4, "db.inside.shop.internal") is None, 10, "its end")
    assert resolve(one.side, front.gateway4, "web.front.shop.internal") == [one.ipv4]
    world.net("gc", "", "")
    assert not list(pathlib.Path(world.run).glob("networks/projects/*"))


def test_what_ends_in_internal_is_asked_of_nobody(world, scratch):
    upstream = subprocess.Popen(
        world.outside.command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                              "--log-queries", "--address=/test/203.0.113.7", "--address=/internal/203.0.113.9",
                              "--address=/arpa/203.0.113.9", "--pid-file=", "--bind-interfaces",
                              f"--listen-address={OUT4}", "--user=nobody", "--log-facility=-"),
        stderr=subprocess.PIPE, text=True)
    world.servers.append(upstream)
    while "started" not in upstream.stderr.readline():
        assert upstream.poll() is None
    resolv = pathlib.Path(scratch) / "resolv.conf"
    resolv.write_text(f"nameserver {OUT4}\n")
    resolv.chmod(0o644)
    world.host.run("mount", "--bind", str(resolv), os.path.realpath("/etc/resolv.conf"))
    front, one = serve(world, "aa11", 1, "front", "shop")
    assert resolve(one.side, front.gateway4, "before.example.test") == ["203.0.113.7"]
    for name in ("nobody.front.shop.internal", "web.front.bank.internal", "metadata.google.internal", "internal"):
        assert not resolve(one.side, front.gateway4, name)
    for address in ("10.90.1.77", "10.90.9.9", "192.168.7.7", "fd00:90:1::77"):
        assert reverse(one.side, front.gateway4, address) is None
    assert resolve(one.side, front.gateway4, "after.example.test") == ["203.0.113.7"]
    asked = []
    for line in upstream.stderr:
        asked.append(line)
        if "after.example.test" in line:
            break
    assert any("before.example.test" in line for line in asked)
    assert not [line for line in asked if "internal" in line or ".arpa" in line], "these left the node"
