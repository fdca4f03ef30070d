"""brume-oci: attacks through the root file system; docs/design/0006-seatbelts.md numbers them."""
import os
import pathlib
import shutil
import stat
import subprocess

import kernel
import pytest
from conftest import build_folder, need

ROUNDS = 40


@pytest.fixture
def swapper(build):
    """Starts processes that exchange names for ever, one pair after the other."""
    need("tests/hostile")
    started = []

    def start(*names):
        started.append(subprocess.Popen([build_folder() / "tests/hostile", "swap", *names]))
        return started[-1]
    yield start
    for process in started:
        assert process.poll() is None, "the race was over before its end"
        process.kill()
        process.wait()


def mount(bundle, destination, source=None, *options, type_="bind"):
    bundle.config["mounts"].append({"destination": destination, "type": type_,
                                    "source": str(source or type_), "options": list(options)})


# ---- links where mounts go ----

@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/vol", "vol/sub", "/", "/proc/self/cwd"])
def test_proc_and_sys_must_be_folders(bundle, name, target):
    """M1, CVE-2019-19921, CVE-2023-27561: what is masked later would be something else."""
    (bundle.rootfs / "vol/sub").mkdir(parents=True)
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).symlink_to(target)
    done = bundle.run("true")
    assert done.returncode == 1 and f'"/{name}": must be a plain folder' in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_file_instead_of_a_folder(bundle, name):
    (bundle.rootfs / name).rmdir()
    (bundle.rootfs / name).write_text("x")
    done = bundle.run("true")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    (bundle.rootfs / name).unlink()
    os.mkfifo(bundle.rootfs / name)
    assert bundle.run("true", timeout=20).returncode == 1


@pytest.mark.parametrize("destination", ["/proc", "/proc/self/attr", "/proc/sys", "/link",
                                         "/proc/sys/kernel/core_pattern", "//proc/tty"])
@pytest.mark.parametrize("kind", ["bind", "tmpfs"])
def test_nothing_covers_proc(bundle, destination, kind):
    """M2, CVE-2019-16884, CVE-2025-52881: an image that declares a volume there."""
    (bundle.rootfs / "link").symlink_to("/proc/self")
    source = bundle.folder / "volume"
    source.mkdir()
    mount(bundle, destination, source if kind == "bind" else None,
          *(["bind"] if kind == "bind" else []), type_=kind)
    done = bundle.run("true")
    assert done.returncode == 1 and "which nothing may cover" in done.stderr, done.stderr


def test_numbers_of_lxcfs_may_be_shown(bundle):
    source = bundle.folder / "meminfo"
    source.write_text("MemTotal: 1 kB\n")
    mount(bundle, "/proc/meminfo", source, "bind", "ro")
    assert bundle.sh("cat /proc/meminfo") == "MemTotal: 1 kB\n"


def test_a_root_that_is_a_link_is_refused(bundle):
    """M3: a bundle whose rootfs leads to a folder of the host."""
    shutil.rmtree(bundle.rootfs)
    bundle.rootfs.symlink_to("/")
    done = bundle.run("true")
    assert done.returncode == 1 and "a symbolic link" in done.stderr, done.stderr


def test_masks_stay_where_proc_is(bundle, swapper):
    """M4: /proc of a shared root is exchanged while it is masked; what is mounted stays masked."""
    assert pathlib.Path("/proc/keys").read_text()
    (bundle.rootfs / "other/sys/net").mkdir(parents=True)
    script = ("for p in /proc /other /proc /other; do"
              " [ $(head -c 1 $p/keys 2>/dev/null | wc -c) = 0 ] || echo OPEN keys;"
              " (echo 1 > $p/sys/net/ipv4/ip_forward) 2>/dev/null && echo OPEN sys; done; true")
    # As long as the root is a folder of the host, its names can be exchanged from there.
    swapper(bundle.rootfs / "proc", bundle.rootfs / "other")
    for _ in range(ROUNDS):
        done = bundle.run("sh", "-c", script)
        assert "OPEN" not in done.stdout, done.stdout


