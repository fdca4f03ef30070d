"""Flow logs: who talked with whom, from the packets to the command line, over every death of the agent."""
import contextlib
import json
import signal
import subprocess

import images
import pytest
from netns import TCP, UDP, talk_tcp, talk_udp
from node import NODE4, OUTSIDE4, Failure, eventually
from test_node_router import OUTSIDE, Instance

SETTINGS = "/proc/sys/net/netfilter/nf_conntrack_"
# What the kernel remembers of flows that are over, short enough to wait for.
SOON = {"tcp_timeout_time_wait": 1, "tcp_timeout_last_ack": 1, "tcp_timeout_close": 1, "udp_timeout": 1,
        "udp_timeout_stream": 1, "icmp_timeout": 1}


def setting(node, name):
    return node.run(["cat", SETTINGS + name]).stdout.strip()


def forget_soon(node, enter=()):
    for name, seconds in SOON.items():
        node.run([*enter, "sh", "-c", f"echo {seconds} >{SETTINGS}{name}"])


def forget_soon_in_router(node, name):
    uid = node.api("GET", f"/1.0/routers/{name}")["meta"]["uid"]
    forget_soon(node, ["nsenter", f"--net={node.run_folder}/routers/{uid}/net"])


def flows(node, network, *options):
    return [json.loads(line) for line in node.out("network", "flows", "-f", "json", *options, network).splitlines()]


def told(node, network, count=1, **like):
    """Flows with these members, when there are so many; looking at what is open makes the kernel forget what is over."""
    def look():
        flows(node, network, "--open")
        found = [it for it in flows(node, network) if all(it.get(key) == value for key, value in like.items())]
        return found if len(found) >= count else None
    try:
        return eventually(look, 30, f"a flow like {like}")
    except Failure as failure:
        raise Failure(f"{failure}\n{node.out('network', 'flows', network)}{node.log()}") from None


@contextlib.contextmanager
def make_network(node, name, *options):
    node.cli("network", "create", "--flow-log", *options, name)
    try:
        yield
    finally:
        node.delete_all()
        node.cli("network", "delete", name)


@pytest.fixture
def shop(busybox):
    """A network with a log and two instances, one of which publishes a port."""
    node, reference = busybox
    forget_soon(node)
    # As on a host: what a bridge forwards is tracked when its own switch says so, and not otherwise.
    node.run(["sh", "-c", "echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables"])
    with make_network(node, "shop", "--subnet", "10.73.0.0/24"):
        node.launch(reference, "web", "--network", "shop", "-p", "8080:80", command=("sleep", "100000"))
        node.launch(reference, "db", "--network", "shop", command=("sleep", "100000"))
        yield node, Instance(node, "web"), Instance(node, "db")


def test_two_instances(shop):
    node, web, db = shop
    with db.listen(80) as server:
        talk_tcp(web, db.ipv4, 80, server)
    [flow] = told(node, "shop", protocol="tcp", destination_port=80)
    assert (flow["source"], flow["destination"]) == (web.ipv4, db.ipv4) and flow["source_port"] > 0
    assert (flow["source_instance"], flow["destination_instance"]) == ("web", "db")
    assert flow["destination_instance_uid"] == node.instance("db")["meta"]["uid"]
    assert flow["reason"] == "closed" and "translated" not in flow and "router" not in flow
    assert flow["start"] <= flow["end"]
    # Four bytes of data each way, in packets of 52 bytes and more.
    assert flow["sent"]["packets"] >= 4 and flow["sent"]["bytes"] >= 4 * 52 + 4
    assert flow["received"]["packets"] >= 3 and flow["received"]["bytes"] >= 3 * 52 + 4
    with db.listen(81, UDP) as server:
        talk_udp(web, db.ipv4, 81, server)
    [flow] = told(node, "shop", protocol="udp", destination_port=81)
    assert flow["reason"] == "idle"
    assert flow["sent"] == flow["received"] == {"bytes": 32, "packets": 1}
    node.sh("web", f"ping -c 1 -W 5 {db.ipv4}")
    [flow] = told(node, "shop", protocol="icmp")
    assert flow["icmp_type"] == 8 and "source_port" not in flow and flow["sent"]["packets"] == 1
    with web.open(db.ipv4, UDP) as client:
        client.sendto(b"x", (db.ipv4, 99))
    assert told(node, "shop", destination_port=99)[0]["reason"] == "unanswered"
    # Words for people.
    text = node.out("network", "flows", "--instance", "db", "shop")
    assert f"{web.ipv4}:" in text and f"->  {db.ipv4}:80 (db)  closed, sent " in text
    assert node.out("network", "flows", "--instance", "nobody", "shop") == ""
    assert len(flows(node, "shop", "-n", "1")) == 1


