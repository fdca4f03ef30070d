"""Security groups from the command line to the packets: who reaches whom, and what a change costs nobody."""
import json
import signal
import socket
import sqlite3

import images
import kernel
import pytest
from node import eventually

SERVER = ("sh", "-c", "for p in 80 81 8080; do nc -ll -p $p -e echo hello & done; "
                      "sleep 100000")


@pytest.fixture
def world(busybox):
    """A node, an image, and what is left of groups and networks taken away."""
    node, reference = busybox
    yield node, reference
    node.delete_all()
    for name in node.api("GET", "/1.0/groups"):
        node.wait_operation(node.api("PUT", f"/1.0/groups/{name}", {}))
    for name in node.api("GET", "/1.0/groups"):
        if name != "default":
            eventually(lambda name=name: is_gone(node, name), what=f"the end of group {name}")
    default = {"ingress": [{"protocol": "any", "from": {"group": "self"}}]}
    node.wait_operation(node.api("PUT", "/1.0/groups/default", default))
    for name in node.api("GET", "/1.0/networks"):
        if name != "default":
            node.cli("network", "delete", name)


def is_gone(node, name):
    status, _ = node.api("DELETE", f"/1.0/groups/{name}", raw=True)
    return status == 404


@pytest.fixture
def own(node):
    """A node whose daemons may be killed."""
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    return node, reference


def start(node, reference, name, *options):
    node.launch(reference, name, *options, command=SERVER)
    eventually(lambda: ":0050 " in node.sh(name, "cat /proc/net/tcp*"), what="its server")


def address(node, name, member="ipv4", network="default"):
    return next(p[member] for p in node.instance(name)["spec"]["ports"] if p["network"] == network)


def reaches(node, client, server, port=80, member="ipv4"):
    to = address(node, server, member)
    return "hello" in node.sh(client, f"nc -w 1 {to} {port} </dev/null 2>&1; true")


def in_network_of(node, name, kind):
    with kernel.inside_network_of(node.instance(name)["status"]["pid"]):
        it = socket.socket(socket.AF_INET, kind)
    it.settimeout(kernel.patient(10))
    return it


def reaches_udp(node, client, server, port=53):
    to = (address(node, server), port)
    with in_network_of(node, server, socket.SOCK_DGRAM) as there, \
            in_network_of(node, client, socket.SOCK_DGRAM) as here:
        there.bind(to)
        there.settimeout(0.7)
        here.sendto(b"x", to)
        try:
            return there.recv(10) == b"x"
        except TimeoutError:
            return False


def pings(node, client, server):
    return "1 packets received" in node.sh(
        client, f"ping -c 1 -W 1 {address(node, server)} 2>&1; true")


def bridge_filters(node, network="default"):
    bridge = node.api("GET", f"/1.0/networks/{network}")["status"]["bridge"]
    return "nf_call_iptables 1" in node.run(["ip", "-d", "link", "show", bridge]).stdout


def test_the_default_group(world):
    node, reference = world
    start(node, reference, "one")
    start(node, reference, "two")
    assert reaches(node, "one", "two") and reaches(node, "two", "one", member="ipv6")
    assert "default" in node.out("group", "list")
    shown = node.out("group", "show", "default")
    assert "any" in shown and "from group default" in shown
    assert "cannot be deleted" in node.cli("group", "delete", "default", code=1).stderr
    # Bridged frames of a network where all are of one mind need no judge.
    assert not bridge_filters(node)
    node.cli("group", "create", "shut")
    node.launch(reference, "three", "--group", "shut", command=SERVER)
    assert bridge_filters(node)
    assert reaches(node, "one", "two") and not reaches(node, "one", "three")
    assert not reaches(node, "three", "one"), "it is no member of default"
    # The default group can be changed like any other.
    node.cli("group", "deny", "default", "1")
    assert not reaches(node, "one", "two")
    node.cli("group", "allow", "default", "--in", "tcp:81")
    assert reaches(node, "one", "two", 81) and reaches(node, "three", "one", 81)


