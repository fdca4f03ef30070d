"""How fast instances may receive and send: asked for at the launch and while they run."""
import json
import socket
import time

import pytest

import kernel
from conftest import need
from node import eventually
from vm_kernel import give_kernel

MBIT = 1_000_000


def port(node, name, network="default"):
    return next(p for p in node.instance(name)["spec"]["ports"] if p["network"] == network)


def host_end(node, name, network="default", mark="v"):
    return f"{node.prefix}{mark}{port(node, name, network)['uid']}"[:15]


def rate(node, link):
    """Bits a second of the token bucket of a link; None without one."""
    for found in json.loads(node.run(["tc", "-j", "qdisc", "show", "dev", link]).stdout):
        if found["kind"] == "tbf":
            return found["options"]["rate"] * 8
    return None


def rates(node, name, network="default"):
    """(what it receives, what it sends), as the kernel has them."""
    queue = host_end(node, name, network, "q")
    return rate(node, host_end(node, name, network)), \
        rate(node, queue) if queue in node.links() else None


def test_from_the_launch_on(busybox):
    need("tc")
    node, reference = busybox
    node.launch(reference, "it", "--network", "default,ingress=100M,egress=20M,burst=256K",
                command=("sleep", "1000"))
    assert port(node, "it")["limits"] == {"ingress_bps": 100 * MBIT, "egress_bps": 20 * MBIT,
                                          "burst_bytes": 256 << 10}
    assert rates(node, "it") == (100 * MBIT, 20 * MBIT)
    shown = node.out("info", "it")
    assert "receives 100 Mbit/s" in shown and "sends 20 Mbit/s" in shown
    # A restart has them again, and an end takes everything away.
    node.cli("restart", "it")
    assert rates(node, "it") == (100 * MBIT, 20 * MBIT)
    node.cli("stop", "-t", "0", "it")
    assert not [link for link in node.links() if link.startswith(node.prefix + "q")]


def test_what_somebody_deletes_comes_back(busybox):
    need("tc")
    node, reference = busybox
    node.launch(reference, "it", "--network", "default,ingress=100M,egress=20M", command=("sleep", "1000"))
    wanted = (100 * MBIT, 20 * MBIT)
    assert rates(node, "it") == wanted
    for command in (["ip", "link", "del", host_end(node, "it", mark="q")],
                    ["tc", "qdisc", "del", "dev", host_end(node, "it"), "root"],
                    ["tc", "qdisc", "del", "dev", host_end(node, "it", mark="q"), "root"]):
        node.run(command)
        eventually(lambda: rates(node, "it") == wanted, 10, "the limits")
    # What it sends takes the detour again.
    node.run(["tc", "filter", "del", "dev", host_end(node, "it"), "ingress"])
    eventually(lambda: "mirred" in node.run(["tc", "filter", "show", "dev", host_end(node, "it"), "ingress"]).stdout, 10,
               "the detour")


def test_while_it_runs_and_connections_go_on(busybox):
    node, reference = busybox
    node.launch(reference, "it", command=("nc", "-ll", "-p", "7", "-e", "cat"))
    address = port(node, "it")["ipv4"]
    with node.inside():
        talk = socket.socket()
    talk.settimeout(kernel.patient(20))
    talk.connect((address, 7))

    def works():
        talk.sendall(b"hi\n")
        assert talk.recv(3) == b"hi\n"
    works()
    assert "it: limited on network default" in node.out(
        "network", "limit", "--ingress", "50M", "--egress", "10M", "default", "it")
    assert rates(node, "it") == (50 * MBIT, 10 * MBIT)
    works()
    # What is not given stays.
    node.cli("network", "limit", "--ingress", "none", "default", "it")
    assert rates(node, "it") == (None, 10 * MBIT)
    works()
    # A new agent finds it so.
    node.kill("agentd")
    node.start_missing()
    node.wait_ready()
    works()
    node.cli("network", "limit", "--egress", "5M", "--burst", "64K", "default", "it")
    assert rates(node, "it") == (None, 5 * MBIT)
    works()
    assert "not limited any more" in node.out("network", "limit", "--none", "default", "it")
    assert rates(node, "it") == (None, None)
    assert "limits" not in port(node, "it")
    works()
    talk.close()
    # Of one that is stopped: from its next start on.
    node.cli("stop", "-t", "0", "it")
    node.cli("network", "limit", "--egress", "3M", "default", "it")
    node.cli("start", "it")
    assert rates(node, "it") == (None, 3 * MBIT)


