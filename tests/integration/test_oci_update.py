"""brume-oci update: limits of a running container, on whichever version of control groups."""
import json
import pathlib

import kernel
import pytest

UNLIMITED = 9223372036854771712


def group(bundle, controller):
    folder = pathlib.Path(f"/sys/fs/cgroup/{controller}{bundle.cgroup}")
    return folder if folder.exists() else pathlib.Path(f"/sys/fs/cgroup{bundle.cgroup}")


def limits(bundle):
    """What the kernel says, in version 1's terms."""
    memory, cpu, pids = (group(bundle, name) for name in ("memory", "cpu", "pids"))
    if (memory / "memory.limit_in_bytes").exists():
        return {"memory": int((memory / "memory.limit_in_bytes").read_text()),
                "quota": int((cpu / "cpu.cfs_quota_us").read_text()),
                "period": int((cpu / "cpu.cfs_period_us").read_text()),
                "shares": int((cpu / "cpu.shares").read_text()),
                "pids": (pids / "pids.max").read_text().strip()}
    quota, period = (cpu / "cpu.max").read_text().split()
    limit = (memory / "memory.max").read_text().strip()
    weight = int((cpu / "cpu.weight").read_text())
    return {"memory": UNLIMITED if limit == "max" else int(limit),
            "quota": -1 if quota == "max" else int(quota), "period": int(period),
            "shares": 2 + (weight - 1) * 262142 // 9999,
            "pids": (pids / "pids.max").read_text().strip()}


@pytest.fixture
def running(bundle):
    bundle.linux["resources"]["memory"] = {"limit": 64 << 20}
    bundle.linux["resources"]["pids"] = {"limit": 40}
    bundle.start("sleep", "1000")
    return bundle


def test_options(running):
    before = limits(running)
    running.call("update", "--memory", "128m", "--cpu-quota", "20000", "--cpu-period", "50000",
                 "--cpu-shares", "512", "--pids-limit", "25", running.id, check=True)
    now = limits(running)
    assert now["memory"] == 128 << 20 and now["pids"] == "25"
    assert (now["quota"], now["period"]) == (20000, 50000)
    assert now["shares"] < before["shares"]
    running.call("update", "--memory", "-1", "--pids-limit", "-1", "--cpu-quota", "-1", running.id,
                 check=True)
    now = limits(running)
    assert (now["memory"], now["pids"], now["quota"]) == (UNLIMITED, "max", -1)


def test_document(running):
    document = {"memory": {"limit": 96 << 20, "reservation": 0, "swap": None},
                "cpu": {"quota": 0, "period": 0, "shares": 0, "cpus": "", "mems": ""},
                "pids": {"limit": 0}, "blockIO": {"weight": 0}}
    before = limits(running)
    running.call("update", "--resources", "-", running.id, check=True, stdin=None,
                 input=json.dumps(document))
    assert limits(running) == {**before, "memory": 96 << 20}
    path = running.folder / "change.json"
    path.write_text(json.dumps({"pids": {"limit": 11}}))
    running.call("update", "-r", path, running.id, check=True)
    assert limits(running) == {**before, "memory": 96 << 20, "pids": "11"}
    kept = json.loads((running.root / running.id / "resources.json").read_text())
    assert kept["memory"]["limit"] == 96 << 20 and kept["pids"]["limit"] == 11


def test_all_or_nothing(running):
    before = limits(running)
    done = running.call("update", "--memory", "100m", "--cpu-quota", "30000", "--pids-limit", "9",
                        "--cpuset-cpus", "4095", running.id)
    assert done.returncode == 1 and "cpus" in done.stderr
    assert limits(running) == before
    # The last one that is written fails: what was written before it is taken back.
    path = running.folder / "change.json"
    path.write_text(json.dumps({"memory": {"limit": 100 << 20}, "cpu": {"quota": 30000},
                                "pids": {"limit": 9}, "unified": {"no.such_file": "1"}}))
    done = running.call("update", "-r", path, running.id)
    assert done.returncode == 1 and "no.such_file" in done.stderr
    assert limits(running) == before
    assert not (running.root / running.id / "resources.json").exists()


