"""brume router: networks that tenants draw, from the command line to the packets, and back."""
import contextlib
import json
import os
import socket
import threading

import kernel
import pytest
from netns import TCP, UDP, cannot_reach, talk_tcp, talk_udp
from node import NODE4, NODE6, OUTSIDE4, OUTSIDE6, Failure, eventually

FLOATING4, FLOATING6 = "192.0.2.77", "2001:db8:1::77"


class Side:
    """The network namespace of a process, used as netns.Namespace is."""

    def __init__(self, pid):
        self.pid = pid

    def inside(self):
        return kernel.inside_network_of(self.pid)

    def open(self, address, kind):
        with self.inside():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.settimeout(kernel.patient(10))
        return made

    @contextlib.contextmanager
    def listen(self, port, kind=TCP, ipv6=False):
        with self.open("::" if ipv6 else "0.0.0.0", kind) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ipv6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            server.bind(("::" if ipv6 else "0.0.0.0", port))
            if kind == TCP:
                server.listen(16)
            yield server


OUTSIDE = Side(os.getpid())


class Instance(Side):
    def __init__(self, node, name):
        found = node.instance(name)
        super().__init__(found["status"]["pid"])
        self.node, self.name = node, name
        port = found["spec"]["ports"][0]
        self.ipv4, self.ipv6 = port.get("ipv4"), port.get("ipv6")

    def own(self, ipv6):
        return self.ipv6 if ipv6 else self.ipv4

    def routes(self):
        return self.node.sh(self.name, "ip route; ip -6 route")


class Drawing:
    """Networks, routers and instances of one project, taken away at the end."""

    def __init__(self, node, reference):
        self.node, self.reference = node, reference
        # What comes through a router is judged by the groups of its target, as everything is.
        node.cli("group", "create", "open")
        node.cli("group", "allow", "--in", "any", "open")

    def network(self, name, subnet, ipv6=None, *options):
        self.node.cli("network", "create", "--isolated", "--subnet", subnet, *(["--ipv6", ipv6] if ipv6 else []),
                      name, *options)

    def launch(self, name, network, *options):
        self.node.launch(self.reference, name, "--network", network, "--group", "open", *options, command=("sleep", "100000"))
        return Instance(self.node, name)

    def router(self, *args, **more):
        return self.node.cli("router", *args, **more)

    def kernel_has(self):
        """What routers leave in the kernel and on disk."""
        node = self.node
        links = [link for link in node.links() if link[:len(node.prefix) + 1] in (f"{node.prefix}n", f"{node.prefix}r")]
        folders = os.listdir(node.run_folder / "routers") if (node.run_folder / "routers").exists() else []
        mounts = node.run(["cat", "/proc/self/mountinfo"]).stdout.count("/routers/")
        proxies = node.run(["ip", "neigh", "show", "proxy"]).stdout + node.run(["ip", "-6", "neigh", "show", "proxy"]).stdout
        routes = [line for family in ("-4", "-6") for line in node.run(["ip", family, "route"]).stdout.splitlines()
                  if "proto static" in line]
        return links, folders, mounts, proxies, routes


    def close(self):
        self.node.delete_all()
        for router in self.node.api("GET", "/1.0/routers"):
            self.router("delete", router)
        left = self.kernel_has()
        for network in self.node.api("GET", "/1.0/networks"):
            if network != "default":
                self.node.cli("network", "delete", network)
        self.node.cli("group", "delete", "open")
        assert left == ([], [], 0, "", []), left


@pytest.fixture
def drawing(busybox):
    made = Drawing(*busybox)
    yield made
    made.close()


@pytest.fixture
def border(drawing):
    """Network a with two instances, b with one, a router with an uplink that joins both."""
    drawing.network("a", "10.81.0.0/24", "fd81::/64")
    drawing.network("b", "10.82.0.0/24", "fd82::/64")
    drawing.router("create", "border", "--network", "a", "--network", "b")
    drawing.one, drawing.two = drawing.launch("one", "a"), drawing.launch("two", "b")
    return drawing