# ---- races on places ----

def clear(fd):
    for name in os.listdir(fd):
        try:
            os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=fd)


@pytest.mark.parametrize("kind", ["tmpfs", "bind-file", "bind-folder", "created"])
def test_a_place_that_becomes_a_link(bundle, swapper, kind):
    """M5, CVE-2021-30465, CVE-2024-45310: a volume of two containers, its names exchanged."""
    outside, volume = bundle.folder / "outside", bundle.folder / "volume"
    # Deep, so that it takes a while to get there.
    deep = "/".join(["deep"] * 40)
    (outside / deep).mkdir(parents=True)
    (volume / "place" / deep).mkdir(parents=True)
    (volume / "link").symlink_to("../" * 12 + str(outside)[1:])
    (volume / "absolute").symlink_to(outside)
    source = bundle.folder / "source"
    source.mkdir()
    (source / "marker").write_text("x")
    mount(bundle, "/vol", volume, "bind")
    place = f"/vol/place/{deep}"
    if kind == "tmpfs":
        mount(bundle, place, type_="tmpfs")
    elif kind == "bind-file":
        mount(bundle, f"{place}/file", source / "marker", "bind")
    elif kind == "bind-folder":
        mount(bundle, f"{place}/folder", source, "bind")
    else:
        bundle.process["cwd"] = f"{place}/made"
    made = os.open(volume / "place" / deep, os.O_RDONLY)
    before = sorted(outside.rglob("*"))
    swapper(volume / "place", volume / "link")
    swapper(volume / "link", volume / "absolute")
    inside = 0
    for _ in range(ROUNDS):
        done = bundle.run("cat", "/proc/self/mountinfo")
        assert sorted(outside.rglob("*")) == before
        # What is mounted outside is in nobody's sight: the namespace it was made in is left.
        if done.returncode == 0 and kind == "tmpfs":
            assert any(line.split()[4].endswith("/deep") for line in done.stdout.splitlines())
        inside += done.returncode == 0
        clear(made)
    os.close(made)
    assert inside > 0, "no round came through"
    assert str(outside) not in pathlib.Path("/proc/self/mountinfo").read_text()


def test_devices_in_a_dev_that_moves(bundle, swapper):
    """M6: no /dev of its own, so nodes and links are made in the image's, which is exchanged."""
    outside = bundle.folder / "outside"
    outside.mkdir()
    before = sorted(os.listdir("/dev"))
    bundle.config["mounts"] = [one for one in bundle.config["mounts"]
                               if not one["destination"].startswith("/dev")]
    # Absolute: ".." ends at the new root, which lies over the old one, also without any defence.
    (bundle.rootfs / "link").symlink_to(outside)
    swapper(bundle.rootfs / "dev", bundle.rootfs / "link")
    inside = 0
    for _ in range(ROUNDS):
        inside += bundle.run("true").returncode == 0
        assert list(outside.iterdir()) == [] and sorted(os.listdir("/dev")) == before
    assert inside > 0, "no round came through"


