"""What all benches share: interleaved measurement, the table, a node, podman as the peer.

A bench is a file bench_NAME.py with a function run(bench) that measures and calls bench.row() or
bench.bound().  Each figure stands beside its peer or floor, measured in the same run; the two sides
take turns, with a gap between starts as real use has, and the medians are compared.  Nothing here
asserts on an absolute time and nothing is written into the repository.
"""
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT / "tools")]

import images  # noqa: E402,F401 - for the benches
import kernel  # noqa: E402
import node as node_module  # noqa: E402
import registry as registry_module  # noqa: E402


class Skip(Exception):
    """A bench, or a part of one, cannot run here; the text says why."""


class Bench:
    def __init__(self, build, quick=False):
        self.build, self.quick, self.rows, self.notes = pathlib.Path(build), quick, [], []
        self.name = ""
        # Not mkdtemp(): podman takes a path with "_" at the end of a name for a bad reference.
        self.scratch = pathlib.Path("/var/tmp/brume-bench-" + uuid.uuid4().hex[:12])
        self.scratch.mkdir(mode=0o711)
        # What a reboot ends lies in memory, as /run does: the node's run folder, podman's runroot.
        self.memory = pathlib.Path(tempfile.mkdtemp(prefix="brume-bench-", dir="/dev/shm"))
        self.memory.chmod(0o711)

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)

    def in_memory(self, prefix):
        """A new folder in memory, which a node's daemons may enter."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=self.memory))
        folder.chmod(0o711)
        return folder

    def rounds(self, count):
        """That many rounds, or a few when only the benches themselves are tried."""
        return min(count, 4) if self.quick else count

    def floor(self, name):
        """The program floor_NAME.c, built if that can be done here; its path."""
        if not shutil.which("ninja"):
            if not (self.build / "tests" / f"floor-{name}").exists():
                raise Skip(f"floor-{name} was not built")
            return self.build / "tests" / f"floor-{name}"
        subprocess.run(["ninja", "-C", self.build, f"tests/floor-{name}"], check=True,
                       stdout=subprocess.DEVNULL)
        return self.build / "tests" / f"floor-{name}"

    # -- measuring -------------------------------------------------------------------------------

    def pairs(self, *sides, rounds=30, gap=0.04, warm=2):
        """Calls the sides in turn, `gap` seconds apart; gives each one's median in seconds.

        A side is called with the number of the round.  What it returns, when it is a number, is
        taken for the time instead of how long the call lasted.
        """
        return [statistics.median(side) for side in self.series(*sides, rounds=rounds, gap=gap,
                                                                warm=warm)]

    def series(self, *sides, rounds=30, gap=0.04, warm=2):
        """All the times that pairs() takes the medians of, a list for each side."""
        times = [[] for _ in sides]
        for number in range(-warm, self.rounds(rounds)):
            # Who starts changes from round to round: neither side always finds warm caches.
            order = range(len(sides)) if number % 2 else reversed(range(len(sides)))
            for index in order:
                time.sleep(gap)
                begin = time.perf_counter()
                taken = sides[index](number)
                if not isinstance(taken, float):
                    taken = time.perf_counter() - begin
                if number >= 0:
                    times[index].append(taken)
        return times

    @staticmethod
    def p95(times):
        return statistics.quantiles(times, n=20, method="inclusive")[-1]

    @staticmethod
    def cpu_of_children(call):
        """(wall, cpu) seconds of a call, with the cpu time of the children it waited for."""
        before, begin = os.times(), time.perf_counter()
        call()
        wall, after = time.perf_counter() - begin, os.times()
        return wall, (after.children_user - before.children_user +
                      after.children_system - before.children_system)

    # -- the table -------------------------------------------------------------------------------

    def row(self, what, ours, other, target, against, unit="ms", scale=1000.0):
        """ours / other should be at most target.  Times are given in seconds."""
        ratio = ours / other if other else float("inf")
        self.rows.append((self.name, what, f"{ours * scale:.2f} {unit}",
                          f"{other * scale:.2f} {unit} {against}", f"{ratio:.3f}",
                          f"<= {target}", "met" if ratio <= target else "MISSED"))
        self._print(self.rows[-1])

    def at_least(self, what, ours, other, target, against, unit):
        """ours / other should be at least target (for rates)."""
        ratio = ours / other if other else float("inf")
        self.rows.append((self.name, what, f"{ours:.0f} {unit}", f"{other:.0f} {unit} {against}",
                          f"{ratio:.3f}", f">= {target}", "met" if ratio >= target else "MISSED"))
        self._print(self.rows[-1])

    def bound(self, what, value, limit, unit):
        """A figure with a bound of its own (memory; the few times the project promises)."""
        self.rows.append((self.name, what, f"{value:.2f} {unit}", "", "", f"<= {limit} {unit}",
                          "met" if value <= limit else "MISSED"))
        self._print(self.rows[-1])

    def rate(self, what, value, least, unit):
        """A rate that the project promises on the reference machine."""
        self.rows.append((self.name, what, f"{value:.0f} {unit}", "", "", f">= {least} {unit}",
                          "met" if value >= least else "MISSED"))
        self._print(self.rows[-1])

    def note(self, text):
        self.notes.append(f"{self.name}: {text}")
        print(f"  {self.name}: {text}", file=sys.stderr, flush=True)

    @staticmethod
    def _print(row):
        print("  " + "  ".join(cell for cell in row if cell), file=sys.stderr, flush=True)

    def table(self):
        head = ("bench", "what", "brume", "against", "ratio", "target", "")
        rows = [head, *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                 for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(lines + [f"note: {text}" for text in self.notes])

    # -- a node ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def node(self, **more):
        """A running node with a registry on its loopback, as the integration tests have."""
        for name in ("brumed", "brume-agentd", "brume-keeper", "brume-oci", "brume"):
            if not (self.build / name).exists():
                raise Skip(f"{name} is not built in {self.build}")
        folder = pathlib.Path(tempfile.mkdtemp(prefix="node-", dir=self.scratch))
        folder.chmod(0o711)
        it = node_module.Node(self.build, folder / "node", run_folder=self.in_memory("run-"), **more)
        try:
            it.start()
            it.registry = registry_module.Registry(it, folder / "registry")
            it.registries.append(it.registry)
            yield it
        finally:
            it.close(check=False)
            shutil.rmtree(folder, ignore_errors=True)


class Podman:
    """podman with a storage of its own, inside the namespaces of a node.

    Debian's podman and crun refuse the hybrid cgroup layout (cgroup2 mounted beside v1 hierarchies),
    so a mount namespace in which /sys/fs/cgroup/unified is hidden is made for them.
    """

    def __init__(self, bench, node, options=()):
        for program in ("podman", "crun"):
            if not shutil.which(program):
                raise Skip(f"{program} is not installed")
        self.node = node
        # podman's sockets must fit into 108 characters and its folders live on a real disk.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="p", dir=bench.scratch))
        self.volatile = bench.in_memory("p")
        configuration = self.folder / "containers.conf"
        # Without CAP_SYS_RESOURCE crun cannot raise limits, and podman asks for large ones.
        configuration.write_text('[containers]\ndefault_ulimits = ["nofile=4096:4096", '
                                 '"nproc=4096:4096"]\n'
                                 '[network]\nnetwork_backend = "cni"\n'
                                 f'network_config_dir = "{self.folder}/cni"\n'
                                 '[engine]\nevents_logger = "file"\n'
                                 f'tmp_dir = "{self.volatile}/tmp"\n')
        policy = self.folder / "policy.json"
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.environment = {**os.environ, "CONTAINERS_CONF": str(configuration),
                            "XDG_RUNTIME_DIR": str(self.volatile / "xdg")}
        # CNI's address files always lie there; a folder that was not there before goes again.
        self.cni = pathlib.Path("/var/lib/cni")
        self.made_cni = not self.cni.exists()
        self.cni.mkdir(exist_ok=True)
        hide = "umount -l /sys/fs/cgroup/unified 2>/dev/null; for d in /var/lib/cni /run/cni; do " \
               "[ -d $d ] && mount -t tmpfs tmpfs $d; done; echo ready; exec cat"
        self.holder = subprocess.Popen(
            ["nsenter", "-t", str(node.pid), "-n", "-m", "--", "unshare", "-m", "sh", "-c", hide],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.prefix = ["nsenter", "-t", str(self.holder.pid), "-n", "-m", "--"]
        self.base = ["podman", "--root", str(self.folder / "root"), "--runroot",
                     str(self.volatile / "runroot"), "--cgroup-manager=cgroupfs", "--runtime=crun",
                     "--storage-driver=overlay", *options]

    def __call__(self, *args, check=True, **more):
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
        done = subprocess.run([*self.prefix, *self.base, *map(str, args)], env=self.environment,
                              **more)
        if check and done.returncode:
            raise Skip(f"podman {args[0]} fails here: {done.stderr.strip().splitlines()[-1:]}")
        return done

    def close(self):
        self("rm", "-af", "-t", "0", check=False)
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()
        if self.made_cni:
            self.cni.rmdir()
        # What conmon or the storage left mounted in the namespace ended with it.
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.volatile, ignore_errors=True)


def pss_kib(pid):
    """Proportional set size of a process in KiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0


def isolate():
    """A network and a mount namespace for this run, so that it cannot leave anything behind."""
    kernel.isolate()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