def test_default_deny_between_two_groups(world):
    node, reference = world
    node.cli("group", "create", "web", "--description", "the front")
    node.cli("group", "create", "db")
    start(node, reference, "front", "--group", "web")
    start(node, reference, "back", "--network", "default,group=db")
    for member in ("ipv4", "ipv6"):
        assert not reaches(node, "front", "back", member=member)
        assert not reaches(node, "back", "front", member=member)
    assert not pings(node, "front", "back") and not reaches_udp(node, "front", "back")
    # By group and port.
    done = node.cli("group", "allow", "db", "--in", "tcp:80", "--from-group", "web")
    assert done.stdout == "db: lets in tcp:80 from group web\n"
    assert reaches(node, "front", "back") and reaches(node, "front", "back", member="ipv6")
    assert not reaches(node, "front", "back", 81) and not reaches(node, "back", "front")
    # By a range, by address, icmp, udp.
    node.cli("group", "allow", "db", "--in", "tcp:8000-8080", "--from", address(node, "front") + "/32")
    assert reaches(node, "front", "back", 8080)
    assert not reaches(node, "front", "back", 8080, member="ipv6")
    node.cli("group", "allow", "db", "--in", "icmp")
    assert pings(node, "front", "back")
    node.cli("group", "allow", "db", "--in", "udp:53")
    assert reaches_udp(node, "front", "back")
    rules = node.out("group", "show", "db", "-f", "plain").splitlines()
    assert [line.split("\t")[:4] for line in rules] == [
        ["1", "in", "tcp:80", "from group web"],
        ["2", "in", "tcp:8000-8080", f"from {address(node, 'front')}/32"],
        ["3", "in", "icmp", "from anybody"], ["4", "in", "udp:53", "from anybody"]]
    # And taken away again.
    node.cli("group", "deny", "db", "2")
    assert not reaches(node, "front", "back", 8080) and reaches_udp(node, "front", "back")
    # What goes out.
    node.cli("group", "allow", "web", "--out", "udp:53", "--to-group", "db")
    assert not reaches(node, "front", "back") and reaches_udp(node, "front", "back")
    node.cli("group", "allow", "web", "--out", "any")
    assert reaches(node, "front", "back")


def test_groups_change_while_it_runs(world):
    node, reference = world
    for name in ("web", "db"):
        node.cli("group", "create", name)
    node.cli("group", "allow", "db", "--in", "tcp:80", "--from-group", "web")
    start(node, reference, "client")
    start(node, reference, "server")
    assert reaches(node, "client", "server", 81)
    node.cli("update", "--group", "db", "server")
    assert not reaches(node, "client", "server")
    node.cli("update", "--group", "web,default", "client")
    assert reaches(node, "client", "server") and not reaches(node, "client", "server", 81)
    assert "in web, default" in node.out("info", "client")
    node.cli("update", "--network", "default", "--group", "default", "server")
    assert reaches(node, "client", "server", 81)
    # A second network with groups of its own.
    node.cli("network", "create", "back", "--subnet", "10.73.0.0/24")
    node.cli("network", "attach", "back", "client", "--group", "web")
    node.cli("network", "attach", "back", "server", "--group", "db")
    to = address(node, "server", network="back")
    assert "hello" in node.sh("client", f"nc -w 1 {to} 80 </dev/null")
    assert "hello" not in node.sh("client", f"nc -w 1 {to} 81 </dev/null 2>&1; true")
    node.cli("update", "--network", "back", "--group", "default", "client")
    assert "hello" not in node.sh("client", f"nc -w 1 {to} 80 </dev/null 2>&1; true")
    assert reaches(node, "client", "server", 81), "the other port is as it was"


def test_what_is_in_use_stays(world):
    node, reference = world
    node.cli("group", "create", "web")
    node.cli("group", "create", "db")
    node.cli("group", "allow", "db", "--in", "tcp:80", "--from-group", "web")
    done = node.cli("group", "delete", "web", code=1)
    assert 'security group "web" is used by a rule of group db' in done.stderr
    node.launch(reference, "it", "--group", "db", command=("sleep", "1000"))
    assert "is used by instance it" in node.cli("group", "delete", "db", code=1).stderr
    node.cli("update", "--group", "default", "it")
    node.cli("group", "delete", "db")
    node.cli("group", "delete", "web")
    listed = node.run(["nft", "list", "chains", "inet"]).stdout
    assert sum(line.strip().startswith("chain g-") for line in listed.splitlines()) == 1, listed


