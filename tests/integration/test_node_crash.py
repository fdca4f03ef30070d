"""Any daemon may die at any instruction; the instances do not notice and nothing leaks."""
import http.client
import os
import pathlib
import random
import signal
import threading

import pytest
from node import Failure, eventually

SEED = int(os.environ.get("BRUME_TEST_SEED", "20261121"))


def request(node, method, path, body=None):
    """Sends a request until brumed takes it, as a patient client would; gives (status, answer)."""
    def attempt():
        try:
            return node.api(method, path, body, raw=True, timeout=20)
        except (OSError, http.client.HTTPException, ValueError):
            return None
    return eventually(attempt, 60, f"{method} {path}")


def ended(node, operation):
    """Waits for the end of an operation across restarts of brumed."""
    name = operation["meta"]["name"]

    def attempt():
        status, answer = request(node, "GET", f"/1.0/operations/{name}/wait?timeout_s=5")
        if status == 404:
            raise Failure(f"operation {name} was forgotten: {answer}")
        found = answer["metadata"]
        return found if found["status"]["state"] != "running" else None
    return eventually(attempt, 120, f"the end of operation {operation['spec']['action']} {name}")


def launch(node, reference, name, **more):
    """Launches, or finds that an earlier try whose answer was lost has done it."""
    status, answer = request(node, "POST", "/1.0/instances",
                             {"name": name, "image": reference, **more})
    return answer["metadata"] if status == 202 else None


def delete(node, name):
    status, answer = request(node, "DELETE", f"/1.0/instances/{name}?force=1")
    return answer["metadata"] if status == 202 else None


def state_of_kernel(node):
    """uid -> pid of every instance whose init runs."""
    found = {}
    for procs in pathlib.Path("/sys/fs/cgroup").glob(f"pids/{node.prefix}/*/cgroup.procs"):
        pids = procs.read_text().split()
        if pids:
            found[procs.parent.name] = pids
    if not found:
        for procs in pathlib.Path("/sys/fs/cgroup").glob(f"{node.prefix}/*/cgroup.procs"):
            if procs.read_text().split():
                found[procs.parent.name] = procs.read_text().split()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("victims", [["brumed"], ["agentd"], ["brumed", "agentd"]],
                         ids=["brumed", "agentd", "both"])
def test_a_storm_of_kills(node, victims):
    import images
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    bystanders = {}
    for number in range(5):
        node.launch(reference, f"still{number}", "-p", f"{6000 + number}:80")
        bystanders[f"still{number}"] = node.instance(f"still{number}")["status"]["pid"]

    rng, stop, kills = random.Random(SEED), threading.Event(), [0]

    def storm():
        while not stop.wait(rng.uniform(0.01, 0.25)):
            for name in victims:
                kills[0] += bool(node.kill(name))
            node.start_missing()
    node.stop_supervision()
    thread = threading.Thread(target=storm)
    thread.start()
    try:
        operations, failures = [], []
        for number in range(300):
            # 50 launches are done before long on a quiet machine: go on until it was a storm.
            if number >= 50 and kills[0] >= 8:
                break
            operations.append(launch(node, reference, f"storm{number}", publish=[
                {"host_port": 7000 + number, "port": 80, "protocol": "tcp"}]))
            if number % 2:
                operations.append(delete(node, f"storm{number - 1}"))
            # Some are waited for, so that the next ones meet a daemon at work and not only its start.
            if operations[-1] and number % 5 == 0:
                ended(node, operations[-1])
        operations = [operation for operation in operations if operation]
    finally:
        stop.set()
        thread.join()
    node.start_missing()
    node.wait_ready()
    for operation in operations:
        done = ended(node, operation)
        if done["status"]["state"] != "done":
            assert done["status"]["state"] in ("failed", "cancelled"), done
            assert done["status"].get("error"), done
            failures.append(done["status"]["error"])
    assert kills[0] >= 8, "the storm was too mild to show anything"

    # What the store says is what the kernel has.
    found = {it["meta"]["name"]: it for it in node.api("GET", "/1.0/instances?recursion=1")}
    running = {it["meta"]["uid"] for it in found.values() if it["status"]["state"] == "running"}
    assert running == set(state_of_kernel(node)), (failures, node.log())
    for it in found.values():
        assert it["status"]["state"] in ("running", "stopped", "failed"), it
    # Nobody was disturbed.
    for name, pid in bystanders.items():
        assert found[name]["status"]["pid"] == pid
        assert not found[name]["status"].get("restarts")
        node.cli("exec", name, "--", "true")
    node.check_clean()


