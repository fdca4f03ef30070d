"""Load balancers of a node: members that come and go, checks, drain, crashes and bad input."""
import collections
import contextlib
import socket
import threading

import pytest
from node import NODE4, NODE6, eventually

# Says who it is to everybody who connects, and keeps the connection for those who go on talking.
SERVE = "while :; do nc -ll -p 8080 -e sh -c 'hostname; cat'; done"
FAST = ["--interval-ms", "200", "--timeout-ms", "1000"]


@pytest.fixture
def web(busybox):
    """The shared node, and balancers that are taken away afterwards."""
    node, reference = busybox
    yield node, reference
    for name in node.api("GET", "/1.0/balancers"):
        node.cli("balancer", "delete", name)


def launch(node, reference, name, *options, label="role=web"):
    node.launch(reference, name, "--label", label, *options, command=["sh", "-c", SERVE])


def create(node, name="lb", *options, listen="80:8080", **more):
    return node.cli("balancer", "create", name, "--listen", listen, "--selector", "role=web",
                    *options, **more)


def show(node, name="lb"):
    return node.api("GET", "/1.0/balancers/" + name)


def members(node, name="lb"):
    return {m["instance"]: m for m in show(node, name)["status"].get("members", [])}


def connect(address=NODE4, port=80, timeout=5):
    """A connection, and who answers."""
    link = socket.create_connection((address, port), timeout)
    return link, link.recv(100).decode().strip()


def ask(address=NODE4, port=80):
    """Who answers, or None when nobody does: refused, or given to a member that is paused just now."""
    try:
        link, name = connect(address, port)
    except (ConnectionRefusedError, TimeoutError):
        return None
    link.close()
    return name


def answering(count=8, **more):
    return set(ask(**more) for _ in range(count))


def answers(names, **more):
    wanted = set(names) or {None}
    return eventually(lambda: answering(**more) == wanted, 20, f"{wanted} to answer")


def test_members_are_followed(web):
    node, reference = web
    out = create(node).stdout
    assert "lb listens at  80->8080" in out and "members 0/0" in out
    assert show(node)["status"]["state"] == "down" and ask() is None
    launch(node, reference, "a")
    answers(["a"])
    launch(node, reference, "b")
    answers(["a", "b"])
    counts = collections.Counter(ask() for _ in range(40))
    assert counts == {"a": 20, "b": 20}
    assert answering(address=NODE6) == {"a", "b"}
    # A label comes and goes, an instance stops, starts, gets another name and goes.
    launch(node, reference, "c", label="role=other")
    eventually(lambda: set(members(node)) == {"a", "b"}, 10, "both members")
    node.cli("update", "c", "--label", "role=web")
    answers(["a", "b", "c"], count=12)
    node.cli("update", "c", "--remove-label", "role")
    answers(["a", "b"])
    node.cli("stop", "-t", "0", "a")
    answers(["b"])
    node.cli("start", "a")
    answers(["a", "b"])
    node.cli("rename", "b", "b2")
    eventually(lambda: set(members(node)) == {"a", "b2"}, 10, "the new name")
    node.cli("pause", "a")
    answers(["b"])
    node.cli("resume", "a")
    answers(["a", "b"])
    node.cli("delete", "--force", "b2")
    answers(["a"])
    node.cli("balancer", "delete", "lb")
    assert ask() is None
    assert f"{node.prefix}-b" not in node.run(["nft", "list", "tables"]).stdout


def test_checks_take_members_out_and_in(web):
    node, reference = web
    launch(node, reference, "a")
    launch(node, reference, "b")
    for name in "ab":
        node.sh(name, "mkdir /www && echo fine > /www/healthz && httpd -p 8081 -h /www")
    create(node, "lb", "--check", "http:8081/healthz", "--rise", "2", "--fall", "2", *FAST)
    answers(["a", "b"])
    node.sh("a", "mv /www/healthz /www/gone")
    answers(["b"])
    # The kernel knows first, then it is told.
    eventually(lambda: members(node)["a"]["health"] == "unhealthy", 10, "a that is unhealthy")
    found = members(node)
    assert found["b"]["health"] == "healthy"
    assert found["a"]["why"] == "port 8081: it answers with another status than 200 to 399"
    assert show(node)["status"]["state"] == "ready"
    node.sh("b", "killall httpd")
    answers([])
    eventually(lambda: show(node)["status"]["state"] == "down", 10, "a balancer that is down")
    status = show(node)["status"]
    assert "no member passes its check" in status["error"]
    assert "b: port 8081: connection refused" in status["error"] or "a: port" in status["error"]
    text = node.out("balancer", "show", "lb")
    assert "connection refused" in text and "http:8081 /healthz" in text
    node.sh("a", "mv /www/gone /www/healthz")
    answers(["a"])
    # Another check, while it runs: everybody passes that one.
    node.cli("balancer", "update", "lb", "--check", "tcp")
    answers(["a", "b"])
    node.cli("balancer", "update", "lb", "--check", "tcp:9")
    answers([])
    node.cli("balancer", "update", "lb", "--check", "none")
    answers(["a", "b"])


