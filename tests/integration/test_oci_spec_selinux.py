"""brume-oci: SELinux labels, under the lab's own policy (tests/lab/selinux.conf)."""
import os
import pathlib

import pytest

ENFORCE = pathlib.Path("/sys/fs/selinux/enforce")
pytestmark = pytest.mark.skipif(not ENFORCE.exists() or ENFORCE.read_text() != "1",
                                reason="SELinux is not enforced here (the lab's case does it)")

BASE, BOX = "base_u:base_r:base_t", "base_u:base_r:box_t"
LOCKED = "base_u:base_r:locked_t"


@pytest.fixture
def tmpfs(bundle):
    """A bundle with a tmpfs of its own at /tmp."""
    bundle.config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    return bundle


def test_the_program_has_the_label(bundle):
    bundle.process["selinuxLabel"] = BOX
    assert bundle.sh("tr -d '\\0' </proc/self/attr/current") == BOX


def test_without_one_nothing_changes(bundle):
    assert bundle.sh("tr -d '\\0' </proc/self/attr/current") == BASE


def test_with_no_new_privileges_and_a_user(mapped):
    mapped.process["selinuxLabel"] = BOX
    mapped.process["user"] = {"uid": 1000, "gid": 1000}
    assert mapped.process["noNewPrivileges"]
    assert mapped.sh("tr -d '\\0' </proc/self/attr/current") == BOX


def test_file_systems_have_the_mount_label(tmpfs):
    tmpfs.linux["mountLabel"] = LOCKED
    assert f"context={LOCKED}" in tmpfs.sh("grep ' /tmp ' /proc/self/mounts")


def test_message_queues_have_it_too(bundle):
    """The kernel takes no context for these: their folder is labelled."""
    bundle.linux["mountLabel"] = LOCKED
    bundle.start("sleep", "1000")
    folder = f"/proc/{bundle.state()['pid']}/root/dev/mqueue"
    assert os.getxattr(folder, "security.selinux").rstrip(b"\0").decode() == LOCKED


def test_the_policy_holds_between_the_two(tmpfs):
    """The same write, three times: only the labelled program on the labelled file system fails."""
    write = "touch /tmp/x && echo written; true"
    tmpfs.process["selinuxLabel"] = BOX
    assert tmpfs.sh(write) == "written\n"
    tmpfs.linux["mountLabel"] = LOCKED
    done = tmpfs.run("sh", "-c", write)
    assert done.stdout == "" and "Permission denied" in done.stderr
    del tmpfs.process["selinuxLabel"]
    assert tmpfs.sh(write) == "written\n"


def test_exec_runs_under_it_too(bundle):
    bundle.process["selinuxLabel"] = BOX
    bundle.start("sleep", "1000")
    done = bundle.exec(bundle.id, "sh", "-c", "tr -d '\\0' </proc/self/attr/current")
    assert done.stdout == BOX


def test_exec_has_an_option_for_another(bundle):
    bundle.start("sleep", "1000")
    for options, label in (([], BASE), (["--process-label", BOX], BOX)):
        done = bundle.exec(*options, bundle.id, "sh", "-c", "tr -d '\\0' </proc/self/attr/current")
        assert done.stdout == label, done


@pytest.mark.parametrize("label", ["base_u:base_r:no_such_t", "x"])
def test_a_label_that_the_policy_does_not_know(bundle, label):
    bundle.process["selinuxLabel"] = label
    done = bundle.run("true")
    assert done.returncode == 1 and f'process.selinuxLabel "{label}"' in done.stderr
    assert bundle.leftovers() == []