def test_published_port_and_outside(shop):
    node, web, _ = shop
    with web.listen(80) as server:
        talk_tcp(OUTSIDE, NODE4, 8080, server)
    [flow] = told(node, "shop", destination_port=8080)
    assert (flow["source"], flow["destination"]) == (OUTSIDE4, NODE4)
    assert flow["translated"] == {"destination": web.ipv4, "destination_port": 80}
    assert flow["destination_instance"] == "web" and "source_instance" not in flow
    with OUTSIDE.listen(82) as server:
        talk_tcp(web, OUTSIDE4, 82, server)
    [flow] = told(node, "shop", destination_port=82)
    assert flow["source"] == web.ipv4 and flow["source_instance"] == "web"
    assert flow["translated"]["source"] == NODE4


def test_what_is_open(shop):
    node, web, db = shop
    with db.listen(80) as server, web.open(db.ipv4, TCP) as client:
        client.connect((db.ipv4, 80))
        connection, _ = server.accept()
        with connection:
            [flow] = [it for it in flows(node, "shop", "--open") if it.get("destination_port") == 80]
            assert flow["open"] and "end" not in flow and "reason" not in flow
            assert "  open, sent " in node.out("network", "flows", "--open", "--instance", "web", "shop")


def test_follow(shop):
    node, web, db = shop
    follower = node.popen([node.build / "brume", "network", "flows", "--follow", "-f", "json", "shop"],
                          stdout=subprocess.PIPE, text=True, env=node.environment())
    with db.listen(80) as server:
        talk_tcp(web, db.ipv4, 80, server)
    told(node, "shop", destination_port=80)
    assert any(json.loads(line).get("destination_port") == 80 for line in iter(follower.stdout.readline, ""))
    # It ends with the log.
    node.cli("network", "update", "--no-flow-log", "shop")
    assert follower.wait(30) == 0
    # What was put down stays.
    assert [it for it in flows(node, "shop") if it.get("destination_port") == 80]


def test_a_router(busybox):
    node, reference = busybox
    forget_soon(node)
    node.cli("group", "create", "open")
    node.cli("group", "allow", "--in", "any", "open")
    try:
        with make_network(node, "inner", "--isolated", "--subnet", "10.74.0.0/24"), \
             make_network(node, "twin", "--isolated", "--subnet", "10.74.0.0/24"):
            node.launch(reference, "app", "--network", "inner", "--group", "open", command=("sleep", "100000"))
            node.cli("router", "create", "edge", "--network", "inner")
            node.cli("router", "forward", "add", "edge", "8443:app:80")
            try:
                forget_soon_in_router(node, "edge")
                app = Instance(node, "app")
                with app.listen(80) as server:
                    talk_tcp(OUTSIDE, NODE4, 8443, server)
                [outer] = told(node, "inner", router="edge", protocol="tcp")
                assert outer["source"] == OUTSIDE4 and outer["destination_port"] == 8443
                assert outer["translated"]["destination"] == app.ipv4 and outer["destination_instance"] == "app"
                [bridged] = [it for it in told(node, "inner", destination=app.ipv4) if "router" not in it]
                assert bridged["source"] == OUTSIDE4 and bridged["destination_port"] == 80
                with OUTSIDE.listen(83) as server:
                    talk_tcp(app, OUTSIDE4, 83, server)
                [outer] = told(node, "inner", router="edge", destination_port=83)
                assert outer["source"] == app.ipv4 and outer["translated"]["source"].startswith("100.64.")
                # The neighbour with the same subnet has none of it.
                assert [it for it in flows(node, "twin") if "protocol" in it] == []
            finally:
                node.cli("router", "delete", "edge")
    finally:
        node.cli("group", "delete", "open")


def test_settings_and_switch(busybox):
    node, reference = busybox
    before = {name: setting(node, name) for name in ("acct", "timestamp", "events")}
    with make_network(node, "a", "--subnet", "10.75.0.0/24"):
        eventually(lambda: all(setting(node, name) == "1" for name in before), 10, "counting")
        bridge = node.api("GET", "/1.0/networks/a")["status"]["bridge"]
        switch = f"/sys/class/net/{bridge}/bridge/nf_call_iptables"
        assert node.run(["sh", "-c", f"mount -t sysfs none /sys 2>/dev/null; cat {switch}"]).stdout.strip() == "1"
        with make_network(node, "b", "--subnet", "10.76.0.0/24"):
            pass
        assert setting(node, "acct") == "1"
        node.cli("network", "update", "--no-flow-log", "a")
        eventually(lambda: {name: setting(node, name) for name in before} == before, 10, "the settings of before")
        assert node.api("GET", "/1.0/networks/a")["spec"].get("flow_log") is None
        node.cli("network", "update", "--flow-log", "a")
        assert "flow log       yes" in node.out("network", "show", "a")
        uid = node.api("GET", "/1.0/networks/a")["meta"]["uid"]
        folder = node.state / "networks" / uid
        eventually(folder.exists, 10, "the log")
    assert not folder.exists()
    eventually(lambda: {name: setting(node, name) for name in before} == before, 10, "the settings of before")


