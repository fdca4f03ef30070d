"""brume-oci: mounts of config.json, each option seen from inside of the container."""
import os
import pathlib
import stat
import subprocess

import oci_bundle
import pytest

TABLE = {  # option: (mounted with before, what mountinfo shows after, what it must not show)
    "ro": ([], "ro", None), "rw": (["ro"], "rw", None),
    "nosuid": ([], "nosuid", None), "suid": (["nosuid"], None, "nosuid"),
    "nodev": ([], "nodev", None), "dev": (["nodev"], None, "nodev"),
    "noexec": ([], "noexec", None), "exec": (["noexec"], None, "noexec"),
    "noatime": ([], "noatime", None), "atime": (["noatime"], None, "noatime"),
    "relatime": (["noatime"], "relatime", "noatime"),
    "norelatime": ([], None, "relatime"),
    "strictatime": ([], None, "relatime"), "nostrictatime": (["strictatime"], "relatime", None),
    "nodiratime": ([], "nodiratime", None), "diratime": (["nodiratime"], None, "nodiratime"),
    "nosymfollow": ([], "nosymfollow", None), "symfollow": (["nosymfollow"], None, "nosymfollow"),
}


@pytest.fixture
def tree(scratch):
    """A folder with a tmpfs mounted below it."""
    folder = scratch / "tree"
    (folder / "sub").mkdir(parents=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(folder / "sub")])
    yield folder
    subprocess.check_call(["umount", "-R", str(folder / "sub")])


def mount(bundle, destination, source, *options, kind=None, **more):
    entry = {"destination": destination, "source": str(source), "options": list(options), **more}
    if kind:
        entry["type"] = kind
    bundle.config["mounts"].append(entry)


def table(bundle, **more):
    """Destination: its options, and those of its file system."""
    lines = bundle.sh("cat /proc/self/mountinfo", **more).splitlines()
    return {line.split()[4]: (line.split()[5].split(","), line.rsplit(" ", 1)[1].split(","))
            for line in lines}


def test_options_of_new_file_systems(bundle):
    for option, (before, _, _) in TABLE.items():
        mount(bundle, "/m/" + option, "tmpfs", *before, option, kind="tmpfs")
    seen = table(bundle)
    for option, (_, there, absent) in TABLE.items():
        options = seen["/m/" + option][0]
        assert there is None or there in options, (option, options)
        assert absent not in options, (option, options)


def test_options_of_bind_mounts_and_recursive_ones(bundle, tree):
    for option, (before, _, _) in TABLE.items():
        mount(bundle, "/m/" + option, tree, "rbind", *before, option)
        mount(bundle, "/r/" + option, tree, "rbind", *("r" + one for one in before), "r" + option)
    seen = table(bundle)
    for option, (_, there, absent) in TABLE.items():
        for top in ("/m/" + option, "/r/" + option, f"/r/{option}/sub"):
            options = seen[top][0]
            assert there is None or there in options, (top, options)
            assert absent not in options, (top, options)
    # Without the r only the mount itself is changed.
    assert "rw" in seen["/m/ro/sub"][0] and "nosuid" not in seen["/m/nosuid/sub"][0]


def test_recursive_attributes_protect(bundle, tree):
    (tree / "sub/program").write_bytes(pathlib.Path(oci_bundle.BUSYBOX).read_bytes())
    (tree / "sub/program").chmod(0o755)
    mount(bundle, "/t", tree, "rbind", "rro", "rnoexec", "rnosuid", "rnodev")
    done = bundle.run("sh", "-c", "touch /t/sub/x; /t/sub/program true; touch /t/x")
    assert done.stderr.count("Read-only") == 2 and "Permission denied" in done.stderr


def test_options_of_every_file_system(bundle):
    mount(bundle, "/a", "tmpfs", "sync", "dirsync", kind="tmpfs")
    mount(bundle, "/b", "tmpfs", "async", "defaults", "silent", "loud", "noiversion", "iversion",
          "nolazytime", "nomand", "size=1m", kind="tmpfs")
    mount(bundle, "/c", "tmpfs", "lazytime", kind="tmpfs")
    seen = table(bundle)
    assert {"sync", "dirsync"} <= set(seen["/a"][1]) and "lazytime" in seen["/c"][1]
    assert not {"sync", "dirsync", "lazytime"} & set(seen["/b"][1])
    assert "size=1024k" in seen["/b"][1]


def test_remount(bundle, tree):
    mount(bundle, "/t", "tmpfs", "size=1m", "nosuid", kind="tmpfs")
    mount(bundle, "/t", "tmpfs", "remount", "size=2m", "ro", kind="tmpfs")
    mount(bundle, "/b", tree, "bind")
    mount(bundle, "/b", tree, "bind", "remount", "ro", "noexec")
    seen = table(bundle)
    assert "ro" in seen["/t"][0] and "nosuid" in seen["/t"][0] and "size=2048k" in seen["/t"][1]
    assert {"ro", "noexec"} <= set(seen["/b"][0])


def test_a_remount_that_the_file_system_refuses(bundle):
    mount(bundle, "/t", "tmpfs", "size=1m", kind="tmpfs")
    mount(bundle, "/t", "tmpfs", "remount", "frob=1", kind="tmpfs")
    done = bundle.run("true")
    assert done.returncode == 1 and "remount" in done.stderr and "frob" in done.stderr


def test_relative_destination(bundle):
    """Deprecated, and still meant from the root on."""
    mount(bundle, "relative/place", "tmpfs", kind="tmpfs")
    assert "/relative/place" in table(bundle)


