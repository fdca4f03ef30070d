"""brume network create --advertise: from the command line to the routing table of a provider beside the node.

The node and the provider run FRR. The node's configuration is the one of docs/operate/bgp.md, word by word.
"""
import json
import os
import re
import select
import subprocess
import threading

import images
import pytest
from conftest import ROOT
from frr import Frr
from kernel import patient
from netns import TCP, UDP, talk_tcp
from node import NODE4, NODE6, OUTSIDE4, OUTSIDE6, eventually
from test_node_router import OUTSIDE, Instance, Side

SUBNET4, SUBNET6 = "203.0.113.0/28", "2001:db8:7:1::/64"
PUBLIC = ("--subnet", SUBNET4, "--ipv6", SUBNET6, "--routed")
POLICY = [{"prefix": "203.0.113.0/24"}, {"prefix": "2001:db8:7::/48", "projects": ["default"]}]
PROVIDER = f"""
router bgp 64500
 bgp router-id {OUTSIDE4}
 no bgp ebgp-requires-policy
 neighbor {NODE4} remote-as 64512
 neighbor {NODE4} timers connect 1
 neighbor {NODE6} remote-as 64512
 neighbor {NODE6} timers connect 1
 address-family ipv4 unicast
  no neighbor {NODE6} activate
 exit-address-family
 address-family ipv6 unicast
  neighbor {NODE6} activate
 exit-address-family
"""


def documented():
    """The frr.conf of the page for administrators, which is for the node that the tests have."""
    config, = re.findall(r"```frr\n(.*?)```", (ROOT / "docs/operate/bgp.md").read_text(), re.S)
    assert OUTSIDE4 in config and OUTSIDE6 in config and NODE4 in config
    return config


def anchors(node):
    text = "".join(node.run(["ip", family, "route", "show", "type", "blackhole", "proto", "98"]).stdout
                   for family in ("-4", "-6"))
    return {re.sub("^blackhole ", "", line).split()[0] for line in text.splitlines()}


def provider_has():
    """What the provider's kernel has learnt by BGP, and from whom."""
    found = {}
    for family in ("-4", "-6"):
        listed = subprocess.run(["ip", family, "-j", "route", "show", "proto", "bgp"], capture_output=True, text=True,
                                check=True).stdout
        found.update({it["dst"]: it.get("gateway") for it in json.loads(listed or "[]")})
    return found


def learns(*subnets):
    wanted = {it.removesuffix("/32").removesuffix("/128") for it in subnets}
    eventually(lambda: set(provider_has()) == wanted, 30, f"{sorted(wanted)} at the provider")


@pytest.fixture
def open_node(node):
    node.write_policy(advertise=POLICY)
    node.reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", node.reference)
    node.cli("group", "create", "open")
    node.cli("group", "allow", "--in", "any", "open")
    return node


@pytest.fixture
def peers(open_node, scratch):
    """The node with FRR beside it, and a provider that has a session of each family with it."""
    node, started = open_node, []
    try:
        node.frr = Frr(node.command, scratch / "frr", documented())
        started.append(node.frr)
        node.provider = Frr(list, scratch / "provider", PROVIDER)
        started.append(node.provider)
        eventually(lambda: node.provider.established() == 2, 60, "two sessions of BGP")
        yield node
    finally:
        for frr in started:
            frr.kill()


def web(node, network="public", name="web"):
    node.launch(node.reference, name, "--network", network, "--group", "open", command=("sleep", "100000"))
    return Instance(node, name)


def reaches_without_translation(instance):
    for ipv6, ours in ((False, OUTSIDE4), (True, OUTSIDE6)):
        own = instance.own(ipv6)
        with instance.listen(80, TCP, ipv6) as server:
            assert talk_tcp(OUTSIDE, own, 80, server) == ours
        with OUTSIDE.listen(8080, TCP, ipv6) as server:
            assert talk_tcp(instance, ours, 8080, server) == own