def talk_all(client, server_of, target, ipv6=False, port=80):
    with server_of.listen(port, TCP, ipv6) as server:
        seen = talk_tcp(client, target, port, server)
    with server_of.listen(port, UDP, ipv6) as server:
        assert talk_udp(client, target, port, server) == seen
    return seen


def router(node, name):
    return node.api("GET", f"/1.0/routers/{name}")


def test_three_talk_and_only_one_reaches_the_internet(drawing):
    """The drawing of the course: a router without an uplink between three, one of which has another network."""
    node = drawing.node
    for i, name in enumerate("abc"):
        drawing.network(name, f"10.8{i}.0.0/24", f"fd8{i}::/64")
    drawing.router("create", "inside", "--network", "a", "--network", "b", "--network", "c", "--no-uplink")
    three = [drawing.launch(f"i{name}", name) for name in "abc"]
    for client in three:
        for server in three:
            for ipv6 in (False, True):
                if client is not server:
                    assert talk_all(client, server, server.own(ipv6), ipv6) == client.own(ipv6)
    with OUTSIDE.listen(80):
        for client in three:
            assert cannot_reach(client, OUTSIDE4, 80)
    # One of them gets a way out: it stays in its own network, too.
    drawing.router("create", "border")
    drawing.network("out", "10.89.0.0/24", "fd89::/64")
    drawing.router("attach", "border", "out")
    node.cli("network", "attach", "--group", "open", "out", "ia")
    # Its first network's router is its default gateway still; who leads out is drawn by a route.
    drawing.router("attach", "inside", "out", "--address", "10.89.0.2")
    drawing.router("route", "add", "inside", "192.0.2.0/24", "10.89.0.1")
    drawing.router("route", "add", "border", "10.80.0.0/24", "10.89.0.2")
    assert talk_all(three[0], OUTSIDE, OUTSIDE4) == NODE4
    with OUTSIDE.listen(80):
        for client in three[1:]:
            assert cannot_reach(client, OUTSIDE4, 80)
    for server in three[1:]:
        assert talk_all(three[0], server, server.ipv4) == three[0].ipv4


@pytest.mark.parametrize("ipv6", [False, True])
def test_out_with_the_nodes_address(border, ipv6):
    one, two = border.one, border.two
    out, own = (OUTSIDE6, NODE6) if ipv6 else (OUTSIDE4, NODE4)
    assert talk_all(one, OUTSIDE, out, ipv6) == own
    assert talk_all(one, two, two.own(ipv6), ipv6) == one.own(ipv6)
    with one.listen(81, TCP, ipv6):
        assert cannot_reach(OUTSIDE, one.own(ipv6), 81)


@pytest.mark.parametrize("ipv6", [False, True])
def test_floating_addresses(border, ipv6):
    node, one, two = border.node, border.one, border.two
    floating, out, own = (FLOATING6, OUTSIDE6, NODE6) if ipv6 else (FLOATING4, OUTSIDE4, NODE4)
    border.router("floating", "add", "border", floating, "one")
    assert talk_all(OUTSIDE, one, floating, ipv6) == out
    assert talk_all(one, OUTSIDE, out, ipv6) == floating
    assert talk_all(two, OUTSIDE, out, ipv6) == own
    talk_all(two, one, floating, ipv6)
    assert "one" in node.out("router", "show", "border") and floating in node.out("router", "list")
    # Its target is stopped and started, renamed, deleted, made anew: the address follows the name.
    node.cli("rename", "one", "uno")
    assert router(node, "border")["spec"]["floating"][floating]["instance"] == "uno"
    node.cli("delete", "--force", "uno")
    eventually(lambda: "ipv4" not in router(node, "border")["spec"]["floating"][floating], 10, "no target")
    assert "nothing now: uno" in node.out("router", "show", "border")
    again = border.launch("uno", "a")
    eventually(lambda: router(node, "border")["spec"]["floating"][floating].get("ipv4") == again.ipv4 and
               router(node, "border")["status"]["generation"] == router(node, "border")["meta"]["generation"],
               10, "the new target")
    assert talk_all(OUTSIDE, again, floating, ipv6) == out
    border.router("floating", "remove", "border", floating)
    with again.listen(81, TCP, ipv6):
        assert cannot_reach(OUTSIDE, floating, 81)


