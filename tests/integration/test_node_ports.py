"""Instances in several networks: joined and left while they run, addresses, isolation, kill -9."""
import json
import os
import random
import socket

import images
import kernel
import pytest
from conftest import need
from node import eventually
from vm_kernel import give_kernel

SEED = int(os.environ.get("BRUME_TEST_SEED", "20261121"))


def ports(node, name):
    """The ports of an instance by network."""
    return {port["network"]: port for port in node.instance(name)["spec"]["ports"]}


def interfaces(node, name):
    """What an instance has: {interface: {addresses}}, without what the kernel makes by itself."""
    found = {}
    for line in node.sh(name, "ip -o addr").splitlines():
        _, interface, _, address = line.split()[:4]
        if interface != "lo" and not address.startswith("fe80"):
            found.setdefault(interface, set()).add(address.split("/")[0])
    return found


def reaches(node, name, address):
    return "0 packets received" not in node.sh(
        name, f"ping -c 1 -W 1 {address} 2>&1; true") and \
        "1 packets received" in node.sh(name, f"ping -c 1 -W 1 {address} 2>&1; true")


def first_heard(node, silenced, heard, gate):
    """What the world, the node and an instance hear first when two processes' networks send to them."""
    def open_in(pid, address=None):
        with kernel.inside_network_of(pid):
            it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        it.settimeout(kernel.patient(10))
        if address:
            it.bind((address, 4242))
        return it
    places = ((os.getpid(), "192.0.2.1"), (node.pid, "192.0.2.2"), (heard, gate))
    receivers = [(open_in(pid, address), address) for pid, address in places]
    for text, pid in ((b"silenced", silenced), (b"gate", heard)):
        for _, address in receivers:
            open_in(pid).sendto(text, (address, 4242))
    return [receiver.recv(100) for receiver, _ in receivers]


def make(node, name, *options):
    node.cli("network", "create", name, *options)


@pytest.fixture
def two(busybox):
    """A node with the networks `front` (10.71.0.0/24) and `back` (10.72.0.0/24)."""
    node, reference = busybox
    make(node, "front", "--subnet", "10.71.0.0/24", "--ipv6", "fd71::/64")
    make(node, "back", "--subnet", "10.72.0.0/24", "--routed", "--mtu", "1400")
    yield node, reference
    node.delete_all()
    for name in ("front", "back"):
        node.cli("network", "delete", name)


def test_two_networks_from_the_start(two):
    node, reference = two
    node.launch(reference, "both", "--network", "front", "--network",
                "back,ip=10.72.0.9,mac=02:AA:00:00:00:01", command=("sleep", "1000"))
    node.launch(reference, "one", "--network", "back", command=("sleep", "1000"))
    found = ports(node, "both")
    assert [p["interface"] for p in node.instance("both")["spec"]["ports"]] == ["eth0", "eth1"]
    assert interfaces(node, "both") == {
        "eth0": {found["front"]["ipv4"], found["front"]["ipv6"]}, "eth1": {"10.72.0.9"}}
    assert "02:aa:00:00:00:01" in node.sh("both", "cat /sys/class/net/eth1/address")
    assert node.sh("both", "cat /sys/class/net/eth1/mtu") == "1400\n"
    # One way out, and one name server: those of the first.
    assert node.sh("both", "ip route").count("default") == 1
    assert "default via 10.71.0.1 dev eth0" in node.sh("both", "ip route")
    assert "nameserver 10.71.0.1" in node.sh("both", "cat /etc/resolv.conf")
    assert node.sh("both", "cat /etc/hosts").count("both") == 3
    # Each network knows it by its name and its address there.
    assert "10.72.0.9" in node.sh("one", "nslookup both")
    assert reaches(node, "one", "10.72.0.9")
    assert not reaches(node, "one", found["front"]["ipv4"]), "networks do not reach each other"
    usage = node.api("GET", "/1.0/instances/both/stats")["network"]
    assert {(i["interface"], i["network"]) for i in usage["interfaces"]} == {
        ("eth0", "front"), ("eth1", "back")}
    assert usage["rx_bytes"] == sum(i["rx_bytes"] for i in usage["interfaces"]) > 0
    shown = node.out("info", "both")
    assert "10.72.0.9" in shown and "eth1" in shown and found["front"]["ipv6"] in shown
    assert f"{found['front']['ipv4']}, 10.72.0.9" in node.out("list")