def test_every_daemon_by_itself(node):
    import images
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.launch(reference, "steady", "--insecure")
    pid = node.instance("steady")["status"]["pid"]
    for name in ("brumed", "agentd", "keeper"):
        node.kill(name)
        node.start_missing()
        node.wait_ready()
        assert node.instance("steady")["status"]["pid"] == pid, name
        # While a keeper starts, commands are refused with one line that says to try again.
        eventually(lambda: node.cli("exec", "steady", "--", "echo", name, code=None).stdout ==
                   f"{name}\n", 10, "exec after the death of " + name)
        node.launch(reference, "after")
        node.cli("delete", "--force", "after")


def test_what_ends_while_nobody_looks_is_seen_later(node):
    import images
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.launch(reference, "gone", "--insecure", command=["sh", "-c", "sleep 100000; exit 9"])
    pid = node.instance("gone")["status"]["pid"]
    node.stop_supervision()
    node.kill("agentd")
    # Its child ends by a signal, the shell with code 9 of its own accord.
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    eventually(lambda: not pathlib.Path(f"/proc/{pid}").exists(), 10, "the end of the shell")
    node.start_missing()
    node.wait_ready()
    it = node.wait_state("gone", "stopped")
    assert it["status"]["exit_code"] == 9


@pytest.mark.slow
def test_the_keeper_executes_itself_anew(node):
    import images
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    script = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo line $i; sleep 0.05; done; exit $1"
    for number in range(20):
        node.launch(reference, f"k{number}", command=["sh", "-c", script, "sh", str(number)])
    before = {it["meta"]["name"]: it["status"]["pid"]
              for it in node.api("GET", "/1.0/instances?recursion=1")}
    keeper = node.pid_of("keeper")
    for _ in range(5):
        started = len(node.out("logs", "k0").splitlines())
        os.kill(keeper, signal.SIGHUP)
        eventually(lambda: len(node.out("logs", "k0").splitlines()) > started + 3, 10, "more lines")
    assert node.pid_of("keeper") == keeper
    after = {it["meta"]["name"]: it["status"]["pid"]
             for it in node.api("GET", "/1.0/instances?recursion=1")}
    assert after == before
    for number in range(20):
        # 137: the instance may end before touch does.
        done = node.cli("exec", f"k{number}", "--", "touch", "/stop", code=None)
        assert done.returncode in (0, 137), done.stderr
    for number in range(20):
        it = node.wait_state(f"k{number}", "stopped")
        assert it["status"]["exit_code"] == number
        lines = node.out("logs", f"k{number}").splitlines()
        assert lines == [f"line {n}" for n in range(1, len(lines) + 1)], "lines were lost or doubled"


def test_a_machine_that_restarted(node):
    """After a reboot the run folder is empty and no process is left; the spec is carried out again."""
    import images
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.launch(reference, "returns", "--insecure", "--restart", "always")
    node.launch(reference, "stays-off")
    pid = node.instance("returns")["status"]["pid"]
    node.cli("exec", "returns", "--", "sh", "-c", "echo kept > /root/file")
    node.pretend_reboot()
    node.start()
    node.wait_instance("returns", lambda it: it["status"]["state"] == "running" and
                       it["status"]["pid"] != pid)
    assert node.out("exec", "returns", "--", "cat", "/root/file") == "kept\n"
    node.wait_state("stays-off", "stopped")