def test_order_and_type_of_bind_mounts(bundle, tree):
    (tree / "file").write_text("content")
    mount(bundle, "/one", tree, "bind", kind="none")
    mount(bundle, "/one/sub", "tmpfs", "size=64k", kind="tmpfs")
    mount(bundle, "/two/deep/file", tree / "file", "bind", "ro", kind="bind")
    mount(bundle, "/three", tree, kind="bind")
    out = bundle.sh("cat /two/deep/file; cat /three/file; touch /one/sub/x")
    assert out == "contentcontent" and not (tree / "sub/x").exists()


def test_a_source_relative_to_the_bundle(bundle):
    (bundle.folder / "bundle/data").mkdir()
    (bundle.folder / "bundle/data/file").write_text("here")
    mount(bundle, "/data", "data", "bind")
    assert bundle.sh("cat /data/file") == "here"


def test_propagation_of_one_mount(bundle, tree):
    wanted = {"private": None, "shared": "shared:", "slave": "master:", "unbindable": "unbindable"}
    subprocess.check_call(["mount", "--make-shared", str(tree / "sub")])
    for name in wanted:
        mount(bundle, "/p/" + name, tree / "sub", "bind", name)
        mount(bundle, "/q/" + name, tree, "rbind", "r" + name)
    lines = bundle.sh("cat /proc/self/mountinfo").splitlines()
    flags = {line.split()[4]: line.split(" - ")[0].split()[6:] for line in lines}
    for name, tag in wanted.items():
        for place in (f"/p/{name}", f"/q/{name}/sub"):
            if tag:
                assert any(one.startswith(tag) for one in flags[place]), (place, flags[place])
            else:
                assert flags[place] == [], (place, flags[place])


def test_tmpcopyup_that_is_read_only_afterwards(bundle):
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data/file").write_text("kept")
    mount(bundle, "/data", "tmpfs", "tmpcopyup", "ro", kind="tmpfs")
    done = bundle.run("sh", "-c", "cat /data/file; touch /data/x")
    assert done.stdout == "kept" and "Read-only" in done.stderr


def test_copy_symlink(bundle, tree):
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "plain").write_text("plain")
    mount(bundle, "/here/link", tree / "link", "bind", "copy-symlink")
    mount(bundle, "/here/plain", tree / "plain", "bind", "copy-symlink")
    out = bundle.sh("readlink /here/link; cat /here/plain; grep -c ' /here' /proc/self/mountinfo")
    assert out == "/etc/passwd\nplain1\n"
    # Again, where the link is already there; then with something else in its place.
    assert bundle.run("true").returncode == 0
    (bundle.rootfs / "here/link").unlink()
    (bundle.rootfs / "here/link").write_text("mine")
    done = bundle.run("true")
    assert done.returncode == 1 and "/here/link" in done.stderr


def test_src_nofollow_and_dest_nofollow(bundle, tree):
    (tree / "link").symlink_to("nowhere")
    (tree / "file").write_text("new")
    (bundle.rootfs / "target").write_text("target")
    (bundle.rootfs / "link").symlink_to("target")
    mount(bundle, "/made", tree / "link", "bind", "src-nofollow", "dest-nofollow")
    mount(bundle, "/link", tree / "file", "bind", "dest-nofollow")
    out = bundle.sh("readlink /made; cat /link; cat /target; cut -d' ' -f5 /proc/self/mountinfo")
    assert out.startswith("nowhere\nnewtarget") and "/link\n" in out
    assert stat.S_ISLNK((bundle.rootfs / "link").lstat().st_mode)


MAPS = [{"containerID": 0, "hostID": 5000, "size": 1000}]


def owners(bundle, *paths):
    return bundle.sh("stat -c '%u:%g' " + " ".join(paths)).split()


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_idmapped_mounts(bundle, tree, option):
    """The mount's own mapping: who is 0 on the disk is 5000 here; below only with ridmap."""
    for path, owner in (("file", 7), ("sub/file", 8)):
        (tree / path).write_text("x")
        os.chown(tree / path, owner, owner)
    mount(bundle, "/t", tree, "rbind", option, uidMappings=MAPS, gidMappings=MAPS)
    assert owners(bundle, "/t/file", "/t/sub/file") == [
        "5007:5007", "5008:5008" if option == "ridmap" else "8:8"]
    # What is made there belongs to the right one on the disk.
    bundle.process["user"] = {"uid": 5003, "gid": 5003}
    (tree / "open").mkdir()
    (tree / "open").chmod(0o777)
    bundle.sh("touch /t/open/made")
    assert (tree / "open/made").stat().st_uid == 3


def test_idmap_with_the_containers_mapping(mapped, tree):
    (tree / "file").write_text("x")
    os.chown(tree / "file", 9, 9)
    mount(mapped, "/t", tree, "bind", "idmap")
    assert owners(mapped, "/t/file") == ["9:9"]


@pytest.mark.parametrize("entry,said", [
    ({"options": ["bind", "idmap"]}, "uidMappings"),
    ({"options": ["bind"], "uidMappings": MAPS}, "gidMappings"),
    ({"options": ["idmap"], "type": "tmpfs", "uidMappings": MAPS, "gidMappings": MAPS}, "bind"),
    ({"options": ["bind", "sync"]}, "sync"),
    ({"options": ["tmpcopyup"], "type": "proc"}, "tmpcopyup"),
])
def test_refused(bundle, tree, entry, said):
    bundle.config["mounts"].append({"destination": "/t", "source": str(tree), **entry})
    done = bundle.run("true")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1 and said in lines[0], done.stderr
    assert bundle.leftovers() == []
