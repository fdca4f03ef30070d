"""brume-oci: what it refuses; one line that says what and where, and nothing left behind."""
import json
import os

import oci_bundle
import pytest
from conftest import need


@pytest.fixture
def bundle(build, scratch):
    need("brume-oci", "busybox")
    it = oci_bundle.Bundle(build / "brume-oci", scratch)
    yield it
    it.close()


def change(*path_and_value):
    *path, value = path_and_value

    def apply(config):
        for name in path[:-1]:
            config = config[name]
        if value is None:
            del config[path[-1]]
        else:
            config[path[-1]] = value
    return apply


REFUSED = [
    (change("ociVersion", "2.0.0"), "ociVersion"),
    (change("ociVersion", None), "ociVersion"),
    (change("process", "args", []), "process.args"),
    (change("process", "cwd", "relative"), "process.cwd"),
    (change("process", "rlimits", [{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}]), "RLIMIT_FOO"),
    (change("process", "rlimits", [{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]), "soft"),
    (change("process", "rlimits", 2 * [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]), "twice"),
    (change("process", "args", ["no-such-program"]), "executable file \"no-such-program\""),
    (change("process", "selinuxLabel", "a:b:c"), "SELinux"),
    (change("process", "env", ["PATH"]), "process.env[0]"),
    (change("process", "apparmorProfile", "x"), "apparmorProfile"),
    (change("process", "scheduler", {"policy": "SCHED_MAGIC"}), "SCHED_MAGIC"),
    (change("process", "ioPriority", {"class": "IOPRIO_X", "priority": 1}), "IOPRIO_X"),
    (change("process", "execCPUAffinity", {"initial": "x"}), "execCPUAffinity.initial"),
    (change("process", "commandLine", "x"), "process.commandLine"),
    (change("process", "user", {"username": "x"}), "process.user.username"),
    (change("process", "oomScoreAdj", 1001), "1000"),
    (change("root", None), "root: is missing"),
    (change("root", "path", "not-there"), "not-there"),
    (change("mounts", [{"destination": "/x", "type": "nofs", "source": "x"}]), "mounts[0] (/x)"),
    (change("mounts", [{"destination": "/x", "type": "bind", "source": "/not/there",
                        "options": ["bind"]}]), "/not/there"),
    (change("mounts", [{"destination": "/x", "type": "bind", "source": "/",
                        "options": ["bind", "frobnicate"]}]), "frobnicate"),
    (change("mounts", [{"destination": "/x", "type": "tmpfs", "options": ["frob=1"]}]), "frob"),
    (change("mounts", [{"type": "tmpfs"}]), "mounts[0].destination"),
    (change("linux", "namespaces", [{"type": "space"}]), "space"),
    (change("linux", "namespaces", [{"type": "pid"}, {"type": "pid"}]), "twice"),
    (change("linux", "namespaces", [{"type": "pid"}]), "mount namespace"),
    (change("linux", "namespaces", [{"type": "mount"}, {"type": "user"}]), "uidMappings"),
    (change("linux", "namespaces", [{"type": "mount"}, {"type": "uts", "path": "/proc/self/ns/net"}
                                    ]), "is not a uts namespace"),
    (change("linux", "namespaces", [{"type": "mount"}]), "hostname"),
    (change("linux", "uidMappings", [{"containerID": 0, "hostID": 1, "size": 1}]), "user namespace"),
    (change("linux", "timeOffsets", {"boottime": {"secs": 1}}), "time namespace"),
    (change("linux", "sysctl", {"kernel.panic": "1"}), "kernel.panic"),
    (change("linux", "rootfsPropagation", "sideways"), "sideways"),
    (change("linux", "cgroupsPath", "/a/../../b"), "cgroupsPath"),
    (change("linux", "intelRdt", {"closID": "x"}), "intelRdt"),
    (change("linux", "mountLabel", "x"), "mountLabel"),
    (change("linux", "personality", {"domain": "SUN"}), "LINUX32"),
    (change("linux", "devices", [{"path": "/dev/x", "type": "z"}]), "linux.devices[0].type"),
    (change("linux", "resources", {"memory": {"limit": "1G"}}), "linux.resources.memory.limit"),
    (change("linux", "resources", {"memory": {"limit": 8 << 20, "swap": 1 << 20}}), "swap"),
    (change("linux", "resources", {"cpu": {"cpus": "9999"}}), "cpu.cpus"),
    (change("linux", "resources", {"unified": {"memory.nothing": "1"}}), "memory.nothing"),
    (change("linux", "resources", {"rdma": {"mlx": {"hcaHandles": 1}}}), "rdma"),
    (change("linux", "seccomp", {"defaultAction": "SCMP_ACT_MAYBE"}), "SCMP_ACT_MAYBE"),
    (change("linux", "seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]}), "no_such_call"),
    (change("linux", "seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}), "listenerPath"),
    (change("linux", "seccomp", {"defaultAction": "SCMP_ACT_ALLOW",
                                 "architectures": ["SCMP_ARCH_Z80"]}), "SCMP_ARCH_Z80"),
    (change("hooks", {"prestart": [{"path": "relative"}]}), "hooks.prestart[0].path"),
    (change("hooks", {"prestart": [{"path": "/x", "timeout": 0}]}), "timeout"),
    (change("vm", {"kernel": {"path": "/x"}}), "vm"),
    (change("annotations", {"a": 1}), "annotations"),
]


@pytest.mark.parametrize("apply,said", REFUSED, ids=[said for _, said in REFUSED])
def test_refused(bundle, apply, said):
    apply(bundle.config)
    done = bundle.run()
    lines = done.stderr.splitlines()
    code = 127 if said.startswith("executable file") else 1
    assert done.returncode == code and len(lines) == 1 and said in lines[0], done.stderr
    assert bundle.leftovers() == []


def test_a_limit_above_ours(bundle):
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    if effective & 1 << 24:
        pytest.skip("CAP_SYS_RESOURCE may raise every limit")
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": hard + 1}]
    done = bundle.run()
    assert done.returncode == 1 and "RLIMIT_NOFILE" in done.stderr and str(hard) in done.stderr


def test_not_json(bundle):
    for text in ("", "{", "[]", "\0", '{"ociVersion": "1.0.2", "ociVersion": "1.0.2"}', "{}" * 9):
        (bundle.folder / "bundle/config.json").write_text(text)
        done = bundle.call("run", bundle.id)
        assert done.returncode == 1 and "config.json" in done.stderr
    os.unlink(bundle.folder / "bundle/config.json")
    assert "config.json" in bundle.call("run", bundle.id).stderr


def test_unknown_properties_are_ignored(bundle):
    """The specification demands it."""
    bundle.config["org.example"] = {"x": 1}
    bundle.process["x"] = bundle.linux["y"] = 1
    assert bundle.run("true").returncode == 0


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".hidden", "a b", "x" * 300])
def test_bad_ids(bundle, name):
    bundle.write()
    done = bundle.call("create", name)
    assert done.returncode == 1 and "container id" in done.stderr
    for verb in ("state", "start", "delete"):
        assert bundle.call(verb, name).returncode == 1


def test_a_program_that_cannot_be_run(bundle):
    (bundle.rootfs / "bin/noexec").write_text("x")
    done = bundle.run("/bin/noexec")
    assert done.returncode == 126 and "Permission denied" in done.stderr
    (bundle.rootfs / "bin/broken").write_text("x")
    (bundle.rootfs / "bin/broken").chmod(0o755)
    done = bundle.run("/bin/broken")
    assert done.returncode == 126 and "/bin/broken" in done.stderr
    assert bundle.leftovers() == []


def test_a_start_that_fails_says_why(bundle):
    (bundle.rootfs / "bin/broken").write_text("x")
    (bundle.rootfs / "bin/broken").chmod(0o755)
    bundle.create("/bin/broken")
    done = bundle.call("start", bundle.id)
    assert done.returncode == 1 and "/bin/broken" in done.stderr
    # Not a moment later: whoever asks now must not take it for one that runs.
    assert json.loads(bundle.call("state", bundle.id).stdout)["status"] == "stopped"


def test_a_damaged_state(bundle):
    bundle.start("sleep", "1000")
    path = bundle.root / bundle.id / "state.json"
    good = path.read_text()
    for text in ("", "{}", "[1]", json.dumps({"id": 5})):
        path.write_text(text)
        assert bundle.call("state", bundle.id).returncode == 1
        assert bundle.call("list").returncode == 0
    path.write_text(good)


def test_a_reused_pid_is_not_touched(bundle):
    """The record names another process by pid alone: it must survive everything we do."""
    bundle.start("sleep", "1000")
    path = bundle.root / bundle.id / "state.json"
    good = path.read_text()
    state = json.loads(good)
    state["pid"] = os.getpid()
    path.write_text(json.dumps(state))
    assert bundle.state()["status"] == "stopped"
    assert bundle.call("kill", bundle.id, "KILL").returncode == 1
    path.write_text(good)


def test_a_control_group_in_use_is_refused(bundle):
    """Otherwise the end of one container would be the end of the other."""
    bundle.start("sleep", "1000")
    second = oci_bundle.Bundle(bundle.runtime, bundle.folder / "second")
    second.linux["cgroupsPath"] = bundle.cgroup
    done = second.run("true")
    assert done.returncode == 1 and "in use" in done.stderr
    second.close()
    assert bundle.state()["status"] == "running"
