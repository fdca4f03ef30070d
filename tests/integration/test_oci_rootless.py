"""brume-oci started by an ordinary user."""
import json
import os
import pathlib
import shutil
import subprocess

import kernel
import oci_bundle
import pytest
from conftest import need

UID, FIRST = 61234, 700000


class UserBundle(oci_bundle.Bundle):
    """A bundle that belongs to a user, and a runtime that he starts."""

    prefix = ()

    def __init__(self, runtime, folder):
        super().__init__(runtime, folder)
        self.runtime_dir = folder / "runtime-dir"
        self.runtime_dir.mkdir(mode=0o700)
        self.root = self.runtime_dir / "brume-oci"
        self.own()
        self.call("spec", "--rootless", "-b", folder / "bundle")
        self.config = json.loads((folder / "bundle/config.json").read_text())
        self.process["terminal"] = False
        self.process["env"] = ["PATH=/bin"]
        self.config["root"]["readonly"] = False
        self.own()

    def own(self):
        os.chown(self.folder, UID, UID)
        for top, folders, files in os.walk(self.folder):
            for name in folders + files:
                os.chown(f"{top}/{name}", UID, UID, follow_symlinks=False)

    def write(self):
        super().write()
        os.chown(self.folder / "bundle/config.json", UID, UID)

    def command(self, verb, *words, globals_=()):
        folder = getattr(self, "runtime_dir", "/nowhere")
        return [*self.prefix, "setpriv", "--reuid", str(UID), "--regid", str(UID),
                "--clear-groups", "env", f"XDG_RUNTIME_DIR={folder}", self.runtime, *globals_,
                verb, *map(str, words)]


def users_bundle(build, scratch):
    need("brume-oci", "busybox", "setpriv")
    (scratch / "user").mkdir()
    program = scratch / "brume-oci"
    shutil.copy(build / "brume-oci", program)
    program.chmod(0o755)
    os.chown(scratch / "user", UID, UID)
    return UserBundle(program, scratch / "user")


@pytest.fixture
def bundle(build, scratch):
    # The maps of `spec --rootless` are the caller's own ids.
    it = users_bundle(build, scratch)
    maps = [{"containerID": 0, "hostID": UID, "size": 1}]
    assert it.linux["uidMappings"] == it.linux["gidMappings"] == maps
    yield it
    it.close()
    assert it.leftovers() == []


@pytest.fixture
def ranged(bundle):
    """The same with a range of subordinate ids."""
    need("newuidmap")
    user = f"brume-rootless:x:{UID}:{UID}::/:/bin/sh\n"
    texts = {"subuid": f"brume-rootless:{FIRST}:65536\n",
             "subgid": f"brume-rootless:{FIRST}:65536\n",
             "passwd": user + pathlib.Path("/etc/passwd").read_text()}
    for name, text in texts.items():
        path = bundle.folder / name
        path.write_text(text)
        file = pathlib.Path("/etc") / name
        if not file.exists():
            file.touch()
        subprocess.check_call(["mount", "--bind", str(path), str(file)])
    maps = [{"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": FIRST, "size": 65535}]
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = maps
    yield bundle
    for name in texts:
        subprocess.check_call(["umount", f"/etc/{name}"])


def test_one_id(bundle):
    done = bundle.run("sh", "-c", "id -u; cat /proc/self/uid_map; touch /made; echo $$; hostname")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0", str(UID), "1", "1", "brume-oci"]
    assert (bundle.rootfs / "made").stat().st_uid == UID