def test_forwards(border):
    node, one, two = border.node, border.one, border.two
    for text in ("8080:one:80", "8080:one:80/udp", "8081:10.82.0.5:80" if two.ipv4 == "10.82.0.5" else f"8081:{two.ipv4}:80"):
        border.router("forward", "add", "border", text)
    border.router("floating", "add", "border", FLOATING4)
    border.router("forward", "add", "border", f"{FLOATING4}:90:two:80")
    for kind, talk in ((TCP, talk_tcp), (UDP, talk_udp)):
        with one.listen(80, kind) as server:
            assert talk(OUTSIDE, NODE4, 8080, server) == OUTSIDE4
            talk(Side(node.pid), "127.0.0.1", 8080, server)
            talk(two, NODE4, 8080, server)
        with one.listen(80, kind, True) as server:
            assert talk(OUTSIDE, NODE6, 8080, server) == OUTSIDE6
    with two.listen(80) as server:
        assert talk_tcp(OUTSIDE, NODE4, 8081, server) == OUTSIDE4
        assert talk_tcp(OUTSIDE, FLOATING4, 90, server) == OUTSIDE4
    # A port of the node is published once, whoever comes first.
    done = node.cli("launch", border.reference, "web", "-p", "8080:80", "--", "sleep", "1000", code=1)
    assert 'router "border"' in done.stderr, done.stderr
    node.launch(border.reference, "web", "-p", "8088:80", command=("sleep", "1000"))
    done = border.router("forward", "add", "border", "8088:one:80", code=1)
    assert 'instance "web"' in done.stderr, done.stderr
    border.router("forward", "remove", "border", "8080")
    node.launch(border.reference, "web2", "-p", "8080:80", command=("sleep", "1000"))
    border.router("forward", "remove", "border", "8080/udp")
    # What a launch cannot publish, the words of its error do.
    done = node.cli("launch", border.reference, "late", "--network", "a", "--group", "open", "-p", "8089:80", "--", "sleep", "1000", code=1)
    assert "then brume router forward add border 8089:late:80\n" in done.stderr, done.stderr
    late = border.launch("late", "a")
    border.router("forward", "add", "border", "8089:late:80")
    with late.listen(80) as server:
        assert talk_tcp(OUTSIDE, NODE4, 8089, server) == OUTSIDE4
    with one.listen(80), one.listen(80, UDP):
        assert cannot_reach(OUTSIDE, NODE4, 8082)


def test_a_static_route_between_two_routers(drawing):
    for name, number in (("a", 81), ("b", 82), ("between", 83)):
        drawing.network(name, f"10.{number}.0.0/24", f"fd{number}::/64")
    drawing.router("create", "left", "--network", "a", "--network", "between", "--no-uplink")
    drawing.router("create", "right", "--network", "b", "--no-uplink")
    drawing.router("attach", "right", "between", "--address", "10.83.0.2")
    one, two = drawing.launch("one", "a"), drawing.launch("two", "b")
    with two.listen(80):
        assert cannot_reach(one, two.ipv4, 80)
    for name, subnet, via in (("left", "10.82.0.0/24", "10.83.0.2"), ("left", "fd82::/64", "fd83::2"),
                              ("right", "10.81.0.0/24", "10.83.0.1"), ("right", "fd81::/64", "fd83::1")):
        drawing.router("route", "add", name, subnet, via)
    for ipv6 in (False, True):
        assert talk_all(one, two, two.own(ipv6), ipv6) == one.own(ipv6)
    drawing.router("route", "remove", "left", "10.82.0.0/24")
    with two.listen(80):
        assert cannot_reach(one, two.ipv4, 80)


