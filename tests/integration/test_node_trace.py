"""brume network trace: what is computed of a packet's way is what packets do, for everybody to everything."""
import contextlib
import errno
import json
import selectors
import shlex
import socket
import struct
import subprocess
import time

import kernel
import pytest
from node import NODE4, NODE6, OUTSIDE4, OUTSIDE6, eventually

FLOATING4 = "192.0.2.77"
PORT = 80


class Town:
    """A drawing with some of everything; instances do nothing, the test speaks and listens for them."""

    def __init__(self, node, reference):
        self.node, self.reference, self.instances, self.open_sockets = node, reference, [], []
        for group, *rules in (("web", ("--in", "tcp:80")), ("db", ("--in", "tcp:80", "--from-group", "web")),
                              ("shut",), ("mute", ("--in", "any"), ("--out", "udp:53"),
                                          ("--out", "tcp:80", "--to-group", "web")),
                              ("open", ("--in", "any"))):
            node.cli("group", "create", group)
            for rule in rules:
                node.cli("group", "allow", group, *rule)
        node.cli("network", "create", "back", "--routed", "--subnet", "10.73.0.0/24", "--ipv6", "fd73::/64")
        for name, number in (("a", 81), ("b", 82), ("c", 83), ("d", 84), ("lonely", 85)):
            node.cli("network", "create", "--isolated", name, "--subnet", f"10.{number}.0.0/24", "--ipv6", f"fd{number}::/64")
        for name, network, group, *options in (
                ("one", "default", "default"), ("two", "default", "default"), ("front", "default", "web", "-l", "role=web", "-p", "8080:80"),
                ("base", "default", "db"), ("closed", "default", "shut"), ("silent", "default", "mute"),
                ("away", "back", "web"), ("both", "default", "default"), ("ia", "a", "open"), ("ia2", "a", "default"),
                ("ib", "b", "open"), ("ic", "c", "open"), ("id", "d", "web"), ("id2", "d", "open"), ("alone", "lonely", "open")):
            node.launch(reference, name, "--network", network, "--group", group, *options, command=("sleep", "100000"))
            self.instances.append(name)
        node.cli("network", "attach", "--group", "open", "a", "both")
        node.cli("router", "create", "border", "--network", "a", "--network", "b")
        node.cli("router", "create", "inside", "--network", "c", "--no-uplink")
        node.cli("router", "attach", "inside", "b", "--address", "10.82.0.2", "--address6", "fd82::2")
        node.cli("router", "route", "add", "border", "10.83.0.0/24", "10.82.0.2")
        node.cli("router", "floating", "add", "border", FLOATING4, "ia")
        node.cli("router", "forward", "add", "border", "8088:ib:80")
        # One without NAT, one with two ways out, one that is published on a network which is not its first.
        node.cli("router", "create", "plain", "--no-nat", "--network", "d")
        node.cli("network", "attach", "--group", "open", "back", "ia2")
        node.launch(reference, "pub", "--network", "a,group=open", "--network", "default,group=shut", "-p", "8090:80", command=("sleep", "100000"))
        self.instances.append("pub")
        node.cli("balancer", "create", "lb", "--listen", "80", "--listen", "*:8000:80", "--selector", "role=web", "--vip", "auto")
        self.look()

    def look(self):
        self.shown = {name: self.node.instance(name) for name in self.instances}
        self.gateway = self.node.api("GET", "/1.0/networks/default")["spec"]["gateway4"]
        self.vip = self.node.api("GET", "/1.0/balancers/lb")["spec"]["vip"]["ipv4"]

    def inside(self, name):
        return kernel.inside_network_of(self.shown[name]["status"]["pid"])

    def addresses(self, name):
        return [port[member] for port in self.shown[name]["spec"]["ports"] for member in ("ipv4", "ipv6") if port.get(member)]

    def destinations(self):
        """Whom everybody tries to reach: (address, port)."""
        found = [(address, PORT) for name in self.instances for address in self.addresses(name)]
        return found + [(self.gateway, 8080), ("10.73.0.1", 8080), (self.gateway, 8000), (self.gateway, 8088), (self.gateway, 8090), (self.vip, PORT),
                        (FLOATING4, PORT), (self.gateway, 53), ("10.73.0.1", 53), ("10.81.0.1", PORT), ("100.64.0.1", PORT), (OUTSIDE4, PORT), (OUTSIDE6, PORT), ("10.81.0.77", PORT), ("10.90.0.250", PORT)]

    @contextlib.contextmanager
    def listening(self):
        """Everybody, and the outside, listens."""
        with contextlib.ExitStack() as stack:
            for name in [None, *self.instances]:
                with self.inside(name) if name else contextlib.nullcontext():
                    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                        server = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                        if family == socket.AF_INET6:
                            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        server.bind((any_address, PORT))
                        server.listen(256)
            yield

    def try_all(self, tries):
        """Connects (sender, address, port) all at once: the set of those that came through."""
        reached, selector, pending = set(), selectors.DefaultSelector(), 0
        for sender, address, port in tries:
            with self.inside(sender):
                it = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            it.setblocking(False)
            # Closed by a reset: a connection that waits for its end would keep the namespace alive.
            it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            result = it.connect_ex((address, port))
            if result not in (0, errno.EINPROGRESS):
                it.close()
                continue
            selector.register(it, selectors.EVENT_WRITE, (sender, address, port))
            pending += 1
        # What is dropped is silent: the kernel has sent each a second time when this is over.
        deadline = time.monotonic() + kernel.patient(2.5)
        while pending and time.monotonic() < deadline:
            for key, _ in selector.select(max(0, deadline - time.monotonic())):
                if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    reached.add(key.data)
                selector.unregister(key.fileobj)
                key.fileobj.close()
                pending -= 1
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        return reached

    def trace(self, sender, address, port, **more):
        body = {"to": address, "port": port, **more}
        return self.node.api("POST", f"/1.0/instances/{sender}/trace", body)

    def close(self):
        node = self.node
        # Its answers get lost, and the kernel goes on with them for a moment: that keeps a namespace alive.
        eventually(lambda: " 03 " not in node.sh("both", "cat /proc/net/tcp*"), 30, "the end of what is half open")
        node.delete_all()
        node.cli("balancer", "delete", "lb")
        for router in node.api("GET", "/1.0/routers"):
            node.cli("router", "delete", router)
        for network in node.api("GET", "/1.0/networks"):
            if network != "default":
                node.cli("network", "delete", network)
        for name in node.api("GET", "/1.0/groups"):
            node.wait_operation(node.api("PUT", f"/1.0/groups/{name}", {}))
        for name in node.api("GET", "/1.0/groups"):
            if name != "default":
                eventually(lambda name=name: node.api("DELETE", f"/1.0/groups/{name}", raw=True)[0] == 404, what=f"the end of {name}")
        node.wait_operation(node.api("PUT", "/1.0/groups/default", {"ingress": [{"protocol": "any", "from": {"group": "self"}}]}))


