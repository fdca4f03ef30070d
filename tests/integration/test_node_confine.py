"""What an instance cannot do: see the host, be the host's root, leave its root, exceed its limits."""
import os
import pathlib

import images
import pytest
from node import eventually


@pytest.fixture(scope="module")
def jailed(shared_node):
    """One instance for the whole file: nothing that is tried in it may harm it."""
    node = shared_node
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "jail", "--memory", "64M", "--pids", "32", "--cpus", "0.5")

    def inside(script, code=0, **more):
        return node.cli("exec", "jail", "--", "sh", "-c", script, code=code, **more)
    inside.node, inside.reference = node, reference
    inside.pid = node.instance("jail")["status"]["pid"]
    yield inside
    assert node.instance("jail")["status"]["pid"] == inside.pid
    node.check_clean()


def test_its_own_namespaces(jailed):
    for kind in ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup"):
        theirs = os.readlink(f"/proc/{jailed.pid}/ns/{kind}")
        assert theirs != os.readlink(f"/proc/{jailed.node.pid}/ns/{kind}"), kind
        assert theirs != os.readlink(f"/proc/self/ns/{kind}"), kind


def test_host_processes_are_neither_seen_nor_signalled(jailed):
    pids = [int(p) for p in jailed("ls /proc | grep '^[0-9]'").stdout.split()]
    assert 1 in pids and len(pids) < 10
    # The pid of this test means nothing, or somebody else, in there.
    jailed(f"kill -9 {os.getpid()} 2>/dev/null; kill -9 -1 2>/dev/null; true", code=None)
    assert pathlib.Path(f"/proc/{jailed.node.pid}").exists()


def test_root_inside_is_nobody_outside(jailed):
    status = pathlib.Path(f"/proc/{jailed.pid}/status").read_text()
    uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert all(int(uid) >= 0x40000000 for uid in uids)
    assert jailed("id -u").stdout == "0\n"
    # What it writes belongs to its own range, whose numbers no user of the host has.
    jailed("echo mine > /root/file")
    found = list((jailed.node.state / "instances").glob("*/upper/root/file"))
    assert found and found[0].stat().st_uid >= 0x40000000
    # A file of the image belongs to root inside without having been copied.
    assert jailed("stat -c %u /bin/busybox").stdout == "0\n"


def test_two_instances_share_no_user_id(jailed):
    jailed.node.launch(jailed.reference, "other")
    other = jailed.node.instance("other")["status"]["pid"]
    assert pathlib.Path(f"/proc/{jailed.pid}/uid_map").read_text() != \
        pathlib.Path(f"/proc/{other}/uid_map").read_text()
    jailed.node.cli("delete", "--force", "other")


def test_nothing_outside_its_root_can_be_written(jailed, scratch):
    target = scratch / "target"
    target.write_text("safe")
    target.chmod(0o666)
    jailed(f"echo broken > {target}", code=1)
    jailed(f"echo broken > /../../../..{target}", code=1)
    jailed(f"echo broken > /proc/1/root{target}", code=1)
    assert target.read_text() == "safe"


@pytest.mark.parametrize("attempt", [
    "echo 1 > /proc/sys/kernel/panic",
    "echo b > /proc/sysrq-trigger",
    "echo /tmp/x > /proc/sys/kernel/core_pattern",
    "mount -t proc proc /mnt 2>/dev/null || mount -o remount,rw /proc/sys",
    "mount -t tmpfs none /proc/sys",
    "mknod /tmp/disk b 8 0 && cat /tmp/disk",
    "test -n \"$(head -c 4 /proc/kcore)\"",
    "echo 1 > /sys/kernel/mm/ksm/run",
    "chroot /proc/1/root /bin/true && cat /etc/shadow",
    "unshare -U true",
    "swapoff -a; reboot -f; test -e /nothing",
    "hwclock -w",
])
def test_these_are_refused(jailed, attempt):
    assert jailed(attempt, code=None).returncode != 0
    jailed("true")


def test_no_new_privileges_and_few_capabilities(jailed):
    status = jailed("cat /proc/1/status").stdout
    values = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert values["NoNewPrivs"] == "1"
    assert values["Seccomp"] == "2"
    effective = int(values["CapEff"], 16)
    for forbidden in (12, 16, 17, 19, 21, 22, 25):  # net_admin, module, rawio, ptrace, admin, boot, time
        assert not effective & (1 << forbidden), forbidden


def test_memory_is_limited(jailed):
    def eat(bytes_, **more):
        return jailed(f"dd if=/dev/zero of=/dev/null bs={bytes_} count=1", **more)
    assert eat(100000000, code=None).returncode == 137
    eat(5000000)
    assert jailed.node.instance("jail")["status"]["state"] == "running"


def test_the_number_of_processes_is_limited(jailed):
    done = jailed("i=0; while [ $i -lt 100 ]; do (sleep 3 &) 2>/dev/null || exit 9; i=$((i+1)); done",
                  code=None)
    assert done.returncode != 0
    count = len([p for p in pathlib.Path("/proc").glob("[0-9]*") if in_cgroup(p, jailed)])
    assert count <= 32
    eventually(lambda: jailed("true", code=None).returncode == 0, 20, "room for a process")


def in_cgroup(entry, jailed):
    uid = jailed.node.instance("jail")["meta"]["uid"]
    try:
        return uid in (entry / "cgroup").read_text()
    except OSError:
        return False


def test_cpu_is_limited(jailed):
    quota = [p.read_text().strip() for p in pathlib.Path("/sys/fs/cgroup").glob(
        f"cpu*/{jailed.node.prefix}/*/cpu.cfs_quota_us")]
    quota += [p.read_text().split()[0] for p in pathlib.Path("/sys/fs/cgroup").glob(
        f"{jailed.node.prefix}/*/cpu.max")]
    assert "50000" in quota


def test_an_instance_cannot_reach_the_nodes_sockets(jailed):
    assert jailed("ls /run/brume* /var/run/brume* 2>/dev/null", code=None).stdout == ""
    jailed(f"ls {jailed.node.run_folder}", code=1)


def test_descriptors_do_not_leak_in(jailed):
    # Nothing but its input, its output and, in the second case, the folder that ls reads.
    assert jailed("ls /proc/1/fd").stdout.split() == ["0", "1", "2"]
    assert jailed("exec ls /proc/self/fd").stdout.split() == ["0", "1", "2", "3"]
