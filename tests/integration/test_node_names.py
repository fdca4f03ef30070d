"""Names of instances: the full ones, the search list, several networks, isolated ones; on a whole node."""
import pytest

from node import eventually


def look_up(node, asker, name):
    """What busybox's nslookup prints in an instance, behind the lines about the server."""
    done = node.cli("exec", asker, "--", "nslookup", name, code=None)
    return done.stdout.split("\n\n", 1)[-1]


def addresses(node, name):
    return {port["network"]: port["ipv4"] for port in node.instance(name)["spec"]["ports"]}


@pytest.fixture
def back(busybox):
    node, reference = busybox
    node.cli("network", "create", "back", "--subnet", "10.71.0.0/24", "--dns-domain", "back.test")
    node.cli("network", "create", "inside", "--isolated", "--subnet", "10.72.0.0/24")
    yield node, reference
    for name in node.out("list", "-q").split():
        node.cli("delete", "--force", name)
    node.cli("network", "delete", "back", "inside")


def test_full_names_on_every_network(back):
    node, reference = back
    node.launch(reference, "web", command=("sleep", "1000"))
    node.launch(reference, "both", "--network", "back", "--network", "inside", command=("sleep", "1000"))
    node.launch(reference, "db", "--network", "inside", command=("sleep", "1000"))
    assert node.sh("web", "cat /etc/resolv.conf").splitlines()[0] == "search default.default.internal brume.internal"
    assert node.sh("both", "cat /etc/resolv.conf").splitlines()[:2] == [
        "search back.default.internal back.test", "nameserver 10.71.0.1"]
    web, both, db = (addresses(node, name) for name in ("web", "both", "db"))
    for asker in ("web", "both"):
        for name, address in (("web.default.default.internal", web["default"]), ("both.back.default.internal", both["back"]),
                              ("both.inside.default.internal", both["inside"]), ("db.inside.default.internal", db["inside"])):
            eventually(lambda a=asker, n=name, ip=address: ip in look_up(node, a, n), 10, f"{asker} finds {name}")
            assert name in look_up(node, asker, address), "translated back to the full name"
    assert both["back"] in look_up(node, "both", "both.back.test")
    assert web["default"] not in look_up(node, "both", "web"), "a short name is one of the own network"
    # On an isolated network nobody answers, and nobody is named who could.
    assert "nameserver" not in node.sh("db", "cat /etc/resolv.conf")
    node.cli("delete", "--force", "db")
    eventually(lambda: db["inside"] not in look_up(node, "both", "db.inside.default.internal"), 10, "the end of a name")


def test_one_that_is_renamed_or_moves(back):
    node, reference = back
    node.launch(reference, "asker", command=("sleep", "1000"))
    node.launch(reference, "one", command=("sleep", "1000"))
    old = addresses(node, "one")["default"]
    node.cli("rename", "one", "two")
    eventually(lambda: old in look_up(node, "asker", "two.default.default.internal"), 10, "the new name")
    assert old not in look_up(node, "asker", "one.default.default.internal")
    node.cli("network", "attach", "back", "two")
    new = addresses(node, "two")["back"]
    eventually(lambda: new in look_up(node, "asker", "two.back.default.internal"), 10, "the name on one more network")
    node.cli("network", "detach", "default", "two")
    eventually(lambda: old not in look_up(node, "asker", "two.default.default.internal"), 10, "its end on the first")
    assert node.sh("two", "cat /etc/resolv.conf").splitlines()[:2] == [
        "search back.default.internal back.test", "nameserver 10.71.0.1"]
    node.kill("agentd")
    node.start_missing()
    node.wait_ready()
    assert new in look_up(node, "asker", "two.back.default.internal")


def test_what_a_network_shows_and_refuses(back):
    node, _ = back
    shown = node.out("network", "show", "back")
    assert "10.71.0.1" in shown and "NAME.back.default.internal" in shown and "back.test" in shown
    assert "none: it is isolated" in node.out("network", "info", "inside")
    for domain in ("a..b", "-a", "a b", "x" * 64, ".".join(["x" * 60] * 4), "a/b", ""):
        done = node.cli("network", "create", "bad", f"--dns-domain={domain}", code=None)
        assert done.returncode in (1, 2) and done.stderr.count("\n") <= 2, done.stderr
        assert "dns" in done.stderr, done.stderr
    # What would be without effect is refused.
    assert "no name server" in node.cli("network", "create", "bad", "--isolated", "--dns-domain", "x.test", code=2).stderr
    for body, text in (({"isolated": True, "dns_domain": "x.test"}, "no name server"),
                       ({"ipv4": "10.75.0.0/24", "gateway4": "10.75.0.9"}, "the first address")):
        status, answer = node.api("POST", "/1.0/networks", {"name": "bad", **body}, raw=True)
        assert status == 400 and text in answer["error"], answer
    assert [it["meta"]["name"] for it in node.json("network", "list")] == ["back", "default", "inside"]
