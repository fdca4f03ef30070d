"""brume-oci: the verbs, in the order of a container's life, and what is left afterwards."""
import json
import os
import pathlib
import pty
import select
import signal
import socket
import subprocess

import kernel
import oci_bundle
import pytest


def test_run_gives_the_exit_code(bundle):
    assert bundle.run("sh", "-c", "exit 7").returncode == 7
    assert bundle.run("sh", "-c", "kill -9 $$").returncode in (0, 128 + 9)
    assert bundle.leftovers() == []


def test_life(bundle):
    bundle.create("sh", "-c", "echo begun; sleep 1000")
    state = bundle.state()
    assert state["status"] == "created" and state["ociVersion"] == "1.2.1"
    assert state["bundle"] == str(bundle.folder / "bundle") and state["id"] == bundle.id
    assert bundle.output() == ""
    bundle.call("start", bundle.id, check=True)
    assert bundle.state()["status"] == "running"
    again = bundle.call("start", bundle.id)
    assert again.returncode == 1 and "running" in again.stderr
    taken = bundle.call("create", bundle.id)
    assert taken.returncode == 1 and "exists already" in taken.stderr
    busy = bundle.call("delete", bundle.id)
    assert busy.returncode == 1 and "--force" in busy.stderr
    assert bundle.state()["status"] == "running"
    bundle.call("kill", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(state["pid"])
    assert bundle.state()["status"] == "stopped"
    assert bundle.call("kill", bundle.id).returncode == 1
    bundle.call("delete", bundle.id, check=True)
    gone = bundle.call("state", bundle.id)
    assert gone.returncode == 1 and "does not exist" in gone.stderr
    assert bundle.call("delete", "--force", bundle.id).returncode == 0


def test_exec(bundle):
    bundle.start("sleep", "1000")
    done = bundle.exec("--env", "A=b c", "--cwd", "/tmp", "--user", "1000:1000", bundle.id, "sh",
                       "-c", "echo $A; pwd; id -u; id -g; echo $HOME; exit 5")
    assert done.returncode == 5 and done.stdout == "b c\n/tmp\n1000\n1000\n/tmp\n"
    # The same namespaces and control groups as init, and no more rights.
    script = ("for n in mnt pid net ipc uts cgroup; do "
              "[ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n; done;"
              "cmp /proc/self/cgroup /proc/1/cgroup; grep CapBnd /proc/self/status /proc/1/status")
    done = bundle.exec(bundle.id, "sh", "-c", script)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and lines[0].split()[-1] == lines[1].split()[-1], done.stdout
    document = bundle.folder / "process.json"
    document.write_text(json.dumps({"args": ["id", "-u"], "cwd": "/", "user": {"uid": 33},
                                    "env": ["PATH=/bin"]}))
    assert bundle.exec("--process", document, bundle.id).stdout == "33\n"
    missing = bundle.exec(bundle.id, "no-such-program")
    assert missing.returncode == 127 and "executable file" in missing.stderr
    pid_file = bundle.folder / "pid"
    with open(os.devnull, "r+b") as null:
        subprocess.check_call(bundle.command("exec", "-d", "--pid-file", pid_file, bundle.id,
                                             "sleep", "999"), stdin=null, stdout=null, stderr=null)
    pid = int(pid_file.read_text())
    assert b"sleep\0999\0" == pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()


def test_exec_into_a_stopped_one_is_refused(bundle):
    bundle.start("true")
    pid = json.loads((bundle.root / bundle.id / "state.json").read_text())["pid"]
    assert kernel.wait_for_exit(pid)
    done = bundle.exec(bundle.id, "true")
    assert done.returncode == 1 and "stopped" in done.stderr


def test_pause_and_resume(bundle):
    bundle.start("sleep", "1000")
    bundle.call("pause", bundle.id, check=True)
    assert bundle.state()["status"] == "paused"
    assert "not running" in bundle.exec(bundle.id, "true").stderr
    bundle.call("resume", bundle.id, check=True)
    assert bundle.state()["status"] == "running"
    assert bundle.exec(bundle.id, "true").returncode == 0
    bundle.call("pause", bundle.id, check=True)
    bundle.call("delete", "--force", bundle.id, check=True)


def test_kill_all(bundle):
    bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "pid"]
    bundle.config["mounts"][0] = {"destination": "/proc", "type": "bind", "source": "/proc",
                                  "options": ["rbind", "ro"]}
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    bundle.start("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    tasks = pathlib.Path(f"/sys/fs/cgroup/pids{bundle.cgroup}/cgroup.procs")
    if not tasks.exists():
        tasks = pathlib.Path(f"/sys/fs/cgroup{bundle.cgroup}/cgroup.procs")
    pids = [int(pid) for pid in tasks.read_text().split()]
    assert pids
    bundle.call("kill", "--all", bundle.id, "KILL", check=True)
    assert all(kernel.wait_for_exit(pid) for pid in pids)


def test_run_passes_signals_and_stdio(bundle):
    bundle.process["args"] = ["sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; "
                                          "while :; do read x || sleep 0.05; done"]
    bundle.write()
    child = subprocess.Popen(bundle.command("run", bundle.id), cwd=bundle.folder / "bundle",
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.stdout.read() == "got\n" and child.wait() == 3


def test_terminal_over_console_socket(bundle):
    bundle.process["terminal"] = True
    bundle.process["consoleSize"] = {"height": 12, "width": 34}
    path = str(bundle.folder / "console.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    bundle.create("sh", "-c", "tty; stty size; ls -l /dev/console; test -c /dev/console && echo ok",
                  options=["--console-socket", path])
    connection, _ = listener.accept()
    _, fds, _, _ = socket.recv_fds(connection, 100, 1)
    bundle.call("start", bundle.id, check=True)
    text = b""
    try:
        while select.select([fds[0]], [], [], 10)[0]:
            piece = os.read(fds[0], 4096)
            if not piece:
                break
            text += piece
    except OSError:
        pass
    os.close(fds[0])
    lines = text.decode().splitlines()
    assert lines[0] == "/dev/pts/0" and lines[1] == "12 34" and lines[-1] == "ok", text


def test_terminal_in_the_foreground(bundle):
    bundle.process["terminal"] = True
    bundle.process["args"] = ["sh", "-c", "test -t 0 && tty; exit 4"]
    bundle.write()
    master, slave = pty.openpty()
    child = subprocess.Popen(bundle.command("run", bundle.id), cwd=bundle.folder / "bundle",
                             stdin=slave, stdout=slave, stderr=slave)
    assert child.wait(30) == 4
    os.close(slave)
    assert b"/dev/pts/0" in os.read(master, 4096)
    os.close(master)


def test_terminal_needs_somebody(bundle):
    bundle.process["terminal"] = True
    assert bundle.create("true", check=False) == 1
    assert "--console-socket" in (bundle.folder / "err").read_text()


def test_pid_file_and_list(bundle):
    bundle.create("sleep", "1000", options=["--pid-file", "pid.txt"])
    pid = int((bundle.folder / "bundle/pid.txt").read_text())
    assert bundle.state()["pid"] == pid
    listed = json.loads(bundle.call("list", "-f", "json", check=True).stdout)
    assert [(one["id"], one["status"], one["pid"]) for one in listed] == [
        (bundle.id, "created", pid)]
    assert bundle.call("list", "-q").stdout == bundle.id + "\n"
    assert bundle.id in bundle.call("list").stdout


def test_stdio_can_be_opened_again(mapped):
    """Pipes made by root, a program that is somebody else: /dev/stdout must still work."""
    mapped.process["user"] = {"uid": 1000, "gid": 1000}
    done = mapped.run("sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


def test_rootfs_fd(mapped):
    """A detached mount as root: the host's mount table never has it."""
    mapped.config["root"] = {"path": "/nonexistent"}
    fd = oci_bundle.detached_mount(mapped.rootfs)
    before = pathlib.Path("/proc/self/mountinfo").read_text()
    done = mapped.run("sh", "-c", "id -u; touch /made; ls /", options=["--rootfs-fd", str(fd)],
                      pass_fds=[fd])
    os.close(fd)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "0" and "made" in done.stdout.split()
    assert (mapped.rootfs / "made").stat().st_uid == oci_bundle.MAPPED
    assert pathlib.Path("/proc/self/mountinfo").read_text() == before


def test_preserved_descriptors(bundle):
    read, write = os.pipe()
    bundle.process["args"] = ["sh", "-c", "echo through >&3; ls /proc/self/fd"]
    bundle.write()
    words = bundle.command("run", "--preserve-fds", 1, bundle.id)
    done = subprocess.run(["bash", "-c", f'exec "$@" 3>&{write}', "sh", *words], pass_fds=[write],
                          cwd=bundle.folder / "bundle", stdin=subprocess.DEVNULL, text=True,
                          capture_output=True)
    assert os.read(read, 100) == b"through\n", done.stderr
    # Of ours nothing is left open: 0, 1, 2, 3, and the folder ls reads.
    assert len(done.stdout.split()) == 5
    done = bundle.run("sh", "-c", "ls /proc/self/fd", pass_fds=[write])
    assert len(done.stdout.split()) == 4
    os.close(read)
    os.close(write)


def test_a_killed_creator_leaves_nothing_running(bundle):
    """SIGKILL of `create` at any moment: delete --force takes away what it had made."""
    for step in range(12):
        bundle.process["args"] = ["sleep", "1000"]
        bundle.write()
        child = subprocess.Popen(bundle.command("create", bundle.id), stdin=subprocess.DEVNULL,
                                 cwd=bundle.folder / "bundle", stdout=subprocess.DEVNULL)
        try:
            child.wait(step * 0.001)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        bundle.call("delete", "--force", bundle.id, check=True)
        assert bundle.leftovers() == []


def test_hooks(bundle):
    log = bundle.folder / "log"
    script = bundle.folder / "hook"
    script.write_text(f"#!/bin/sh\nread -r state\necho \"$1 $state\" >> {log}\n")
    script.chmod(0o755)
    inside = bundle.rootfs / "hook"
    inside.write_text("#!/bin/sh\nread -r state\necho \"startContainer $state\" >> /log\n")
    inside.chmod(0o755)
    kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    bundle.config["hooks"] = {kind: [{"path": str(script), "args": ["hook", kind],
                                      "env": ["PATH=/bin"]}] for kind in kinds}
    bundle.config["hooks"]["startContainer"] = [{"path": "/hook", "env": ["PATH=/bin"]}]
    bundle.config["annotations"] = {"a.b": "c"}
    bundle.start("sleep", "1000")
    pid = bundle.state()["pid"]
    bundle.call("delete", "--force", bundle.id, check=True)
    seen = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [kind for kind, _ in seen] == kinds
    states = {kind: json.loads(text) for kind, text in seen}
    assert states["prestart"]["status"] == "creating" and states["prestart"]["pid"] == pid
    assert states["poststart"]["status"] == "running"
    assert states["poststop"]["status"] == "stopped"
    assert all(state["id"] == bundle.id and state["annotations"] == {"a.b": "c"}
               for state in states.values())
    kind, text = (bundle.rootfs / "log").read_text().split(" ", 1)
    assert kind == "startContainer" and json.loads(text)["status"] == "created"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_undoes_the_container(bundle, kind):
    bundle.config["hooks"] = {kind: [{"path": "/bin/false"}]}
    assert bundle.create("sleep", "1000", check=False) == 1
    assert kind in (bundle.folder / "err").read_text()
    assert bundle.leftovers() == []


def test_a_hook_that_hangs_is_killed(bundle):
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"],
                                                 "timeout": 1}]}
    assert bundle.create("sleep", "1000", check=False) == 1
    assert "1 s" in (bundle.folder / "err").read_text()