def test_published_ports_lead_to_the_first_that_leads_out(two):
    node, reference = two
    make(node, "in", "--isolated")
    try:
        node.launch(reference, "web", "--network", "in", "--network", "front", "-p", "8070:7",
                    command=("nc", "-ll", "-p", "7", "-e", "cat"))
        assert "default via 10.71.0.1 dev eth1" in node.sh("web", "ip route")
        assert "nameserver 10.71.0.1" in node.sh("web", "cat /etc/resolv.conf")

        def answers():
            return node.run(["sh", "-c", "echo hi | busybox nc -w 2 127.0.0.1 8070"], check=False).stdout == "hi\n"
        eventually(answers, 15, "the published port")
        done = node.cli("network", "detach", "front", "web", code=1)
        assert "publishes ports" in done.stderr
        # The next one takes its place.
        node.cli("network", "attach", "back", "web")
        node.cli("network", "detach", "front", "web")
        eventually(answers, 15, "the published port of the other network")
        assert "default via 10.72.0.1" in node.sh("web", "ip route")
        done = node.cli("launch", reference, "no", "--network", "in", "-p", "8071:7", code=1)
        assert "is isolated" in done.stderr
    finally:
        node.delete_all()
        node.cli("network", "delete", "in")


def test_joining_and_leaving_while_it_runs(two):
    node, reference = two
    node.launch(reference, "it", command=("sleep", "1000"))
    node.launch(reference, "peer", "--network", "back", command=("sleep", "1000"))
    pid = node.instance("it")["status"]["pid"]
    assert "attached to network back" in node.out("network", "attach", "back", "it", "--ip", "10.72.0.7")
    assert interfaces(node, "it")["eth1"] == {"10.72.0.7"}
    assert reaches(node, "peer", "10.72.0.7")
    assert "10.72.0.7" in node.sh("peer", "nslookup it")
    assert node.sh("it", "ip route").count("default") == 1
    assert "detached from network back" in node.out("network", "detach", "back", "it")
    assert set(interfaces(node, "it")) == {"eth0"}
    assert "10.72.0.7" not in node.cli("exec", "peer", "--", "nslookup", "it", code=None).stdout
    # At once its address is anybody's.
    node.launch(reference, "next", "--network", "back,ip=10.72.0.7", command=("sleep", "1000"))
    assert reaches(node, "peer", "10.72.0.7")
    # Without any network, and back again.
    node.cli("network", "detach", "default", "it")
    assert interfaces(node, "it") == {}
    node.cli("network", "attach", "front", "it")
    assert set(interfaces(node, "it")) == {"eth0"}
    assert "default via 10.71.0.1" in node.sh("it", "ip route")
    assert node.instance("it")["status"]["pid"] == pid
    # Whom it asks for names goes with the way out, unless it says otherwise itself.
    assert "nameserver 10.71.0.1\n" in node.sh("it", "cat /etc/resolv.conf")
    assert f"{ports(node, 'it')['front']['ipv4']}\tit\n" in node.sh("it", "cat /etc/hosts")
    assert "Name:" in node.sh("it", "nslookup it")
    node.sh("it", "echo nameserver 192.0.2.1 > /etc/resolv.conf")
    node.cli("network", "detach", "front", "it")
    node.cli("network", "attach", "front", "it")
    assert node.sh("it", "cat /etc/resolv.conf") == "nameserver 192.0.2.1\n"
    # Paused and stopped ones, too; what they have is there when they go on.
    node.cli("pause", "it")
    node.cli("network", "attach", "default", "it")
    node.cli("resume", "it")
    assert set(interfaces(node, "it")) == {"eth0", "eth1"}
    node.cli("stop", "-t", "0", "it")
    node.cli("network", "detach", "front", "it")
    node.cli("network", "attach", "back", "it")
    node.cli("start", "it")
    assert {i: len(a) for i, a in interfaces(node, "it").items()} == {"eth0": 1, "eth1": 2}