@pytest.fixture
def town(busybox):
    made = Town(*busybox)
    yield made
    made.close()


def compare(town):
    """What is computed for everybody to everything against what their packets do."""
    tries = [(sender, address, port) for sender in town.instances for address, port in town.destinations()
             if address not in town.addresses(sender)]
    outside = {OUTSIDE4, OUTSIDE6}
    expected, traces = set(), {}
    for one in tries:
        trace = traces[one] = town.trace(*one)
        if trace["verdict"] == "delivered" or (trace["verdict"] == "leaves" and one[1] in outside):
            expected.add(one)
    # The outside knows the way to the networks that are routed.
    for number in (73, 84):
        subprocess.run(["ip", "route", "replace", f"10.{number}.0.0/24", "via", NODE4], check=True)
        subprocess.run(["ip", "-6", "route", "replace", f"fd{number}::/64", "via", NODE6], check=True)
    with town.listening():
        reached = town.try_all(tries)
    wrong = [(one, "arrives" if one in reached else "does not arrive", traces[one]["verdict"],
              [hop["text"] for hop in traces[one]["hops"]]) for one in tries if (one in reached) != (one in expected)]
    assert not wrong, f"{len(wrong)} of {len(tries)}:\n" + "\n".join(map(str, wrong[:9]))
    return traces, reached