def test_version_and_features(bundle):
    done = subprocess.run([bundle.runtime, "--version"], text=True, capture_output=True)
    assert done.returncode == 0 and "spec: 1.2.1" in done.stdout
    features = json.loads(bundle.call("features", check=True).stdout)
    assert "rbind" in features["mountOptions"] and "user" in features["linux"]["namespaces"]
    assert features["ociVersionMax"] == "1.2.1"


def test_errors_go_to_the_log(bundle):
    log = bundle.folder / "log.json"
    done = bundle.call("state", "nobody", globals_=["--log", str(log), "--log-format", "json"])
    last = json.loads(log.read_text().splitlines()[-1])
    assert done.returncode == 1 and last["level"] == "error"
    assert "nobody" in last["msg"] and last["time"].endswith("Z")


@pytest.mark.parametrize("words", [["bad-verb"], [], ["start"], ["start", "--nothing", "x"],
                                   ["kill", "x", "SIGNOTHING"], ["--log-format", "xml", "list"],
                                   ["--cgroup-manager", "x", "list"], ["exec", "x"],
                                   ["create", "--preserve-fds", "many", "x"]])
def test_usage_errors(bundle, words):
    done = subprocess.run([bundle.runtime, "--root", str(bundle.root), *words], text=True,
                          capture_output=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