def test_it_keeps_its_networks_over_a_restart_of_the_agent(two):
    node, reference = two
    node.launch(reference, "it", "--network", "front", "--network", "back", command=("sleep", "1000"))
    before, links = interfaces(node, "it"), node.links()
    node.kill("agentd")
    node.wait_ready()
    node.cli("network", "attach", "default", "it")
    now = interfaces(node, "it")
    assert now.pop("eth2") and now == before and node.links() > links


BAD = [
    (("10.73.0.5",), "address 10.73.0.5 is outside of 10.72.0.0/24"),
    (("10.72.0.1",), "is the gateway of network"),
    (("10.72.0.255",), "broadcast address"),
    (("10.72.0.0",), "is the network or"),
    (("10.72.0.9",), 'address 10.72.0.9 is taken by instance "owner"'),
]


def test_addresses_that_cannot_be(two):
    node, reference = two
    node.launch(reference, "owner", "--network", "back,ip=10.72.0.9,mac=02:aa:00:00:00:09")
    node.launch(reference, "it", command=("sleep", "1000"))
    before = node.instance("it")["meta"]["revision"]

    def refused(*args, code=1):
        done = node.cli(*args, code=code)
        assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
        return done.stderr
    for (address,), words in BAD:
        assert words in refused("network", "attach", "back", "it", "--ip", address)
        assert words in refused("launch", reference, "no", "--network", f"back,ip={address}")
    assert 'mac 02:aa:00:00:00:09 is taken by instance "owner"' in refused(
        "network", "attach", "back", "it", "--mac", "02:AA:00:00:00:09")
    assert "brume's own" in refused("network", "attach", "back", "it", "--mac", "02:62:00:00:00:09")
    assert "has no IPv6 subnet" in refused("network", "attach", "back", "it", "--ip6", "fd00::9")
    assert "does not exist" in refused("network", "attach", "bcak", "it")
    assert "did you mean" in refused("network", "attach", "bcak", "it")
    assert "does not exist" in refused("network", "attach", "back", "ti")
    assert "attached already" in refused("network", "attach", "default", "it")
    assert "not attached to network" in refused("network", "detach", "back", "it")
    assert "given twice" in refused("launch", reference, "no", "--network", "back", "--network",
                                    "back", code=2)
    assert "--network" in refused("launch", reference, "no", "--network", "back,ip=x", code=2)
    assert "unicast" in refused("network", "attach", "back", "it", "--mac", "x", code=2)
    for body, words in (({}, "network: must name"), ({"network": "back", "uid": "0" * 32}, "uid"),
                        ({"network": "back", "ipv4": 5}, "ipv4"), ([], "must be")):
        status, answer = node.api("POST", "/1.0/instances/it/ports", body, raw=True)
        assert status == 400 and words in answer["error"], answer
    assert node.instance("it")["meta"]["revision"] == before


def test_a_full_network(busybox):
    node, reference = busybox
    make(node, "tiny", "--subnet", "10.74.0.0/29")
    try:
        for number in range(5):
            node.launch(reference, f"i{number}", "--network", "tiny")
        node.launch(reference, "late", command=("sleep", "1000"))
        done = node.cli("network", "attach", "tiny", "late", code=1)
        assert 'network "tiny" has no free address left' in done.stderr
        assert "delete what is not needed" in done.stderr
        done = node.cli("launch", reference, "no", "--network", "tiny", code=1)
        assert "no free address left" in done.stderr
        free = ports(node, "i2")["tiny"]["ipv4"]
        node.cli("network", "detach", "tiny", "i2")
        node.cli("network", "attach", "tiny", "late")
        assert ports(node, "late")["tiny"]["ipv4"] == free
    finally:
        node.delete_all()
        node.cli("network", "delete", "tiny")


