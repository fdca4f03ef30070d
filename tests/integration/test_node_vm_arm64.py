"""An OCI image of arm64 as an emulated machine: the same path as any machine's, on another processor.

What it takes is fetched and built by test.sh (tools/fetch_arm64); where that was not possible this file is skipped.
Translated code boots several times slower than the node's own, so one machine serves most of the tests.
"""
import contextlib
import json
import os
import re
import urllib.request

import images
import node as node_module
import pytest
from conftest import build_folder, need
from node import eventually
from vm_kernel import give_kernel

pytestmark = pytest.mark.slow
BOOT = 300
REFUSED = "is for arm64 and this node is not: --emulate runs it"


@pytest.fixture(scope="module")
def parts():
    """(busybox of arm64, the kernel's package)."""
    need("qemu-system-aarch64", "mke2fs")
    folder = build_folder() / "arm64"
    busybox, package = folder / "bin/busybox", sorted(folder.glob("linux-image-*_arm64.deb"))
    if not (build_folder() / "brume-init-arm64").exists():
        pytest.skip("brume-init-arm64 was not built: it takes gcc-aarch64-linux-gnu and tools/fetch_arm64 BUILD/arm64")
    if not busybox.exists() or not package:
        pytest.skip("tools/fetch_arm64 BUILD/arm64 busybox-static linux-image-cloud-arm64 has not fetched them")
    return busybox, package[-1]


@pytest.fixture(scope="module")
def far(shared_node, parts):
    """A node with kernels of both architectures and the reference of an index with both images."""
    give_kernel(shared_node)
    version = shared_node.cli("kernel", "import", parts[1], timeout=120).stdout.strip()
    assert version.endswith("-cloud-arm64"), version
    both = [images.demo_image(images.BUSYBOX), images.demo_image(parts[0], images.BUSYBOX, architecture="arm64")]
    shared_node.kernel_of_arm64 = version
    shared_node.both = shared_node.registry.push_index(both, "both:1")
    shared_node.only_arm64 = shared_node.registry.push(both[1], "only:1")
    yield shared_node
    shared_node.check_clean()


@pytest.fixture(scope="module")
def web(far):
    """An arm64 machine that serves a page."""
    far.launch(far.both, "web", "--vm", "--emulate", "--insecure", "--platform", "linux/arm64", "-p", "8080:80", "-m",
               "256M", "--cpus", "2", "-e", "COLOUR=blue", timeout=BOOT)
    return far


def page():
    def attempt():
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{node_module.NODE4}:8080/", timeout=5) as answer:
            return answer.read().decode()
        return None
    return eventually(attempt, 60, "a page")


def test_kernels_have_an_architecture(far):
    listed = json.loads(far.out("kernel", "list", "-f", "json"))
    assert sorted((k["architecture"], k["default"]) for k in listed) == [("amd64", True), ("arm64", True)]
    assert re.search(r"^NAME +DEFAULT +ARCHITECTURE +VERSION", far.out("kernel", "list"))
    assert re.search(rf"^{re.escape(far.kernel_of_arm64)} +yes +arm64 ", far.out("kernel", "list"), re.M)


def test_nobody_gets_it_unasked(far):
    reference = far.only_arm64
    done = far.cli("launch", "--vm", "--insecure", reference, "no", code=1)
    assert "linux/arm64" in done.stderr and "linux/amd64" in done.stderr
    far.cli("image", "pull", "--insecure", "--platform", "linux/arm64", reference)
    assert REFUSED in far.cli("launch", "--vm", reference, "no", code=1).stderr
    own = next(k["name"] for k in json.loads(far.out("kernel", "list", "-f", "json")) if k["architecture"] == "amd64")
    done = far.cli("launch", "--vm", "--emulate", "--kernel", own, reference, "no", code=1)
    assert f"the kernel {own} is for amd64, the image for arm64" in done.stderr
    assert far.api("GET", "/1.0/instances/no", raw=True)[0] == 404
    done = far.cli("launch", "--vm", "--emulate", "--platform", "arm64", reference, "no", code=2)
    assert "--platform: bad platform 'arm64'" in done.stderr