def test_a_network_is_announced_while_it_is_there(peers):
    node = peers
    node.cli("network", "create", "quiet", "--subnet", "203.0.113.16/28", "--ipv6", "2001:db8:7:2::/64", "--routed")
    # Nobody is on it: its bridge has no carrier, and it is announced all the same.
    node.cli("network", "create", "public", *PUBLIC, "--advertise")
    learns(SUBNET4, SUBNET6)
    assert provider_has()[SUBNET4] == NODE4
    assert node.json("network", "show", "public")["status"]["advertised"] == [SUBNET4, SUBNET6]
    assert re.search(rf"advertised +{SUBNET4}, {SUBNET6}", node.out("network", "show", "public"))
    assert "advertised" not in node.out("network", "show", "quiet")
    instance = web(node)
    reaches_without_translation(instance)
    # With the first instance the bridge has a carrier, which peers do not hear of.
    with watch_routes() as changes:
        node.cli("delete", "--force", "web")
        instance = web(node)
        reaches_without_translation(instance)
    assert changes == []
    # An address of a balancer is in the subnet.
    node.cli("balancer", "create", "lb", "--network", "public", "--vip", "203.0.113.9", "--listen", "80:8080", "--selector", "role=web")
    node.cli("launch", "-l", "role=web", "--network", "public", node.reference, "member", "--", "sleep", "100000")
    eventually(lambda: node.json("balancer", "show", "lb")["status"]["state"] == "ready", 10, "a member")
    with Instance(node, "member").listen(8080, TCP) as server:
        assert talk_tcp(OUTSIDE, "203.0.113.9", 80, server) == OUTSIDE4
    node.cli("delete", "--force", "member")
    node.cli("balancer", "delete", "lb")
    assert "is not announced" in node.out("network", "update", "public", "--no-advertise")
    learns()
    assert "advertised" not in node.out("network", "show", "public") and anchors(node) == set()
    node.cli("network", "update", "public", "--advertise")
    learns(SUBNET4, SUBNET6)
    reaches_without_translation(instance)
    node.cli("delete", "--force", "web")
    node.cli("network", "delete", "public")
    learns()
    assert anchors(node) == set()
    node.cli("network", "delete", "quiet")


class watch_routes:
    """Lines about announced subnets that the kernel says in the meantime: the provider's, or the node's."""

    def __init__(self, command=list):
        self.command = command

    def __enter__(self):
        self.monitor, self.lines = subprocess.Popen(self.command(["ip", "monitor", "route"]), stdout=subprocess.PIPE), []
        self.read_until_marked("198.51.100.99")
        self.lines.clear()
        return self.lines

    def read_until_marked(self, address):
        """It hears of a route to the address, and said what it had heard before."""
        text = b""

        def see():
            nonlocal text
            # Added when it may not have been listening; a route that stays what it is would be no news.
            for action in ("add", "del"):
                subprocess.run(self.command(["ip", "route", action, "blackhole", address, "metric", "1"]), check=True)
            if select.select([self.monitor.stdout], [], [], 0.2)[0]:
                text += os.read(self.monitor.stdout.fileno(), 65536)
            return address.encode() in text
        eventually(see, 10, "the monitor of routes")
        self.lines += [line for line in text.decode().splitlines() if "203.0.113." in line or "2001:db8:7:" in line]

    def __exit__(self, *_):
        self.read_until_marked("198.51.100.98")
        self.monitor.kill()
        self.monitor.wait()
        self.monitor.stdout.close()


def echo(server, stop):
    server.settimeout(0.2)
    while not stop.is_set():
        try:
            data, peer = server.recvfrom(64)
        except TimeoutError:
            continue
        server.sendto(data, peer)


