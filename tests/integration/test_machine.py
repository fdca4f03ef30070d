"""A virtual machine under QEMU and brume-qemu, as machine/ starts it: Debian's kernel, a small initramfs.

No node: machine-driver builds the command line from a spec and talks to the machine as the agent does.
"""
import os
import pathlib
import select
import shutil
import signal
import subprocess
import time

import conftest
import guest_machine
import pytest
from vm_kernel import need_kernel

BUILD = conftest.build_folder()
DRIVER, QEMU_PARENT = BUILD / "tests/machine-driver", BUILD / "brume-qemu"
MODULES = ("button", "evdev", "virtio_blk", "virtio_console", "virtio_pci")
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
# Names of ports and devices come a moment after their drivers.
port() { until named $1; do $b sleep 0.05; done; }
named() { for p in /sys/class/virtio-ports/*; do [ "$($b cat $p/name)" = "$1" ] && echo /dev/${p##*/} && return; done; false; }
input() { for i in /sys/class/input/event*; do [ "$($b cat $i/device/name)" = "$1" ] && echo /dev/input/${i##*/}; done; }
for what in $($b cat /proc/cmdline); do
	case $what in
	test.out) echo "to out" > $(port brume.out); echo "to err" > $(port brume.err);;
	test.in) read line < $(port brume.in); echo "got $line" > $(port brume.out);;
	test.disk) echo "serial $($b cat /sys/block/vda/serial)" > $(port brume.out)
		$b dd if=/dev/vda of=/dev/null bs=4096 count=1; echo written | $b dd of=/dev/vda conv=fsync;;
	test.flood) $b yes "a line of the console" | $b head -c 300000 > /dev/hvc0; echo "the last line" > /dev/hvc0;;
	test.status) echo "rubbish" > $(port brume.status); echo "exit 7" > $(port brume.status);;
	test.guest) exec 3<> $(port brume.guest); echo ready > $(port brume.out)
		# Without a reader on the other side there is nothing but an end.
		until read line <&3; do $b sleep 0.05; done
		echo "guest says $line" >&3; $b sleep 0.2;;
	test.button) exec 4< "$(input 'Power Button')"; echo ready > $(port brume.out); $b dd of=/dev/null bs=24 count=1 <&4;;
	test.ready) echo ready > $(port brume.out); read line < $(port brume.in); echo "got $line" > $(port brume.out);;
	test.panic) echo c > /proc/sysrq-trigger;;
	test.reset) $b reboot -f;;
	esac
done
$b poweroff -f
"""


def cpio(folder):
    names = "\n".join(str(path.relative_to(folder)) for path in [folder, *sorted(folder.rglob("*"))])
    return subprocess.run(["busybox", "cpio", "-o", "-H", "newc", "-R", "0:0"], cwd=folder, check=True,
                          input=names.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The kernel, and the initramfs in two parts: machine/ puts them one behind the other."""
    if not shutil.which("qemu-system-x86_64") or not DRIVER.exists():
        pytest.skip("needs qemu-system-x86 and the build's machine-driver")
    kernel = need_kernel()
    base = tmp_path_factory.mktemp("machine")
    base.chmod(0o755)
    first, second = base / "first", base / "second"
    for folder in ("bin", "modules", "proc", "sys", "dev"):
        (first / folder).mkdir(parents=True)
    second.mkdir()
    shutil.copy("/bin/busybox", first / "bin/busybox")
    for number, (name, data) in enumerate(guest_machine.modules_of(kernel, MODULES)):
        (first / f"modules/{number:02}-{name}.ko").write_bytes(data)
    (second / "init").write_text(INIT)
    (second / "init").chmod(0o755)
    (base / "first.cpio").write_bytes(cpio(first))
    (base / "second.cpio").write_bytes(cpio(second))
    shutil.copy(*pathlib.Path(kernel).glob("boot/vmlinuz-*"), base / "vmlinuz")
    return base


