"""brume-oci: hooks and states, the turns of a container's life as the specification has them."""
import json
import os
import pathlib
import subprocess

import kernel
import pytest

KINDS = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
INSIDE = {"startContainer"}
CREATING = ["prestart", "createRuntime", "createContainer"]


@pytest.fixture
def hooked(bundle):
    """A bundle whose hooks all write down what they see."""
    bundle.log = bundle.folder / "log"
    script = ("#!/bin/sh\nread -r state\n"
              "echo \"$1|$(readlink /proc/self/ns/mnt)|$(readlink /proc/self/ns/net)|$A$B|$#|"
              "$state\" >> LOG\n")
    host, inside = bundle.folder / "hook", bundle.rootfs / "hook"
    host.write_text(script.replace("LOG", str(bundle.log)))
    inside.write_text(script.replace("LOG", "/log"))
    host.chmod(0o755)
    inside.chmod(0o755)
    bundle.config["hooks"] = {kind: [hook(bundle, kind)] for kind in KINDS}
    return bundle


def hook(bundle, kind, *more, **members):
    path = "/hook" if kind in INSIDE else str(bundle.folder / "hook")
    return {"path": path, "args": ["hook", kind, *more], "env": ["PATH=/bin:/usr/bin", "A=a"],
            **members}


def seen(bundle):
    """The lines of all hooks, those of startContainer where they belong."""
    lines = bundle.log.read_text().splitlines() if bundle.log.exists() else []
    inside = bundle.rootfs / "log"
    at = next((i for i, line in enumerate(lines) if line.startswith("post")), len(lines))
    if inside.exists():
        lines[at:at] = inside.read_text().splitlines()
    return [line.split("|", 5) for line in lines]


def test_every_kind_in_its_namespaces_with_its_state(hooked):
    hooked.config["annotations"] = {"a.b": "c"}
    own = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net")}
    hooked.create("sleep", "1000")
    assert [one[0] for one in seen(hooked)] == CREATING
    pid = hooked.state()["pid"]
    theirs = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in ("mnt", "net")}
    hooked.call("start", hooked.id, check=True)
    assert [one[0] for one in seen(hooked)] == KINDS[:5]
    hooked.call("delete", "--force", hooked.id, check=True)
    rows = seen(hooked)
    assert [row[0] for row in rows] == KINDS
    for kind, mount, network, env, count, text in rows:
        state = json.loads(text)
        container = kind in ("createContainer", "startContainer")
        assert (mount, network) == ((theirs if container else own)["mnt"],
                                    (theirs if container else own)["net"]), kind
        assert env == "a" and count == "1"
        assert state["status"] == {"startContainer": "created", "poststart": "running",
                                   "poststop": "stopped"}.get(kind, "creating")
        assert state["pid"] == (0 if kind == "poststop" else pid)
        assert (state["id"], state["bundle"]) == (hooked.id, str(hooked.folder / "bundle"))
        assert state["annotations"] == {"a.b": "c"} and state["ociVersion"] == "1.2.1"


def test_several_of_a_kind_run_in_order(hooked):
    hooked.config["hooks"] = {kind: [hook(hooked, kind), hook(hooked, kind, "second")]
                              for kind in KINDS}
    assert hooked.run("true").returncode == 0
    assert [(row[0], row[4]) for row in seen(hooked)] == [
        (kind, count) for kind in KINDS for count in ("1", "2")]


@pytest.mark.parametrize("env,seen", [(None, "OF_THE_RUNTIME=1"), ([], ""), (["A=b"], "A=b")])
def test_hooks_that_have_no_arguments(bundle, env, seen):
    """Without `env` a hook has the runtime's environment, as with runc and crun."""
    log = bundle.folder / "log"
    script = bundle.folder / "plain"
    script.write_text(f"#!/bin/sh\necho \"$0 $# $(env | grep -e ^OF_ -e ^A=)\" > {log}\n")
    script.chmod(0o755)
    bundle.config["hooks"] = {"createRuntime": [
        {"path": str(script), **({} if env is None else {"env": env})}]}
    more = {"PATH": os.environ["PATH"], "OF_THE_RUNTIME": "1"}
    assert bundle.run("true", env=more).returncode == 0
    assert log.read_text() == f"{script} 0 {seen}\n"


