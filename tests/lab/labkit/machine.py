"""One virtual server: a qemu that cannot outlive us and leaves no file behind.

Every disk, the console and the port of the runner are descriptors that qemu inherits; none has a name.
The root disk is used through a temporary overlay that qemu itself unlinks.
"""
import os
import socket
import subprocess
import tempfile

from labkit.tool import die_with

# norandmaps: the emulator keeps its translation of a program by virtual address, so that at a random one it
# translates each start anew; that doubles what a short command takes.
CMDLINE = ("console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable random.trust_cpu=on "
           "norandmaps net.ifnames=0 systemd.unified_cgroup_hierarchy=1 systemd.show_status=no")


class Disks:
    """The descriptors a server is started from."""

    def __init__(self, kernel, root, project):
        self.kernel, self.root, self.project = kernel, root, project


def _unnamed_file(size=0):
    """A file without a name, read and written by qemu and by us."""
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        file.truncate(size)
        return os.dup(file.fileno())


class Machine:
    def __init__(self, disks, number, memory, disk_mib, cmdline, wires=(), shell=False, cpus=2):
        self.number = number
        self.console = None if shell else _unnamed_file()
        self.link, theirs = socket.socketpair()
        inherited = [theirs.fileno(), *wires, disks.root, disks.project]
        words = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                 "-no-reboot", "-name", f"brume-lab-{number}", "-M", "pc,usb=off", "-accel",
                 "tcg,thread=multi", "-cpu", "max", "-smp", str(cpus), "-m", str(memory)]
        words += ["-kernel", f"/proc/self/fd/{disks.kernel['vmlinuz']}",
                  "-initrd", f"/proc/self/fd/{disks.kernel['initrd']}",
                  "-append", " ".join([CMDLINE, cmdline, *(["lab.shell systemd.wants=lab-shell.service"]
                                                            if shell else [])])]
        inherited += [disks.kernel["vmlinuz"], disks.kernel["initrd"], disks.kernel["modules.img"]]
        words += self._disk(1, disks.root, "snapshot=on")
        words += self._disk(2, disks.project, "readonly=on")
        words += self._disk(3, disks.kernel["modules.img"], "readonly=on")
        if disk_mib:
            self.scratch = _unnamed_file(disk_mib << 20)
            inherited.append(self.scratch)
            words += self._disk(4, self.scratch, "cache=unsafe")
        for number_, fd in enumerate(wires):
            words += ["-netdev", f"dgram,id=wire{number_},local.type=fd,local.str={fd}",
                      "-device", f"virtio-net-pci,romfile=,netdev=wire{number_},"
                                 f"mac=52:54:00:77:{number_:02x}:{number:02x}"]
        words += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=lab,fd={theirs.fileno()}",
                  "-device", "virtserialport,chardev=lab,name=lab"]
        if shell:
            words += ["-serial", "mon:stdio"]
        else:
            words += ["-chardev", f"file,id=console,path=/proc/self/fd/{self.console}",
                      "-serial", "chardev:console"]
            inherited.append(self.console)
        parent = os.getpid()
        self.process = subprocess.Popen(
            words, stdin=None if shell else subprocess.DEVNULL, stdout=None if shell else
            subprocess.PIPE, stderr=None if shell else subprocess.STDOUT, pass_fds=inherited,
            env={**os.environ, "TMPDIR": "/var/tmp"}, preexec_fn=lambda: die_with(parent),
            start_new_session=not shell)
        theirs.close()
        self.rest = b""

    @staticmethod
    def _disk(number, fd, option):
        return ["-drive", f"file=/proc/self/fd/{fd},format=raw,if=none,id=disk{number},{option}",
                "-device", f"virtio-blk-pci,drive=disk{number}"]

    def console_text(self):
        if self.console is None:
            return ""
        size = os.fstat(self.console).st_size
        return os.pread(self.console, min(size, 1 << 20), max(0, size - (1 << 20))).decode(errors="replace")

    def close(self):
        """Ends qemu, if it still runs, and forgets the rest."""
        self.process.kill()
        said = self.process.communicate()[0] or b""
        self.link.close()
        if self.console is not None:
            os.close(self.console)
            self.console = None
        return said.decode(errors="replace")
