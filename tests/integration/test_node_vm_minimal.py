"""The minimal kernel (docs/operate/kernels.md) on a whole node, when the build folder holds one.

tools/build_minimal_kernel BUILD/brume-minimal-vmlinux makes it; test_guest_boot.py takes it as well.
"""
import contextlib
import subprocess
import urllib.request

import images
import node as node_module
import pytest
from conftest import ROOT, build_folder, need
from node import eventually

BOOT = 240
MINIMAL = build_folder() / "brume-minimal-vmlinux"


@pytest.fixture(scope="module")
def minimal(shared_node):
    """A node whose only kernel it is: (node, reference of the web image)."""
    need("qemu-system-x86_64", "mke2fs")
    if not MINIMAL.exists():
        pytest.skip(f"there is no {MINIMAL.name}: tools/build_minimal_kernel makes it")
    shared_node.cli("kernel", "import", "--name", "minimal", MINIMAL, timeout=120)
    reference = shared_node.registry.push(images.web(), "web:1")
    shared_node.cli("image", "pull", "--insecure", reference)
    yield shared_node, reference
    shared_node.check_clean()


def page(url):
    def attempt():
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
        return None
    return eventually(attempt, 20, f"a page from {url}")


@pytest.mark.slow
def test_a_machine_with_the_minimal_kernel(minimal):
    node, reference = minimal
    node.launch(reference, "web", "--vm", "--kernel", "minimal", "-p", "8080:80", "-m", "96M", "--cpus", "2",
                "--pids", "50", "--tmpfs", "/cache:size=4M", "--sysctl", "net.core.somaxconn=77",
                "--ulimit", "nofile=300:400", timeout=BOOT)
    assert "It works" in page(f"http://{node_module.NODE4}:8080/")
    assert "It works" in page(f"http://[{node_module.NODE6}]:8080/")
    assert node.json("info", "web")["status"]["machine"]["kernel"] == "minimal"

    def inside(script):
        return node.sh("web", script).split()
    assert inside("nproc; hostname; cat /proc/sys/net/core/somaxconn; cat /sys/fs/cgroup/instance/pids.max") == \
        ["2", "web", "77", "50"]
    for line in ("overlay on / type overlay", "tmpfs on /cache ", "devpts on /dev/pts ", "mqueue on /dev/mqueue ",
                 "cgroup2 on /sys/fs/cgroup "):
        assert line in node.sh("web", "mount")
    assert abs(int(inside("date +%s")[0]) - int(subprocess.run(["date", "+%s"], capture_output=True).stdout)) < 60
    node.cli("exec", "web", "--", "sh", "-c", "exit 9", code=9)
    terminal = node.terminal("exec", "-it", "web", "--", "sh")
    terminal.type("tty; exit 4\r")
    terminal.expect("/dev/pts/")
    assert terminal.finish() == 4
    usage = node.api("GET", "/1.0/instances/web/stats")
    assert 0 < usage["memory"]["guest_usage_bytes"] < usage["memory"]["guest_total_bytes"] <= 96 << 20

    node.cli("exec", "web", "--", "sh", "-c", "echo kept >/root/kept")
    node.cli("stop", "-t", "1", "web", timeout=60)
    assert node.json("info", "web")["status"]["exit_code"] == 137
    node.cli("start", "web", timeout=BOOT)
    assert node.out("exec", "web", "--", "cat", "/root/kept") == "kept\n"


@pytest.mark.slow
def test_a_panic_of_the_minimal_kernel_is_told(minimal):
    node, reference = minimal
    node.cli("launch", "-a", "--vm", "-m", "64M", "--tmpfs", "/full:size=1G", reference, "one", "--", "sh", "-c",
             "echo 2 >/proc/sys/vm/panic_on_oom; dd if=/dev/zero of=/full/x bs=1M", code=None, timeout=BOOT)
    # Failed, when it was over before anybody saw it run.
    error = node.wait_state("one", ("stopped", "failed"))["status"].get("error", "")
    assert "the guest has crashed" in error and "Kernel panic" in error


@pytest.mark.parametrize("args, code, words", [
    (["one", "two"], 2, "usage: build_minimal_kernel"),
    (["-j", "0"], 2, "usage: build_minimal_kernel"),
    (["-s", "/no/source", "vmlinux"], 1, "/no/source; apt-get install -y linux-source-6.1"),
    (["/no/folder/vmlinux"], 1, "its folder is not there"),
    (["."], 1, "is a folder"),
])
def test_what_the_build_refuses(tmp_path, args, code, words):
    done = subprocess.run([ROOT / "tools/build_minimal_kernel", *args], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == code and words in done.stderr, done
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
