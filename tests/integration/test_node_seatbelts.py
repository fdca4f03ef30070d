"""An instance's default profile: at least as strict as the field's, and nothing of the host in sight."""
import json
import os
import pathlib
import re
import stat
import struct
import subprocess
import sys

import images
import pytest
from conftest import build_folder, need
from oci_bundle import MASKED, READONLY, SECCOMP_SOURCE, seccomp_profile

# What the field's masks cover beyond those that an old profile has (moby, containers-common).
MASKED_SINCE = ["/proc/interrupts", "/sys/devices/virtual/powercap", "/sys/dev/block",
                "/sys/fs/selinux"]
# System calls that we allow and the field's profile of this machine does not, and why.
MORE = {"futex_waitv": "waits on what futex() waits on; only newer than that list"}
CAPS = ["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
        "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID",
        "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"]


@pytest.fixture(scope="module")
def boxed(shared_node):
    """An instance with the hostile program in it, and its config.json."""
    need("tests/hostile")
    node = shared_node
    layer = images.Layer()
    layer.file("bin/hostile", (build_folder() / "tests/hostile").read_bytes(), mode=0o755)
    image = images.Image([images.busybox_layer(images.BUSYBOX), layer],
                         {"Cmd": ["sleep", "2147483647"], "Env": [images.PATH_ENV]})
    reference = node.registry.push(image, "hostile:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "box")

    def inside(*words, code=0):
        return node.cli("exec", "box", "--", *words, code=code).stdout
    uid = node.instance("box")["meta"]["uid"]
    found = [path for folder in (node.run_folder, node.state)
             for path in pathlib.Path(folder).glob(f"**/{uid}/**/config.json")]
    inside.config = json.loads(found[0].read_text())
    inside.node, inside.reference, inside.uid = node, reference, uid
    inside.pid = node.instance("box")["status"]["pid"]
    yield inside
    node.check_clean()


# ---- the profile, compared ----

def answers(profile):
    """{system call: list of conditions under which it is allowed}, [] for always."""
    allowed = {}
    for rule in profile["syscalls"]:
        for name in rule["names"]:
            if rule["action"] == "SCMP_ACT_ALLOW":
                args = [(arg["index"], arg["value"], arg.get("valueTwo", 0), arg["op"])
                        for arg in rule.get("args") or []]
                allowed.setdefault(name, []).append(args)
    return allowed


def passes(conditions, values):
    """Whether one of the rules lets these arguments pass."""
    def holds(index, one, two, op):
        value = values[index]
        return {"SCMP_CMP_EQ": value == one, "SCMP_CMP_NE": value != one,
                "SCMP_CMP_LT": value < one, "SCMP_CMP_LE": value <= one,
                "SCMP_CMP_GT": value > one, "SCMP_CMP_GE": value >= one,
                "SCMP_CMP_MASKED_EQ": value & one == two}[op]
    return any(all(holds(*arg) for arg in rule) for rule in conditions)


@pytest.mark.skipif(not pathlib.Path(SECCOMP_SOURCE).exists(), reason="no profile of the field here")
def test_no_system_call_more_than_the_field(boxed):
    ours = boxed.config["linux"]["seccomp"]
    theirs = seccomp_profile(CAPS)
    assert ours["defaultAction"] == theirs["defaultAction"] == "SCMP_ACT_ERRNO"
    assert set(ours["architectures"]) <= set(theirs["architectures"])
    mine, field = answers(ours), answers(theirs)
    more = {name for name in mine if name not in field}
    assert more == set(MORE), f"allowed here and not there: {more ^ set(MORE)}"
    # Where both allow it: with no arguments that the field refuses.
    samples = [[a, b, c, 0, 0, 0] for a in (*range(64), 1 << 10, 0x20000, 0x20008, 0x40000, 1 << 28,
                                            0x7e020000, 0xffffffff, 1 << 32 | 40, (1 << 64) - 1)
               for b in (0, 1, 3) for c in (0, 9, 16)]
    for name, rules in mine.items():
        if name in MORE or rules == field[name]:
            continue
        for values in samples:
            assert not passes(rules, values) or passes(field[name], values), (name, values)


def test_arguments_that_are_refused(boxed):
    """Newer versions of the field's list refuse these; not all of Debian 12's do."""
    mine = answers(boxed.config["linux"]["seccomp"])
    new_user = 0x10000000
    assert not passes(mine["clone"], [new_user | 17, 0, 0, 0, 0, 0])
    assert passes(mine["clone"], [0x3d0f00, 0, 0, 0, 0, 0])
    for family in (38, 40, 1 << 32 | 40, 31, 15):
        assert not passes(mine["socket"], [family, 1, 0, 0, 0, 0]), family
    for family in (1, 2, 10, 16, 17):
        assert passes(mine["socket"], [family, 1, 0, 0, 0, 0]), family
    assert not passes(mine["personality"], [0x40000, 0, 0, 0, 0, 0])


def test_no_capability_more_than_the_field(boxed):
    process = boxed.config["process"]
    assert set(process["capabilities"]["bounding"]) <= set(CAPS)
    assert not process["capabilities"].get("inheritable")
    assert not process["capabilities"].get("ambient")
    assert process["noNewPrivileges"] is True


def test_as_much_is_masked_as_in_the_field(boxed):
    linux = boxed.config["linux"]
    throttles = [str(path) for path in pathlib.Path("/sys/devices/system/cpu").glob(
        "cpu[0-9]*/thermal_throttle")]
    assert {*MASKED, *MASKED_SINCE, *throttles} <= set(linux["maskedPaths"])
    assert set(READONLY) <= set(linux["readonlyPaths"])
    kinds = {one["type"] for one in linux["namespaces"] if "path" not in one}
    assert kinds == {"user", "pid", "network", "ipc", "uts", "mount", "cgroup", "time"}


# ---- what the kernel answers ----

def test_system_calls_are_refused(boxed):
    lines = dict(line.rsplit(": ", 1) for line in boxed("hostile", "calls").splitlines())
    assert len(lines) > 30
    assert {name for name, answer in lines.items() if answer not in ("EPERM", "ENOSYS")} == set()
    assert lines["clone3"] == lines["socket AF_VSOCK"] == "ENOSYS"


def test_what_is_masked_cannot_be_read(boxed):
    for path in boxed.config["linux"]["maskedPaths"]:
        out = boxed("sh", "-c", f"cat {path} 2>/dev/null; ls -A {path} 2>/dev/null; true")
        assert out in ("", f"{path}\n"), path
    # Not for want of the right to: nobody may write there, whatever it is.
    for path in READONLY:
        out = boxed("sh", "-c", f"[ ! -e {path} ] && echo Read-only || touch {path} 2>&1; true")
        assert "Read-only" in out, (path, out)


@pytest.mark.parametrize("node", ["c 1 1", "c 1 2", "c 1 4", "c 1 11", "c 10 229", "c 10 200", "b 7 0",
                                  "b 254 0", "b 8 0", "c 4 0", "c 10 232", "c 240 0"])
def test_devices_are_denied(boxed, node):
    """mem, kmem, port, kmsg, fuse, tun, disks, consoles, kvm: neither made nor used."""
    done = boxed.node.cli("exec", "box", "--", "sh", "-c",
                          f"mknod /tmp/d {node} && head -c 1 /tmp/d", code=None)
    assert done.returncode != 0, node


ALLOWED_DEVICES = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2"]
DENIED_DEVICES = ["1:1", "1:2", "1:4", "1:11", "4:0", "10:229", "10:200", "10:232", "240:0"]

# Enters a control group and says for each device whether it may be opened; EPERM is the group's word,
# anything else (no such device) the device's own.
OPENER = """
import os, sys
group, folder = sys.argv[1:3]
with open(group + "/cgroup.procs", "w") as file:
    file.write("0")
for name in sys.argv[3:]:
    try:
        os.close(os.open(f"{folder}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
    except PermissionError:
        print(name)
    except OSError:
        pass
"""


def test_devices_in_a_privileged_place(boxed, scratch):
    """The group denies them too, should a node come from somewhere: asked of the kernel directly."""
    groups = (pathlib.Path("/proc") / str(boxed.pid) / "cgroup").read_text()
    v1 = re.search(r"^\d+:devices:(.*)$", groups, re.M)
    if v1:
        allowed = (pathlib.Path("/sys/fs/cgroup/devices") / v1.group(1)[1:] /
                   "devices.list").read_text().splitlines()
        assert set(allowed) == {"c *:* m", "b *:* m", "c 136:* rwm", *(
            f"c {number} rwm" for number in ALLOWED_DEVICES)}
        return
    group = "/sys/fs/cgroup" + re.search(r"^0::(.*)$", groups, re.M).group(1)
    names = ALLOWED_DEVICES + DENIED_DEVICES + ["b7:0", "b8:0", "b254:0"]
    for name in names:
        kind, numbers = (stat.S_IFBLK, name[1:]) if name[0] == "b" else (stat.S_IFCHR, name)
        os.mknod(scratch / name, kind | 0o600, os.makedev(*map(int, numbers.split(":"))))
    done = subprocess.run([sys.executable, "-c", OPENER, group, str(scratch), *names], text=True,
                          check=True, stdout=subprocess.PIPE)
    assert done.stdout.split() == [name for name in names if name not in ALLOWED_DEVICES]


# ---- what is seen of the host ----

ALLOWED_SOURCES = ("overlay", "proc", "tmpfs", "devpts", "shm", "mqueue", "sysfs", "cgroup",
                   "cgroup2", "udev", "devtmpfs", "none")


def host_words(node):
    """Names that only the host knows."""
    return [str(node.state), str(node.run_folder), str(build_folder()), "/home/"]


def test_no_path_of_the_host_in_mountinfo(boxed):
    """The files of names and the devices come from the host, each as one file and nothing else."""
    own = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}
    for line in boxed("cat", "/proc/1/mountinfo").splitlines():
        left, right = line.split(" - ")
        root, place = left.split()[3:5]
        if place in own:
            assert root.endswith(f"/{boxed.uid}{place[4:]}"), line
        elif place.startswith("/dev/") and root != "/":
            assert root == place[4:], line
        elif not place.startswith("/sys/fs/cgroup"):
            assert root in ("/", "/null") or place.startswith(("/proc/", "/sys/")), line
        assert right.split()[1] in ALLOWED_SOURCES or place in own or place.startswith("/dev/"), line
        if place not in own:
            for word in host_words(boxed.node):
                assert word not in line, line


