"""brume-init, booted: a machine started by hand, and everything that the guest channel offers."""
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import time

import pytest
from guest_machine import Channel, Machine, config, initramfs
from vm_kernel import need_kernel

BUILD = os.environ.get("BRUME_BUILD", "build")
# tools/build_minimal_kernel makes it.
MINIMAL = pathlib.Path(BUILD) / "brume-minimal-vmlinux"

pytestmark = pytest.mark.slow
APPLETS = ("sh cat echo ls id ps mount ip env sleep pwd hostname stty head wc kill touch mkdir "
           "dd sync seq trap test true tty").split()
NETWORK = [{"mac": "02:00:00:00:00:01", "addresses": ["10.0.2.15/24", "fd00::2/64"],
            "gateways": ["10.0.2.2"], "mtu": 1400}]


@pytest.fixture(scope="module", params=["Debian's"] + ["minimal"] * MINIMAL.exists())
def base(request, tmp_path_factory):
    """(initramfs, path of the image's disk)"""
    for program in ("qemu-system-x86_64", "mkfs.erofs", "mke2fs"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    where = tmp_path_factory.mktemp("guest")
    folder = need_kernel()
    root = where / "root"
    for name in ("bin", "etc", "data"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nwww:x:33:\nextra:x:44:www\n")
    (root / "etc/hosts").write_text("of the image\n")
    (root / "data/file").write_text("from the image\n")
    subprocess.run(["mkfs.erofs", where / "image.img", root], check=True, capture_output=True)
    if request.param == "minimal":
        shutil.copy(MINIMAL, where / "vmlinuz")
        return initramfs(f"{BUILD}/brume-init"), str(where / "image.img")
    source = [f for f in os.listdir(f"{folder}/boot") if f.startswith("vmlinuz")][0]
    shutil.copy(f"{folder}/boot/{source}", where / "vmlinuz")
    return initramfs(f"{BUILD}/brume-init", folder), str(where / "image.img")


@pytest.fixture
def start(base, tmp_path):
    machines = []

    def begin(guest, name="m", **options):
        machines.append(Machine(tmp_path / name, *base, guest, **options))
        return machines[-1]

    yield begin
    for machine in machines:
        machine.stop()


def tar_of(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size, info.mtime, info.mode = len(data), 1234567890.25, 0o640
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_guest_boot_command_and_disk(start, tmp_path):
    """What the command sees, what it leaves on its disk, and how it ends, in two boots."""
    script = """
    echo "pid $$ $(id -u):$(id -g):$(id -G) $HOME $(pwd) $(hostname)"
    cat /etc/resolv.conf /etc/hosts /data/file /proc/sys/net/core/somaxconn
    cat /sys/fs/cgroup/instance/pids.max
    ip addr show eth0; ip route; mount
    read line; echo "got $line"; cat >/tmp/rest; wc -c </tmp/rest
    echo kept >/data/new; echo to-err >&2; seq 1 40000; exit 7
    """
    guest = config(args=["/bin/sh", "-c", script], user="www", cwd="/made/for/it", input=True,
                   network=NETWORK, nameservers=["10.0.2.3"], search=["a.b", "c.d"],
                   hosts="127.0.0.1 localhost\n", sysctls={"net.core.somaxconn": "77"},
                   tmpfs=[{"target": "/tmp", "size_bytes": 1 << 20, "options": "noexec"},
                          {"target": "/data2", "mode": 0o700}],
                   pids_max=50, time_ms=int(time.time() * 1000))
    guest["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    guest["user"] = "0"
    machine = start(guest)
    stdin = machine.connect("in")
    stdin.sendall(b"a line\n" + b"x" * 100000)
    machine.finish(stdin)
    assert machine.wait() == "exit 7\n", machine.words()
    out = machine.read("out")
    assert out.startswith("pid 1 0:0:0 /root /made/for/it guest\n"), machine.words()
    for text in ("search a.b c.d\nnameserver 10.0.2.3\n127.0.0.1 localhost\nfrom the image\n77\n50\n",
                 "mtu 1400", "inet 10.0.2.15/24 brd 10.0.2.255", "inet6 fd00::2/64",
                 "default via 10.0.2.2 dev eth0", "got a line\n100000\n1\n2\n", "\n40000\n"):
        assert text in out, (text, machine.words())
    assert "tmpfs on /tmp type tmpfs (rw,noexec" in out
    assert machine.read("err") == "to-err\n"
    check = subprocess.run(["e2fsck", "-fn", machine.disk], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout

    # The second boot finds what the first one wrote; read-only, another user, a missing program.
    again = start(config(args=["/bin/sh", "-c", "cat /data/new; echo no >/data/x; id; exec nothing"],
                         user="www:extra", read_only=True, reap=True), name="again",
                  disk=machine.disk)
    assert again.wait() == "exit 127\n", again.words()
    assert again.read("out") == "kept\nuid=33(www) gid=44(extra)\n"
    assert "Read-only file system" in again.read("err") or "can't create" in again.read("err")


def test_guest_boot_channel(start):
    """exec, files, top, stats, signals and the end, over the port that QEMU offers."""
    script = "trap 'echo term; [ $n ] && exit 3; n=1' TERM; trap 'echo usr1' USR1; echo ready; " \
             "while true; do sleep 1000 & wait $!; done"
    machine = start(config(args=["/bin/sh", "-c", script], env=["PATH=/bin", "COLOUR=blue"],
                           stop_signal="TERM"))
    channel = Channel(machine.connect(), timeout=90)
    assert channel.hello["protocol"] == 1 and channel.hello["state"] in ("booting", "running")
    if channel.hello["state"] != "running":
        channel.wait_status("running")

    close, out, err = channel.run("sh", "-c", "echo $COLOUR $X; id -u; pwd; echo oops >&2; exit 5",
                                  env={"X": "y"}, workdir="/data", user="www")
    assert (close, out, err) == ({"exit_code": 5}, b"blue y\n33\n/data\n", b"oops\n")
    # Far more than the credit, there and back.
    big = os.urandom(100000) * 12
    close, out, _ = channel.run("cat", data=big[:200000])
    assert close == {"exit_code": 0} and out == big[:200000]
    close, out, _ = channel.run("dd", "if=/dev/zero", "bs=1000", "count=3000")
    assert close == {"exit_code": 0} and len(out) == 3000000
    close, _, _ = channel.run("no-such-program")
    assert close["exit_code"] == 127 and "not found" in close["error"]["message"]
    close, _, _ = channel.run("/data/file")
    assert close["exit_code"] == 126
    close, _, _ = channel.run("true", user="nobody-here")
    assert "nobody-here" in close["error"]["message"]

    number = channel.open("exec", command=["sh"], tty=True, width=91, height=33)
    channel.data(number, b"stty size; tty; exit 4\n")
    close, out, _ = channel.collect(number)
    assert close == {"exit_code": 4} and b"33 91" in out and b"/dev/pts/" in out
    number = channel.open("exec", command=["sleep", "1000"])
    channel.control(number, signal="INT")
    assert channel.collect(number)[0] == {"exit_code": 130}

    # Files: a folder in, with a long name, and out again.
    long = "d" * 120
    number = channel.open("files", action="put", path="/data")
    channel.data(number, tar_of(**{f"in__{long}": b"x" * 700000, "in__small": b"s"}))
    channel.control(number, eof=True)
    assert channel.collect(number)[0] == {"exit_code": 0}
    close, out, _ = channel.collect(channel.open("files", action="get", path="/data/in"))
    assert close == {"exit_code": 0}
    line, _, tar = out.partition(b"\n")
    assert json.loads(line)["type"] == "folder"
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        assert files.getnames() == ["in", f"in/{long}", "in/small"]
        member = files.getmember(f"in/{long}")
        assert member.mtime == 1234567890.25 and member.mode == 0o640 and member.uid == 0
        assert files.extractfile(member).read() == b"x" * 700000
    close, out, _ = channel.collect(channel.open("files", action="stat", path="/bin/cat"))
    assert json.loads(out)["link_target"] == "busybox"
    for path, words in (("/missing", "No such file"), ("/proc/version", "made by the kernel")):
        close, _, _ = channel.collect(channel.open("files", action="get", path=path))
        assert words in close["error"]["message"]
    number = channel.open("files", action="put", path="/data")
    channel.data(number, tar_of(**{"..__up": b"x"}))
    channel.control(number, eof=True)
    assert "leads out" in channel.collect(number)[0]["error"]["message"]

    close, out, _ = channel.collect(channel.open("top"))
    top = json.loads(out)
    assert top["processes"][0]["pid"] == 1 and "trap" in top["processes"][0]["command"]
    close, out, _ = channel.collect(channel.open("stats", once=True))
    stats = json.loads(out)
    assert 150 << 20 < stats["memory"]["total_bytes"] < 256 << 20 and stats["processes"] > 1
    close, _, _ = channel.collect(channel.open("what"))
    assert "kind" in close["error"]["message"]

    # Somebody else connects afterwards; what was open is gone.
    channel.open("exec", command=["sleep", "2000"])
    channel.sock.close()
    channel = Channel(machine.connect(), timeout=90)
    assert channel.hello["state"] == "running" and channel.hello["pid"] > 1
    close, out, _ = channel.collect(channel.open("top"))
    assert "2000" not in out.decode()
    # What is no frame ends the connection: the guest says so, and waits for a hello.
    channel.sock.sendall(b"\xff" * 64)
    kind, number, said = channel.frame()
    while kind != 1:
        kind, number, said = channel.frame()
    assert number == said["connection"] == 0
    channel.greet()

    assert channel.collect(channel.open("signal", signal="USR1"))[0] == {"exit_code": 0}
    machine.wait_out("usr1\n")
    # The power button asks the command to end; this one does when it is asked twice.
    machine.press_button()
    machine.wait_out("term\n")
    assert channel.collect(channel.open("shutdown", action="poweroff", grace_ms=20000))[0] == \
        {"exit_code": 0}
    assert channel.wait_status("ending")["exit_code"] == 3
    assert machine.wait() == "exit 3\n", machine.words()
    assert machine.read("out") == "ready\nusr1\nterm\nterm\n"


def test_guest_boot_fails_with_words(start):
    guest = config(args=["/bin/true"])
    guest["root"]["lower"] = "other"
    machine = start(guest)
    status = machine.wait()
    assert status == "error there is no disk with the serial number other\n", machine.words()
