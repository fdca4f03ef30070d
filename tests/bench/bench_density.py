"""200 idle instances: memory of all brume processes, the list, and removing them all."""
import concurrent.futures
import pathlib
import re
import statistics
import subprocess
import time

import images
from common import pss_kib, rss_kib

COUNT = 200


def processes_of(node):
    """{pid: program} of all brume processes of the node (not what runs inside instances)."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            program = pathlib.Path(words.split("\0")[0]).name
        except OSError:
            continue
        if node.named_in(words) and (program.startswith("brume") or program == "dnsmasq"):
            found[int(entry.name)] = program
    return found


def launch_all(node, reference, count):
    def launch(number):
        operation = node.api("POST", "/1.0/instances", {"name": f"d{number}", "image": reference})
        return node.wait_operation(operation, timeout=300)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in pool.map(launch, range(count)):
            assert done["status"]["state"] == "done", done


def remove_all(node, count):
    """Seconds until nothing of the instances is left in the kernel."""
    begin = time.perf_counter()

    def remove(number):
        return node.wait_operation(node.api("DELETE", f"/1.0/instances/d{number}?force=1"))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in pool.map(remove, range(count)):
            assert done["status"]["state"] == "done", done
    while any(pathlib.Path("/sys/fs/cgroup").glob(f"*/{node.prefix}/*/cgroup.procs")) or \
            any(name.startswith(node.prefix + "v") for name in node.links()):
        time.sleep(0.01)
    return time.perf_counter() - begin


def floor_removal(bench, count):
    """The same with bare system calls: see floor_density.c.  Gives (start, remove) in seconds."""
    done = subprocess.run([bench.floor("density"), str(count)], stdout=subprocess.PIPE, text=True,
                          check=True)
    numbers = dict(re.findall(r"(\w+)_ms ([\d.]+)", done.stdout))
    return float(numbers["start"]) / 1000, float(numbers["remove"]) / 1000


def run(bench):
    count = 20 if bench.quick else COUNT
    with bench.node() as node:
        reference = node.registry.push(images.busybox(), "busybox:1")
        node.cli("image", "pull", "--insecure", reference)
        # One before the first reading: what a node loads once does not count per instance.
        launch_all(node, reference, 1)
        node.cli("delete", "--force", "d0")
        before = sum(map(pss_kib, processes_of(node)))
        begin = time.perf_counter()
        launch_all(node, reference, count)
        started = time.perf_counter() - begin
        after = processes_of(node)
        memory = sum(map(pss_kib, after))
        bench.bound(f"memory per container with {count} (PSS of all brume processes)",
                    (memory - before) / count, 40, "KiB")
        daemons = [pid for pid, program in after.items()
                   if program in ("brumed", "brume-agentd", "brume-keeper")]
        bench.bound("the three daemons together, RSS", sum(map(rss_kib, daemons)) / 1024, 40, "MiB")
        bench.note(f"{count / started:.0f} starts per second, 8 at a time")

        times = []
        for _ in range(bench.rounds(20)):
            begin = time.perf_counter()
            subprocess.run([node.build / "brume", "list"], env=node.environment(), check=True,
                           stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - begin)
            time.sleep(0.04)
        bench.bound(f"list of {count}", statistics.median(times) * 1000, 20, "ms")
        ours = remove_all(node, count)
    start, floor = floor_removal(bench, count)
    bench.note(f"the floor starts {count / start:.0f} per second")
    bench.row(f"removing {count}", ours, floor, 1.5, "floor: the same system calls", "s", 1.0)
