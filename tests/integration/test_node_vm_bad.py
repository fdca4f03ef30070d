"""Virtual machines that go wrong, from the command line: each is one clear line, and nothing is left."""
import pathlib
import re
import shutil
import struct
import tempfile

import images
import pytest
from conftest import make_node, need, with_registry

pytestmark = pytest.mark.slow
BOOT = 240
STUCK_SECONDS = 3


def elf(words, note=True, end="faf4ebfd"):
    """A kernel that says something on the serial line and stands still (cli, hlt, again), or ends otherwise."""
    message = b"Linux version 9.9-stuck " + words.encode() + b"\r\n\0"
    base, offset = 0x100000, 0x1000
    code = (b"\xbe" + struct.pack("<I", base + 24) + bytes.fromhex("66baf803ac84c07403eeebf8" + end)).ljust(24, b"\x90")
    notes = struct.pack("<III4sQ", 4, 8, 18, b"Xen\0", base)
    segments = [(1, 5, offset, base, len(code + message)), (4, 4, 0x800, 0, len(notes))][:2 if note else 1]
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, base, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    for kind, flags, at, address, size in segments:
        header += struct.pack("<IIQQQQQQ", kind, flags, at, address, address, size, size, 4)
    return (header.ljust(0x800, b"\0") + notes).ljust(offset, b"\0") + code + message


@pytest.fixture(scope="module")
def bad(build):
    """A node with little patience: (node, reference of busybox)."""
    need("qemu-system-x86_64", "mke2fs")
    where = pathlib.Path(tempfile.mkdtemp(prefix="brume-test-", dir="/var/tmp"))
    where.chmod(0o711)
    node = make_node(build, where / "node", args=["--boot-timeout", str(STUCK_SECONDS)])
    try:
        node.start()
        with_registry(node, where / "registry")
        reference = node.registry.push(images.busybox(), "busybox:1")
        node.cli("image", "pull", "--insecure", reference)
        for name, data in (("stuck", elf("I am stuck")), ("noteless", elf("", note=False)),
                           ("faulty", elf("I fault", end="0f0b"))):
            (where / name).write_bytes(data)
            node.cli("kernel", "import", "--name", name, where / name)
        yield node, reference
    finally:
        node.close()
        shutil.rmtree(where, ignore_errors=True)


def fails(node, *words, code=1):
    """The one line that `brume launch` ends with."""
    done = node.cli("launch", "--vm", *words, code=code, timeout=BOOT)
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert node.api("GET", "/1.0/instances/no", raw=True)[0] == 404
    return lines[0]


def test_a_guest_that_never_boots(bad):
    node, reference = bad
    line = fails(node, "--kernel", "stuck", reference, "no")
    assert f"has not started its command within {STUCK_SECONDS} seconds; its console said last: " in line
    assert line.endswith("I am stuck")
    node.check_clean()


def test_a_guest_that_crashes_before_it_has_booted(bad):
    node, reference = bad
    line = fails(node, "--restart", "always", "--kernel", "faulty", reference, "no")
    assert "the guest has reset the machine; its console said last: " in line and line.endswith("I fault")
    node.check_clean()


def test_a_kernel_that_cannot_be_booted(bad):
    node, reference = bad
    line = fails(node, "--kernel", "noteless", reference, "no")
    assert "PVH" in line
    node.check_clean()
    assert node.json("kernel", "list")[-1]["version"] == "9.9-stuck"


def test_a_kernel_that_is_none(bad, tmp_path):
    node, _ = bad
    (tmp_path / "text").write_text("no kernel\n" * 200)
    (tmp_path / "x.deb").write_bytes(b"!<arch>\nnothing")
    for name, words in (("text", "not a Linux kernel"), ("x.deb", "package"), ("", "is not a file")):
        done = node.cli("kernel", "import", tmp_path / name, code=1)
        lines = done.stderr.strip().splitlines()
        assert words in lines[0] and (len(lines) == 1 or lines[1].startswith("hint: ") and "log of brumed" not in lines[1]), done.stderr
    assert len(node.json("kernel", "list")) == 3


def test_more_memory_than_there_is(bad):
    node, reference = bad
    total = next(int(line.split()[1]) >> 10 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    line = fails(node, "--kernel", "stuck", "-m", f"{total + 1024}M", reference, "no")
    assert re.search(r"memory: \d+ MiB are more than the node has \(\d+ MiB\)", line), line
    node.check_clean()


def test_a_node_without_room_for_a_disk(bad, tmp_path):
    """The state folder's file system is full, then read-only."""
    node, reference = bad
    place = node.state / "instances"
    node.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", place])
    try:
        line = fails(node, "--kernel", "stuck", reference, "no")
        assert "No space left" in line, line
        node.run(["mount", "-o", "remount,ro", place])
        assert "Read-only file system" in fails(node, "--kernel", "stuck", reference, "no")
    finally:
        node.run(["umount", place])
    node.check_clean()
