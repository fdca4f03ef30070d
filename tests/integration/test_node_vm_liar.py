"""A virtual machine whose first process lies on the guest channel, on a whole node (lying_init.c).

One boot: the lies come one after the other.  The agent refuses each with its words, shows that the guest lies, and
goes on; so do the other instances of the node.
"""
import os
import pathlib
import re
import shutil
import tempfile

import images
import pytest
from conftest import make_node, need, with_registry
from node import eventually
from vm_kernel import give_kernel

pytestmark = pytest.mark.slow
BOOT = 240
AT_BOOT = ("does not say hello first", "speaks another protocol", "tells a state that there is not",
           "says hello twice", "begins anew again and again", "sends stream_close for a stream that is not open",
           "sends assign for a stream that is not open")
TO_EXEC = ("the guest sends more than it may", "the guest gives more credit than was used",
           "the guest tells an exit code that there is not", "the guest sends on channel 0")


@pytest.fixture
def liars(build):
    """A node whose guests boot lying-init: (node, reference of busybox)."""
    need("qemu-system-x86_64", "mke2fs")
    build = pathlib.Path(build).resolve()
    liar = build / "tests" / "lying-init"
    if not liar.exists():
        pytest.skip("this build has no static programs")
    where = pathlib.Path(tempfile.mkdtemp(prefix="brume-test-", dir="/var/tmp"))
    where.chmod(0o711)
    agentd = where / "agentd"
    agentd.write_text(f'#!/bin/sh\nexec {build}/brume-agentd --guest-init {liar} "$@"\n')
    agentd.chmod(0o755)
    node = make_node(build, where / "node", args=["--agentd", agentd, "--log", "info,agent=debug"])
    try:
        node.start()
        with_registry(node, where / "registry")
        give_kernel(node)
        reference = node.registry.push(images.busybox(), "busybox:1")
        node.cli("image", "pull", "--insecure", reference)
        yield node, reference
    finally:
        node.close()
        shutil.rmtree(where, ignore_errors=True)


def open_files(node):
    return len(os.listdir(f"/proc/{node.pid_of('agentd')}/fd"))


def test_a_guest_that_lies(liars):
    node, reference = liars
    agent, files = node.pid_of("agentd"), open_files(node)
    node.launch(reference, "liar", "--vm", "-m", "192M", timeout=BOOT)
    log = (node.folder / "supervisor.log").read_text()
    for words in AT_BOOT:
        assert f"guest: the guest {words}" in log, words
    # The second lie is told: the first may be what an earlier connection has left.
    told = "the guest does not say hello first"
    it = node.instance("liar")
    assert it["status"]["state"] == "running" and it["status"]["machine"]["guest_error"] == told
    assert re.search(f"^its guest lies +{told}$", node.out("info", "liar"), re.M)
    for words in TO_EXEC:
        done = node.cli("exec", "liar", "--", "true", code=None, timeout=90)
        assert done.returncode not in (0, 5) and words in done.stderr, (words, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    done = node.cli("exec", "liar", "--", "true", code=5, timeout=90)
    assert done.stdout == "honest\n"
    usage = node.api("GET", "/1.0/instances/liar/stats")
    assert "guest_usage_bytes" not in usage["memory"] or usage["memory"]["guest_total_bytes"] <= 192 << 20
    # Nobody else has noticed.
    node.launch(reference, "honest", command=("sleep", "1000"))
    assert node.sh("honest", "echo fine") == "fine\n"
    node.cli("stop", "-t", "60", "liar", timeout=120)
    status = node.instance("liar")["status"]
    assert (status["state"], status["exit_code"]) == ("stopped", 255)
    assert status["error"].startswith("the guest's exit code is no number to 255")
    assert node.pid_of("agentd") == agent
    node.check_clean()
    eventually(lambda: open_files(node) <= files + 1, 10, "the agent closes what it opened")
