"""launch, delete and exec on a running node, against podman with its bridge and a published port."""
import concurrent.futures
import functools
import json
import subprocess
import time

import images
from common import Podman


def prepare_podman(podman, layout):
    podman("pull", f"oci:{layout}:latest")
    podman("tag", podman("images", "-q").stdout.split()[0], "localhost/web:1")
    podman("run", "-d", "--name", "warm", "-p", "9999:80", "localhost/web:1")
    podman("rm", "-f", "-t", "0", "warm")


def run(bench):
    with bench.node() as node:
        reference = node.registry.push(images.web(), "web:1")
        node.cli("image", "pull", "--insecure", reference)
        layout = images.web().write_layout(bench.scratch / "web-layout")
        podman = Podman(bench, node)
        try:
            prepare_podman(podman, layout)
            measure(bench, node, podman, reference)
            measure_lives(bench, node, podman, reference)
        finally:
            podman.close()


def measure(bench, node, podman, reference):
    brume = functools.partial(subprocess.run, check=True, stdout=subprocess.DEVNULL,
                              env=node.environment())
    enter = node.command([node.build / "brume"])
    quiet = {"stdout": subprocess.DEVNULL}

    # Both sides are entered through one nsenter; each round deletes what the last one launched, so
    # that the number of instances stays the same.
    def launch(number):
        brume([*enter, "launch", reference, f"b{number + 9}", "-p", f"{20000 + number + 9}:80"])

    def podman_launch(number):
        podman("run", "-d", "--name", f"p{number + 9}", "-p", f"{30000 + number + 9}:80",
               "localhost/web:1", **quiet)
    count = bench.rounds(20)
    ours, theirs = bench.pairs(launch, podman_launch, rounds=count)
    bench.row("launch to running, bridge and published port", ours, theirs, 0.1, "podman run -d -p")
    running = {it["status"]["state"] for it in node.json("list")}
    assert running == {"running"}, running

    def execute(_):
        brume([*enter, "exec", "b9", "--", "true"])

    def podman_execute(_):
        podman("exec", "p9", "true", **quiet)
    ours, theirs = bench.pairs(execute, podman_execute, rounds=30)
    bench.row("exec true", ours, theirs, 0.15, "podman exec")

    def delete(number):
        brume([*enter, "delete", "--force", f"b{number + 9}"])

    def podman_delete(number):
        podman("rm", "-f", "-t", "0", f"p{number + 9}", **quiet)
    ours, theirs = bench.pairs(delete, podman_delete, rounds=count)
    bench.row("delete of what runs", ours, theirs, 0.1, "podman rm -f -t 0")
    assert json.loads(node.out("list", "-f", "json")) == []


def rate(count, at_once, live):
    """How many lives a second; live(number) goes through one from launch to deleted."""
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        list(pool.map(live, range(count)))
    return count / (time.perf_counter() - begin)


def measure_lives(bench, node, podman, reference):
    def live(number):
        port = {"port": 80, "host_port": 22000 + number, "protocol": "tcp"}
        for request in (("POST", "/1.0/instances", {"name": f"l{number}", "image": reference,
                                                    "publish": [port]}),
                        ("DELETE", f"/1.0/instances/l{number}?force=1")):
            done = node.wait_operation(node.api(*request), timeout=300)
            assert done["status"]["state"] == "done", done

    def podman_live(number):
        podman("run", "-d", "--name", f"l{number}", "-p", f"{32000 + number}:80", "localhost/web:1")
        podman("rm", "-f", "-t", "0", f"l{number}")
    ours, theirs = rate(bench.rounds(100), 4, live), rate(bench.rounds(12), 4, podman_live)
    bench.rate("lives with a published port, 4 at once", ours, 20, "/s")
    bench.at_least("lives with a published port, 4 at once", ours, theirs, 3.3, "podman", "/s")