def test_isolated_networks(busybox):
    """The same subnet twice: who is in one meets neither the other's instances nor the node."""
    node, reference = busybox
    for name in ("red", "blue"):
        make(node, name, "--subnet", "10.75.0.0/24", "--isolated")
    try:
        kinds = {n["meta"]["name"]: n for n in node.json("network", "list")}
        assert kinds["red"]["spec"]["isolated"] and not kinds["red"]["spec"]["nat"]
        node.launch(reference, "gate", "-p", "8075:7", command=("nc", "-ll", "-p", "7", "-e", "cat"))
        for name, network in (("r1", "red"), ("r2", "red"), ("b1", "blue"), ("b2", "blue")):
            node.launch(reference, name, "--network", f"{network},ip=10.75.0.{name[1]}{name[1]}",
                        command=("sh", "-c", f"nc -ll -p 7 -e echo {name} & sleep 1000"))
        for here, there in (("r1", "r2"), ("b1", "b2")):
            assert eventually(lambda: node.sh(here, "nc -w 2 10.75.0.22 7; true"), 15) == there + "\n"
        assert "default" not in node.sh("r1", "ip route")
        # With a route of its own making it gets no further than the bridge.
        bridge = kinds["red"]["status"]["bridge"]
        mac = json.loads(node.run(["ip", "-j", "link", "show", bridge]).stdout)[0]["address"]
        node.cli("exec", "r1", "--user", "0", "--", "sh", "-c", "true")
        pid = node.instance("r1")["status"]["pid"]
        for command in (f"ip neigh replace 10.75.0.1 lladdr {mac} dev eth0",
                        "ip route replace default via 10.75.0.1 dev eth0"):
            node.run(["nsenter", "-t", str(pid), "-n", *command.split()])
        gate = ports(node, "gate")["default"]["ipv4"]
        for address in ("192.0.2.1", "192.0.2.2", gate, "10.90.0.1"):
            assert not reaches(node, "r1", address), address
        assert node.sh("r1", "echo x | nc -w 1 192.0.2.2 8075; true") == ""
        # Not even one way, where an answer would find no way back.
        assert first_heard(node, pid, node.instance("gate")["status"]["pid"], gate) == [b"gate"] * 3
        # The bridge answers to nobody's address.
        assert "Received 0" in node.sh("r1", "arping -c 1 -w 1 -I eth0 192.0.2.2; true") or \
            "0 response" in node.sh("r1", "arping -c 1 -w 1 -I eth0 192.0.2.2; true")
        # And one with the node's gateway may have that subnet, too.
        make(node, "open", "--subnet", "10.75.0.0/24")
        node.launch(reference, "o1", "--network", "open,ip=10.75.0.11")
        assert not reaches(node, "o1", "10.75.0.22")
        done = node.cli("network", "create", "more", "--subnet", "10.75.0.0/25", code=1)
        assert 'overlaps with network "open"' in done.stderr
    finally:
        node.delete_all()
        for network in node.api("GET", "/1.0/networks"):
            name = network.rsplit("/", 1)[-1] if isinstance(network, str) else network["meta"]["name"]
            if name != "default":
                node.cli("network", "delete", name)


@pytest.mark.slow
def test_kill_9_in_the_middle(node):
    """Whoever dies while it is attached and detached: no address and no interface is lost."""
    choose = random.Random(SEED)
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    make(node, "front", "--subnet", "10.71.0.0/24")
    make(node, "vault", "--subnet", "10.76.0.0/28", "--isolated")
    for name in ("keep", "i0", "i1", "i2"):
        node.launch(reference, name, command=("sleep", "1000"))
    pids = {name: node.instance(name)["status"]["pid"] for name in ("i0", "i1", "i2")}
    for _ in range(14):
        begun = []
        for name in pids:
            network = choose.choice(("front", "vault", "default"))
            if network in ports(node, name):
                status, answer = node.api("DELETE", f"/1.0/instances/{name}/ports/{network}", raw=True)
            else:
                status, answer = node.api("POST", f"/1.0/instances/{name}/ports",
                                          {"network": network}, raw=True)
            assert status in (202, 400, 409), answer
            if status == 202:
                begun.append(answer["metadata"])
        node.kill(choose.choice(("agentd", "brumed", "agentd")))
        node.wait_ready()
        for operation in begun:
            ended = node.wait_operation(operation)["status"]
            assert ended["state"] == "done", ended

    def settled(name):
        it = node.instance(name)
        return it if it["meta"]["generation"] == it["status"]["generation"] and not any(
            "leaving" in port for port in it["spec"]["ports"]) else None
    veths = set()
    for name, pid in pids.items():
        it = eventually(lambda: settled(name), 20, f"{name} as it was asked for")
        assert it["status"]["pid"] == pid and "ports_error" not in it["status"]
        assert {i: a for i, a in interfaces(node, name).items()} == {
            p["interface"]: {a for a in (p.get("ipv4"), p.get("ipv6")) if a}
            for p in it["spec"]["ports"]}
        veths |= {f"{node.prefix}v{p['uid']}"[:15] for p in it["spec"]["ports"]}
    veths |= {f"{node.prefix}v{p['uid']}"[:15] for p in node.instance("keep")["spec"]["ports"]}
    eventually(lambda: {link for link in node.links() if link.startswith(node.prefix + "v")} == veths,
               10, "exactly these interfaces")
    # No address is lost: the small network can be filled to the last one.
    for name in pids:
        if "vault" in ports(node, name):
            node.cli("network", "detach", "vault", name)
    filled = [f"f{number}" for number in range(13)]
    for name in filled:
        node.cli("launch", reference, name, "--network", "vault", "--no-start")
    done = node.cli("launch", reference, "no", "--network", "vault", "--no-start", code=1)
    assert "no free address left" in done.stderr
    for name in (*filled, "keep", *pids):
        node.cli("delete", "--force", name)
    for name in ("front", "vault"):
        node.cli("network", "delete", name)