@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_copy_up_of_a_tree_that_changes(bundle, swapper, kind):
    """M7: tmpcopyup reads the image's files; pipes, devices and links do not lead it away."""
    data, other = bundle.rootfs / "data", bundle.rootfs / "other"
    secret = bundle.folder / "secret"
    secret.write_text("the host's")
    pairs = []
    data.mkdir()
    other.mkdir()
    for i in range(300):
        pairs += [data / str(i), other / str(i)]
        pairs[-2].write_text("mine")
        if kind == "link":
            pairs[-1].symlink_to(secret)
        elif kind == "pipe":
            os.mkfifo(pairs[-1])
        else:
            os.mknod(pairs[-1], 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    mount(bundle, "/data", None, "tmpcopyup", "size=4m", type_="tmpfs")
    swapper(*pairs)
    for _ in range(ROUNDS):
        # As often as not a name is what it was a moment ago, and the copy is whole.
        done = bundle.run("sh", "-c", "for f in /data/*; do [ -f $f ] && cat $f; done; true",
                          timeout=10)
        assert "host" not in done.stdout
        # Four megabytes are enough for what they are; a device gives without end.
        assert "No space" not in done.stderr, done.stderr


# ---- masks ----

def host_dev(bundle, null):
    """Runs the rest in a mount namespace whose /dev/null is something else."""
    return ["unshare", "--mount", "sh", "-c", f"mount --bind {null} /dev/null && exec \"$@\"", "sh",
            *bundle.command("run", bundle.id)]


def test_a_null_device_that_is_none(bundle):
    """M8, CVE-2025-31133: what covers a masked file is the null device or nothing."""
    fake = bundle.folder / "fake"
    fake.write_text("fake")
    bundle.process["args"] = ["cat", "/proc/kcore"]
    bundle.write()
    done = subprocess.run(host_dev(bundle, fake), cwd=bundle.folder / "bundle", text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and "is not the null device" in done.stderr, done.stderr


def test_a_null_device_of_the_image_is_not_used(bundle):
    bundle.config["mounts"] = [one for one in bundle.config["mounts"]
                               if one["destination"] != "/dev"]
    for name in ("pts", "shm", "mqueue"):
        (bundle.rootfs / "dev" / name).mkdir()
    (bundle.rootfs / "etc/passwd").chmod(0o644)
    (bundle.rootfs / "dev/null").symlink_to("/etc/passwd")
    bundle.linux["maskedPaths"] += ["/etc/shadow"]
    (bundle.rootfs / "etc/shadow").write_text("secret")
    done = bundle.run("cat", "/etc/shadow")
    assert "secret" not in done.stdout and "root:" not in done.stdout
    assert "something else there" in done.stderr


def test_masked_links_hide_what_they_mean(bundle):
    (bundle.rootfs / "secret").write_text("secret")
    (bundle.rootfs / "alias").symlink_to("secret")
    bundle.linux["maskedPaths"] += ["/alias"]
    assert bundle.sh("cat /alias /secret") == ""


# ---- terminals ----

def terminal(bundle):
    bundle.process["terminal"] = True
    return bundle


@pytest.mark.parametrize("target", ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern",
                                    "/etc/passwd", "nothing"])
def test_a_console_that_is_a_link(bundle, target):
    """M9, CVE-2025-52565: the terminal would be mounted over what is protected."""
    terminal(bundle).config["mounts"] = [one for one in bundle.config["mounts"]
                                         if one["destination"] != "/dev"]
    for name in ("pts", "shm", "mqueue"):
        (bundle.rootfs / "dev" / name).mkdir()
    (bundle.rootfs / "dev/console").symlink_to(target)
    done = bundle.run("true")
    assert done.returncode == 1 and "/dev/console" in done.stderr, done.stderr


@pytest.mark.parametrize("kind", ["fifo", "file", "link", "null"])
def test_a_multiplexer_that_is_none(bundle, kind):
    """M10: exec with a terminal in a container that has put something else there."""
    bundle.process["capabilities"]["effective"].append("CAP_SYS_ADMIN")
    bundle.process["capabilities"]["permitted"].append("CAP_SYS_ADMIN")
    bundle.process["capabilities"]["bounding"].append("CAP_SYS_ADMIN")
    make = {"fifo": "mkfifo /tmp/x", "file": "echo > /tmp/x", "link": "ln -s /dev/zero /tmp/x",
            "null": "ln -s /dev/null /tmp/x"}[kind]
    bundle.start("sh", "-c", f"{make}; umount /dev/pts; mkdir -p /dev/pts;"
                             "mount -t tmpfs x /dev/pts; cp -a /tmp/x /dev/pts/ptmx; echo done;"
                             "sleep 1000")
    for _ in range(200):
        if "done" in bundle.output():
            break
        bundle.exec(bundle.id, "true")
    done = bundle.exec("--tty", bundle.id, "true", timeout=20)
    assert done.returncode == 1 and "/dev/pts/ptmx" in done.stderr, done.stderr


# ---- what lies in an image ----

def test_names_that_confuse_readers(bundle):
    """M11: newlines, spaces and the words of mountinfo in names of folders."""
    names = ["new\nline", "sp ace", "- cgroup2 cgroup2 rw", "\\012", "tab\there", "ünï", "\x7f"]
    for name in names:
        mount(bundle, f"/{name}/x", type_="tmpfs")
    bundle.start("sleep", "1000")
    assert bundle.exec(bundle.id, "sh", "-c", "ls -d /*/x | wc -l").returncode == 0
    assert bundle.state()["status"] == "running"
    bundle.call("delete", "--force", bundle.id, check=True)


def test_deep_trees(bundle):
    """M12: neither time nor stack nor descriptors are used up."""
    path = bundle.rootfs / "deep"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    mount(bundle, "/deep", None, "tmpcopyup", type_="tmpfs")
    done = bundle.run("true", timeout=60)
    assert done.returncode == 1 and "tmpcopyup" in done.stderr, done.stderr
    bundle.config["mounts"][-1] = {"destination": "/x/" + "a/" * 1500, "type": "tmpfs"}
    bundle.run("true", timeout=60)
    subprocess.run(["rm", "-rf", bundle.rootfs / "deep", bundle.rootfs / "x"], check=True)


@pytest.mark.parametrize("place", ["/l0/x", "/missing/../l0/x", "/missing/../ring/x"])
def test_a_tree_of_links(bundle, place):
    """The kernel counts links itself, but only as far as there is something: the rest is ours."""
    for i in range(60):
        (bundle.rootfs / f"l{i}").symlink_to(f"l{i + 1}/../l{i + 1}")
    (bundle.rootfs / "ring").symlink_to("ring")
    mount(bundle, place, type_="tmpfs")
    done = bundle.run("true", timeout=10)
    assert done.returncode == 1 and place in done.stderr


def test_host_paths_do_not_show(bundle):
    """M13: after pivot_root() nothing of the old root is seen."""
    places = [line.split()[4] for line in bundle.sh("cat /proc/self/mountinfo").splitlines()]
    wanted = {"/", *(one["destination"] for one in bundle.config["mounts"])}
    masks = {*bundle.linux["maskedPaths"], *bundle.linux["readonlyPaths"]}
    left = [place for place in places if place not in masks
            and not place.startswith("/sys/fs/cgroup/")]
    assert sorted(left) == sorted(wanted), places
    out = bundle.sh("ls -a / /.. /proc/1/root/..")
    assert str(bundle.folder).split("/")[1] not in out.split()


@pytest.mark.parametrize("kind", ["armed", "armed_mapped"])
def test_nothing_of_the_host_lies_under_the_root(request, kind):
    """M13: nor can it be reached, by who may change roots and take mounts away."""
    bundle = request.getfixturevalue(kind)
    for names in bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    marker = bundle.folder / "marker"
    marker.write_text("the host's")
    out = bundle.sh(f"hostile escape {marker}")
    assert "climbed" in out and "dug" in out and "REACHED" not in out, out


def test_a_mount_of_the_host_is_not_kept(bundle):
    """M13: what the host takes away is gone, though the container began with a copy of it."""
    place = bundle.folder / "mounted"
    place.mkdir()
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", place])
    (place / "file").write_text("x")
    with kernel.watch_unmount(place / "file") as gone:
        bundle.start("sleep", "1000")
        subprocess.check_call(["umount", place])
        assert gone(), "the container keeps a file system of the host busy"