def test_no_path_of_the_host_elsewhere(boxed):
    script = ("for p in /proc/1 /proc/self; do for f in environ cmdline maps mounts mountstats status "
              "cgroup comm limits; do cat $p/$f; done; readlink $p/exe $p/cwd $p/root; "
              "for f in $p/fd/*; do readlink $f; done; done | tr '\\0' '\\n'; env; cat /proc/mounts")
    out = boxed("sh", "-c", script + "; true")
    # Its output's pipes have names on the host, which the kernel tells who holds them.
    stdio = re.compile(re.escape(f"{boxed.node.run_folder}/fifo/") + r"[\w-]+\.(in|out|err)")
    for word in host_words(boxed.node):
        places = [line for line in out.splitlines() if word in line]
        assert all(" /etc/" in line or stdio.fullmatch(line) for line in places), places
    assert "/../" not in re.sub(r"(?m)^\d+:.*$", "", out)


def test_descriptors_of_init(boxed):
    links = boxed("sh", "-c", "for f in /proc/1/fd/*; do readlink $f; done").split()
    assert len(links) == 3 and all(link.startswith(("pipe:", "/dev/", "/")) for link in links)
    for word in ("cgroup", "socket:", "anon_inode"):
        assert not any(word in link for link in links), links


def test_environment_and_auxiliary_vector(boxed):
    names = {line.split("=")[0] for line in boxed("sh", "-c", "tr '\\0' '\\n' < /proc/1/environ"
                                                  ).splitlines()}
    assert names <= {"PATH", "HOSTNAME", "HOME", "TERM", ""}, names
    raw = bytes.fromhex(boxed("sh", "-c", "od -An -v -tx1 /proc/1/auxv").replace("\n", " "))
    vector = dict(struct.iter_unpack("QQ", raw))
    assert vector[11] == vector[12] == 0 and vector[23] == 0  # AT_UID, AT_EUID, AT_SECURE


def test_two_instances_share_nothing(boxed):
    boxed.node.launch(boxed.reference, "second")
    other = boxed.node.instance("second")["status"]["pid"]
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"):
        assert os.readlink(f"/proc/{other}/ns/{kind}") != os.readlink(f"/proc/{boxed.pid}/ns/{kind}")
    maps = [pathlib.Path(f"/proc/{pid}/uid_map").read_text().split() for pid in (boxed.pid, other)]
    (one, two) = sorted((int(where), int(size)) for _, where, size in maps)
    assert one[0] + one[1] <= two[0], maps
    boxed.node.cli("delete", "--force", "second")
