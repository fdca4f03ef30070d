"""brume-oci exec and run: the options that callers use, and exit codes of what cannot be run."""
import json
import os
import pathlib
import socket
import subprocess

import pytest


@pytest.fixture
def running(bundle):
    bundle.start("sleep", "1000")
    return bundle


def cannot_run(call):
    """127 for what is not there, 126 for what cannot be executed, 1 for everything else."""
    missing = call("no-such-program")
    assert missing.returncode == 127 and "not found in $PATH" in missing.stderr
    missing = call("/no/such/program")
    assert missing.returncode == 127 and "No such file" in missing.stderr
    for path in ("/etc/passwd", "/etc", "/broken"):
        unusable = call(path)
        assert unusable.returncode == 126 and path in unusable.stderr, path
    assert len(unusable.stderr.splitlines()) == 1


def test_exit_codes_of_exec(running):
    broken = running.rootfs / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    cannot_run(lambda path: running.exec(running.id, path))
    assert running.exec("--cwd", "/nowhere", running.id, "true").returncode == 1
    assert running.exec("no-such-container", "true").returncode == 1
    script = running.rootfs / "script"
    script.write_text("#!/no/such/shell\n")
    script.chmod(0o755)
    assert running.exec(running.id, "/script").returncode == 127


def test_exit_codes_of_run(bundle):
    broken = bundle.rootfs / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    cannot_run(bundle.run)
    bundle.process["args"] = ["no-such-program"]
    bundle.write()
    assert bundle.call("create", bundle.id).returncode == 127


def test_groups_and_capabilities(running):
    done = running.exec("-u", "1000:1000", "-g", "5", "-g", "6,7", running.id, "id", "-G")
    assert done.stdout.split() == ["1000", "5", "6", "7"], done.stderr
    for bad in ("x", "-1", "5,", "4294967295"):
        done = running.exec("-g", bad, running.id, "true")
        assert (done.returncode == 1 and "additional-gids" in done.stderr) or bad == "5,", bad
    caps = "grep CapEff /proc/self/status"
    before = int(running.exec(running.id, "sh", "-c", caps).stdout.split()[1], 16)
    after = int(running.exec("-c", "CAP_SYS_PTRACE", running.id, "sh", "-c",
                             caps).stdout.split()[1], 16)
    assert after == before | 1 << 19


def test_no_new_privs(bundle):
    bundle.process["noNewPrivileges"] = False
    bundle.start("sleep", "1000")
    show = ["sh", "-c", "grep NoNewPrivs /proc/self/status"]
    assert bundle.exec(bundle.id, *show).stdout.split()[1] == "0"
    assert bundle.exec("--no-new-privs", bundle.id, *show).stdout.split()[1] == "1"


def test_labels_that_the_kernel_has_not(running):
    if not pathlib.Path("/sys/module/apparmor").exists():
        done = running.exec("--apparmor", "profile", running.id, "true")
        assert done.returncode == 1 and "AppArmor" in done.stderr
    if not pathlib.Path("/sys/fs/selinux/enforce").exists():
        done = running.exec("--process-label", "a:b:c:d", running.id, "true")
        assert done.returncode == 1 and "SELinux" in done.stderr


def folders(bundle):
    all_v1 = [path for path in pathlib.Path("/sys/fs/cgroup").glob(f"*{bundle.cgroup}")]
    return all_v1 or [pathlib.Path(f"/sys/fs/cgroup{bundle.cgroup}")]


def test_cgroup_below(running):
    inside = ["sh", "-c", "cat /proc/self/cgroup"]
    done = running.exec("--cgroup", "sub", running.id, *inside)
    assert done.returncode == 1 and "sub" in done.stderr
    made = [folder / "sub" for folder in folders(running)]
    # In some hierarchies only: the program would run without the limits of the others.
    made[0].mkdir()
    if len(made) > 1:
        assert running.exec("--cgroup", "sub", running.id, "true").returncode == 1
    for folder in made[1:]:
        folder.mkdir()
    for folder in made:
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (folder / name).exists() and not (folder / name).read_text().strip():
                (folder / name).write_text((folder.parent / name).read_text())
    done = running.exec("--cgroup", "sub", running.id, *inside)
    assert done.returncode == 0, done.stderr
    seen = [line for line in done.stdout.splitlines() if line.endswith("/sub")]
    assert len(seen) == len(made), done.stdout
    assert running.exec("--cgroup", "../..", running.id, "true").returncode == 1