def test_prestart_may_arrange_the_network(bundle):
    """What the hook is for: the namespaces are there, and the program has not begun."""
    script = bundle.folder / "net"
    script.write_text("#!/bin/sh\nread -r state\npid=${state##*\\\"pid\\\":}\npid=${pid%%,*}\n"
                      "nsenter -t $pid -n ip link set lo up\n")
    script.chmod(0o755)
    bundle.config["hooks"] = {"prestart": [{"path": str(script),
                                            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}]}
    assert "UP" in bundle.sh("ip link show lo")


def test_create_container_sees_the_mounts_and_the_old_root(bundle):
    script = bundle.folder / "look"
    script.write_text(f"#!/bin/sh\ngrep -c /dev/shm /proc/self/mountinfo > {bundle.folder}/count\n"
                      f"test -e {bundle.folder}/bundle/config.json && echo host >> "
                      f"{bundle.folder}/count\n")
    script.chmod(0o755)
    before = pathlib.Path("/proc/self/mountinfo").read_text().count("/dev/shm")
    bundle.config["hooks"] = {"createContainer": [{"path": str(script),
                                                   "env": ["PATH=/bin:/usr/bin"]}]}
    assert bundle.run("true").returncode == 0
    count, host = (bundle.folder / "count").read_text().split()
    assert int(count) > before and host == "host"


@pytest.mark.parametrize("kind", CREATING)
def test_a_failure_while_creating(hooked, kind):
    """An error, nothing is left, the later ones do not run but poststop does."""
    hooked.config["hooks"][kind].insert(0, {"path": "/bin/false"})
    assert hooked.create("sleep", "1000", check=False) == 1
    said = (hooked.folder / "err").read_text()
    assert kind in said and "/bin/false" in said and "exit code 1" in said
    assert hooked.leftovers() == []
    assert [row[0] for row in seen(hooked)] == CREATING[:CREATING.index(kind)] + ["poststop"]


def test_a_failure_of_start_container(hooked):
    hooked.config["hooks"]["startContainer"].append({"path": "/bin/false"})
    hooked.create("touch", "/ran")
    pid = hooked.state()["pid"]
    done = hooked.call("start", hooked.id)
    assert done.returncode == 1 and "startContainer" in done.stderr
    assert kernel.wait_for_exit(pid) and hooked.state()["status"] == "stopped"
    assert not (hooked.rootfs / "ran").exists()
    hooked.call("delete", hooked.id, check=True)
    assert [row[0] for row in seen(hooked)] == CREATING + ["startContainer", "poststop"]
    assert hooked.leftovers() == []


def test_a_failure_of_poststart_stops_the_container(hooked):
    hooked.config["hooks"]["poststart"].insert(0, {"path": "/bin/false"})
    hooked.create("sleep", "1000")
    pid = hooked.state()["pid"]
    done = hooked.call("start", hooked.id)
    assert done.returncode == 1 and "poststart" in done.stderr
    assert kernel.wait_for_exit(pid) and hooked.state()["status"] == "stopped"
    hooked.call("delete", hooked.id, check=True)
    assert [row[0] for row in seen(hooked)][-1] == "poststop"
    # The same with run, which takes the container away itself.
    hooked.log.unlink()
    done = hooked.run("sleep", "1000")
    assert done.returncode == 1 and "poststart" in done.stderr and hooked.leftovers() == []
    assert [row[0] for row in seen(hooked)][-1] == "poststop"


def test_a_failure_of_poststop_is_a_warning(hooked):
    hooked.config["hooks"]["poststop"].insert(0, {"path": "/bin/false"})
    hooked.create("sleep", "1000")
    done = hooked.call("delete", "--force", hooked.id)
    assert done.returncode == 0 and "poststop" in done.stderr
    assert [row[0] for row in seen(hooked)][-1] == "poststop" and hooked.leftovers() == []


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_a_timeout(bundle, kind):
    """The hook, and what it has started, is killed when its time is over."""
    # Longer than its time, and not for ever: a time that is too long shows as a success.
    bundle.config["hooks"] = {kind: [{"path": "/bin/sh",
                                      "args": ["sh", "-c", "sleep 1001 >/dev/null 2>&1 & sleep 0007"],
                                      "env": ["PATH=/bin"], "timeout": 1}]}
    done = bundle.run("true")
    assert done.returncode == 1 and kind in done.stderr and "1 s" in done.stderr
    assert bundle.leftovers() == []
    assert subprocess.run(["pgrep", "-fx", "sleep 1001"], capture_output=True).stdout == b""