class Machine:
    def __init__(self, files, run, words, *more):
        self.run = run
        run.mkdir()
        self.process = subprocess.Popen(
            [DRIVER, "run", QEMU_PARENT, run, files / "vmlinuz", f"{files / 'first.cpio'},{files / 'second.cpio'}",
             " ".join(["quiet", *(f"test.{word}" for word in words)]), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def call(self, *words, code=0):
        done = subprocess.run([DRIVER, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done
        return done.stdout

    def do(self, action):
        self.call("do", self.run, action)

    def words(self):
        return self.call("words", self.run)

    def ready(self):
        """Waits for the guest's word on its port."""
        assert self.process.stdout.readline() == "ready\n", self.process.stderr.read()

    def end(self, given=None):
        out, err = self.process.communicate(given, timeout=250)
        return self.process.returncode, out, err

    def guest(self):
        """What the guest answers; QEMU tells at most once a second who listens there."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            done = subprocess.run([DRIVER, "guest", self.run], capture_output=True, text=True, timeout=60)
            if done.returncode != 3:
                return done.stdout
        raise AssertionError("nobody listens in the guest")

    def qemu(self):
        """The pid of QEMU itself."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pid, = path.read_text().split()
        return int(pid)


@pytest.fixture
def machine(files, tmp_path):
    made = []

    def make(words, *more):
        made.append(Machine(files, tmp_path / f"run{len(made)}", words, *more))
        return made[-1]
    yield make
    for one in made:
        one.process.kill()
        one.process.wait()


@pytest.mark.slow
def test_ports_disk_console_and_exit_code(machine, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    one = machine(["out", "in", "disk", "flood", "status"], "input", f"disk={disk}")
    code, out, err = one.end("a line\n")
    assert (code, err) == (0, "to err\n")
    assert out.replace("\r", "") == "to out\ngot a line\nserial brume-disk\n"
    assert one.call("exit-code", one.run) == "1 7\n"
    assert disk.read_bytes().startswith(b"written\n")
    assert (one.run / "console").stat().st_size == 64 * 1024 + 16
    words = one.words()
    assert "the last line" in words[-200:] and 60000 < len(words) <= 65536
    assert not [path for path in one.run.iterdir() if path.name not in ("console", "status", "control.sock")]


@pytest.mark.slow
def test_a_panic_is_told_apart_from_a_reset(machine):
    panics, resets = machine(["panic"]), machine(["reset"])
    assert panics.end()[0] == 4
    assert "Kernel panic - not syncing" in panics.words()
    assert panics.call("exit-code", panics.run) == "0 -1\n"
    assert resets.end()[0] == 3
    assert resets.call("exit-code", resets.run) == "0 -1\n"


@pytest.mark.slow
def test_control(machine, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    one = machine(["guest", "ready", "button"], "input", f"disk={disk}")
    one.call("guest", one.run, code=3)  # nobody listens yet
    one.ready()
    assert one.guest() == "guest says hello guest\n"
    one.ready()
    one.do("pause")
    # The guest stands still: it takes nothing of what it is given until it is resumed.
    one.process.stdin.write("after the pause\n")
    one.process.stdin.flush()
    assert '"id":"disk0"' in one.call("metrics", one.run)
    one.do("resume")
    assert one.process.stdout.readline() == "got after the pause\n"
    one.ready()
    one.do("power-button")
    assert one.end()[0] == 0


@pytest.mark.slow
def test_every_end_of_the_process(machine):
    quits, dies, killed, stopped = (machine(["ready"], "input") for _ in range(4))
    for one in (quits, dies, killed, stopped):
        one.ready()
    quits.do("quit")
    assert quits.end()[0] == 0
    quits.call("do", quits.run, "pause", code=1)  # nobody is there any more

    os.kill(dies.qemu(), signal.SIGKILL)
    assert dies.end()[0] == 1
    assert (dies.run / "status").read_text() == "monitor QEMU was ended by signal 9\n"

    qemu = os.pidfd_open(killed.qemu())
    killed.process.kill()
    killed.end()
    assert select.select([qemu], [], [], 30)[0], "QEMU outlives its parent"
    os.close(qemu)
    killed.words()

    stopped.process.terminate()
    assert stopped.end()[0] == 0


@pytest.mark.slow
def test_a_kernel_that_is_none(machine, files):
    broken = files / "broken"
    broken.mkdir(exist_ok=True)
    for name in ("first.cpio", "second.cpio"):
        shutil.copy(files / name, broken / name)
    (broken / "vmlinuz").write_bytes(b"no kernel" * 1000)
    run = broken / "run"
    shutil.rmtree(run, ignore_errors=True)
    one = Machine(broken, run, [])
    assert one.end()[0] == 1
    status = (run / "status").read_text()
    assert status.startswith("monitor QEMU ended with exit code 1: qemu")


# Writes a line to the serial port, then powers off by ACPI (PM1a control at 0x604).
BOOT_SECTOR = (bytes.fromhex("31c08ed8be1c7cbaf803ac84c07403eeebf8ba0406b80020eff4ebfd")
               + b"the first disk speaks\r\n\0").ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.slow
def test_firmware_boots_the_first_disk(tmp_path):
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs qemu-system-x86")
    disk, run = tmp_path / "disk", tmp_path / "run"
    run.mkdir()
    disk.write_bytes(BOOT_SECTOR.ljust(1 << 20, b"\0"))
    done = subprocess.run([DRIVER, "run", QEMU_PARENT, run, "-", "-", "-", f"disk={disk}"], capture_output=True,
                          text=True, timeout=150)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the first disk speaks\n", "")
    words = subprocess.run([DRIVER, "words", run], capture_output=True, text=True, check=True).stdout
    assert words.endswith("the first disk speaks\n")


def test_brume_vmm_takes_its_command_line(tmp_path):
    """It gets as far as the kernel, which is none."""
    if not os.path.exists("/dev/kvm") or not (BUILD / "brume-vmm").exists():
        pytest.skip("needs /dev/kvm and brume-vmm")
    for name, size in (("disk", 1 << 20), ("kernel", 9000), ("initrd", 1000)):
        (tmp_path / name).write_bytes(b"x" * size)
    run = tmp_path / "run"
    run.mkdir()
    done = subprocess.run([DRIVER, "run", BUILD / "brume-vmm", run, tmp_path / "kernel", tmp_path / "initrd", "quiet",
                           "vmm", "input", f"disk={tmp_path / 'disk'}"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    told = subprocess.run([DRIVER, "exit-code", run], capture_output=True, text=True)
    assert told.returncode == 1 and "the machine could not run: " in told.stderr and "kernel" in told.stderr


def test_usage():
    for words in ([], ["--run-dir"], ["--run-dir", "/tmp"], ["--run-dir", "/tmp", "--", "relative"],
                  ["--run-dir", "/tmp", "--kernel", "7", "--", "/bin/true"], ["--unknown"]):
        done = subprocess.run([QEMU_PARENT, *words], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, words
    done = subprocess.run([QEMU_PARENT, "--run-dir", "/nonexistent", "--", "/bin/true"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "/nonexistent" in done.stderr