def test_bad_input(busybox):
    node, _ = busybox
    for args, code, words in (
            (("network", "flows", "nothing"), 1, "nothing"),
            (("network", "flows", "default"), 1, "has no flow log: switch it on with brume network update --flow-log default"),
            (("network", "flows", "--open", "--follow", "default"), 2, "--open"),
            (("network", "flows", "-f", "csv", "default"), 2, "json"),
            (("network", "update", "default"), 2, "say --[no-]advertise or --[no-]flow-log"),
            (("network", "update", "--flow-log", "--no-flow-log", "default"), 2, "only one of"),
            (("network", "create", "--flow-log", "--driver", "ovs", "x"), 1, "driver ovs has no flow log")):
        done = node.cli(*args, code=code)
        assert words in done.stderr, done.stderr
    for query in ("follow=2", "open=x", "tail=x", "what=1", "cursor=x"):
        status, _ = node.api("GET", f"/1.0/networks/default/flows?{query}", raw=True)
        assert status in (400, 426), query
    status, _ = node.api("PATCH", "/1.0/networks/default", {"flow_log": "yes"}, raw=True)
    assert status == 400
    assert flows(node, "default", "--open") is not None


def test_instances_that_have_gone(shop):
    """Who had the address when the flow began is meant, not who has it when it is forgotten."""
    node, web, db = shop
    with db.listen(80) as server:
        talk_tcp(web, db.ipv4, 80, server)
    node.cli("delete", "--force", "db")
    node.launch(node.instance("web")["spec"]["image"], "db2", "--network", f"shop,ip={db.ipv4}", command=("sleep", "100000"))
    [flow] = told(node, "shop", destination_port=80)
    assert flow["destination_instance"] == "db"


def test_the_agent_is_killed(node):
    """What ended before and after is there, with all of its counts; what ended in between is told to be missing."""
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    node.stop_supervision()
    forget_soon(node)
    node.cli("network", "create", "--flow-log", "--subnet", "10.73.0.0/24", "shop")
    for name in ("web", "db"):
        node.launch(reference, name, "--network", "shop", command=("sleep", "100000"))
    web, db = Instance(node, "web"), Instance(node, "db")
    with db.listen(80) as server:
        talk_tcp(web, db.ipv4, 80, server)
    told(node, "shop", destination_port=80)
    with db.listen(81) as server, web.open(db.ipv4, TCP) as client:
        client.connect((db.ipv4, 81))
        connection, _ = server.accept()
        with connection:
            node.kill("agentd")
            # One that begins now, and one that goes on.
            with db.listen(82) as other, web.open(db.ipv4, TCP) as late:
                late.connect((db.ipv4, 82))
                late_connection, _ = other.accept()
                with late_connection:
                    client.sendall(b"x" * 1000)
                    assert connection.recv(2000)
                    node.start_missing()
                    node.wait_ready()
                    eventually(lambda: [it for it in flows(node, "shop") if "gap" in it], 20, "the gap")
    for port, bytes_sent in ((80, 52), (81, 1000), (82, 52)):
        [flow] = told(node, "shop", destination_port=port)
        assert flow["sent"]["bytes"] > bytes_sent and flow["reason"] == "closed"
        assert (flow["source_instance"], flow["destination_instance"]) == ("web", "db")
    [gap] = [it["gap"] for it in flows(node, "shop") if "gap" in it]
    assert gap["from"] < gap["to"]
    assert "is missing" in node.out("network", "flows", "shop")
    # Ended on purpose it is the same.
    node.kill("agentd", signal.SIGTERM)
    node.start_missing()
    node.wait_ready()
    eventually(lambda: len([it for it in flows(node, "shop") if "gap" in it]) == 2, 20, "the second gap")
    node.delete_all()
    node.cli("network", "delete", "shop")
    assert not list((node.state / "networks").glob("*"))


@pytest.mark.slow
def test_a_flood_is_bounded(shop):
    """More ends than anybody could read: the log keeps its size, and says what is missing or has everything."""
    node, web, db = shop
    with web.open(db.ipv4, UDP) as client:
        for port in range(1, 60001):
            client.sendto(b"x", (db.ipv4, port))

    def look():
        flows(node, "shop", "--open")
        return int(setting(node, "count")) < 100
    eventually(look, 60, "the end of them all")
    eventually(lambda: (now := len(flows(node, "shop"))) > 10000 and now == len(flows(node, "shop")), 60, "silence")
    found = flows(node, "shop")
    # What is neither there nor lost was rotated away.
    assert [it for it in found if it.get("reason") == "unanswered"]
    uid = node.api("GET", "/1.0/networks/shop")["meta"]["uid"]
    files = list((node.state / "networks" / uid).iterdir())
    assert 1 <= len(files) <= 4 and all(it.stat().st_size <= 4 << 20 for it in files)
    assert Instance(node, "web").ipv4 == web.ipv4