def test_a_hook_may_leave_its_stdin_alone(bundle):
    bundle.config["annotations"] = {"long": "x" * 200000}
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/true"}],
                              "poststop": [{"path": "/bin/true"}]}
    assert bundle.run("true").returncode == 0


@pytest.mark.parametrize("hook_,said", [
    ({"path": "relative"}, "path"), ({}, "path"), ({"path": "/x", "timeout": 0}, "timeout"),
    ({"path": "/x", "timeout": -1}, "timeout"), ({"path": "/x", "env": "A=1"}, "env"),
    ({"path": "/nonexistent/hook"}, "/nonexistent/hook")])
def test_refused(bundle, hook_, said):
    bundle.config["hooks"] = {"createRuntime": [hook_]}
    done = bundle.run("true")
    assert done.returncode == 1 and said in done.stderr and bundle.leftovers() == []


# ---- states ----


def refused(bundle, verb, *words, said):
    """The verb fails with one line that says why, and changes nothing."""
    before = bundle.call("state", bundle.id)
    done = bundle.call(verb, *words)
    assert done.returncode == 1 and said in done.stderr, (verb, words, done.stderr)
    assert len(done.stderr.splitlines()) == 1
    after = bundle.call("state", bundle.id)
    assert (before.returncode, before.stdout) == (after.returncode, after.stdout)


def test_verbs_in_the_wrong_order(bundle):
    for verb in ("start", "state", "kill", "delete", "pause", "resume"):
        refused(bundle, verb, bundle.id, said="does not exist")
    bundle.create("sleep", "1000")
    pid = bundle.state()["pid"]
    refused(bundle, "create", bundle.id, said="exists already")
    refused(bundle, "delete", bundle.id, said="created")
    refused(bundle, "pause", bundle.id, said="created")
    refused(bundle, "resume", bundle.id, said="created")
    bundle.call("start", bundle.id, check=True)
    refused(bundle, "start", bundle.id, said="running")
    refused(bundle, "create", bundle.id, said="exists already")
    refused(bundle, "delete", bundle.id, said="running")
    refused(bundle, "resume", bundle.id, said="running")
    bundle.call("pause", bundle.id, check=True)
    refused(bundle, "pause", bundle.id, said="paused")
    refused(bundle, "start", bundle.id, said="paused")
    refused(bundle, "delete", bundle.id, said="paused")
    bundle.call("kill", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(pid)
    for verb, said in (("start", "stopped"), ("kill", "not running"), ("pause", "stopped"),
                       ("resume", "stopped")):
        refused(bundle, verb, bundle.id, said=said)
    bundle.call("delete", bundle.id, check=True)
    refused(bundle, "delete", bundle.id, said="does not exist")
    assert bundle.call("delete", "--force", bundle.id).returncode == 0


def test_a_created_container_can_be_killed(bundle):
    bundle.create("touch", "/ran")
    pid = bundle.state()["pid"]
    bundle.call("kill", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(pid)
    refused(bundle, "start", bundle.id, said="stopped")
    bundle.call("delete", bundle.id, check=True)
    assert not (bundle.rootfs / "ran").exists() and bundle.leftovers() == []


def test_the_bundle_is_read_at_create_only(bundle):
    """The specification: changes to config.json after create have no effect."""
    bundle.create("sh", "-c", "echo first; sleep 1000")
    (bundle.folder / "bundle/config.json").write_text("nonsense")
    bundle.call("start", bundle.id, check=True)
    assert bundle.state()["status"] == "running"
    bundle.call("delete", "--force", bundle.id, check=True)
    assert bundle.output() == "first\n"


def test_state_after_death(bundle):
    bundle.start("true")
    pid = json.loads((bundle.root / bundle.id / "state.json").read_text())["pid"]
    assert kernel.wait_for_exit(pid)
    state = bundle.state()
    assert state["status"] == "stopped" and state["pid"] == 0
    assert set(state) >= {"ociVersion", "id", "status", "bundle", "annotations"}