def test_everybody_to_everything(town):
    node = town.node
    traces, reached = compare(town)
    verdicts = [trace["verdict"] for trace in traces.values()]
    kinds = {hop["kind"] for trace in traces.values() for hop in trace["hops"]}
    assert {"delivered", "dropped", "leaves", "unreachable"} == set(verdicts)
    assert kinds >= {"interface", "guard", "bridge", "group", "router", "nat", "forward", "balancer", "wall", "uplink", "instance"}
    assert len(reached) > 60 and len(reached) < len(traces) / 2
    # Each drawing that a group stops is opened by the command that is offered.
    for sender, to in (("one", "base"), ("silent", "two"), ("ib", "ia2")):
        found = town.trace(sender, town.addresses(to)[0], PORT)
        assert found["verdict"] == "dropped", found
        while found["verdict"] == "dropped" and found["hops"][-1]["kind"] == "group":
            node.cli(*shlex.split(found["advice"])[1:])
            found = town.trace(sender, town.addresses(to)[0], PORT)
        assert found["verdict"] == "delivered", found
    # So is a router that lacks a route, and a wall.
    assert town.trace("ia", town.addresses("ic")[0], PORT)["advice"] == "brume router route add inside 10.81.0.0/24 10.82.0.1"
    node.cli("router", "route", "add", "inside", "10.81.0.0/24", "10.82.0.1")
    node.cli(*shlex.split(town.trace("one", town.addresses("away")[0], PORT)["advice"])[1:])
    node.cli("stop", "--timeout", "0", "two")
    town.instances.remove("two")
    town.look()
    compare(town)
    assert town.trace("one", "two", PORT)["advice"] == "brume start two"


def test_the_command(town):
    node = town.node
    good = node.cli("network", "trace", "--from", "one", "--to", "two:80")
    lines = good.stdout.splitlines()
    assert lines[0].split()[1] == "interface" and "eth0" in lines[0] and lines[-1].startswith("delivered")
    bad = node.cli("network", "trace", "--from", "one", "--to", "base:80", code=1)
    assert bad.stdout.splitlines()[-1] == "try: brume group allow db --in tcp:80 --from-group default"
    assert [line for line in bad.stdout.splitlines() if line.startswith("X")][0].split()[2] == "group"
    assert not bad.stderr
    out = node.cli("network", "trace", "--from", "ia", "--to", f"{OUTSIDE4}:80")
    assert FLOATING4 in out.stdout and "becomes" in out.stdout
    shown = node.cli("network", "trace", "--from", "one", "--to", "base:80", "-f", "json", code=1)
    shown = json.loads(shown.stdout)
    assert shown["verdict"] == "dropped" and shown["hops"][-1]["rule"] == {"group": "db", "direction": "ingress"}
    plain = node.cli("network", "trace", "--from", "one", "--to", "two", "-f", "plain").stdout.splitlines()
    assert plain[0].split("\t")[:4] == ["1", "interface", "eth0", "passes"]
    assert node.cli("network", "trace", "-q", "--from", "one", "--to", "two").stdout.startswith("delivered")
    assert "leaves" in node.out("network", "trace", "--from", "one", "--to", f"{NODE4}:22")
    for words, code, text in (
            (("--to", "two"), 2, "--from is missing"), (("--from", "one"), 2, "--to is missing"),
            (("--from", "one", "--to", "two:99999"), 2, "is not a port"), (("--from", "one", "--to", "two:80", "--proto", "gre"), 2, "must be tcp"),
            (("--from", "nix", "--to", "two"), 1, 'instance "nix" does not exist'), (("--from", "one", "--to", "nix"), 1, "neither an address"),
            (("--from", "one.nix", "--to", "two"), 1, 'not on network "nix"'), (("--from", "one", "--to", "224.0.0.1"), 1, "one host")):
        done = node.cli("network", "trace", *words, code=code)
        assert text in done.stderr and not done.stdout, (words, done)
        assert len(done.stderr.splitlines()) <= 2, done.stderr
    status, answer = node.api("POST", "/1.0/instances/one/trace", {"to": "two", "nix": 1}, raw=True)
    assert status == 400 and "nix: is not known" in answer["error"]