def test_two_drawings_with_the_same_subnet(drawing):
    node, sides = drawing.node, []
    for i in range(2):
        drawing.network(f"a{i}", "10.81.0.0/24")
        drawing.router("create", f"border{i}", "--network", f"a{i}")
        sides.append(drawing.launch(f"i{i}", f"a{i},ip=10.81.0.5"))
        drawing.router("floating", "add", f"border{i}", f"192.0.2.{70 + i}", f"i{i}")
    for i, side in enumerate(sides):
        assert talk_all(side, OUTSIDE, OUTSIDE4) == f"192.0.2.{70 + i}"
        assert talk_all(OUTSIDE, side, f"192.0.2.{70 + i}") == OUTSIDE4
        assert talk_all(side, sides[1 - i], f"192.0.2.{71 - i}") == f"192.0.2.{70 + i}"
    done = drawing.router("floating", "add", "border0", "192.0.2.71", code=1)
    assert "192.0.2.71 is taken by \"border1\"" in done.stderr
    assert node.out("router", "list", "-q").split() == ["border0", "border1"]


class Stream(threading.Thread):
    """A connection that carries numbered bytes there and back until it is told to end."""

    def __init__(self, client, server_of, target, port):
        super().__init__()
        self.failed, self.rounds, self.enough = None, 0, threading.Event()
        with server_of.listen(port) as server:
            self.client = client.open(target, TCP)
            self.client.connect((target, port))
            self.accepted, _ = server.accept()
        self.accepted.settimeout(kernel.patient(10))
        self.start()

    def run(self):
        try:
            while not self.enough.is_set():
                word = self.rounds.to_bytes(8, "big")
                self.client.sendall(word)
                assert self.accepted.recv(8) == word
                self.accepted.sendall(word)
                assert self.client.recv(8) == word
                self.rounds += 1
        except (OSError, AssertionError) as error:
            self.failed = error

    def finish(self):
        self.enough.set()
        self.join()
        self.client.close()
        self.accepted.close()
        assert self.failed is None and self.rounds > 0, self.failed


def link_indexes(node):
    return sorted((it["ifname"], it["ifindex"]) for it in json.loads(node.run(["ip", "-j", "link"]).stdout)
                  if it["ifname"].startswith(node.prefix))


def test_killed_daemons_lose_nothing(border):
    node = border.node
    border.router("floating", "add", "border", FLOATING4, "one")
    border.router("forward", "add", "border", "8080:two:80")
    streams = [Stream(OUTSIDE, border.one, FLOATING4, 85), Stream(border.one, border.two, border.two.ipv4, 85),
               Stream(border.two, OUTSIDE, OUTSIDE4, 85)]
    before = link_indexes(node), node.json("router", "show", "border")["spec"]
    for name in ("agentd", "brumed", "agentd", "keeper"):
        node.kill(name)
        node.start_missing()
        node.wait_ready()
        eventually(lambda: router(node, "border")["status"].get("state") == "ready", 20, "a router that is ready")
    rounds = [stream.rounds for stream in streams]
    eventually(lambda: all(s.rounds > r for s, r in zip(streams, rounds)), 10, "streams that go on")
    for stream in streams:
        stream.finish()
    assert before == (link_indexes(node), node.json("router", "show", "border")["spec"])
    talk_all(OUTSIDE, border.one, FLOATING4)


def inside(node, *argv):
    uid, = os.listdir(node.run_folder / "routers")
    return node.run(["nsenter", f"--net={node.run_folder}/routers/{uid}/net", *argv]).stdout


def test_foreign_hands_are_seen_and_repaired(border):
    node = border.node
    border.router("floating", "add", "border", FLOATING4, "one")
    links = [link for link in border.kernel_has()[0] if link.startswith(f"{node.prefix}n")]

    def answers():
        try:
            return talk_all(OUTSIDE, border.one, FLOATING4) == OUTSIDE4 and \
                talk_all(border.one, border.two, border.two.ipv4) == border.one.ipv4
        except (OSError, AssertionError):
            return False

    for damage in (lambda: inside(node, "nft", "flush", "ruleset"), lambda: inside(node, "ip", "link", "del", "uplink"),
                   lambda: node.run(["ip", "link", "del", links[0]]), lambda: node.run(["nft", "flush", "ruleset"]),
                   lambda: inside(node, "ip", "route", "flush", "proto", "static")):
        damage()
        eventually(answers, 30, "a repaired router")


