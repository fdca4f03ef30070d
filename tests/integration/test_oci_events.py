"""brume-oci events, ps and spec."""
import json
import pathlib
import re
import signal
import subprocess

import kernel
from node import eventually


def follow(bundle, *options):
    return subprocess.Popen(bundle.command("events", *options, bundle.id), text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def test_stats_once(bundle):
    bundle.linux["resources"].update(memory={"limit": 64 << 20}, pids={"limit": 33})
    bundle.start("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000")
    def read():
        return json.loads(bundle.call("events", "--stats", bundle.id, check=True).stdout)

    # The loop inside has only begun.
    eventually(lambda: read()["data"]["cpu"]["usage"]["total"] > 1000000, 20, "its processor time in nanoseconds")
    event = read()
    assert event["type"] == "stats" and event["id"] == bundle.id
    data = event["data"]
    assert {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"} <= set(data)
    assert data["memory"]["usage"]["limit"] == 64 << 20
    assert 0 < data["memory"]["usage"]["usage"] < 64 << 20
    assert data["memory"]["raw"]
    assert data["pids"]["limit"] == 33 and data["pids"]["current"] >= 1
    usage = data["cpu"]["usage"]
    assert usage["total"] > 1000000 and usage["user"] + usage["kernel"] >= 0
    assert data["cpuset"]["cpus"] and "throttledPeriods" in data["cpu"]["throttling"]
    # Some modules put a device into every new network namespace (gre0, sit0).
    fresh = subprocess.run(["unshare", "-n", "ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    assert {one["Name"] for one in data["network_interfaces"]} == set(re.findall(r"^\d+: ([^:@]+)", fresh, re.M)) - {"lo"}
    assert data["intel_rdt"] == {}


def test_stats_again_and_again_until_the_end(bundle):
    bundle.start("sleep", "1000")
    child = follow(bundle, "--interval", "50ms")
    first, second = (json.loads(child.stdout.readline()) for _ in range(2))
    assert first["type"] == second["type"] == "stats"
    bundle.call("kill", bundle.id, "KILL", check=True)
    child.stdout.read()
    assert child.wait(20) == 0


def test_a_reader_that_goes_ends_it(bundle):
    bundle.start("sleep", "1000")
    child = follow(bundle, "--interval", "1h")
    child.stdout.close()
    assert child.wait(20) is not None


def test_oom(bundle):
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    bundle.start("sh", "-c", "while [ ! -e /go ]; do sleep 0.02; done; "
                             "head -c 64m /dev/zero | tail; sleep 1000")
    child = follow(bundle, "--interval", "20ms")
    assert json.loads(child.stdout.readline())["type"] == "stats"
    (bundle.rootfs / "go").touch()
    for line in child.stdout:
        event = json.loads(line)
        if event["type"] == "oom":
            break
    assert event == {"type": "oom", "id": bundle.id}
    child.stdout.close()
    child.wait(20)


def counted(pid):
    """Whether an eventfd of the process has something to tell."""
    texts = [path.read_text() for path in pathlib.Path(f"/proc/{pid}/fdinfo").iterdir()]
    return any(re.search("^eventfd-count: +[1-9a-f]", text, re.M) for text in texts)


def test_the_end_is_no_oom(bundle):
    """Version 1 tells who waits for it that the group is removed, in the same way."""
    bundle.start("sleep", "1000")
    child = follow(bundle, "--interval", "50ms")
    child.stdout.readline()
    child.send_signal(signal.SIGSTOP)
    bundle.call("delete", "--force", bundle.id, check=True)
    if pathlib.Path("/sys/fs/cgroup/memory/memory.oom_control").exists():
        eventually(lambda: counted(child.pid), 20, "the kernel's word")
    child.send_signal(signal.SIGCONT)
    assert "oom" not in [json.loads(line)["type"] for line in child.stdout]
    assert child.wait(20) == 0


def test_events_refused(bundle):
    for time in ("soon", "5", "s", "1m-30s", "-1s", "1m30", "0s", "1e3s", "25h", "5sm", ""):
        done = bundle.call("events", "--interval", time, bundle.id)
        assert done.returncode == 2 and "500ms" in done.stderr, time
    for time in ("5s", "1.5s", "1h1m1s1ms"):
        assert "does not exist" in bundle.call("events", "--interval", time, bundle.id).stderr
    assert "does not exist" in bundle.call("events", bundle.id).stderr
    bundle.create("sleep", "1000")
    pid = bundle.state()["pid"]
    bundle.call("kill", bundle.id, "KILL", check=True)
    assert kernel.wait_for_exit(pid)
    assert "not running" in bundle.call("events", "--stats", bundle.id).stderr


def test_ps(bundle):
    bundle.start("sh", "-c", "sleep 1111 & sleep 1111 & touch /ready; wait")
    pid = bundle.state()["pid"]
    assert kernel.wait_for_path(bundle.rootfs / "ready")
    pids = json.loads(bundle.call("ps", "--format", "json", bundle.id, check=True).stdout)
    assert pid in pids
    table = bundle.call("ps", bundle.id, check=True).stdout.splitlines()
    assert len(table) == 4 and "PID" in table[0] and table[0].split()[0] == "UID"
    assert sum("sleep 1111" in line for line in table) >= 2
    table = bundle.call("ps", bundle.id, "-eo", "comm,pid", check=True).stdout.splitlines()
    assert table[0].split() == ["COMMAND", "PID"] and len(table) == 4
    done = bundle.call("ps", bundle.id, "-eo", "comm")
    assert done.returncode == 1 and "PID" in done.stderr
    assert bundle.call("ps", "-f", "xml", bundle.id).returncode == 2


def test_spec_makes_a_bundle_that_runs(bundle):
    path = bundle.folder / "bundle/config.json"
    bundle.call("spec", check=True)
    document = json.loads(path.read_text())
    assert document["process"]["args"] == ["sh"] and document["root"]["readonly"]
    again = bundle.call("spec")
    assert again.returncode == 1 and "exists" in again.stderr
    document["process"].update(terminal=False, args=["sh", "-c", "id -u; hostname; touch /x"])
    document["linux"]["cgroupsPath"] = bundle.cgroup
    path.write_text(json.dumps(document))
    done = bundle.call("run", bundle.id)
    assert done.stdout == "0\nbrume-oci\n" and "Read-only" in done.stderr
    path.unlink()
    bundle.call("spec", "-b", bundle.folder / "bundle", "--rootless", check=True)
    document = json.loads(path.read_text())
    assert {"type": "user"} in document["linux"]["namespaces"]
    assert document["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 0, "size": 1}]
    assert not any("gid=" in option for mount in document["mounts"] for option in mount["options"])
    path.unlink()


def test_help_has_examples(bundle):
    text = bundle.call("--help").stdout
    verbs = re.findall(r"^  ([a-z]+) ", text.split("verbs:")[1], re.M)
    assert {"update", "events", "ps", "spec", "exec"} <= set(verbs)
    for verb in verbs:
        done = bundle.call(verb, "--help")
        assert done.returncode == 0 and "brume-oci" in done.stdout.split("xample")[-1], verb