def test_drain(web):
    node, reference = web
    launch(node, reference, "a")
    launch(node, reference, "b")
    create(node, "lb", "--drain-s", "600")
    answers(["a", "b"])
    held = {}
    while set(held) != {"a", "b"}:
        link, name = connect()
        held.setdefault(name, link)
    assert "gets no new connections" in node.out("balancer", "drain", "lb", "a")
    assert answering() == {"b"}
    held["a"].sendall(b"still\n")
    assert held["a"].recv(100) == b"still\n"
    found = eventually(lambda: members(node)["a"].get("connections") and members(node)["a"], 20,
                       "its connections to be counted")
    assert found["draining"] and not found.get("drained")
    held["a"].close()
    eventually(lambda: members(node)["a"].get("drained"), 20, "it to be drained")
    assert "a " in node.out("balancer", "show", "lb") and "drained" in node.out("balancer", "show", "lb")
    node.cli("balancer", "drain", "--undo", "lb", "a")
    answers(["a", "b"])
    said = node.cli("balancer", "drain", "lb", "none-such", code=1).stderr
    assert "instance \"none-such\" does not exist" in said
    held["b"].close()
    # With no time to wait it is drained at once, whatever it has.
    node.cli("balancer", "update", "lb", "--drain-s", "0")
    node.cli("balancer", "drain", "lb", "b")
    assert answering() == {"a"}
    eventually(lambda: members(node)["b"].get("drained"), 10, "it to be drained")
    node.cli("balancer", "drain", "lb", "a")
    answers([])
    eventually(lambda: "all 2 members are drained" in show(node)["status"].get("error", ""), 10, "the reason")


def test_least_connections(web):
    node, reference = web
    launch(node, reference, "a")
    launch(node, reference, "b")
    create(node, "lb", "--algorithm", "least_connections")
    answers(["a", "b"], count=20)
    node.cli("balancer", "drain", "lb", "b")
    held = [connect() for _ in range(30)]
    assert {name for _, name in held} == {"a"}
    node.cli("balancer", "drain", "--undo", "lb", "b")
    eventually(lambda: members(node)["b"].get("weight", 0) > 700, 30, "the idle one to weigh more")
    got = collections.Counter(ask() for _ in range(200))
    assert got["b"] > 2 * got["a"] > 0
    for link, _ in held:
        link.close()


@contextlib.contextmanager
def load():
    """Connections without end; gives what failed."""
    failures, done, end = [], [0], threading.Event()

    def run():
        while not end.is_set():
            try:
                link, name = connect()
                link.sendall(b"x\n")
                assert link.recv(10) == b"x\n"
                link.close()
                done[0] += 1
            except Exception as error:  # noqa: BLE001 - every failure counts
                failures.append(repr(error))
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield failures, done
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_daemons_are_killed_under_load(web):
    node, reference = web
    launch(node, reference, "a")
    launch(node, reference, "b")
    create(node, "lb", "--check", "tcp", *FAST)
    answers(["a", "b"])
    held = [connect() for _ in range(4)]
    with load() as (failures, done):
        for name in ("agentd", "brumed", "keeper", "agentd"):
            before = done[0]
            node.kill(name)
            node.wait_ready()
            eventually(lambda: done[0] > before + 20, 20, "connections to go on")
    assert failures == []
    for link, _ in held:
        link.sendall(b"on\n")
        assert link.recv(10) == b"on\n"
        link.close()
    eventually(lambda: {m["health"] for m in members(node).values()} == {"healthy"}, 20, "health")
    launch(node, reference, "c")
    answers(["a", "b", "c"], count=12)


def test_others_break_the_table(web):
    node, reference = web
    launch(node, reference, "a")
    create(node)
    answers(["a"])
    link, _ = connect()
    node.run(["nft", "flush", "ruleset"])
    answers(["a"])
    link.sendall(b"on\n")
    assert link.recv(10) == b"on\n"
    link.close()