def test_whoever_dies_nothing_is_lost(peers):
    node = peers
    node.cli("network", "create", "public", *PUBLIC, "--advertise")
    instance = web(node)
    learns(SUBNET4, SUBNET6)
    lost, count, enough, stop = [], [0], threading.Event(), threading.Event()

    def talk(client):
        number = 0
        while not enough.is_set():
            number += 1
            client.send(str(number).encode())
            try:
                while client.recv(64) != str(number).encode():
                    pass
            except TimeoutError:
                lost.append(number)
        count[0] = number
    with instance.listen(7, UDP) as server, OUTSIDE.open(instance.ipv4, UDP) as client:
        client.settimeout(patient(2))
        client.connect((instance.ipv4, 7))
        server_thread, thread = threading.Thread(target=echo, args=(server, stop)), threading.Thread(target=talk, args=(client,))
        server_thread.start()
        thread.start()
        try:
            with watch_routes() as changes:
                for name in ("agentd", "brumed", "agentd"):
                    node.kill(name)
                    node.start_missing()
                    node.wait_ready()
            before = node.json("network", "show", "public")["status"]
        finally:
            enough.set()
            thread.join()
            stop.set()
            server_thread.join()
    assert changes == [] and lost == [] and count[0] > 100, (changes, lost, count)
    assert before["state"] == "ready" and before["advertised"] == [SUBNET4, SUBNET6]
    # The routing daemon, too: what starts again reads the kernel.
    node.frr.kill()
    learns()
    node.frr.start()
    learns(SUBNET4, SUBNET6)
    reaches_without_translation(instance)
    # A network that is deleted while the agent is away is withdrawn when it is back.
    node.cli("delete", "--force", "web")
    node.stop_supervision()
    node.kill("agentd")
    status, answer = node.api("DELETE", "/1.0/networks/public", raw=True)
    assert status == 202
    assert set(provider_has()) == {SUBNET4, SUBNET6}
    node.start_missing()
    node.wait_ready()
    assert node.wait_operation(answer["metadata"])["status"]["state"] == "done"
    learns()
    assert anchors(node) == set()


def test_what_leads_to_a_router_is_announced(peers):
    node = peers
    node.cli("network", "create", "--isolated", "--subnet", "203.0.113.32/28", "--ipv6", "2001:db8:7:3::/64", "a")
    node.cli("router", "create", "border", "--network", "a", "--advertise")
    instance = web(node, "a")
    learns()
    floating = ("203.0.113.77/32", "2001:db8:7::77/128")
    for address in floating:
        node.cli("router", "floating", "add", "border", address.split("/")[0], "web")
    learns(*floating)
    assert set(node.json("router", "show", "border")["status"]["advertised"]) == set(floating)
    assert all(re.search(rf"advertised .*{address}", node.out("router", "show", "border")) for address in floating)
    for ipv6, ours in ((False, OUTSIDE4), (True, OUTSIDE6)):
        with instance.listen(80, TCP, ipv6) as server:
            assert talk_tcp(OUTSIDE, floating[ipv6].split("/")[0], 80, server) == ours
    # What somebody takes of it is put back, and foreign routes stay.
    for family, address in zip(("-4", "-6"), floating):
        node.run(["ip", family, "route", "del", address, "proto", "98"])
        eventually(lambda: node.run(["ip", family, "route", "show", address, "proto", "98"]).stdout, 10, "the route")
    learns(*floating)
    with watch_routes(node.command) as changes:
        done = node.cli("router", "floating", "add", "border", "192.0.2.77", "web", code=1)
        assert "does not let project \"default\" announce 192.0.2.77/32" in done.stderr
        eventually(lambda: node.json("router", "show", "border")["status"]["state"] == "ready", 10, "what it was before")
    assert changes == [] and len(provider_has()) == 2
    node.api("PATCH", "/1.0/routers/border", {"nat": False})
    learns(*floating, "203.0.113.32/28", "2001:db8:7:3::/64")
    node.cli("router", "update", "border", "--no-advertise")
    learns()
    with instance.listen(80, TCP) as server:
        assert talk_tcp(Side(node.pid), "203.0.113.77", 80, server)
    node.cli("router", "update", "border", "--advertise")
    learns(*floating, "203.0.113.32/28", "2001:db8:7:3::/64")
    node.cli("delete", "--force", "web")
    node.cli("router", "delete", "border")
    learns()
    node.cli("network", "delete", "a")


