"""A virtual machine started by hand: QEMU, a kernel, an initramfs, disks, and the guest channel.

For the tests of brume-init (test_guest_boot.py): nothing of the agent is in between.
"""
import fcntl
import glob
import json
import os
import random
import re
import socket
import struct
import subprocess
import termios
import time

MODULES = ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_console", "virtio-rng",
           "erofs", "overlay", "vmw_vsock_virtio_transport", "button", "evdev"]
KERNELS = "/var/cache/brume-kernels"
HEADER = struct.Struct("<IHHQ")
HELLO, STATUS, OPEN, DATA, CREDIT, CLOSE = 1, 5, 6, 7, 8, 9


def kernel():
    """Debian's cloud kernel, unpacked: the folder.  None: tools/fetch_kernel has not fetched it."""
    found = sorted(glob.glob(KERNELS + "/*/boot/vmlinuz-*"))
    return os.path.dirname(os.path.dirname(found[-1])) if found else None


def cpio(entries):
    """A newc archive of {name: bytes or None (a folder)}."""
    out = b""
    for number, (name, data) in enumerate([*entries.items(), ("TRAILER!!!", b"")], 1):
        mode = 0o40755 if data is None else 0o100755
        fields = [number, mode, 0, 0, 1, 0, len(data or b""), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + (data or b"")
        out += b"\0" * (-len(out) % 4)
    return out


def modules_of(folder, names=MODULES):
    """[(name, bytes)], those and what they need, in the order in which they can be loaded."""
    files = {}
    for path in glob.glob(folder + "/lib/modules/*/**/*.ko", recursive=True):
        files[os.path.basename(path)[:-3].replace("-", "_")] = path
    order = []

    def add(name):
        name = name.replace("-", "_")
        if name not in files or any(n == name for n, _ in order):
            return
        data = open(files[name], "rb").read()
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends[1].decode().split(",") if depends else []:
            add(other)
        order.append((name, data))

    for name in names:
        add(name)
    return order


def initramfs(init, folder=None):
    modules = modules_of(folder) if folder else []
    entries = {"dev": None, "init": open(init, "rb").read(), "modules": None,
               "modules/order": "".join(f"{n}.ko\n" for n, _ in modules).encode()}
    for name, data in modules:
        entries[f"modules/{name}.ko"] = data
    return cpio(entries)


def config(**members):
    """A guest.json: `process` members by name, the rest as they are."""
    process = {"args": members.pop("args"), "cwd": members.pop("cwd", "/"),
               "env": members.pop("env", ["PATH=/bin"]), "user": members.pop("ids", {}),
               "terminal": members.pop("terminal", False)}
    for name in ("rlimits", "capabilities", "noNewPrivileges"):
        if name in members:
            process[name] = members.pop(name)
    return {"version": 1, "hostname": "guest", "process": process,
            "root": {"lower": "brume-image", "upper": "brume-disk",
                     "read_only": members.pop("read_only", False)}, **members}


class Machine:
    def __init__(self, where, base, image, guest, disk=None, memory="256M"):
        """`base`: the shared initramfs' bytes; `image`: the disk's path; `guest`: guest.json."""
        self.dir = str(where)
        os.makedirs(self.dir, exist_ok=True)
        self.disk = disk or f"{self.dir}/disk.img"
        if not os.path.exists(self.disk):
            with open(self.disk, "wb") as out:
                out.truncate(64 << 20)
            subprocess.run(["mke2fs", "-q", "-t", "ext4", self.disk], check=True)
        part = cpio({"brume": None, "brume/guest.json": json.dumps(guest).encode()})
        with open(f"{self.dir}/initrd", "wb") as out:
            out.write(base + part)
        chardevs, ports = [], []
        for name in ["out", "err", "status"]:
            chardevs += ["-chardev", f"file,id={name},path={self.dir}/{name}"]
            ports += ["-device", f"virtserialport,chardev={name},name=brume.{name}"]
        for name in ["guest", "in"]:
            chardevs += ["-chardev", f"socket,id={name},path={self.dir}/{name}.sock,server=on,wait=off"]
            ports += ["-device", f"virtserialport,chardev={name},name=brume.{name}"]
        self.command = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", memory,
            "-M", "q35", "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-kernel", glob.glob(os.path.dirname(image) + "/vmlinuz")[0],
            "-initrd", f"{self.dir}/initrd", "-append",
            "console=ttyS0 quiet panic=-1 reboot=t no_timer_check tsc=reliable",
            "-serial", f"file:{self.dir}/console",
            "-drive", f"if=none,id=image,file={image},format=raw,readonly=on",
            "-device", "virtio-blk-pci,drive=image,serial=brume-image",
            "-drive", f"if=none,id=disk,file={self.disk},format=raw",
            "-device", "virtio-blk-pci,drive=disk,serial=brume-disk",
            "-netdev", "user,id=net,restrict=on", "-device",
            "virtio-net-pci,netdev=net,mac=02:00:00:00:00:01,romfile=",
            "-qmp", f"unix:{self.dir}/qmp.sock,server=on,wait=off",
            "-device", "virtio-serial-pci", *chardevs, *ports]
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                        stderr=open(f"{self.dir}/qemu", "wb"))

    def read(self, name):
        try:
            return open(f"{self.dir}/{name}", "rb").read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def wait(self, seconds=120):
        """Until it is off; what it said on brume.status."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            raise AssertionError("the machine does not end:\n" + self.words()) from None
        return self.read("status")

    def words(self):
        return "".join(f"-- {n}\n{self.read(n)[-3000:]}\n" for n in ("qemu", "console", "out", "err", "status"))

    def connect(self, name="guest", seconds=60):
        end = time.monotonic() + seconds
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(f"{self.dir}/{name}.sock")
                return sock
            except OSError:
                sock.close()
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    @staticmethod
    def finish(sock):
        """The end of an input, when QEMU has read everything: what it has not read it would drop."""
        while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0]:
            time.sleep(0.05)
        sock.close()

    def press_button(self):
        with self.connect("qmp") as sock, sock.makefile("rw") as qmp:
            for command in ("qmp_capabilities", "system_powerdown"):
                qmp.write(json.dumps({"execute": command}) + "\n")
                qmp.flush()
            while "POWERDOWN" not in qmp.readline():
                pass

    def wait_out(self, text, seconds=60):
        end = time.monotonic() + seconds
        while text not in self.read("out"):
            assert time.monotonic() < end, self.words()
            time.sleep(0.05)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Channel:
    """The host's end of the guest channel."""

    def __init__(self, sock, timeout=60):
        self.sock = sock
        sock.settimeout(timeout)
        self.buffer = b""
        self.next = 0
        self.greet()

    def greet(self):
        """Says hello; what comes before the answer is of an earlier connection, and may be cut."""
        connection = random.getrandbits(52) | 1
        self.send(HELLO, connection, {"protocol": 1, "connection": connection})
        answer = struct.pack("<HHQ", HELLO, 0, connection)
        while answer not in self.buffer:
            self.receive()
        self.buffer = self.buffer[self.buffer.index(answer) - 4:]
        kind, _, self.hello = self.frame()
        assert kind == HELLO and self.hello["connection"] == connection

    def send(self, kind, number, body):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.sock.sendall(HEADER.pack(len(body), kind, 0, number) + body)

    def frame(self):
        while True:
            if len(self.buffer) >= HEADER.size:
                size, kind, _, number = HEADER.unpack_from(self.buffer)
                if len(self.buffer) >= HEADER.size + size:
                    body = self.buffer[HEADER.size:HEADER.size + size]
                    self.buffer = self.buffer[HEADER.size + size:]
                    return kind, number, body if kind in (DATA, CREDIT) else json.loads(body)
            self.receive()

    def receive(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError("the guest has closed the channel")
        self.buffer += data

    def open(self, kind, **arguments):
        self.next += 1
        self.send(OPEN, self.next, {"kind": kind, **arguments})
        return self.next

    def data(self, number, data):
        """Input of a stream, no faster than its credit."""
        room = 256 << 10
        for i in range(0, len(data), 60000):
            while room < 60000:
                kind, other, body = self.frame()
                assert kind == CREDIT and other == number, (kind, body)
                room += struct.unpack("<I", body)[0]
            self.send(DATA, number, b"\0" + data[i:i + 60000])
            room -= 60000

    def control(self, number, **message):
        self.send(DATA, number, b"\3" + json.dumps(message).encode())

    def collect(self, number):
        """(close, out, err) of a stream; gives credit back as it reads."""
        out = {1: b"", 2: b""}
        while True:
            kind, other, body = self.frame()
            if other != number:
                continue
            if kind == DATA:
                out[body[0]] += body[1:]
                self.send(CREDIT, number, struct.pack("<I", len(body) - 1))
            elif kind == CLOSE:
                self.send(CLOSE, number, {"exit_code": 0})
                return body, out[1], out[2]

    def run(self, *command, data=b"", **arguments):
        number = self.open("exec", command=list(command), **arguments)
        if data:
            self.data(number, data)
        self.control(number, eof=True)
        return self.collect(number)

    def wait_status(self, state):
        while True:
            kind, _, body = self.frame()
            if kind == STATUS and body["state"] == state:
                return body
