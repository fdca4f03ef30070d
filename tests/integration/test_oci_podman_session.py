"""A working day with podman on top of brume-oci: one scripted session, in order."""
import json
import os
import pathlib
import subprocess
import tempfile
import time

import pytest
from test_oci_podman import LIMITS, podman  # noqa: F401 (a fixture)


def state(podman, name):  # noqa: F811
    return podman.good("inspect", "-f", "{{.State.Status}}", name).strip()


@pytest.fixture
def box(podman):  # noqa: F811
    """A container that runs and says something each moment."""
    podman.good("run", "-d", "--name", "box", "--memory", "64m", "--pids-limit", "50", *LIMITS,
                "box", "sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.2; done")
    yield "box"
    podman("rm", "-f", "-t", "0", "box")


def cgroup_file(podman, name, controller, v1, v2):  # noqa: F811
    pid = podman.good("inspect", "-f", "{{.State.Pid}}", name).strip()
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return pathlib.Path(f"/sys/fs/cgroup/{controller}{path}/{v1}").read_text().strip()
        unified = pathlib.Path(f"/sys/fs/cgroup{path}/{v2}")
        if not controllers and unified.exists():
            return unified.read_text().strip()
    raise AssertionError(f"no {controller}")


def test_logs_follow(podman, box):  # noqa: F811
    child = subprocess.Popen([*podman.base, "logs", "-f", box], text=True, stdout=subprocess.PIPE)
    lines = [child.stdout.readline() for _ in range(3)]
    child.terminate()
    child.wait()
    assert lines == ["line 0\n", "line 1\n", "line 2\n"]


def test_stats_and_top(podman, box):  # noqa: F811
    stats = json.loads(podman.good("stats", "--no-stream", "--format", "json", box))
    assert stats[0]["name"] == box and stats[0]["pids"] not in ("", "0")
    assert stats[0]["mem_usage"].split(" / ")[1].startswith("67.1")
    top = podman.good("top", box, "pid", "comm").splitlines()
    assert top[0].split() == ["PID", "COMMAND"] and top[1].split() == ["1", "sh"]


def test_exec_ways(podman, box):  # noqa: F811
    out = podman.good("exec", "-e", "A=b", "-w", "/tmp", "-u", "1000:1000", box, "sh", "-c",
                      "echo $A; pwd; id -u; id -g")
    assert out.split() == ["b", "/tmp", "1000", "1000"]
    assert podman("exec", box, "no-such-program").returncode == 127
    assert podman("exec", box, "/etc/passwd").returncode == 126
    done = podman("exec", "-i", box, "cat", stdin=None, input="through")
    assert done.stdout == "through"
    podman.good("exec", "-d", box, "sh", "-c", "echo detached > /tmp/mark; sleep 100")
    end = time.monotonic() + 20
    while podman("exec", box, "cat", "/tmp/mark").stdout != "detached\n":
        assert time.monotonic() < end
    assert "privileges" not in podman.good("exec", "--privileged", box, "true")


def test_pause_update_kill(podman, box):  # noqa: F811
    podman.good("pause", box)
    assert state(podman, box) == "paused"
    assert podman("exec", box, "true").returncode != 0
    podman.good("unpause", box)
    assert cgroup_file(podman, box, "memory", "memory.limit_in_bytes",
                       "memory.max") == str(64 << 20)
    podman.good("update", "--memory", "96m", "--memory-swap", "192m", "--cpus", "0.5", box)
    assert cgroup_file(podman, box, "memory", "memory.limit_in_bytes",
                       "memory.max") == str(96 << 20)
    quota = cgroup_file(podman, box, "cpu", "cpu.cfs_quota_us", "cpu.max")
    assert quota.split()[0] == "50000"
    podman.good("kill", "-s", "KILL", box)
    assert podman.good("wait", box) == "137\n"
    assert state(podman, box) == "exited"
    podman.good("start", box)
    podman.good("restart", "-t", "0", box)
    assert state(podman, box) == "running"


def test_stop_by_signal(podman):  # noqa: F811
    podman.good("run", "-d", "--name", "polite", "--stop-signal", "USR1", *LIMITS, "box", "sh",
                "-c", "trap 'exit 9' USR1; while :; do sleep 0.1; done")
    podman.good("stop", "-t", "20", "polite")
    assert podman.good("inspect", "-f", "{{.State.ExitCode}}", "polite") == "9\n"
    podman.good("rm", "polite")


