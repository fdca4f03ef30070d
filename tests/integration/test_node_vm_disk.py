"""Disk images: imported, listed, booted by firmware as virtual machines, told by cloud-init's seed."""
import contextlib
import hashlib
import json
import os
import re
import struct
import subprocess
import urllib.request

import disk_image
import images
import node as node_module
import pytest
from conftest import need
from node import eventually

pytestmark = pytest.mark.slow
BOOT = 240
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake you@here"
USER_DATA = """#!/bin/sh
echo 'said by user data: "ok"' >> /www/index.html
(while :; do ls /sys/class/net > /www/next; mv /www/next /www/interfaces; sleep 0.3; done) &
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    need("qemu-system-x86_64", "qemu-img", "syslinux", "mformat")
    folder = tmp_path_factory.mktemp("disk")
    raw = disk_image.make(folder)
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", raw, folder / "small.qcow2"], check=True)
    (folder / "key.pub").write_text(f"# mine\n{KEY}\n")
    (folder / "setup").write_text(USER_DATA)
    return folder


@pytest.fixture(scope="module")
def disks(shared_node, disk):
    """A node with the image `small`, a qcow2."""
    shared_node.cli("image", "import", disk / "small.qcow2")
    yield shared_node
    shared_node.check_clean()


@pytest.fixture(scope="module")
def web(disks, disk):
    disks.cli("launch", "--vm", "small", "web", "-p", "8080:80", "-m", "256M", "--disk", "1G",
              "--user-data", disk / "setup", "--ssh-key", disk / "key.pub", "--stop-timeout", "120")
    return disks


def page(url=f"http://{node_module.NODE4}:8080/", timeout=BOOT):
    def attempt():
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
        return None
    return eventually(attempt, timeout, f"a page from {url}")


# -- images --------------------------------------------------------------------------------------

def test_what_people_see_of_it(disks, disk):
    assert re.search(r"^small +ready +disk +\w+ +linux/amd64 ", disks.out("image", "list"), re.M)
    text = disks.out("image", "info", "small")
    assert re.search(r"^type +disk$", text, re.M) and re.search(r"^format +qcow2$", text, re.M)
    assert re.search(r"^virtual size +40(\.0)? ?MiB", text, re.M), text
    status = disks.json("image", "info", "small")["status"]
    assert status["disk"] == {"format": "qcow2", "virtual_bytes": disk_image.SIZE}
    data = (disk / "small.qcow2").read_bytes()
    assert status["layers"][0]["digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (disks.state / "images/blobs/sha256" / hashlib.sha256(data).hexdigest()).read_bytes() == data


def test_it_leaves_as_it_came(disks, disk, tmp_path):
    disks.cli("image", "export", "small", tmp_path / "out.qcow2")
    assert (tmp_path / "out.qcow2").read_bytes() == (disk / "small.qcow2").read_bytes()


def test_a_raw_disk(disks, disk):
    """Found by its boot sector, or because it is said; what is zero takes no place."""
    disks.cli("image", "import", disk / "small.raw", "rawdisk")
    assert disks.json("image", "info", "rawdisk")["status"]["disk"] == {
        "format": "raw", "virtual_bytes": disk_image.SIZE}
    digest = disks.json("image", "info", "rawdisk")["status"]["layers"][0]["digest"].split(":")[1]
    blob = disks.state / "images/blobs/sha256" / digest
    assert blob.stat().st_blocks * 512 < disk_image.SIZE * 3 // 4
    disks.cli("image", "delete", "rawdisk")
    eventually(lambda: not blob.exists(), 10, "the blob is collected")
    data = disk / "data"
    data.write_bytes(b"no boot sector".ljust(1 << 20, b"\0"))
    assert "neither a tar archive" in disks.cli("image", "import", data, "nothing", code=1).stderr
    disks.cli("image", "import", "--format", "raw", "--platform", "linux/arm64", data, "plain")
    status = disks.json("image", "info", "plain")["status"]
    assert status["disk"]["format"] == "raw" and status["architecture"] == "arm64"
    disks.cli("image", "delete", "plain")


def broken(data, at, value, size=4):
    return data[:at] + value.to_bytes(size, "big") + data[at + size:]


def test_hostile_images(disks, disk, tmp_path):
    data = (disk / "small.qcow2").read_bytes()
    backing = tmp_path / "backing.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", backing, "1M"],
                   check=True)
    outside = tmp_path / "outside.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'data'}", outside, "1M"],
                   check=True)
    cases = {
        "its backing file": backing.read_bytes(),
        "data in another file": outside.read_bytes(),
        "is encrypted": broken(data, 32, 2),
        "tables are too large": broken(data, 36, 0x7fffffff),
        "lie outside of it": broken(data, 40, 1 << 40, 8),
        "is cut off": data[:70000],
        "64 TiB": broken(data, 24, 1 << 60, 8),
        "VMDK image": b"KDMV".ljust(4096, b"\0"),
        "sectors of 512": (b"\0" * 510 + b"\x55\xaa").ljust(1000, b"\0"),
    }
    for number, (words, content) in enumerate(cases.items()):
        path = tmp_path / "hostile"
        path.write_bytes(content)
        done = disks.cli("image", "import", path, f"hostile{number}", code=1)
        assert words in done.stderr and done.stderr.count("\n") <= 2, (words, done.stderr)


def test_what_does_not_go_with_it(disks, disk):
    reference = disks.registry.push(images.busybox(), "busybox:1")
    disks.cli("image", "pull", "--insecure", reference)
    cases = (
        (["small", "x"], "add --vm"),
        (["--vm", "small", "x", "--", "sh"], "command: image small is a disk"),
        (["--vm", "small", "x", "-e", "A=b"], "env: image small is a disk"),
        (["--vm", "--tmpfs", "/x", "small", "x"], "mounts: image small is a disk"),
        (["--vm", "-t", "small", "x"], "tty: image small is a disk"),
        (["--vm", "--user-data", disk / "setup", reference, "x"], "user_data: only goes with"),
        (["--vm", "--ssh-key", disk / "key.pub", reference, "x"], "ssh_keys: only goes with"),
        (["--user-data", disk / "setup", "small", "x"], "--user-data: only goes with type"),
        (["--vm", "--ssh-key", disk / "setup", "small", "x"], "no public key"),
    )
    for words, text in cases:
        done = disks.cli("launch", *words, code=None)
        assert done.returncode in (1, 2) and text in done.stderr, (words, done.stderr)
        assert disks.api("GET", "/1.0/instances/x", raw=True)[0] == 404
    done = disks.cli("launch", "--vm", "--disk", "64M", "small", "little", "--no-start")
    disks.cli("delete", "little")
    done = disks.cli("launch", "--vm", "--disk", "64M", "--memory", "256M", "--rm", "small", "ok", "--no-start")
    disks.cli("delete", "ok")


# -- a machine -----------------------------------------------------------------------------------

def test_it_serves_what_it_was_told(web):
    text = page()
    uid = web.json("info", "web")["meta"]["uid"]
    assert "host web\n" in text and f"instance {uid}\n" in text and "boots 1\n" in text
    assert f"key {KEY}\n" in text and f"bytes {1 << 30}\n" in text and "firmware bios\n" in text
    assert 'said by user data: "ok"\n' in text
    info = web.json("info", "web")
    assert info["status"]["machine"]["firmware"] == "bios" and info["status"]["machine"]["backend"] == "qemu"
    assert info["spec"]["ssh_keys"] == [KEY] and info["spec"]["user_data"] == USER_DATA
    assert re.search(r"^its firmware +bios$", web.out("info", "web"), re.M)


def test_its_console_is_its_log(web):
    page()
    log = web.cli("logs", "web").stdout
    assert "init runs\n" in log and "serves as web\n" in log and "\r\n" not in log


def test_its_networks_change(web):
    """It gets a card and lets go of it; what it does with one is its own matter."""
    def interfaces(wanted):
        eventually(lambda: page(f"http://{node_module.NODE4}:8080/interfaces").split() == wanted, 60, f"interfaces {wanted}")
    interfaces(["eth0", "lo"])
    web.cli("network", "create", "back", "--subnet", "10.73.0.0/24")
    web.cli("network", "attach", "back", "web", timeout=90)
    interfaces(["eth0", "eth1", "lo"])
    web.cli("network", "detach", "back", "web", timeout=90)
    interfaces(["eth0", "lo"])
    web.cli("network", "delete", "back")


def test_nobody_in_there_knows_us(web, tmp_path):
    page()
    (tmp_path / "file").write_text("x")
    for words in (["exec", "web", "--", "true"], ["cp", tmp_path / "file", "web:/tmp/"], ["top", "web"]):
        done = web.cli(*words, code=None)
        assert done.returncode != 0 and "no brume-init in this guest" in done.stderr, (words, done.stderr)
        assert "use ssh" in done.stderr
    done = web.cli("update", "--pids", "7", "web", code=1)
    assert "limits.pids: image small is a disk with a system of its own" in done.stderr
    usage = web.api("GET", "/1.0/instances/web/stats")
    assert usage["cpu"]["usage_ns"] > 0 and usage["memory"]["usage_bytes"] > 0


def test_agent_comes_back(web):
    page()
    before = web.json("info", "web")["status"]["pid"]
    web.kill("agentd")
    web.start_missing()
    web.wait_ready()
    info = web.wait_instance("web", lambda it: it["status"].get("state") == "running")
    assert info["status"]["pid"] == before
    assert "no brume-init" in web.cli("exec", "web", "--", "true", code=None).stderr


def test_stop_is_the_power_button(web):
    page()
    web.cli("stop", "web", timeout=150)
    status = web.json("info", "web")["status"]
    assert status["state"] == "stopped" and status["exit_code"] == 0 and not status.get("error")
    assert "power button\n" in web.cli("logs", "web").stdout
    web.cli("start", "web")
    text = page()
    assert "boots 2\n" in text, "the disk was kept"


def test_it_turns_itself_off(disks, disk, tmp_path):
    """The end of a system of its own is no crash; the disk goes with the instance."""
    (tmp_path / "off").write_text("#!/bin/sh\npoweroff -f\n")
    disks.cli("launch", "--vm", "small", "short", "-m", "256M", "--user-data", tmp_path / "off")
    it = disks.wait_state("short", "stopped", timeout=BOOT)
    assert it["status"]["exit_code"] == 0 and not it["status"].get("error")
    folder = disks.state / "instances" / it["meta"]["uid"]
    overlay = folder / "disk"
    told = json.loads(subprocess.run(["qemu-img", "info", "--output=json", overlay], check=True,
                                     capture_output=True).stdout)
    assert told["format"] == "qcow2" and told["virtual-size"] == 10 << 30 and "backing-filename" not in told
    assert struct.unpack(">Q", overlay.read_bytes()[8:16]) == (0,)
    disks.cli("delete", "short")
    assert not folder.exists()


def test_who_does_not_hear_is_killed(disks, disk, tmp_path):
    (tmp_path / "deaf").write_text("#!/bin/sh\ntouch /deaf\n")
    disks.cli("launch", "--vm", "small", "deaf", "-m", "256M", "--user-data", tmp_path / "deaf")
    eventually(lambda: "serves as deaf" in disks.cli("logs", "deaf").stdout, BOOT, "it serves")
    disks.cli("stop", "-t", "3", "deaf", timeout=60)
    status = disks.json("info", "deaf")["status"]
    assert status["state"] == "stopped" and status["exit_code"] == 137
    disks.cli("delete", "deaf")


def test_an_image_in_use_stays(web):
    assert "used by instance web" in web.cli("image", "delete", "small", code=1).stderr


# -- another architecture ------------------------------------------------------------------------

def test_arm64_is_emulated(disks, tmp_path):
    need("qemu-system-aarch64")
    if not os.path.exists("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"):
        pytest.skip("needs qemu-efi-aarch64")
    disks.cli("image", "import", "--platform", "linux/arm64", disk_image.make_arm64(tmp_path, "arm64 speaks"), "far")
    done = disks.cli("launch", "--vm", "far", "a", code=1)
    assert "is for arm64 and this node is not: --emulate runs it" in done.stderr
    disks.cli("launch", "--vm", "--emulate", "far", "b", "-m", "256M")
    it = disks.wait_state("b", "stopped", timeout=BOOT)
    assert it["status"]["exit_code"] == 0
    assert "arm64 speaks\n" in disks.cli("logs", "b").stdout
    disks.cli("delete", "b")
    disks.cli("image", "delete", "far")