def test_live(town):
    """A real packet beside what is computed: both agree, rule by rule, and who else drops it is named."""
    node = town.node
    address = {name: town.addresses(name)[0] for name in town.instances}
    tries = [("one", address["two"], PORT), ("one", address["front"], PORT), ("one", address["base"], PORT), ("front", address["base"], PORT),
             ("silent", address["front"], PORT), ("silent", address["two"], PORT), ("silent", OUTSIDE4, PORT), ("one", OUTSIDE4, PORT),
             ("one", OUTSIDE6, PORT), ("one", address["away"], PORT), ("one", town.gateway, 8080), ("away", town.gateway, 8080),
             ("one", town.vip, PORT), ("away", town.vip, PORT), ("ia", address["ib"], PORT), ("ib", address["ia2"], PORT),
             ("ia", address["ic"], PORT), ("ia2", OUTSIDE4, PORT), ("ia2", address["one"], PORT), ("one", FLOATING4, PORT),
             ("one", town.gateway, 8088), ("one", "10.90.0.250", PORT), ("one", address["alone"], PORT), ("one", "10.73.0.1", 53)]
    wrong = []
    with town.listening():
        for one in tries:
            trace = town.trace(*one, live=True)
            if not trace["live"]["agrees"]:
                wrong.append((one, trace["verdict"], trace["live"]["text"], trace["hops"][-1]["text"],
                              [(s["chain"], s["verdict"], s.get("comment")) for s in trace["live"]["steps"] if s["verdict"] in ("accept", "drop")]))
        for one in (("one", address["two"], 0), ("one", address["closed"], 0), ("one", OUTSIDE4, 0)):
            trace = town.trace(one[0], one[1], one[2], protocol="icmp", live=True)
            assert trace["live"]["agrees"], (one, trace)
        trace = town.trace("one", address["two"], 5353, protocol="udp", live=True)
        assert trace["live"]["agrees"] and trace["verdict"] == "delivered", trace
    assert not wrong, f"{len(wrong)} of {len(tries)}:\n" + "\n".join(map(str, wrong))
    # Somebody else's firewall.
    node.run(["nft", f"table ip strangers {{ chain keep-out {{ type filter hook forward priority 10; ip daddr {OUTSIDE4} drop; }}; }}"])
    try:
        shown = node.cli("network", "trace", "--from", "one", "--to", f"{OUTSIDE4}:80", "--live", code=1).stdout
        assert "does NOT agree" in shown and "table ip strangers, chain keep-out" in shown and "(not brume's)" in shown, shown
        assert any(line.startswith("X") and "keep-out" in line for line in shown.splitlines()), shown
    finally:
        node.run(["nft", "delete", "table", "ip", "strangers"])
    shown = node.cli("network", "trace", "--from", "one", "--to", "two:80", "--live").stdout
    assert "the kernel agrees" in shown, shown
    assert not any("-t1" in line or "-t2" in line for line in node.run(["nft", "list", "tables"]).stdout.splitlines())
