"""Open vSwitch for tests: its daemons, in the namespaces of whoever runs them."""
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import time

import pytest

SHARE = pathlib.Path(os.environ.get("OVS_PKGDATADIR", "/usr/share/openvswitch"))
PROGRAMS = {"ovs-vswitchd": "/usr/lib/openvswitch-switch/ovs-vswitchd", "ovsdb-server": "/usr/sbin/ovsdb-server",
            "ovsdb-tool": "/usr/bin/ovsdb-tool", "ovs-vsctl": "/usr/bin/ovs-vsctl"}


def program(name):
    found = shutil.which(name) or PROGRAMS[name]
    if not pathlib.Path(found).exists():
        pytest.skip(f"{name} is not there")
    return found


class OpenVSwitch:
    """`run` runs a command in namespaces where /run/openvswitch is an empty folder, and gives its output."""

    def __init__(self, run, folder):
        self.run, self.folder, self.pids = run, folder, {}
        self.programs = {name: program(name) for name in PROGRAMS}
        run(self.programs["ovsdb-tool"], "create", str(folder / "conf.db"), str(SHARE / "vswitch.ovsschema"))
        self.start_database()
        self.vsctl("--no-wait", "init")
        self.start_switch()

    def daemon(self, name, *args):
        pidfile = self.folder / f"{name}.pid"
        pidfile.unlink(missing_ok=True)
        self.run(self.programs[name], *args, "--detach", f"--pidfile={pidfile}", "--no-chdir", "-vsyslog:off",
                 f"--log-file={self.folder / name}.log", f"--unixctl={self.folder / name}.ctl")
        self.pids[name] = int(pidfile.read_text())

    def start_database(self):
        self.daemon("ovsdb-server", "--remote=punix:/run/openvswitch/db.sock", str(self.folder / "conf.db"))

    def start_switch(self):
        self.daemon("ovs-vswitchd", "unix:/run/openvswitch/db.sock")

    def stop(self, name):
        pid = self.pids.pop(name)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        with contextlib.suppress(OSError):
            # Its parent may be slow to notice; a dead one holds nothing.
            while time.monotonic() < deadline:
                if pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                    break
                select.select([], [], [], 0.01)

    def vsctl(self, *args):
        return self.run(self.programs["ovs-vsctl"], "--db=unix:/run/openvswitch/db.sock", "-t", "10", *args)

    def rows(self, table):
        listed = json.loads(self.vsctl("-f", "json", "--columns=name,external_ids", "list", table))
        return {name: dict(ids[1]) for name, ids in listed["data"]}

    def add_bridge(self, name="br-ex"):
        """With its datapath in user space, which every kernel has."""
        self.vsctl("add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev")

    def close(self):
        for name in list(self.pids):
            self.stop(name)