def test_the_oom_killer_comes_back(running):
    control = group(running, "memory") / "memory.oom_control"
    if not control.exists():
        pytest.skip("only version 1 can do without it")
    change = {"memory": {"disableOOMKiller": True}, "unified": {"no.such_file": "1"}}
    done = running.call("update", "-r", "-", running.id, stdin=None, input=json.dumps(change))
    assert done.returncode == 1 and "no.such_file" in done.stderr
    assert "oom_kill_disable 0" in control.read_text()
    del change["unified"]
    running.call("update", "-r", "-", running.id, check=True, stdin=None, input=json.dumps(change))
    assert "oom_kill_disable 1" in control.read_text()


def test_memory_and_swap_move_together(running):
    memsw = group(running, "memory") / "memory.memsw.limit_in_bytes"
    if not memsw.exists():
        pytest.skip("no version 1 swap accounting")
    running.call("update", "--memory", "32m", "--memory-swap", "48m", running.id, check=True)
    assert int(memsw.read_text()) == 48 << 20
    running.call("update", "--memory", "100m", "--memory-swap", "200m", running.id, check=True)
    assert (limits(running)["memory"], int(memsw.read_text())) == (100 << 20, 200 << 20)
    running.call("update", "--memory", "32m", "--memory-swap", "48m", running.id, check=True)
    assert (limits(running)["memory"], int(memsw.read_text())) == (32 << 20, 48 << 20)
    done = running.call("update", "--memory", "64m", "--pids-limit", "7", running.id)
    assert done.returncode == 1 and limits(running)["pids"] == "40"


def test_throttles_are_taken_back(running):
    device = pathlib.Path("/sys/block").iterdir().__next__().name
    number = pathlib.Path(f"/sys/block/{device}/dev").read_text().strip()
    major, minor = map(int, number.split(":"))
    folder = group(running, "blkio")
    throttles = folder / "blkio.throttle.read_bps_device"
    if not throttles.exists():
        throttles = folder / "io.max"
    if not throttles.exists():
        pytest.skip("no throttles here")
    item = [{"major": major, "minor": minor, "rate": 1 << 20}]
    path = running.folder / "change.json"
    path.write_text(json.dumps({"blockIO": {"throttleReadBpsDevice": item},
                                "unified": {"no.such_file": "1"}}))
    assert running.call("update", "-r", path, running.id).returncode == 1
    assert number not in throttles.read_text()
    path.write_text(json.dumps({"blockIO": {"throttleReadBpsDevice": item}}))
    running.call("update", "-r", path, running.id, check=True)
    assert number in throttles.read_text()


def test_refused(running):
    before = limits(running)
    for words, code, text in [
            (["--memory", "lots"], 2, "512m"), (["--cpu-quota", "x"], 2, "whole number"),
            ([], 2, "missing"), (["-r", "/nonexistent"], 1, "/nonexistent"),
            (["-r", "x", "--memory", "1m"], 2, "--resources"),
            (["--cpu-idle", "7"], 1, "idle")]:
        done = running.call("update", *words, running.id)
        assert done.returncode == code and text in done.stderr, (words, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    rules = [{"allow": True, "access": "rwm"}]
    done = running.call("update", "-r", "-", running.id, stdin=None,
                        input=json.dumps({"devices": rules}))
    assert done.returncode == 1 and "devices" in done.stderr
    assert limits(running) == before
    # What the container has already may be said again.
    done = running.call("update", "-r", "-", running.id, stdin=None,
                        input=json.dumps({"devices": running.linux["resources"]["devices"],
                                          "pids": {"limit": 12}}))
    assert done.returncode == 0 and limits(running)["pids"] == "12"


def test_a_stopped_one_has_no_limits(bundle):
    bundle.start("sleep", "1000")
    bundle.call("update", "--pids-limit", "5", bundle.id, check=True)
    bundle.call("pause", bundle.id, check=True)
    bundle.call("update", "--pids-limit", "6", bundle.id, check=True)
    assert limits(bundle)["pids"] == "6"
    bundle.call("resume", bundle.id, check=True)
    pid = bundle.state()["pid"]
    bundle.call("kill", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(pid)
    done = bundle.call("update", "--pids-limit", "5", bundle.id)
    assert done.returncode == 1 and "stopped" in done.stderr