def test_only_what_the_policy_allows(open_node):
    node = open_node
    for words, code, text in (
            (("public", "--subnet", "8.8.8.0/30", "--routed"), 1,
             "this node's policy does not let project \"default\" announce 8.8.8.0/30; root can, with advertise"),
            (("public", "--subnet", SUBNET4, "--ipv6", "2001:db8:8::/64", "--routed"), 1, "announce 2001:db8:8::/64"),
            (("public", "--subnet", SUBNET4), 2, "--routed"),
            (("public", "--subnet", SUBNET4, "--isolated"), 2, "--routed")):
        done = node.cli("network", "create", *words, "--advertise", code=None)
        assert text in done.stderr and done.returncode in (1, 2), (words, done.stderr)
        assert [it["meta"]["name"] for it in node.json("network", "list")] == ["default"]
        assert anchors(node) == set()
    node.cli("network", "create", "far", "--subnet", "8.8.8.0/30", "--routed")
    done = node.cli("network", "update", "far", "--advertise", code=1)
    assert "announce 8.8.8.0/30" in done.stderr
    assert "advertise" not in node.json("network", "show", "far")["spec"], "it is taken back"
    eventually(lambda: node.json("network", "show", "far")["status"]["state"] == "ready", 10, "what it was before")
    done = node.cli("network", "update", "default", "--advertise", code=1)
    assert "nat" in done.stderr
    done = node.cli("network", "update", "far", code=2)
    assert "advertise" in done.stderr
    assert anchors(node) == set()
    node.cli("network", "delete", "far")


def test_a_policy_that_takes_it_back(open_node):
    node = open_node
    node.cli("network", "create", "public", *PUBLIC, "--advertise")
    instance = web(node)
    assert anchors(node) == {SUBNET4, SUBNET6}
    node.write_policy(advertise=[])
    node.kill("agentd")
    node.start_missing()
    node.wait_ready()
    eventually(lambda: anchors(node) == set(), 20, "the withdrawal")
    status = eventually(lambda: (lambda it: it.get("error") and it)(node.json("network", "show", "public")["status"]))
    assert status["state"] == "failed" and "policy" in status["error"] and "advertised" not in status
    # Who is there, and who comes, does not suffer from it.
    with instance.listen(80, TCP) as server:
        assert talk_tcp(Side(node.pid), instance.ipv4, 80, server)
    web(node, name="second")
    node.write_policy(advertise=POLICY)
    node.cli("network", "update", "public", "--no-advertise")
    node.cli("network", "update", "public", "--advertise")
    assert anchors(node) == {SUBNET4, SUBNET6}
    assert node.json("network", "show", "public")["status"]["state"] == "ready"
    node.delete_all()
    node.cli("network", "delete", "public")


def test_routes_that_somebody_takes_are_put_back(open_node):
    node = open_node
    node.run(["ip", "route", "add", "blackhole", "198.51.100.0/24", "proto", "98", "metric", "5"])
    node.run(["ip", "route", "add", "blackhole", "203.0.113.128/25", "proto", "static"])
    node.cli("network", "create", "public", *PUBLIC, "--advertise")
    for family, subnet in (("-4", SUBNET4), ("-6", SUBNET6)):
        node.run(["ip", family, "route", "del", "blackhole", subnet, "proto", "98"])
        eventually(lambda: SUBNET4 in anchors(node) and SUBNET6 in anchors(node), 10, "the route")
    assert "repaired" in node.log()
    node.cli("network", "delete", "public")
    assert anchors(node) == {"198.51.100.0/24"}
    assert "203.0.113.128/25" in node.run(["ip", "route"]).stdout