def test_the_default_gateway_follows_the_router(drawing):
    node = drawing.node
    drawing.network("a", "10.81.0.0/24", "fd81::/64")
    one = drawing.launch("one", "a")
    assert "default" not in one.routes()
    drawing.router("create", "border")
    drawing.router("attach", "border", "a")
    eventually(lambda: "default via 10.81.0.1" in one.routes() and "default via fd81::1" in one.routes(), 10, "a gateway")
    assert talk_all(one, OUTSIDE, OUTSIDE4) == NODE4
    drawing.router("detach", "border", "a")
    eventually(lambda: "default" not in one.routes(), 10, "no gateway")
    drawing.router("attach", "border", "a")
    late = drawing.launch("late", "a")
    assert "default via 10.81.0.1" in late.routes()
    assert talk_all(late, OUTSIDE, OUTSIDE6, True) == NODE6
    # Who publishes ports is answered by the way that questions come.
    node.launch(drawing.reference, "both", "--network", "a", "--network", "default", "-p", "8090:80",
                command=("sleep", "1000"))
    both = Instance(node, "both")
    assert "default via 10.81.0.1" not in both.routes()
    with both.listen(80) as server:
        assert talk_tcp(OUTSIDE, NODE4, 8090, server) == OUTSIDE4
    done = node.cli("launch", drawing.reference, "-p", "8091:80", "--network", "a", "--", "sleep", "1", code=1)
    assert "router forward" in done.stderr, done.stderr
    drawing.router("delete", "border")
    eventually(lambda: "default" not in one.routes() + late.routes(), 10, "no gateway")


def test_what_a_router_joins_stays_while_it_does(border):
    node = border.node
    for name in ("one", "two"):
        node.cli("delete", "--force", name)
    done = node.cli("network", "delete", "a", code=1)
    assert 'joined by router "border"' in done.stderr
    done = node.cli("launch", border.reference, "--network", "a,ip=10.81.0.1", "--", "sleep", "1", code=1)
    assert "gateway" in done.stderr
    border.router("attach", "border", "a", code=1)
    border.router("detach", "border", "a")
    node.cli("network", "delete", "a")
    done = border.router("detach", "border", "a", code=1)
    assert "has no network a" in done.stderr