def test_it_serves_a_page(web):
    assert "It works" in page()
    eventually(lambda: "response:200" in web.cli("logs", "web").stderr, 20, "a line in the log")


def test_it_is_another_processor(web):
    assert web.out("exec", "web", "--", "uname", "-m").strip() == "aarch64"
    assert web.out("exec", "web", "--", "nproc").strip() == "2"
    machine = web.json("info", "web")["status"]["machine"]
    assert machine["backend"] == "qemu" and machine["why"] == "arm64 is emulated on amd64"
    assert (machine["kernel"], machine["architecture"]) == (web.kernel_of_arm64, "arm64")
    done = web.cli("launch", "--vm", "--platform", "linux/amd64", web.both, "no", code=1)
    assert "is here for linux/arm64, not for linux/amd64" in done.stderr


def test_exec_and_files(web, scratch):
    done = web.cli("exec", "-i", "-u", "33:44", "-w", "/tmp", "-e", "A=b", "web", "--", "sh", "-c",
                   "id -u; id -g; pwd; echo $A $COLOUR; echo err >&2; cat; exit 9", input="in\n", code=9)
    assert (done.stdout, done.stderr) == ("33\n44\n/tmp\nb blue\nin\n", "err\n")
    terminal = web.terminal("exec", "-it", "web", "--", "sh")
    terminal.type("stty size; echo $((40 + 2))-ready\r")
    terminal.expect("24 80", timeout=30)
    terminal.expect("42-ready", timeout=30)
    terminal.type("exit 4\r")
    assert terminal.finish() == 4
    (scratch / "file").write_bytes(os.urandom(200000))
    web.cli("cp", scratch / "file", "web:/root")
    web.cli("cp", "web:/root/file", scratch / "back")
    assert (scratch / "back").read_bytes() == (scratch / "file").read_bytes()
    assert any("httpd" in p["command"] for p in web.json("top", "web"))
    assert 0 < web.api("GET", "/1.0/instances/web/stats")["memory"]["guest_usage_bytes"] < 256 << 20


def test_its_networks_change(web):
    def interfaces():
        return web.out("exec", "web", "--", "ls", "/sys/class/net").split()
    web.cli("network", "create", "back", "--subnet", "10.73.0.0/24")
    web.cli("network", "attach", "--ip", "10.73.0.9", "back", "web", timeout=120)
    assert interfaces() == ["eth0", "eth1", "lo"]
    assert "inet 10.73.0.9/24" in web.out("exec", "web", "--", "ip", "addr", "show", "dev", "eth1")
    web.cli("network", "detach", "back", "web", timeout=120)
    assert interfaces() == ["eth0", "lo"]
    web.cli("network", "delete", "back")


def test_what_emulation_costs(web):
    measured = {row["what"]: row.get("ratio") for row in json.loads(web.out("bench", "virt", "web", "-f", "json", timeout=120))}
    assert measured["arithmetic, 1000 steps"] > 0  # how much is the machine's matter, and a busy one's
    assert ".brume-measure" not in web.out("exec", "web", "--", "ls", "-a", "/")


def test_stop_start_and_delete(web):
    web.cli("exec", "web", "--", "sh", "-c", "echo kept > /root/kept")
    web.cli("stop", "-t", "1", "web", timeout=90)  # httpd is process 1 and knows no TERM
    status = web.json("info", "web")["status"]
    assert (status["state"], status["exit_code"]) == ("stopped", 137)
    web.cli("start", "web", timeout=BOOT)
    assert web.out("exec", "web", "--", "cat", "/root/kept") == "kept\n"
    assert "It works" in page()
    web.cli("delete", "--force", "web")
    web.check_clean()


def test_exit_code_and_input(far):
    done = far.cli("launch", "-i", "--rm", "--vm", "--emulate", "--insecure", "--platform", "linux/arm64", far.both, "--",
                   "sh", "-c", "uname -m; cat; echo told >&2; exit 5", input="line\n" * 1000, code=5, timeout=BOOT)
    assert done.stdout == "aarch64\n" + "line\n" * 1000
    assert done.stderr == "told\n"