def test_healthcheck(podman):  # noqa: F811
    podman.good("run", "-d", "--name", "well", "--health-cmd", "test -e /tmp/well",
                "--health-interval", "disable", "--health-retries", "1", *LIMITS, "box", "sleep",
                "1000")
    assert podman("healthcheck", "run", "well").returncode == 1
    podman.good("exec", "well", "touch", "/tmp/well")
    podman.good("healthcheck", "run", "well")
    health = podman.good("inspect", "-f", "{{.State.Health.Status}}", "well")
    assert health == "healthy\n"
    podman.good("rm", "-f", "-t", "0", "well")


def test_cp(podman, box):  # noqa: F811
    here = podman.folder / "in.txt"
    here.write_text("copied\n")
    podman.good("cp", here, f"{box}:/tmp/there.txt")
    assert podman.good("exec", box, "cat", "/tmp/there.txt") == "copied\n"
    podman.good("cp", f"{box}:/tmp/there.txt", podman.folder / "back.txt")
    assert (podman.folder / "back.txt").read_text() == "copied\n"


def test_run_options(podman):  # noqa: F811
    volume = podman.folder / "data"
    volume.mkdir()
    script = ("touch /x 2>/dev/null && echo root writable; echo t > /scratch/y && echo tmpfs; "
              "echo v > /data/z && echo volume; grep CapEff /proc/self/status; "
              "head -c 2 /dev/mine | wc -c; cat /proc/1/comm; id -u; hostname; "
              "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")
    out = podman.run("--read-only", "--tmpfs", "/scratch", "-v", f"{volume}:/data", "--device",
                     "/dev/zero:/dev/mine", "--cap-drop", "ALL", "--cap-add", "CHOWN",
                     "--hostname", "named", "--sysctl", "net.ipv4.ip_unprivileged_port_start=77",
                     "box", "sh", "-c", script)
    assert out.returncode == 0, out.stderr
    words = out.stdout.split()
    assert words == ["tmpfs", "volume", "CapEff:", "0000000000000001", "2", "sh", "0", "named",
                     "77"]
    assert (volume / "z").read_text() == "v\n"


def test_init(podman):  # noqa: F811
    init = next((path for path in ("/usr/bin/catatonit", "/usr/libexec/podman/catatonit")
                 if os.path.exists(path)), None)
    if not init:
        pytest.skip("catatonit is not there")
    out = podman.run("--init", "--init-path", init, "box", "sh", "-c", "cat /proc/1/comm")
    assert out.returncode == 0 and out.stdout != "sh\n", out.stderr


def test_user_namespaces(podman):  # noqa: F811
    for option in (["--userns", "host"], ["--uidmap", "0:200000:1000", "--gidmap",
                                          "0:200000:1000"]):
        out = podman.run(*option, "--user", "7", "box", "sh", "-c", "id -u; cat /proc/self/uid_map")
        assert out.returncode == 0 and out.stdout.split()[0] == "7", out.stderr


def test_build(podman):  # noqa: F811
    with tempfile.TemporaryDirectory(dir=podman.folder) as folder:
        pathlib.Path(folder, "Containerfile").write_text(
            "FROM box\nENV COLOUR=blue\nRUN echo $COLOUR > /colour && id -u > /who && chmod 1777 /tmp\n"
            "WORKDIR /tmp\nUSER 12\nRUN test $(id -u) = 12 && touch mine\nCMD [\"cat\", \"/colour\"]\n")
        done = podman("build", "--network", "none", "--ulimit", "nofile=1024:1024", "--isolation",
                      "oci", "-t", "built", folder)
        assert done.returncode == 0, done.stderr
    out = podman.run("built")
    assert out.stdout == "blue\n", out.stderr
    assert podman.run("built", "stat", "-c", "%u", "/tmp/mine", "/who").stdout == "12\n0\n"
    failed = podman.folder / "Failing"
    failed.write_text("FROM box\nRUN exit 5\n")
    done = podman("build", "--network", "none", "--ulimit", "nofile=1024:1024", "--isolation",
                  "oci", "-f", failed, podman.folder / "data")
    assert done.returncode != 0 and "5" in done.stderr


def test_nothing_runs_afterwards(podman):  # noqa: F811
    assert podman.good("ps", "-aq") == ""
    state_folders = pathlib.Path("/run/brume-oci")
    assert not state_folders.exists() or not [path for path in state_folders.iterdir()
                                              if len(path.name) == 64]