BAD = [
    (["create", "r2", "--network", "default"], 1, "has a gateway already"),
    (["create", "r2", "--network", "nowhere"], 1, "does not exist"),
    (["create", "r2", "--network", "a"], 1, "taken by \"border\""),
    (["create", "r2", "--network", "same", "--network", "same2"], 1, "in common"),
    (["create", "border"], 1, "exists already"),
    (["create", "Bad!"], 2, "is not a name"),
    (["create", "r2", "--no-uplink", "--no-nat"], 2, "goes without"),
    (["create", "r2", "--network", "shared"], 1, "100.64.0.0/16"),
    (["create", "r2", "--no-nat", "--network", "default2"], 1, "overlaps with network \"default\""),
    (["attach", "border", "same"], 1, "in common"),
    (["attach", "border", "c", "--address", "10.99.0.1"], 1, "is not one of"),
    (["attach", "border", "c", "--address", "10.86.0.255"], 1, "is not one of"),
    (["attach", "border", "c", "--address", "x"], 2, "not an IP address"),
    (["attach", "border", "c", "--address6", "10.86.0.9"], 2, "not an IPv6 address"),
    (["attach", "nobody", "c"], 1, "does not exist"),
    (["update", "border"], 2, "--[no-]nat"),
    (["update", "border", "--nat", "--no-nat"], 2, "only one of"),
    (["update", "nobody", "--no-nat"], 1, "does not exist"),
    (["route", "add", "border", "10.99.0.0/16", "10.98.0.1"], 1, "none of the router's networks"),
    (["route", "add", "border", "10.99.0.0/16", "10.81.0.1"], 1, "the router itself"),
    (["route", "add", "border", "10.99.0.1/16", "10.81.0.9"], 2, "host bits"),
    (["route", "add", "border", "0.0.0.0/0", "10.81.0.9"], 1, "that one already"),
    (["route", "add", "border", "10.82.0.0/25", "10.81.0.9"], 1, "network \"b\""),
    (["route", "add", "border", "10.99.0.0/16", "fd81::9"], 1, "IPv4"),
    (["route", "remove", "border", "10.99.0.0/16"], 1, "has no route"),
    (["floating", "add", "border", "10.81.0.77", "one"], 1, "inside of network \"a\""),
    (["floating", "add", "border", "10.90.0.77", "one"], 1, "inside of network \"default\""),
    (["floating", "add", "border", "127.0.0.1", "one"], 1, "nobody outside"),
    (["floating", "add", "border", NODE4, "one"], 1, "of the node itself"),
    (["floating", "add", "border", "x", "one"], 2, "not an IP address"),
    (["floating", "add", "border", FLOATING4, "nobody"], 1, "does not exist"),
    (["floating", "add", "border", FLOATING4, "elsewhere"], 1, "none of the router's networks"),
    (["floating", "add", "border", FLOATING4, "10.99.0.5"], 1, "none of the router's networks"),
    (["floating", "add", "border", FLOATING4, "fd81::5"], 1, "IPv4"),
    (["floating", "add", "border", FLOATING4, "--network", "a"], 2, "none is named"),
    (["floating", "add", "inside", FLOATING4], 1, "without an uplink"),
    (["forward", "add", "inside", "8080:one:80"], 1, "without an uplink"),
    (["forward", "add", "border", "8080:one"], 2, "8080:web:80"),
    (["forward", "add", "border", "0:one:80"], 2, "8080:web:80"),
    (["forward", "add", "border", "8080:one:80/sctp"], 2, "8080:web:80"),
    (["forward", "add", "border", f"{FLOATING4}:80:one:80"], 1, "not a floating address of the router"),
    (["forward", "add", "border", "8080:nobody:80"], 1, "does not exist"),
    (["forward", "remove", "border", "8080"], 1, "has no forward"),
    (["delete", "nobody"], 1, "does not exist"),
]


def test_what_cannot_be_changes_nothing(border):
    node = border.node
    border.network("same", "10.81.0.0/25", None)
    border.network("same2", "10.81.0.0/26", None)
    border.network("c", "10.86.0.0/24", None)
    border.network("shared", "100.64.1.0/24", None)
    border.network("default2", "10.90.0.0/24", None)
    border.router("create", "inside", "--no-uplink")
    node.launch(border.reference, "elsewhere", command=("sleep", "1000"))
    before = [{"meta": {**it["meta"], "revision": 0, "generation": 0}, "spec": it["spec"]}
              for it in node.api("GET", "/1.0/routers?recursion=1")]
    kept = border.kernel_has()
    wrong = []
    for words, code, text in BAD:
        done = border.router(*words, code=None)
        if done.returncode != code or text not in done.stderr or len(done.stderr.splitlines()) > 2:
            wrong.append((words, done.returncode, done.stderr))
        after = [{"meta": {**it["meta"], "revision": 0, "generation": 0}, "spec": it["spec"]}
                 for it in node.api("GET", "/1.0/routers?recursion=1")]
        if after != before:
            wrong.append((words, "changed", after))
            break
    assert not wrong, json.dumps(wrong, indent=1)
    eventually(lambda: border.kernel_has() == kept, 10, "a kernel as before")
    talk_all(border.one, OUTSIDE, OUTSIDE4)
    for body, text in (({"routes": {"10.99.0.0/16": {}}}, "via"), ({"networks": {"c": 5}}, "object"),
                       ({"forwards": {"80": {"instance": "one"}}}, "80/tcp"), ({"transit": "100.64.0.0"}, "transit"),
                       ({"floating": {FLOATING4: {"instance": "one", "target": "10.81.0.5"}}}, "not both"),
                       ({"networks": {"c": {"uid": "0" * 32}}}, "uid"), ({"nonsense": 1}, "nonsense")):
        status, answer = node.api("PATCH", "/1.0/routers/border", body, raw=True)
        assert status == 400 and text in answer["error"], (body, answer)