@pytest.mark.slow
def test_a_virtual_machine_has_several_and_changes_them(two):
    node, _ = two
    need("qemu-system-x86_64", "mke2fs")
    give_kernel(node)
    reference = node.registry.push(images.busybox(), "busybox:1")
    boot = {"timeout": 240}
    node.cli("launch", "--vm", reference, "vm", "-m", "256M", "--cap-add", "NET_ADMIN", "--network", "front",
             "--network", "back,ip=10.72.0.9", "--", "sleep", "1000", **boot)
    assert interfaces(node, "vm")["eth1"] == {"10.72.0.9"}
    assert node.sh("vm", "ip route").count("default via 10.71.0.1") == 1
    assert node.sh("vm", "cat /sys/class/net/eth1/mtu") == "1400\n"
    taps = {f"{node.prefix}v{p['uid']}"[:15] for p in ports(node, "vm").values()}
    assert len(taps) == 2 and taps <= node.links()
    front = f"{node.prefix}v{ports(node, 'vm')['front']['uid']}"[:15]
    node.launch(reference, "peer", "--network", "back", command=("sleep", "1000"))
    assert reaches(node, "peer", "10.72.0.9")
    # What it has while it runs changes, as of any instance.
    node.sh("vm", "ip addr add 10.72.0.99/24 dev eth1")
    node.cli("network", "detach", "front", "vm", timeout=90)
    found = interfaces(node, "vm")
    assert set(found) == {"eth1"} and "10.72.0.9" in found["eth1"]
    assert "default via 10.72.0.1 dev eth1" in node.sh("vm", "ip route")
    assert front not in node.links()
    # The next agent asks the monitor, and touches nothing that is as it should be.
    node.kill("agentd")
    node.wait_ready()
    node.cli("network", "attach", "default", "vm", timeout=90)
    found = interfaces(node, "vm")
    assert len(found["eth0"]) == 2 and found["eth1"] == {"10.72.0.9", "10.72.0.99"}
    assert node.sh("vm", "ping -c 1 -W 5 10.90.0.1")
    assert reaches(node, "peer", "10.72.0.9")
    node.cli("network", "attach", "front", "vm", timeout=90)
    node.cli("network", "detach", "front", "vm", timeout=90)
    assert set(interfaces(node, "vm")) == {"eth0", "eth1"}
    # One that stands still cannot let go, nor take.
    node.cli("pause", "vm")
    for verb, network in (("attach", "front"), ("detach", "back")):
        done = node.cli("network", verb, network, "vm", code=1)
        assert "resume it first" in done.stderr
    node.cli("resume", "vm")
    # A name stays with its port, whatever the guest's kernel counts.
    assert [p["interface"] for p in node.instance("vm")["spec"]["ports"]] == ["eth1", "eth0"]
    node.cli("stop", "-t", "1", "vm", timeout=60)
    node.cli("start", "vm", **boot)
    found = interfaces(node, "vm")
    assert found["eth1"] == {"10.72.0.9"} and len(found["eth0"]) == 2
