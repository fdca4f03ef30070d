"""brume network trace --live on a whole node: what killing, repeating and virtual machines change."""
import contextlib
import json
import os
import signal
import socket
import subprocess

import images
import pytest
from conftest import need
from node import OUTSIDE4, eventually
from vm_kernel import give_kernel

BOOT = 240
SILENT = 9


def live(node, sender, to, *options):
    return json.loads(node.cli("network", "trace", "--from", sender, "--to", to, "--live", "-f", "json",
                               *options).stdout)["live"]


def tables(node, *prefix):
    shown = node.run([*prefix, "nft", "list", "tables"]).stdout
    return [line for line in shown.splitlines() if f" {node.prefix}-t" in line]


def inside_router(node, name):
    uid = node.api("GET", "/1.0/routers/" + name)["meta"]["uid"]
    return "nsenter", f"--net={node.run_folder}/routers/{uid}/net"


@contextlib.contextmanager
def listening(kind, port):
    """The outside; who listens on UDP and says nothing is silent."""
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind((OUTSIDE4, port))
        if kind == socket.SOCK_STREAM:
            server.listen(64)
        yield server


def begin(node, sender):
    """A trace that nobody answers; gives its process when it has begun."""
    started = subprocess.Popen(
        node.command([node.build / "brume", "network", "trace", "--from", sender, "--to", f"{OUTSIDE4}:{SILENT}",
                      "--proto", "udp", "--live"]),
        env=node.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: tables(node), 20, "the rules of a trace")
    return started


@pytest.fixture
def drawing(busybox):
    """An instance on the default network, and one behind a router."""
    node, reference = busybox
    node.cli("network", "create", "--isolated", "a", "--subnet", "10.81.0.0/24")
    node.cli("router", "create", "border", "--network", "a")
    node.launch(reference, "web", command=("sleep", "100000"))
    node.launch(reference, "inner", "--network", "a", command=("sleep", "100000"))
    yield node
    node.delete_all()
    node.cli("router", "delete", "border")
    node.cli("network", "delete", "a")


@pytest.mark.parametrize("sender", ["web", "inner"])
def test_an_agent_that_is_killed_leaves_nothing(drawing, sender):
    node = drawing
    router = inside_router(node, "border")
    with listening(socket.SOCK_DGRAM, SILENT):
        started = begin(node, sender)
        assert tables(node, *router)
        node.kill("agentd", signal.SIGKILL)
        assert tables(node) == [] and tables(node, *router) == []
        node.start_missing()
        node.wait_ready()
        _, said = started.communicate(timeout=60)
        assert len(said.splitlines()) <= 2, said
    with listening(socket.SOCK_STREAM, 80):
        assert live(node, sender, f"{OUTSIDE4}:80")["answer"] == "connected"
    assert tables(node) == [] and tables(node, *router) == []


def test_many_leave_nothing(drawing):
    node = drawing

    def used():
        pid = node.pid_of("agentd")
        return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))

    def try_all():
        for sender in ("web", "inner"):
            assert live(node, sender, f"{OUTSIDE4}:80")["answer"] == "connected"
    with listening(socket.SOCK_STREAM, 80):
        try_all()
        before = used()
        for _ in range(10):
            try_all()
    eventually(lambda: used() == before, 20, f"descriptors as before: {before}")
    assert tables(node) == [] and tables(node, *inside_router(node, "border")) == []


def test_two_at_a_time(drawing):
    """A third one is refused; who leaves makes room at once."""
    node = drawing
    with listening(socket.SOCK_DGRAM, SILENT):
        first = begin(node, "web")
        second = begin(node, "inner")
        eventually(lambda: any("-t2" in line for line in tables(node)), 20, "the second trace")
        refused = node.cli("network", "trace", "--from", "web", "--to", "inner:80", "--live", code=None)
        assert "try again" in refused.stdout + refused.stderr, refused
        for started in (first, second):
            shown, said = started.communicate(timeout=60)
            assert started.returncode == 0, said
    eventually(lambda: tables(node) == [], 20, "the end of all traces")


@pytest.mark.slow
def test_of_a_virtual_machine(shared_node):
    """The same packet, as if the guest had sent it; nothing runs in there for it."""
    node = shared_node
    need("qemu-system-x86_64", "mke2fs")
    give_kernel(node)
    reference = node.registry.push(images.web(), "web:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "guest", "--vm", "-m", "256M", timeout=BOOT)
    node.launch(reference, "page")
    try:
        seen = live(node, "guest", "page:80")
        assert seen["sent"] and seen["answer"] == "connected" and seen["agrees"], seen
        assert seen["steps"][0]["table"] == node.prefix and seen["steps"][0]["hook"] == "prerouting"
        assert live(node, "guest", "page:81")["answer"] == "refused"
        with listening(socket.SOCK_STREAM, 80):
            seen = live(node, "guest", f"{OUTSIDE4}:80")
        assert seen["answer"] == "connected" and seen["left"]["oif"] == "uplink", seen
        # And to it.
        assert live(node, "page", "guest:80")["answer"] == "connected"
        assert tables(node) == []
    finally:
        node.check_clean()
