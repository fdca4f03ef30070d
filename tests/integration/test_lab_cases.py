"""What the lab reads from its cases, and how it divides them into boots.  Boots nothing."""
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import kernel
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lab"))

from labkit import cases, session  # noqa: E402


def case(folder, *lines, name="one.sh"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return cases.read(path)


def test_needs(tmp_path):
    it = case(tmp_path, "#!/bin/sh", "# What it shows.", "# More words.", "#",
              "# lab: kernels=6.12 memory=512 packages=docker.io,runc", '# lab: cmdline="a=b c" alone=yes',
              "set -e", "# lab: memory=1024")
    assert it.name == "one" and it.summary == "What it shows."
    assert it.kernels == ("6.12",) and it.memory == 512 and it.alone
    assert it.packages == ("docker.io", "runc") and it.cmdline == "a=b c"


def test_no_needs(tmp_path):
    it = case(tmp_path, "#!/bin/sh", "true")
    assert it.kernels == it.default == cases.KERNELS and it.servers == 1


def test_what_runs_by_default(tmp_path, monkeypatch):
    monkeypatch.setattr(cases, "FOLDER", tmp_path)
    for name, line in (("both", "# lab: time=5"), ("no", "# lab: default=no"), ("new", "# lab: default=6.12"),
                       ("old", "# lab: kernels=6.1"), ("never", "# lab: kernels=6.1 default=6.12")):
        case(tmp_path, "#!/bin/sh", line, name=name + ".sh")
    assert {it.name: it.kernels for it in cases.default_cases()} == {
        "both": ("6.1", "6.12"), "new": ("6.12",), "old": ("6.1",)}
    assert cases.find("new").kernels == cases.KERNELS


@pytest.mark.parametrize("line, words", [
    ("# lab: memry=5", 'there is no need "memry"'), ("# lab: memory=5", "256 to 16384"),
    ("# lab: kernels=5.10", "of 6.1,6.12"), ("# lab: servers=3", "1 to 2"),
    ('# lab: cmdline="a', "No closing quotation"), ("# lab: alone=maybe", "yes or no"), ("# lab: default=5.10", "of 6.1,6.12")])
def test_a_wrong_need_is_said(tmp_path, line, words):
    with pytest.raises(cases.Mistake) as error:
        case(tmp_path, "#!/bin/sh", line)
    assert words in str(error.value) and "one.sh:2" in str(error.value)


def test_every_case_can_be_read():
    known = cases.all_cases()
    assert "hello" in known
    for it in known.values():
        assert it.summary, f"{it.name} does not say what it shows"


def test_unknown_names():
    for name in ("no-such", "integration/no-such"):
        with pytest.raises(cases.Mistake):
            cases.find(name)


def test_as_few_boots_as_needs_allow():
    one, two = cases.Case("a", [], memory=512), cases.Case("b", [], memory=1024)
    pair = cases.Case("c", [], servers=2, nics=1)
    apart = cases.Case("d", [], cmdline="x", kernels=("6.12",))
    alone = cases.Case("e", [], alone=True, kernels=("6.1",))
    boots = cases.batch([one, pair, two, apart, alone], cases.KERNELS)
    assert [(boot.kernel, [it.name for it in boot.cases]) for boot in boots] == [
        ("6.1", ["a", "b"]), ("6.1", ["c"]), ("6.1", ["e"]),
        ("6.12", ["a", "b"]), ("6.12", ["c"]), ("6.12", ["d"])]
    assert boots[0].most("memory") == 1024


class FakeServer:
    """A server that goes down as often as `falls` says before it does what the runner does."""
    falls = 0

    def __init__(self, *_, **__):
        self.link, self.theirs = socket.socketpair()
        self.rest, self.number = b"", 1
        if FakeServer.falls:
            FakeServer.falls -= 1
            self.theirs.close()
            return
        threading.Thread(target=self.run).start()

    def run(self):
        with self.theirs.makefile("rw") as link:
            def tell(**message):
                link.write(json.dumps(message) + "\n")
                link.flush()
            tell(type="ready")
            for case in json.loads(link.readline())["cases"]:
                tell(type="end", case=case["name"], code=0, seconds=1, late=False)
            tell(type="done")
        self.theirs.close()

    def console_text(self):
        return "Oops: int3"

    def close(self):
        self.link.close()
        return ""


@pytest.mark.parametrize("falls, code", [(0, 0), (1, 0), (2, 1)])
def test_a_boot_that_falls_over_is_tried_once_more(monkeypatch, falls, code):
    monkeypatch.setattr(session, "Machine", FakeServer)
    monkeypatch.setattr(FakeServer, "falls", falls)
    said = []
    it = session.Session(cases.Boot("6.12", [cases.Case("a", [])]), None, 1, lambda text, _=None: said.append(text))
    outcome, = it.run()
    assert outcome.code == code and (outcome.why == session.DOWN) == bool(code)
    assert any("once more" in line and "int3" in line for line in said) == bool(falls)


class SilentServer(FakeServer):
    """One that never comes up."""

    def run(self):
        pass

    def close(self):
        self.theirs.close()
        return super().close()


def test_a_server_that_never_comes_up_ends_in_time(monkeypatch):
    monkeypatch.setattr(session, "Machine", SilentServer)
    monkeypatch.setattr(session, "BOOT_S", {1: 0.1, 2: 0.1})
    it = session.Session(cases.Boot("6.12", [cases.Case("a", [])]), None, 1, lambda *_: None)
    outcome, = it.run()
    assert outcome.code == 1 and outcome.why == session.LATE


def test_no_server_outlives_its_lab(tmp_path):
    """kill -9 of the lab is the end of what it has started."""
    (tmp_path / "qemu-system-x86_64").write_text("#!/bin/sh\nexec sleep 1000\n")
    (tmp_path / "qemu-system-x86_64").chmod(0o755)
    script = ("import os, sys\n"
              f"sys.path.insert(0, {str(cases.LAB)!r})\n"
              "from labkit.machine import Disks, Machine\n"
              "fd = os.open('/dev/null', os.O_RDONLY)\n"
              "disks = Disks({'vmlinuz': fd, 'initrd': fd, 'modules.img': fd}, fd, fd)\n"
              "print(Machine(disks, 1, 256, 0, '').process.pid, flush=True)\n"
              "os.read(0, 1)\n")
    lab = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    pid = int(lab.stdout.readline())
    assert pathlib.Path(f"/proc/{pid}").exists()
    lab.kill()
    lab.communicate()
    assert kernel.wait_for_exit(pid)
