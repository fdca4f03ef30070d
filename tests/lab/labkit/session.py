"""One boot: starts its servers, gives them the plan, and gathers what they report."""
import base64
import collections
import json
import os
import selectors
import socket
import time

from labkit.machine import Machine

BOOT_S = {1: 100, 2: 240}  # by attempt; a loaded machine takes its time
LINE_LIMIT = 1 << 20
DOWN = "the server went down"
LATE = "the server did not come up"


class Outcome:
    """What became of one case on one kernel (on one of the servers)."""

    def __init__(self, case, kernel, server=0):
        self.case, self.kernel, self.server = case, kernel, server
        self.code, self.seconds, self.why = None, 0.0, ""
        self.output, self.partial, self.files = [], "", collections.defaultdict(bytearray)

    @property
    def name(self):
        return f"{self.case.name}@{self.kernel}" + (f"#{self.server}" if self.server else "")

    @property
    def state(self):
        return {0: "passed", 77: "skipped"}.get(self.code, "failed")


class Session:
    def __init__(self, boot, disks, cpus, show):
        self.boot, self.disks, self.cpus, self.show = boot, disks, cpus, show
        self.outcomes, self.machines, self.barriers = [], [], collections.Counter()
        self.began, self.up_by = time.monotonic(), 0.0
        self.stopped, self.why = False, "the lab was interrupted"

    def _wires(self):
        """The network cards' ends, for each server; one server's cards are wired to nobody."""
        ends = [[] for _ in range(self.boot.servers)]
        for _ in range(self.boot.most("nics")):
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for server in range(self.boot.servers):
                ends[server].append(pair[server])
            if self.boot.servers == 1:
                ends[0].append(pair[1])
        return ends

    def run(self):
        """Runs all cases of the boot; gives their outcomes.  What it starts is gone when it returns."""
        paired = self.boot.servers > 1
        for server in range(1, self.boot.servers + 1):
            for case in self.boot.cases:
                self.outcomes.append(Outcome(case, self.boot.kernel, server if paired else 0))
        try:
            if self._attempt(1):
                self.show(f"lab: {self.boot.kernel}: {self.why} while it booted, once more:\n" + "\n".join(
                    self._consoles().splitlines()[-5:]))
                self._attempt(2)
        finally:
            self._finish()
        return self.outcomes

    def _attempt(self, number):
        """True when a server did not get as far as its first word, for the first time.

        One boot in hundreds does not: an emulated processor runs the kernel's text while another patches it, and
        that ends in "Oops: int3", or two processors wait for each other ("soft lockup").
        """
        for machine in self.machines:
            machine.close()
        self.machines, self.began, wires = [], time.monotonic(), self._wires()
        self.up_by = self.began + BOOT_S[number]
        deadline = self.up_by + sum(case.time + 30 for case in self.boot.cases)
        for place, ends in enumerate(wires, 1):
            self.machines.append(Machine(self.disks, place, self.boot.most("memory"),
                                         self.boot.most("disk"), self.boot.cmdline,
                                         [end.fileno() for end in ends], cpus=self.cpus))
        for end in sum(wires, []):
            end.close()
        self._listen(deadline)
        return number == 1 and not self.stopped and not all(machine.ready for machine in self.machines)

    def _consoles(self):
        return "".join(machine.console_text() for machine in self.machines)

    def stop(self):
        """May be called from another thread: ends the servers, and with them run()."""
        self.stopped = True
        for machine in list(self.machines):
            machine.process.kill()

    def _listen(self, deadline):
        loop = selectors.DefaultSelector()
        for machine in self.machines:
            machine.link.setblocking(False)
            machine.ready = False
            loop.register(machine.link, selectors.EVENT_READ, machine)
        while loop.get_map():
            limit = deadline if all(machine.ready for machine in self.machines) else self.up_by
            events = loop.select(max(0.0, limit - time.monotonic()))
            if not events:
                self.why = LATE if limit != deadline else "the time for all cases of this boot was over"
                return
            for key, _ in events:
                if not self._receive(key.data):
                    loop.unregister(key.data.link)
                    if not key.data.ready:
                        self.why = DOWN
                        return
        self.why = DOWN

    def _receive(self, machine):
        """False when nothing more will come."""
        try:
            data = machine.link.recv(1 << 16)
        except ConnectionError:
            return False
        if not data:
            return False
        machine.rest += data
        while b"\n" in machine.rest:
            line, _, machine.rest = machine.rest.partition(b"\n")
            message = json.loads(line)
            if message["type"] == "done":
                return False
            self._handle(machine, message)
        if len(machine.rest) > LINE_LIMIT:
            raise ValueError("a server of the lab reports lines without end")
        return True

    def _send(self, machine, message):
        machine.link.setblocking(True)
        machine.link.sendall(json.dumps(message).encode() + b"\n")
        machine.link.setblocking(False)

    def _outcome(self, machine, name):
        server = machine.number if self.boot.servers > 1 else 0
        return next(it for it in self.outcomes if it.case.name == name and it.server == server)

    def _handle(self, machine, message):
        kind = message["type"]
        if kind == "ready":
            machine.ready = True
            self.show(f"lab: {self.boot.kernel} is up after {time.monotonic() - self.began:.0f} s")
            self._send(machine, {
                "type": "plan", "kernel": self.boot.kernel, "server": machine.number,
                "wires": self.boot.most("nics"), "ends": 2 if self.boot.servers == 1 else 1,
                "disk": self.boot.most("disk"),
                "cases": [{"name": case.name, "command": case.command, "time": case.time}
                          for case in self.boot.cases]})
            return
        outcome = self._outcome(machine, message["case"])
        if kind == "start":
            outcome.began = time.monotonic()
        elif kind == "output":
            outcome.output.append(message["text"])
            self.show(message["text"], outcome)
        elif kind == "file":
            outcome.files[message["name"]] += base64.b64decode(message["data"])
        elif kind == "end":
            outcome.code, outcome.seconds = message["code"], message["seconds"]
            if message["late"]:
                outcome.why = f"not finished after {outcome.case.time} s"
            self.show("", outcome)
        elif kind == "barrier":
            key = (message["case"], message["name"])
            self.barriers[key] += 1
            if self.barriers[key] % self.boot.servers == 0:
                for other in self.machines:
                    self._send(other, {"type": "go", "name": message["name"]})

    def _finish(self):
        """Ends the servers; whatever has no end yet has failed, and the console says more."""
        consoles = self._consoles()
        for machine in self.machines:
            consoles += machine.close()
        for outcome in self.outcomes:
            if outcome.code is None:
                outcome.code = 1
                outcome.why = self.why
                outcome.console = consoles
                self.show("", outcome)
        self.console = consoles


def shell(boot, disks, cpus):
    """A server with a root shell on this terminal instead of cases."""
    machine = Machine(disks, 1, boot.most("memory"), boot.most("disk"), boot.cmdline, shell=True,
                      cpus=cpus)
    try:
        machine.process.wait()
    finally:
        machine.close()
        os.system("stty sane 2>/dev/null")