def test_published_ports_are_open(world):
    node, reference = world
    node.cli("group", "create", "shut")
    start(node, reference, "server", "--group", "shut", "-p", "8099:80")
    start(node, reference, "client", "--group", "shut")
    assert not reaches(node, "client", "server", 81)
    with socket.create_connection(("192.0.2.2", 8099), 5) as outside:
        assert outside.recv(100) == b"hello\n"
    gateway = node.api("GET", "/1.0/networks/default")["spec"]["gateway4"]
    assert "hello" in node.sh("client", f"nc -w 2 {gateway} 8099 </dev/null 2>&1; true")


def make_project(node, name):
    """A second project, put into the store of a node whose daemons do not run."""
    for daemon in ("brumed", "agentd"):
        node.kill(daemon, signal.SIGTERM)
    node.stop_supervision()
    node.kill("brumed")
    store = node.state / "control/store.db"
    with sqlite3.connect(store) as db:
        key, value, created, modified, lease = db.execute(
            "SELECT * FROM kv WHERE key = '/project/_/default'").fetchone()
        project = json.loads(value)
        project["meta"].update(name=name, uid="0123456789abcdef0123456789abcdef")
        db.execute("INSERT INTO kv VALUES (?, ?, ?, ?, ?)",
                   (f"/project/_/{name}", json.dumps(project), created, modified, lease))
    db.close()
    node.start_missing()
    node.wait_ready()


def test_two_projects_have_groups_of_the_same_name(own):
    node, reference = own
    make_project(node, "other")
    uids = set()
    for project in ("default", "other"):
        node.cli("--project", project, "group", "create", "web")
        shown = json.loads(node.out("--project", project, "group", "show", "web", "-f", "json"))
        default = json.loads(node.out("--project", project, "group", "show", "default", "-f", "json"))
        assert default["spec"]["ingress"][0]["from"]["uid"] == default["meta"]["uid"]
        uids |= {shown["meta"]["uid"], default["meta"]["uid"]}
    assert len(uids) == 4
    node.cli("--project", "other", "group", "allow", "web", "--in", "tcp:80", "--from-group", "self")
    assert not node.api("GET", "/1.0/groups/web")["spec"]["ingress"]
    node.cli("--project", "other", "group", "create", "only")
    node.cli("group", "allow", "web", "--in", "tcp", "--from-group", "only", code=1)
    assert 'security group "only" does not exist' in node.cli(
        "launch", reference, "it", "--group", "only", code=1).stderr


def talk(node, client, server):
    it = in_network_of(node, client, socket.SOCK_STREAM)
    it.connect((address(node, server), 7))
    return it


def test_established_connections_survive(own):
    """A rule goes, the judge of the bridge comes, the agent dies: who talks goes on talking."""
    node, reference = own
    node.launch(reference, "server", command=("sh", "-c", "nc -ll -p 7 -e cat & sleep 100000"))
    node.launch(reference, "client", command=("sleep", "100000"))
    eventually(lambda: ":0007 " in node.sh("server", "cat /proc/net/tcp*"), what="its server")
    connection = talk(node, "client", "server")

    def alive():
        connection.sendall(b"x" * 1000)
        size = 0
        while size < 1000:
            size += len(connection.recv(1000))
    alive()
    assert not bridge_filters(node)
    # Others of another group come: from now on frames are judged, and this one was there before.
    node.cli("group", "create", "shut")
    node.launch(reference, "third", "--group", "shut", command=("sleep", "1000"))
    assert bridge_filters(node)
    alive()
    node.cli("group", "deny", "default", "1")
    alive()
    with pytest.raises(OSError):
        talk(node, "client", "server")
    for _ in range(3):
        node.kill("agentd")
        alive()
        node.cli("group", "allow", "shut", "--in", "icmp")
        alive()
    with pytest.raises(OSError):
        talk(node, "client", "server")
    node.cli("group", "allow", "default", "--in", "tcp:7", "--from-group", "self")
    talk(node, "client", "server").close()
    alive()
    node.run(["nft", "flush", "ruleset"])
    alive()
    eventually(lambda: "g-" in node.run(["nft", "list", "ruleset"]).stdout, what="the repair")
    alive()
    connection.close()