def test_life(bundle):
    bundle.start("sleep", "1000")
    state = bundle.state()
    assert state["status"] == "running"
    assert os.stat(f"/proc/{state['pid']}").st_uid == UID
    done = bundle.exec(bundle.id, "sh", "-c",
                       "for n in mnt pid ipc uts user; do [ $(readlink /proc/self/ns/$n) = "
                       "$(readlink /proc/1/ns/$n) ] || echo $n; done; id -u; exit 5")
    assert done.returncode == 5 and done.stdout == "0\n", done.stderr
    assert bundle.exec(bundle.id, "no-such-program").returncode == 127
    assert bundle.id in bundle.call("list").stdout
    bundle.call("kill", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(state["pid"])
    bundle.call("delete", bundle.id, check=True)


def test_nothing_of_ours_is_seen_inside(bundle):
    bundle.start("sleep", "1000")
    done = bundle.exec(bundle.id, "sh", "-c", "ls /proc/self/fd | wc -l; env; cat /proc/mounts")
    assert done.stdout.split()[0] == "4" and "USERNS" not in done.stdout, done.stdout
    assert "var/tmp" not in done.stdout.split("/proc/mounts")[0]


def test_a_range_of_ids(ranged):
    for caps in ranged.process["capabilities"].values():
        caps.append("CAP_CHOWN")
    script = "id -u; touch /mine; chown 5:6 /mine; cat /proc/self/uid_map"
    done = ranged.run("sh", "-c", script)
    assert done.returncode == 0, done.stderr
    made = (ranged.rootfs / "mine").stat()
    assert (made.st_uid, made.st_gid) == (FIRST + 4, FIRST + 5)
    ranged.process["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    done = ranged.run("sh", "-c", "id -u; id -G; cat /etc/passwd >/dev/null && echo read")
    assert done.stdout.split() == ["1000", "1000", "7", "read"], done.stderr
    ranged.start("sleep", "1000")
    pid = ranged.state()["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == FIRST + 999
    assert ranged.exec("-u", "5:5", ranged.id, "id", "-u").stdout == "5\n"
    ranged.call("kill", ranged.id, "KILL", check=True)


def test_devices_are_the_hosts_nodes(bundle):
    done = bundle.run("sh", "-c", "head -c 3 /dev/zero | wc -c; echo x > /dev/null && ls /dev")
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert names[0] == "3" and {"null", "zero", "urandom", "tty", "full", "fd"} <= set(names)


@pytest.mark.parametrize("change,text", [
    (lambda linux: linux["namespaces"].remove({"type": "user"}) or linux.pop("uidMappings")
     and linux.pop("gidMappings"), "user namespace"),
    (lambda linux: linux.update(uidMappings=[{"containerID": 0, "hostID": 5, "size": 1}]),
     "your own id"),
    (lambda linux: linux.update(resources={"memory": {"limit": 1 << 25}}), "delegated"),
])
def test_refused(bundle, change, text):
    before = bundle.copy_config()
    change(bundle.linux)
    done = bundle.run("true")
    assert done.returncode == 1 and text in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
    bundle.config = before


def test_ids_that_are_not_ours(bundle):
    need("newuidmap")
    maps = [{"containerID": 0, "hostID": UID, "size": 1},
            {"containerID": 1, "hostID": 100, "size": 10}]
    bundle.linux["uidMappings"] = bundle.linux["gidMappings"] = maps
    done = bundle.run("true")
    assert done.returncode == 1 and "/etc/subuid" in done.stderr


def test_sysfs_of_a_foreign_network_is_refused(bundle):
    for mount in bundle.config["mounts"]:
        if mount["destination"] == "/sys":
            mount.update(type="sysfs", source="sysfs", options=["nosuid", "noexec", "nodev", "ro"])
    done = bundle.run("true")
    assert done.returncode == 1 and "/sys" in done.stderr and "not permitted" in done.stderr


def test_somewhere_to_remember(bundle):
    words = [word for word in bundle.command("list") if not word.startswith("XDG")]
    done = subprocess.run(["env", "-u", "XDG_RUNTIME_DIR", *words], text=True, capture_output=True)
    assert done.returncode == 2 and "XDG_RUNTIME_DIR" in done.stderr


def test_a_runtime_of_ones_own_cannot_be_overwritten(bundle, scratch):
    own = scratch / "user/own-runtime"
    shutil.copy(bundle.runtime, own)
    os.chown(own, UID, UID)
    bundle.runtime = str(own)
    before = own.read_bytes()
    bundle.start("sleep", "1000")
    bundle.exec(bundle.id, "sh", "-c", "for i in 1 2 3 4 5; do echo x > /proc/self/exe; "
                                       "echo x > /proc/$PPID/exe; done; :")
    assert own.read_bytes() == before


def test_delegated_group(build, scratch):
    """Version 2: limits work in a subtree that was given to the user."""
    tree = pathlib.Path("/sys/fs/cgroup")
    if not (tree / "cgroup.controllers").exists():
        pytest.skip("needs control groups of version 2 (the lab has them)")
    bundle = users_bundle(build, scratch)
    given = tree / f"brume-given-{os.getpid()}"
    (given / "leaf").mkdir(parents=True)
    try:
        (tree / "cgroup.subtree_control").write_text("+pids +memory")
        for path in (given, given / "leaf"):
            for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
                os.chown(path / name, UID, UID)
        bundle.prefix = ("sh", "-c", f'echo 0 > {given}/leaf/cgroup.procs; exec "$@"', "sh")
        bundle.linux["cgroupsPath"] = f"/{given.name}/box"
        bundle.linux["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
        bundle.start("sleep", "1000")
        assert (given / "box/memory.max").read_text() == f"{64 << 20}\n"
        assert (given / "box/pids.max").read_text() == "20\n"
        assert (given / "box/cgroup.procs").read_text() == f"{bundle.state()['pid']}\n"
        bundle.call("update", "--pids-limit", "11", bundle.id, check=True)
        assert (given / "box/pids.max").read_text() == "11\n"
        bundle.call("pause", bundle.id, check=True)
        assert bundle.state()["status"] == "paused"
        bundle.call("resume", bundle.id, check=True)
        assert bundle.exec(bundle.id, "cat", "/proc/self/cgroup").returncode == 0
        bundle.close()
        assert not (given / "box").exists()
    finally:
        bundle.close()
        for path in (given / "leaf", given):
            path.rmdir()
