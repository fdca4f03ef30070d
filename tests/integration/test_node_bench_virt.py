"""`brume bench virt`: what isolation costs, measured inside of an instance and on the host."""
import json
import subprocess


def test_ratios(busybox):
    node, reference = busybox
    node.launch(reference, "one", command=("sleep", "1000"))
    rows = {row["what"]: row for row in json.loads(node.out("bench", "virt", "one", "-f", "json"))}
    assert len(rows) == 8
    for what in ("arithmetic, 1000 steps", "system call", "page fault", "context switch", "copying 1 MiB of memory",
                 "timer, lateness"):
        row = rows[what]
        assert row["host_ns"] > 0 and row["instance_ns"] > 0
        assert abs(row["ratio"] - row["instance_ns"] / row["host_ns"]) < 0.001
    # A container has no right to ports.
    assert "instance_ns" not in rows["I/O port, a write"]
    # The program has deleted itself.
    assert node.out("diff", "one").strip() == ""
    table = node.out("bench", "virt", "one").splitlines()
    assert table[0].split() == ["WHAT", "HOST", "INSTANCE", "RATIO"] and len(table) == 9


def test_what_cannot_be_measured(busybox):
    node, _ = busybox
    assert "nobody" in node.cli("bench", "virt", "nobody", code=1).stderr
    node.cli("bench", "virt", code=2)


def test_the_program(build):
    said = json.loads(subprocess.run([build / "brume-measure"], check=True, capture_output=True).stdout)
    assert all(name.endswith("_ns") and value > 0 for name, value in said.items())
    assert subprocess.run([build / "brume-measure", "--fast"], capture_output=True).returncode == 2