def test_a_slow_instance_is_slow(busybox):
    node, reference = busybox
    node.launch(reference, "it", "--network", "default,egress=8M",
                command=("sh", "-c", "while :; do head -c 3000000 /dev/zero | nc -l -p 7; done"))
    address = port(node, "it")["ipv4"]

    def fetch():
        with node.inside():
            it = socket.socket()
        it.settimeout(kernel.patient(30))
        deadline = time.monotonic() + kernel.patient(20)
        while it.connect_ex((address, 7)) != 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        begin, size = time.monotonic(), 0
        while data := it.recv(1 << 16):
            size += len(data)
            if size >= 3_000_000:
                break
        it.close()
        return time.monotonic() - begin
    # 3 MB at 8 Mbit/s are three seconds and a little for the headers, less the burst.
    assert 2.7 <= fetch() <= 3 * kernel.patient(1.3)
    node.cli("network", "limit", "--none", "default", "it")
    assert fetch() < 2


def test_bad_input_changes_nothing(busybox):
    node, reference = busybox
    node.launch(reference, "it", "--network", "default,ingress=5M", command=("sleep", "1000"))
    before = node.instance("it")["meta"]["generation"]
    for arguments, code, words in (
            (("--ingress", "fast", "default", "it"), 2, "is not a rate"),
            (("--ingress", "1", "default", "it"), 2, "must be from 8K"),
            (("--burst", "1K", "default", "it"), 2, "must be from 2K"),
            (("default", "it"), 2, "is missing"),
            (("--none", "--egress", "1M", "default", "it"), 2, "does not go with"),
            (("--egress", "1M", "other", "it"), 1, "not attached to network \"other\""),
            (("--egress", "1M", "default", "nobody"), 1, "nobody")):
        done = node.cli("network", "limit", *arguments, code=code)
        assert words in done.stderr, (arguments, done.stderr)
    for limits, words in (({"ingress_bps": 5}, "must be from 8K"), ({"speed": 1}, "speed"),
                          ({"burst_bytes": 1 << 40}, "to 64M"), (7, "limits")):
        status, answer = node.api("PATCH", "/1.0/instances/it", {"ports": {"default": {"limits": limits}}},
                                  raw=True)
        assert status == 400 and words in answer["error"], answer
    for text, words in (("default,ingress=0.5k", "must be from 8K"), ("default,burst=64K", "goes with a rate"),
                        ("default,speed=5", "is not known")):
        done = node.cli("launch", reference, "no", "--network", text, code=2)
        assert words in done.stderr
    assert node.instance("it")["meta"]["generation"] == before
    assert rates(node, "it") == (5 * MBIT, None)


def test_what_the_node_cannot_do_is_taken_back(busybox):
    node, reference = busybox
    node.launch(reference, "it", command=("sleep", "1000"))
    queue = host_end(node, "it", mark="q")
    node.run(["ip", "link", "add", queue, "type", "bridge"])
    done = node.cli("network", "limit", "--ingress", "9M", "--egress", "1M", "default", "it", code=1)
    assert f"interface {queue} exists and does not belong to port" in done.stderr
    assert "limits" not in port(node, "it")
    node.run(["ip", "link", "del", queue])
    node.cli("network", "limit", "--egress", "1M", "default", "it")
    assert rates(node, "it") == (None, MBIT)


@pytest.mark.slow
def test_of_a_virtual_machine(busybox):
    node, reference = busybox
    give_kernel(node)
    node.launch(reference, "it", "--vm", "--network", "default,ingress=90M", command=("sleep", "1000"),
                timeout=240)
    assert rates(node, "it") == (90 * MBIT, None)
    node.cli("network", "limit", "--egress", "30M", "default", "it")
    assert rates(node, "it") == (90 * MBIT, 30 * MBIT)
    assert "0% packet loss" in node.sh("it", "ping -c 3 -W 5 10.90.0.1")
    node.cli("stop", "-t", "0", "it")
    assert not [link for link in node.links() if link.startswith(node.prefix + "q")]
