"""brume-oci --systemd-cgroup: containers as transient scopes.  The lab has systemd."""
import os
import pathlib
import subprocess
import time

import kernel
import pytest

SYSTEMD = pathlib.Path("/run/systemd/private").exists()
needs_systemd = pytest.mark.skipif(not SYSTEMD, reason="systemd does not run here (the lab has it)")
GLOBALS = ["--systemd-cgroup"]


class Scoped:
    """A bundle whose containers are scopes."""

    def __init__(self, bundle, slice_="brumetest.slice"):
        self.bundle = bundle
        self.name = f"bt-{bundle.id}.scope"
        bundle.linux["cgroupsPath"] = f"{slice_}:bt:{bundle.id}"
        original = bundle.command
        bundle.command = lambda verb, *words, globals_=(): original(
            verb, *words, globals_=[*globals_, *GLOBALS])

    def show(self, *names):
        done = subprocess.run(["systemctl", "show", self.name, *[f"-p{name}" for name in names]],
                              text=True, capture_output=True, check=True)
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def group(self):
        path = self.show("ControlGroup")["ControlGroup"]
        assert path.startswith("/brumetest.slice/")
        return pathlib.Path(f"/sys/fs/cgroup{path}")


@pytest.fixture
def scoped(bundle):
    it = Scoped(bundle)
    yield it
    bundle.close()
    end = time.monotonic() + 20
    while it.show("LoadState")["LoadState"] != "not-found":
        assert time.monotonic() < end, it.show("ActiveState", "SubState", "Result")
        time.sleep(0.1)
    subprocess.run(["systemctl", "stop", "brumetest.slice"], check=False)


@needs_systemd
def test_life_as_a_scope(scoped):
    bundle = scoped.bundle
    bundle.linux["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 21},
                                     cpu={"quota": 30000, "period": 100000})
    bundle.start("sleep", "1000")
    shown = scoped.show("ActiveState", "Slice", "Delegate", "MemoryMax", "TasksMax",
                        "CPUQuotaPerSecUSec")
    assert shown == {"ActiveState": "active", "Slice": "brumetest.slice", "Delegate": "yes",
                     "MemoryMax": str(64 << 20), "TasksMax": "21", "CPUQuotaPerSecUSec": "300ms"}
    group, pid = scoped.group(), bundle.state()["pid"]
    assert (group / "cgroup.procs").read_text() == f"{pid}\n"
    assert (group / "memory.max").read_text() == f"{64 << 20}\n"
    assert bundle.exec(bundle.id, "true").returncode == 0
    # What systemd writes again when it is told to is what we wanted.
    subprocess.check_call(["systemctl", "daemon-reload"])
    assert (group / "memory.max").read_text() == f"{64 << 20}\n"
    assert (group / "cgroup.procs").read_text() == f"{pid}\n"
    bundle.call("update", "--memory", "96m", "--pids-limit", "33", bundle.id, check=True)
    assert scoped.show("MemoryMax", "TasksMax") == {"MemoryMax": str(96 << 20), "TasksMax": "33"}
    assert (group / "pids.max").read_text() == "33\n"
    bundle.call("pause", bundle.id, check=True)
    assert bundle.state()["status"] == "paused"
    bundle.call("resume", bundle.id, check=True)
    bundle.call("kill", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(pid)
    bundle.call("delete", bundle.id, check=True)
    assert not group.exists()


@needs_systemd
def test_run_and_its_end(scoped):
    done = scoped.bundle.run("sh", "-c", "cat /proc/self/cgroup; exit 7")
    assert done.returncode == 7 and "0::/" in done.stdout, done.stderr
    assert scoped.bundle.leftovers() == []


@needs_systemd
def test_refused(scoped):
    bundle = scoped.bundle
    good = bundle.linux["cgroupsPath"]
    for path in ("/plain/path", "no.good:x:y", "a.slice:b:c/d"):
        bundle.linux["cgroupsPath"] = path
        done = bundle.run("true")
        assert done.returncode == 1 and "cgroupsPath" in done.stderr, done.stderr
    # A name that is taken.
    bundle.linux["cgroupsPath"] = good
    bundle.start("sleep", "1000")
    first, bundle.id = bundle.id, bundle.id + "-2"
    done = bundle.run("true")
    bundle.id = first
    assert done.returncode == 1 and "systemd" in done.stderr, done.stderr
    assert bundle.state()["status"] == "running"


@needs_systemd
def test_a_users_own_manager(build, scratch):
    """An ordinary user's container is a scope of the user's manager."""
    from test_oci_rootless import UID, users_bundle
    name = "brume-lab-user"
    subprocess.run(["groupadd", "-g", str(UID), name], check=False)
    subprocess.run(["useradd", "-u", str(UID), "-g", str(UID), "-m", name], check=False)
    if subprocess.call(["systemctl", "start", f"user@{UID}.service"]):
        pytest.skip("no manager for users")
    bundle = users_bundle(build, scratch)
    bundle.runtime_dir = pathlib.Path(f"/run/user/{UID}")
    bundle.root = pathlib.Path("/nonexistent")
    group = pathlib.Path(f"/sys/fs/cgroup/user.slice/user-{UID}.slice/user@{UID}.service")
    leaf = group / "lab.leaf"
    try:
        # As a shell of that user would be: below the manager, which may then move it.
        leaf.mkdir()
        os.chown(leaf, UID, UID)
        os.chown(leaf / "cgroup.procs", UID, UID)
        # systemd has mounted the user's folder where this session's mount namespace does not see it.
        script = f'cd {bundle.folder}/bundle && echo 0 > {leaf}/cgroup.procs; exec "$@"'
        bundle.prefix = ("nsenter", "-t", "1", "-m", "sh", "-c", script, "sh")
        bundle.linux["cgroupsPath"] = f"user.slice:bt:{bundle.id}"
        bundle.linux["resources"] = {"pids": {"limit": 17}}
        Scoped.__init__(object.__new__(Scoped), bundle, "user.slice")
        bundle.start("sleep", "1000")
        found = list(group.rglob(f"bt-{bundle.id}.scope"))
        assert len(found) == 1 and (found[0] / "pids.max").read_text() == "17\n"
        assert bundle.exec(bundle.id, "true").returncode == 0
    finally:
        bundle.close()
        leaf.rmdir()
        subprocess.call(["systemctl", "stop", f"user@{UID}.service"])
        subprocess.run(["userdel", "-r", name], check=False)


@pytest.mark.skipif(SYSTEMD, reason="systemd runs here")
def test_without_systemd_it_is_said(bundle):
    bundle.linux["cgroupsPath"] = f"system.slice:bt:{bundle.id}"
    bundle.write()
    done = bundle.call("run", bundle.id, globals_=["--systemd-cgroup"])
    assert done.returncode == 1 and "systemd" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and bundle.leftovers() == []