def test_an_address_of_its_own(web):
    node, reference = web
    launch(node, reference, "a")
    launch(node, reference, "b")
    out = create(node, "lb", "--vip", "auto", listen="80:8080").stdout
    vip = show(node)["spec"]["vip"]
    assert vip["ipv4"] in out and show(node)["spec"]["listen"][0]["address"] == "vip"
    assert ask() is None, "not at the node"
    node.launch(reference, "client", command=["sleep", "1000"])

    def seen():
        script = f"for i in 1 2 3 4 5 6; do nc {vip['ipv4']} 80 < /dev/null | head -n1; done"
        return set(node.sh("client", script).split())
    assert eventually(lambda: seen() == {"a", "b"}, 15, "both to answer")
    node.kill("agentd")
    node.wait_ready()
    assert seen() == {"a", "b"}
    # Somebody takes it off the bridge: it is put back, and the log says so.
    bridge = node.api("GET", "/1.0/networks/default")["status"]["bridge"]
    for address in (f"{vip['ipv4']}/32", *([f"{vip['ipv6']}/128"] if "ipv6" in vip else [])):
        node.run(["ip", "addr", "del", address, "dev", bridge])
        eventually(lambda: address.split("/")[0] + "/" in node.run(["ip", "addr", "show", "dev", bridge]).stdout, 10,
                   "the address")
    assert seen() == {"a", "b"} and "addresses of load balancers were changed by somebody else, repaired" in node.log(400)
    # The address is the balancer's.
    said = node.cli("launch", "--network", f"default,ip={vip['ipv4']}", reference, "thief", code=1)
    assert f"address {vip['ipv4']} is taken by balancer \"lb\"" in said.stderr
    node.cli("balancer", "delete", "lb")
    assert vip["ipv4"] not in node.run(["ip", "addr"]).stdout


def test_ports_are_reserved_and_given_back(web):
    node, reference = web
    launch(node, reference, "a", "-p", "1080:8080")
    said = create(node, listen="1080:8080", code=1).stderr
    assert "port 1080/tcp is already published by instance \"a\"" in said
    with node.inside():
        taken = socket.create_server(("0.0.0.0", 1081))
    said = create(node, listen="1081:8080", code=1).stderr
    assert "port 1081/tcp is in use by a process of the host" in said
    assert node.api("GET", "/1.0/balancers") == []
    create(node, listen="1082:8080")
    said = node.cli("balancer", "update", "lb", "--listen", "1081:8080", code=1).stderr
    assert "is in use by a process" in said
    answers(["a"], port=1082)
    taken.close()
    node.cli("balancer", "update", "lb", "--listen", "1081:8080", "--listen", "1083:8080")
    answers(["a"], port=1081)
    answers(["a"], port=1083)
    assert ask(port=1082) is None
    said = node.cli("launch", "-p", "1081:80", reference, "b", code=1).stderr
    assert "port 1081/tcp is taken by balancer \"lb\"" in said


def test_bad_input(web):
    node, reference = web
    usage = [
        (["--listen", "0", "--selector", "a"], "no place to listen at"),
        (["--listen", "80/sctp", "--selector", "a"], "no place to listen at"),
        (["--listen", "80"], "--selector is missing"),
        (["--selector", "a"], "--listen is missing"),
        (["--listen", "80", "--selector", "a b=c"], "is not a selector"),
        (["--listen", "80", "--selector", "a", "--algorithm", "best"], "there are round_robin"),
        (["--listen", "80", "--selector", "a", "--check", "icmp"], "is not a check"),
        (["--listen", "80", "--selector", "a", "--vip", "here"], "must be an IP address"),
        (["--listen", "80", "--selector", "a", "--drain-s", "-1"], "--drain-s"),
    ]
    for words, said in usage:
        done = node.cli("balancer", "create", "x", *words, code=2)
        assert said in done.stderr, done.stderr
    node.cli("network", "create", "inside", "--isolated")
    try:
        failures = [
            (["--network", "nope"], "network: \"nope\" does not exist"),
            (["--network", "inside"], "is isolated"),
            (["--vip", "192.0.2.99"], "is outside of"),
            (["--check", "http:/a b"], "must begin with '/'"),
            (["--check", "http:/a\r\nX:y"], "must begin with '/'"),
        ]
        for words, said in failures:
            done = create(node, "x", *words, code=1)
            assert said in done.stderr and done.stderr.count("\n") <= 2, done.stderr
        listens = [word for n in range(65) for word in ("--listen", str(1000 + n))]
        done = node.cli("balancer", "create", "x", "--selector", "a", *listens, code=1)
        assert "at most 64 are possible" in done.stderr
    finally:
        node.cli("network", "delete", "inside")
    bodies = [None, [], {}, {"name": "x"}, {"name": "x", "selector": 5, "listen": []},
              {"name": "x", "selector": "a", "listen": [{"port": 80, "address": "vip"}]},
              {"name": "../x", "selector": "a", "listen": [{"port": 80}]},
              {"name": "x", "selector": "a", "listen": [{"port": 80}], "members": []}]
    for body in bodies:
        status, answer = node.api("POST", "/1.0/balancers", body, raw=True)
        assert status == 400 and answer["type"] == "error", (body, answer)
    for path in ("/1.0/balancers/nope", "/1.0/balancers/nope/members/a"):
        method = "PUT" if "members" in path else "PATCH"
        assert node.api(method, path, {"drain": True} if method == "PUT" else {"drain_s": 1},
                        raw=True)[0] == 404
    assert node.api("GET", "/1.0/balancers") == []
    assert f"{node.prefix}-b" not in node.run(["nft", "list", "tables"]).stdout
