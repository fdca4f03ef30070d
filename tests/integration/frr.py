"""FRR for tests: zebra and bgpd in the network namespace of whoever runs them, with files of their own."""
import contextlib
import json
import pathlib
import shutil
import signal
import subprocess

import kernel
import pytest

FOLDER = pathlib.Path("/usr/lib/frr")


def program(name):
    found = shutil.which(name) or FOLDER / name
    if not pathlib.Path(found).exists():
        pytest.skip(f"{name} is not there (package frr)")
    return str(found)


class Frr:
    """`command` makes a command line that runs in the namespace; `config` is a whole frr.conf."""

    def __init__(self, command, folder, config):
        self.command, self.folder, self.processes = command, pathlib.Path(folder), {}
        self.programs = {name: program(name) for name in ("zebra", "bgpd", "vtysh")}
        self.folder.mkdir()
        # They drop root, but for the right to change routes.
        shutil.chown(self.folder, "frr", "frr")
        (self.folder / "frr.conf").write_text(config)
        self.start()

    def start(self):
        for name in ("zebra", "bgpd"):
            (self.folder / f"{name}.conf").touch()
            (self.folder / f"{name}.vty").unlink(missing_ok=True)
            log = open(self.folder / f"{name}.log", "ab")
            self.processes[name] = subprocess.Popen(
                self.command([self.programs[name], "-F", "datacenter", "-f", self.folder / f"{name}.conf",
                              "-i", self.folder / f"{name}.pid", "-z", self.folder / "zserv.api",
                              "--vty_socket", self.folder, "-P", "0", "--log", "stdout"]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            log.close()
            if not kernel.wait_for_path(str(self.folder / f"{name}.vty"),
                                        alive=lambda name=name: self.processes[name].poll() is None):
                raise AssertionError(f"{name} does not start:\n{self.log()}")
        done = self.vtysh("-f", str(self.folder / "frr.conf"))
        assert done.returncode == 0 and "%" not in done.stdout + done.stderr, done.stdout + done.stderr

    def vtysh(self, *args):
        return subprocess.run(self.command([self.programs["vtysh"], "--vty_socket", self.folder, *args]),
                              capture_output=True, text=True, timeout=kernel.patient(30))

    def show(self, words):
        return self.vtysh("-c", "show " + words).stdout

    def established(self):
        """How many sessions there are."""
        summary = json.loads(self.show("bgp summary json") or "{}")
        return sum(peer["state"] == "Established" for family in summary.values() if isinstance(family, dict)
                   for peer in family.get("peers", {}).values())

    def log(self):
        return "".join(path.read_text(errors="replace")[-4000:] for path in sorted(self.folder.glob("*.log")))

    def kill(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
        self.processes = {}