def test_the_judge_comes_while_they_talk(own):
    """Two on a network without a judge; one changes its group while data flow, in one direction only."""
    node, reference = own
    node.launch(reference, "server", command=(
        "sh", "-c", "nc -ll -p 7 -e sh -c 'while true; do date; usleep 20000; done' & sleep 100000"))
    node.launch(reference, "client", command=("sleep", "100000"))
    eventually(lambda: ":0007 " in node.sh("server", "cat /proc/net/tcp*"), what="its server")
    it = talk(node, "client", "server")
    assert it.recv(10) and not bridge_filters(node)
    node.cli("group", "create", "shut")
    node.cli("update", "--group", "shut", "client")
    assert bridge_filters(node)
    for _ in range(20):
        assert it.recv(1000)
    it.close()
    eventually(lambda: " 01 " not in node.sh("server", "cat /proc/net/tcp*"), what="its end")


BAD = [
    (("create", "Web"), 2, "is not a name"),
    (("create", "self"), 1, '"self" means the group itself'),
    (("create", "default"), 1, "exists already"),
    (("show", "nix"), 1, 'group "nix" does not exist'),
    (("delete", "nix"), 1, 'group "nix" does not exist'),
    (("allow", "web"), 2, "--in or --out"),
    (("allow", "web", "--in", "tcp", "--out", "tcp"), 2, "--in or --out"),
    (("allow", "web", "--in", "gre"), 2, "is not known, use tcp"),
    (("allow", "web", "--in", "icmp:8"), 2, "icmp has no ports"),
    (("allow", "web", "--in", "tcp:90-80"), 2, "did you mean 80-90?"),
    (("allow", "web", "--in", "tcp:0"), 2, "must be a port from 1 to 65535"),
    (("allow", "web", "--in", "tcp:80", "--from", "10.0.0.1/8"), 2, "did you mean 10.0.0.0/8?"),
    (("allow", "web", "--in", "tcp:80", "--from", "10.0.0.1"), 2, "is not a subnet"),
    (("allow", "web", "--in", "tcp:80", "--from", "10.0.0.0/8", "--from-group", "web"), 2, "not both"),
    (("allow", "web", "--in", "tcp:80", "--to", "10.0.0.0/8"), 2, "--in goes with --from"),
    (("allow", "web", "--in", "tcp:80", "--from-group", "web"), 2, 'refers to itself as "self"'),
    (("allow", "web", "--in", "tcp:80", "--from-group", "nix"), 1, 'group "nix" does not exist'),
    (("deny", "web", "1"), 1, "there is no rule 1"),
    (("deny", "web", "one"), 2, "the rule's number"),
]


def test_bad_input_changes_nothing(world):
    node, reference = world
    node.cli("group", "create", "web")
    before = node.api("GET", "/1.0/groups/web")
    for words, code, text in BAD:
        done = node.cli("group", *words, code=code)
        assert text in done.stderr, (words, done.stderr)
        assert len(done.stderr.splitlines()) <= 2, done.stderr
    for body, text in (({"ingress": [{}] * 257}, "256 rules at most"),
                       ({"ingress": [{"from": {"group": "web", "cidr": "10.0.0.0/8"}}]}, "not both"),
                       ({"ingress": [{"protocol": "icmp", "ports": "8"}]}, "has none"),
                       ({"node": "x"}, "node: is not known"), ([], "")):
        for method in ("PUT", "PATCH"):
            status, answer = node.api(method, "/1.0/groups/web", body, raw=True)
            assert status == 400 and text in answer["error"], (body, answer)
    status, answer = node.api("DELETE", "/1.0/groups/web/rules/x", raw=True)
    assert status == 400 and "must be its number" in answer["error"]
    assert node.api("GET", "/1.0/groups/web") == before
    for options, text in ((("--group", "nix"), 'security group "nix" does not exist'),
                          (("--network", "default,group=nix"), "does not exist")):
        assert text in node.refused(reference, "it", *options)
    for options in (("--group", "web,web"), ("--group", ""), ("--group", "A"),
                    ("--network", "none", "--group", "web"), ("--network", "default,group=")):
        node.cli("launch", reference, "it", *options, code=2)
    node.launch(reference, "it", command=("sleep", "1000"))
    assert "does not exist" in node.cli("update", "--group", "nix", "it", code=1).stderr
    assert "--group" in node.cli("update", "--network", "default", "it", code=2).stderr
    assert "not attached" in node.cli("update", "--network", "nix", "--group", "web", "it",
                                      code=1).stderr
    assert not node.instance("it")["spec"]["ports"][0].get("groups")
