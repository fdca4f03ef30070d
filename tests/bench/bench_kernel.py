"""brume launch --vm with the minimal kernel and with Debian's, on one node, in turns.

A launch is over when the guest has said over its channel that the command runs.  The processor time is that of
the whole machine, monitor included; other work on the host disturbs it less than the time on the clock.
"""
import time

import guest_machine
import images
import vm_kernel
from common import Skip

MINIMAL = "minimal"


def launch(node, reference, kernel, found):
    begin = time.perf_counter()
    node.cli("launch", "--vm", "-m", "128M", *(["--kernel", kernel] if kernel else []), reference, "one", timeout=600)
    taken = time.perf_counter() - begin
    usage = node.api("GET", "/1.0/instances/one/stats")
    found.append((usage["cpu"]["usage_ns"] / 1e9, usage["memory"]["guest_usage_bytes"] / 2**20))
    node.cli("delete", "--force", "one", timeout=60)
    return taken


def middle(values):
    return sorted(values)[len(values) // 2]


def run(bench):
    vmlinux = bench.build / "brume-minimal-vmlinux"
    if not vmlinux.exists():
        raise Skip(f"there is no minimal kernel: tools/build_minimal_kernel {vmlinux}")
    if not guest_machine.kernel():
        raise Skip("Debian's cloud kernel is not here: tools/fetch_kernel")
    with bench.node() as node:
        vm_kernel.give_kernel(node)
        node.cli("kernel", "import", "--name", MINIMAL, vmlinux, timeout=120)
        reference = node.registry.push(images.busybox(), "busybox:1")
        node.cli("image", "pull", "--insecure", reference)
        ours, theirs = [], []
        times = bench.pairs(lambda _: launch(node, reference, MINIMAL, ours),
                            lambda _: launch(node, reference, None, theirs), rounds=5, warm=1)
        bench.row("launch --vm until it runs, the minimal kernel", *times, 1, "Debian's kernel", "s", 1)
        for number, what, unit in ((0, "processor time of it", "s"), (1, "memory in use in the guest then", "MB")):
            bench.row(what, *(middle([pair[number] for pair in side]) for side in (ours, theirs)), 1,
                      "Debian's kernel", unit, 1)
        bench.note(next(line for line in node.out("info").splitlines() if line.startswith("machines")))
