"""brume-oci on a host that has control groups of version 2 only.

Where version 1 is mounted, a private mount namespace without it stands in for such a host: the tree
of version 2 is the same, though with few controllers (those that version 1 has not taken).
"""
import pathlib
import subprocess
import tempfile

import kernel
import oci_bundle
import pytest
from conftest import need

HIDE = ('umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"')


class V2Bundle(oci_bundle.Bundle):
    def command(self, verb, *words, globals_=()):
        plain = super().command(verb, *words, globals_=globals_)
        if not pathlib.Path("/sys/fs/cgroup/memory").exists():
            return plain
        return ["unshare", "-m", "sh", "-c", HIDE, "sh", *plain]


@pytest.fixture(scope="module")
def tree():
    """The version 2 tree, mounted for this module to look at."""
    need("brume-oci", "busybox")
    if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
        yield pathlib.Path("/sys/fs/cgroup")
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cgroup2-", dir="/var/tmp"))
    if subprocess.call(["mount", "-t", "cgroup2", "cgroup2", str(folder)]):
        folder.rmdir()
        pytest.skip("this kernel has no version 2 control groups")
    yield folder
    subprocess.check_call(["umount", str(folder)])
    folder.rmdir()


@pytest.fixture
def bundle(build, scratch, tree):
    it = V2Bundle(build / "brume-oci", scratch)
    yield it
    it.close()
    assert not (tree / it.cgroup[1:]).exists() and it.leftovers() == []


def test_life(bundle, tree):
    bundle.start("sleep", "1000")
    pid = bundle.state()["pid"]
    group = tree / bundle.cgroup[1:]
    assert (group / "cgroup.procs").read_text() == f"{pid}\n"
    done = bundle.exec(bundle.id, "sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup")
    assert "0::/\n" in done.stdout and "cgroup.procs" in done.stdout, done.stderr
    assert bundle.exec(bundle.id, "true").returncode == 0
    bundle.call("pause", bundle.id, check=True)
    assert "frozen 1" in (group / "cgroup.events").read_text()
    assert bundle.state()["status"] == "paused"
    bundle.call("resume", bundle.id, check=True)
    assert bundle.state()["status"] == "running"
    bundle.call("kill", "--all", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(pid)
    bundle.call("delete", bundle.id, check=True)
    assert not group.exists()


def test_devices_by_program(bundle):
    bundle.linux["resources"]["devices"] += [
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}]
    bundle.linux["devices"] = [
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666},
        {"path": "/dev/mem", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666}]
    done = bundle.run("sh", "-c", "head -c1 /dev/zero | wc -c; : > /dev/kmsg && echo written;"
                                  "head -c1 /dev/kmsg; head -c1 /dev/mem")
    assert done.stdout.startswith("1\nwritten\n"), done.stderr
    denied = [line for line in done.stderr.splitlines() if "not permitted" in line]
    assert len(denied) == 2, done.stderr


def test_limits(bundle, tree):
    offered = (tree / "cgroup.controllers").read_text().split()
    if "hugetlb" in offered:
        bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 << 20}]
    if "pids" in offered:
        bundle.linux["resources"]["pids"] = {"limit": 44}
    bundle.start("sleep", "1000")
    group = tree / bundle.cgroup[1:]
    if "hugetlb" in offered:
        assert (group / "hugetlb.2MB.max").read_text() == f"{4 << 20}\n"
    if "pids" in offered:
        assert (group / "pids.max").read_text() == "44\n"


def test_a_missing_controller_is_said(bundle, tree):
    if "memory" in (tree / "cgroup.controllers").read_text().split():
        pytest.skip("this host's version 2 tree has the memory controller")
    bundle.linux["resources"]["memory"] = {"limit": 1 << 26}
    done = bundle.run("true")
    assert done.returncode == 1 and "linux.resources.memory.limit" in done.stderr
    assert "memory" in done.stderr and bundle.leftovers() == []


def test_unified(bundle, tree):
    bundle.linux["resources"]["unified"] = {"cgroup.max.descendants": "5"}
    bundle.start("sleep", "1000")
    assert (tree / bundle.cgroup[1:] / "cgroup.max.descendants").read_text() == "5\n"
