"""Runs the cases inside the server, each as a service of systemd, and tells the host about them.

The virtio port "lab" carries JSON documents, one a line.  Up: ready, start, output, barrier, file,
end, done.  Down: plan (the cases), go (everybody has reached a barrier).  A case reaches a barrier
with `lab barrier NAME`, which talks to the socket made here.
"""
import base64
import json
import os
import pathlib
import selectors
import shutil
import socket
import subprocess
import time

SOCKET = "/run/lab.sock"
PATH = "/lab/tests/lab/guest/bin:/lab/build:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LARGEST_FILE, CHUNK = 64 << 20, 256 << 10


def port():
    """The device of the port named "lab"; the host tells the name soon after the driver is there."""
    for _ in range(600):
        for path in pathlib.Path("/sys/class/virtio-ports").glob("*/name"):
            if path.read_text().strip() == "lab":
                return "/dev/" + path.parent.name
        time.sleep(0.1)
    raise SystemExit("the server has no port to the host")


class Host:
    """The other end of the port."""

    def __init__(self):
        self.fd = os.open(port(), os.O_RDWR)
        self.rest = b""

    def tell(self, kind, **more):
        data = json.dumps({"type": kind, **more}).encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data):]

    def hear(self):
        """The next document."""
        while b"\n" not in self.rest:
            self.rest += os.read(self.fd, 65536)
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line)


class Runner:
    def __init__(self):
        self.host = Host()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(SOCKET)
        self.listener.listen()

    def run(self):
        self.host.tell("ready", uptime=float(pathlib.Path("/proc/uptime").read_text().split()[0]))
        plan = self.host.hear()
        self.plan = plan
        if plan["wires"]:
            subprocess.run(["modprobe", "virtio_net"], check=True)
        for number in range(plan["wires"]):
            self.bring_up(number)
        for number, case in enumerate(plan["cases"]):
            self.run_case(number, case)
        self.host.tell("done")

    def bring_up(self, number):
        """Wire number N is 10.77.N.0/24 and fd77:N::/64, this server's address its number.

        Of a wire that has both its ends here the second is left to the cases.
        """
        name, server = f"eth{number * self.plan['ends']}", self.plan["server"]
        for words in (["link", "set", name, "up"],
                      ["addr", "add", f"10.77.{number}.{server}/24", "dev", name],
                      ["-6", "addr", "add", f"fd77:{number}::{server}/64", "dev", name, "nodad"]):
            subprocess.run(["ip", *words], check=False)

    def run_case(self, number, case):
        folder = pathlib.Path(f"/var/tmp/lab-{number}")
        artefacts = folder / "artefacts"
        artefacts.mkdir(parents=True)
        artefacts.chmod(0o777)
        unit = f"lab-case-{number}.service"
        environment = {
            "PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
            "BRUME_BUILD": "/lab/build", "LAB": "/lab", "LAB_ARTEFACTS": str(artefacts),
            "LAB_KERNEL": self.plan["kernel"], "LAB_SERVER": str(self.plan["server"]),
            "LAB_DISK": "/dev/vdd" if self.plan["disk"] else ""}
        words = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={unit}",
                 "--service-type=exec", f"--property=RuntimeMaxSec={case['time']}",
                 "--property=TimeoutStopSec=10", "--property=TasksMax=infinity",
                 "--property=Delegate=yes", "--property=LimitNOFILE=65536",
                 f"--working-directory={folder}",
                 *(f"--setenv={key}={value}" for key, value in environment.items()),
                 *case["command"]]
        self.host.tell("start", case=case["name"])
        began = time.monotonic()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        self.watch(case["name"], process)
        code, seconds = process.wait(), time.monotonic() - began
        late = code != 0 and seconds >= case["time"]
        self.send_files(case["name"], artefacts)
        shutil.rmtree(folder, ignore_errors=True)
        self.host.tell("end", case=case["name"], code=code, late=late, seconds=round(seconds, 1))

    def watch(self, name, process):
        """Carries output up and serves barriers until the case is over."""
        loop, waiting = selectors.DefaultSelector(), {}
        for source in (process.stdout, self.listener, self.host.fd):
            loop.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in loop.select():
                if key.fileobj is process.stdout:
                    data = os.read(process.stdout.fileno(), 65536)
                    if not data:
                        for link in waiting.values():
                            link.close()
                        return
                    self.host.tell("output", case=name, text=data.decode(errors="replace"))
                elif key.fileobj is self.listener:
                    link, _ = self.listener.accept()
                    barrier = link.makefile().readline().strip()
                    waiting[barrier] = link
                    self.host.tell("barrier", case=name, name=barrier)
                else:
                    link = waiting.pop(self.host.hear()["name"], None)
                    if link:
                        link.sendall(b"go\n")
                        link.close()

    def send_files(self, name, folder):
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            with open(path, "rb") as file:
                left = LARGEST_FILE
                while left > 0:
                    data = file.read(min(CHUNK, left))
                    left -= len(data)
                    self.host.tell("file", case=name, name=str(path.relative_to(folder)),
                                   data=base64.b64encode(data).decode())
                    if not data:
                        break


if __name__ == "__main__":
    Runner().run()