def test_without_nat_and_back(border):
    node, one = border.node, border.one
    assert "leads outside: routed" in border.router("update", "border", "--no-nat").stdout
    with kernel.inside_network_of(os.getpid()):
        os.system(f"ip route add 10.81.0.0/24 via {NODE4}")
    try:
        assert talk_all(one, OUTSIDE, OUTSIDE4) == one.ipv4
        assert talk_all(OUTSIDE, one, one.ipv4) == OUTSIDE4
        done = node.cli("network", "create", "meets", "--subnet", "10.81.0.0/16", code=1)
        assert "overlaps" in done.stderr
        border.router("update", "border", "--nat")
        assert talk_all(one, OUTSIDE, OUTSIDE4) == NODE4
    finally:
        os.system("ip route del 10.81.0.0/24")


def test_a_name_is_free_again_and_listed(drawing):
    drawing.network("a", "10.81.0.0/24")
    first = drawing.node.json
    drawing.router("create", "border", "--network", "a", "-l", "who=me")
    one = first("router", "show", "border")
    assert one["meta"]["labels"] == {"who": "me"} and one["spec"]["networks"]["a"]["ipv4"] == "10.81.0.1"
    assert "nat" in drawing.node.out("router", "list") and drawing.node.out("router", "list", "-q") == "border\n"
    drawing.router("delete", "border")
    drawing.router("create", "border", "--network", "a")
    again = first("router", "show", "border")
    assert again["meta"]["uid"] != one["meta"]["uid"] and again["spec"]["transit"] == one["spec"]["transit"]
    with pytest.raises(Failure):
        drawing.router("create", "border")


def test_the_group_default_lets_no_router_in(drawing):
    """Also where br_netfilter is asked for by bridges alone, and after a restart of the agent."""
    node, switch = drawing.node, "/proc/sys/net/bridge/bridge-nf-call-iptables"
    was = node.run(["cat", switch]).stdout
    node.run(["sh", "-c", f"echo 0 > {switch}"])
    try:
        drawing.network("a", "10.81.0.0/24")
        drawing.network("b", "10.82.0.0/24")
        node.launch(drawing.reference, "one", "--network", "a", command=("sleep", "100000"))
        node.launch(drawing.reference, "two", "--network", "b", command=("sleep", "100000"))
        node.launch(drawing.reference, "next", "--network", "b", command=("sleep", "100000"))

        def judged():
            bridge = node.json("network", "info", "b")["status"]["bridge"]
            link, = json.loads(node.run(["ip", "-d", "-j", "link", "show", bridge]).stdout)
            return bool(link["linkinfo"]["info_data"]["nf_call_iptables"])

        def reaches(name, other):
            address = node.instance(other)["spec"]["ports"][0]["ipv4"]
            return node.cli("exec", name, "--", "ping", "-c", "1", "-W", "2", address, code=None).returncode == 0
        assert not judged() and reaches("next", "two")
        drawing.router("create", "middle", "--network", "a", "--network", "b", "--no-uplink")
        assert judged() and reaches("next", "two") and not reaches("one", "two")
        node.kill("agentd")
        node.wait_ready()
        assert judged() and not reaches("one", "two")
        node.cli("group", "create", "neighbours")
        node.cli("group", "allow", "--in", "icmp", "--from", "10.81.0.0/24", "neighbours")
        node.cli("update", "--group", "default,neighbours", "two")
        assert reaches("one", "two") and reaches("next", "two")
    finally:
        node.run(["sh", "-c", f"echo {was} > {switch}"])
        node.delete_all()
        node.cli("group", "delete", "neighbours", code=None)