def test_ignore_paused(running):
    running.call("pause", running.id, check=True)
    assert "paused" in running.exec(running.id, "true").stderr
    child = subprocess.Popen(running.command("exec", "--ignore-paused", running.id, "echo", "late"),
                             stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    running.call("resume", running.id, check=True)
    assert child.stdout.read() == "late\n" and child.wait(20) == 0


def listener(path):
    it = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    it.bind(str(path))
    it.listen()
    return it


def pid_of(pidfd):
    for line in pathlib.Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return None


def test_pidfd_socket(bundle):
    path = bundle.folder / "pidfd.sock"
    sock = listener(path)
    bundle.create("sleep", "1000", options=["--pidfd-socket", path])
    connection, _ = sock.accept()
    _, fds, _, _ = socket.recv_fds(connection, 100, 1)
    assert pid_of(fds[0]) == bundle.state()["pid"]
    bundle.call("start", bundle.id, check=True)
    pid_file = bundle.folder / "pid"
    with open(os.devnull, "r+b") as null:
        subprocess.check_call(bundle.command("exec", "-d", "--pid-file", pid_file,
                                             "--pidfd-socket", path, bundle.id, "sleep", "99"),
                              stdin=null, stdout=null, stderr=null)
    connection, _ = sock.accept()
    _, more, _, _ = socket.recv_fds(connection, 100, 1)
    assert pid_of(more[0]) == int(pid_file.read_text())
    for fd in fds + more:
        os.close(fd)


def test_listen_fds(bundle):
    read, write = os.pipe()
    bundle.process["args"] = ["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID >&3; ls /proc/self/fd"]
    bundle.write()
    words = bundle.command("run", bundle.id)
    env = {key: value for key, value in os.environ.items() if not key.startswith("LISTEN")}
    done = subprocess.run(["bash", "-c", f'exec env LISTEN_FDS=1 "$@" 3>&{write}', "sh", *words],
                          pass_fds=[write], cwd=bundle.folder / "bundle", text=True, env=env,
                          stdin=subprocess.DEVNULL, capture_output=True)
    assert os.read(read, 100) == b"1 1\n", done.stderr
    assert len(done.stdout.split()) == 5
    # Meant for another process.
    bundle.process["args"] = ["sh", "-c", "echo -$LISTEN_FDS-; ls /proc/self/fd"]
    done = bundle.run(pass_fds=[write], env={**env, "LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert done.stdout.split()[0] == "--" and len(done.stdout.split()) == 5
    os.close(read)
    os.close(write)


def test_keep(bundle):
    assert bundle.run("sh", "-c", "exit 4", options=["--keep"]).returncode == 4
    assert bundle.state()["status"] == "stopped"
    bundle.call("delete", bundle.id, check=True)


def test_limits_of_another_user(bundle):
    """Reading them of a process that is somebody else takes a right that we may not have."""
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 600}]
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.start("sleep", "1000")
    drop = ["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"]
    done = subprocess.run([*drop, *bundle.command("exec", bundle.id, "sh", "-c",
                                                  "ulimit -n; ulimit -Hn")],
                          text=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.stdout.split() == ["500", "600"], done.stderr


def test_process_file(running):
    document = {"args": ["sh", "-c", "id -u; pwd; umask; echo $X; grep NoNewPrivs /proc/self/status"],
                "cwd": "/tmp", "env": ["PATH=/bin", "X=y"], "user": {"uid": 7, "gid": 8,
                                                                      "umask": 63},
                "noNewPrivileges": True}
    path = running.folder / "process.json"
    path.write_text(json.dumps(document))
    done = running.exec("-p", path, running.id)
    assert done.stdout.split() == ["7", "/tmp", "0077", "y", "NoNewPrivs:", "1"], done.stderr
    path.write_text("{}")
    done = running.exec("-p", path, running.id)
    assert done.returncode == 1 and str(path) in done.stderr


def test_global_options(bundle):
    for words in (["--debug"], ["--debug=true", "--systemd-cgroup=false"], ["--rootless=auto"],
                  ["--log-level", "warn"], ["--cgroup-manager=cgroupfs"]):
        assert bundle.run("true", globals_=words).returncode == 0, words
    done = bundle.run("sh", "-c", "cat /proc/self/cgroup; ls /sys/fs/cgroup | wc -l",
                      globals_=["--cgroup-manager=disabled"])
    assert done.returncode == 0 and bundle.cgroup not in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "0"
    assert bundle.leftovers() == []
    bundle.linux["resources"]["pids"] = {"limit": 5}
    done = bundle.run("true", globals_=["--cgroup-manager=disabled"])
    assert done.returncode == 1 and "disabled" in done.stderr
    for words in (["--rootless", "perhaps"], ["--log-level", "loud"], ["--cgroup-manager", "x"]):
        assert bundle.run("true", globals_=words).returncode == 2, words
