"""What a node gives of itself: folders and devices of its policy, and nothing around them."""
import os
import shutil

import images
import pytest


@pytest.fixture
def share(busybox):
    """(node, reference, folder) with /folder/open in the node's policy."""
    node, reference = busybox
    folder = node.folder / "host"
    (folder / "open/sub").mkdir(parents=True)
    (folder / "secret").mkdir()
    (folder / "open/file").write_text("shown\n")
    (folder / "secret/key").write_text("hidden\n")
    yield node, reference, folder
    (node.state / "policy.json").unlink(missing_ok=True)
    shutil.rmtree(folder)


def test_nothing_is_given_without_a_policy(share):
    node, reference, folder = share
    message = node.refused(reference, "x", "-v", f"{folder}/open:/data")
    assert "policy does not allow it" in message and "policy.json" in message
    assert "/dev/fuse" in node.refused(reference, "x", "--device", "/dev/fuse")


def test_an_allowed_folder_is_seen_and_others_are_nobody_in_it(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open"}])
    node.launch(reference, "plain", "-v", f"{folder}/open:/data")
    assert node.sh("plain", "cat /data/file") == "shown\n"
    assert node.sh("plain", "stat -c %u /data/file").strip() == "65534"
    assert node.cli("exec", "plain", "--", "touch", "/data/new", code=None).returncode
    (folder / "open/sub").chmod(0o1777)
    node.sh("plain", "echo mine > /data/sub/new")
    assert (folder / "open/sub/new").stat().st_uid >= 0x40000000
    # The descriptor that carried it is not the instance's.
    assert set(node.sh("plain", "ls /proc/1/fd").split()) <= {"0", "1", "2"}
    line = node.sh("plain", "grep ' /data ' /proc/mounts")
    assert "nosuid" in line and "nodev" in line
    assert f"{folder}/open on /data" in node.out("info", "plain")
    # A single file, below the folder, read-only because it was asked for.
    node.launch(reference, "file", "-v", f"{folder}/open/file:/etc/shown:ro")
    assert node.sh("file", "cat /etc/shown") == "shown\n"
    assert " ro," in node.sh("file", "grep ' /etc/shown ' /proc/mounts")


def test_the_policy_says_whose_the_files_are(share):
    node, reference, folder = share
    os.chown(folder / "open/sub", 1000, 1000)
    node.write_policy(mounts=[{"path": f"{folder}/open", "idmap": "same"},
                              {"path": f"{folder}/open/sub", "idmap": "1000:1000"}])
    node.launch(reference, "same", "-v", f"{folder}/open:/data")
    assert node.sh("same", "stat -c %u:%u /data /data/sub").split() == ["0:0", "1000:1000"]
    node.sh("same", "echo x > /data/by-root")
    assert (folder / "open/by-root").stat().st_uid == 0
    node.launch(reference, "user", "-v", f"{folder}/open/sub:/data")
    assert node.sh("user", "stat -c %u /data").strip() == "0"
    node.sh("user", "echo x > /data/by-user")
    assert (folder / "open/sub/by-user").stat().st_uid == 1000


def test_read_only_and_projects(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open", "read_only": True},
                              {"path": f"{folder}/secret", "projects": ["another"]}])
    assert "read-only" in node.refused(reference, "x", "-v", f"{folder}/open:/data")
    assert "does not allow" in node.refused(reference, "x", "-v", f"{folder}/secret:/data:ro")
    node.launch(reference, "ro", "--mount", f"type=bind,source={folder}/open,target=/data,readonly")
    assert " ro," in node.sh("ro", "grep ' /data ' /proc/mounts")


@pytest.mark.parametrize("way", ["absolute", "relative", "chain", "proc"])
def test_a_link_cannot_lead_out_of_the_folder(share, way):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open", "idmap": "same"}])
    targets = {"absolute": f"{folder}/secret", "relative": "../secret", "chain": "hop/../secret",
               "proc": "/proc/1/root"}
    os.symlink("..", folder / "open/hop")
    os.symlink(targets[way], folder / "open/link")
    for source in (f"{folder}/open/link", f"{folder}/open/link/key"):
        message = node.refused(reference, "x", "-v", f"{source}:/data")
        assert "leads out of" in message or "policy" in message, message


def test_a_link_inside_of_the_folder_is_followed(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open"}])
    (folder / "open/sub/inner").write_text("inner\n")
    os.symlink("sub", folder / "open/short")
    node.launch(reference, "short", "-v", f"{folder}/open/short:/data")
    assert node.sh("short", "cat /data/inner") == "inner\n"


def test_names_that_only_look_allowed(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open"}])
    (folder / "open-not").mkdir()
    assert "does not allow" in node.refused(reference, "x", "-v", f"{folder}/open-not:/data")
    done = node.cli("launch", reference, "x", "-v", f"{folder}/open/../secret:/data", code=2)
    assert '".."' in done.stderr
    assert "does not allow" in node.refused(reference, "x", "-v", "/etc:/data")


def test_the_nodes_own_folders_are_never_given(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": "/"}])
    for path in (node.state, node.state / "images", node.run_folder, node.folder, "/"):
        assert "own files" in node.refused(reference, "x", "-v", f"{path}:/data"), path
    # Everything else is the administrator's wish.
    node.launch(reference, "wide", "-v", f"{folder}/secret:/data")
    assert node.sh("wide", "cat /data/key") == "hidden\n"


def test_a_target_that_is_a_link_stays_inside(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open"}])
    (folder / "target").mkdir()
    layer = images.Layer().symlink("data", f"{folder}/target").symlink("up", "../../../../etc/up")
    image = images.Image([images.busybox_layer(images.BUSYBOX), layer],
                         {"Cmd": ["sleep", "2147483647"], "Env": [images.PATH_ENV]})
    hostile = node.registry.push(image, "linked:1")
    node.launch(hostile, "linked", "--insecure", "-v", f"{folder}/open:/data", "--tmpfs", "/up")
    assert node.sh("linked", f"cat {folder}/target/file") == "shown\n"
    # On the node the folder of that name is as it was.
    assert os.listdir(folder / "target") == []
    assert not os.path.exists("/etc/up")
    assert "tmpfs /etc/up" in node.sh("linked", "cat /proc/mounts")


def test_special_files_are_not_folders(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open"}])
    os.mkfifo(folder / "open/pipe")
    assert "neither" in node.refused(reference, "x", "-v", f"{folder}/open/pipe:/data")
    assert "No such file" in node.refused(reference, "x", "-v", f"{folder}/open/none:/data")
    assert not (folder / "open/none").exists()


def test_a_device_of_the_policy(share):
    node, reference, folder = share
    node.write_policy(devices=[{"path": "/dev/fuse", "access": "rw"}, {"path": "/dev/zero"}])
    assert 'only "rw"' in node.refused(reference, "x", "--device", "/dev/fuse")
    assert "does not allow" in node.refused(reference, "x", "--device", "/dev/net/tun")
    node.launch(reference, "device", "--device", "/dev/fuse:/dev/mine:rw",
                "--device", "/dev/zero:/dev/nothing:r")
    info = node.out("info", "device")
    assert "/dev/fuse as /dev/mine, rw" in info, info
    fields = node.sh("device", "stat -c '%F %t:%T %u' /dev/mine").split()
    assert fields[:2] == ["character", "special"] and fields[-2:] == ["a:e5", "0"]
    node.sh("device", "exec 3<>/dev/mine")
    assert node.sh("device", "head -c 4 /dev/nothing | wc -c").strip() == "4"
    # Without being asked for there is none, and none can be made.
    node.launch(reference, "without", "--cap-add", "MKNOD")
    assert node.cli("exec", "without", "--", "mknod", "/dev/mine", "c", "10", "229",
                    code=None).returncode


def test_denied_capabilities(share):
    node, reference, folder = share
    node.write_policy(deny_capabilities=["SYS_ADMIN"])
    assert "CAP_SYS_ADMIN" in node.refused(reference, "x", "--cap-add", "SYS_ADMIN")
    assert "ALL" in node.refused(reference, "x", "--cap-add", "ALL")
    node.launch(reference, "fine", "--cap-add", "NET_ADMIN")


@pytest.mark.parametrize("text, mode, words", [
    ('{"mounts": [{"path": "/srv", "more": 1}]}', 0o644, "more"),
    ('{"mounts": [{"path": "srv"}]}', 0o644, "mounts[0].path"),
    ('{"mounts": "/"}', 0o644, "mounts"),
    ("not json", 0o644, "policy.json"),
    ('{"mounts": [{"path": "/srv", "idmap": "root"}]}', 0o644, "idmap"),
    ('{"mounts": [{"path": "/"}]}', 0o666, "nobody else may write"),
])
def test_a_broken_policy_gives_nothing(share, text, mode, words):
    node, reference, folder = share
    path = node.state / "policy.json"
    path.write_text(text)
    path.chmod(mode)
    message = node.refused(reference, "x", "-v", f"{folder}/open:/data")
    assert words in message and len(message.splitlines()) <= 2, message
    # What asks for nothing of the node does not care.
    node.launch(reference, "plain")


def test_a_change_counts_from_the_next_start_on(share):
    node, reference, folder = share
    node.write_policy(mounts=[{"path": f"{folder}/open"}])
    node.launch(reference, "revoked", "-v", f"{folder}/open:/data")
    node.write_policy(mounts=[])
    assert node.sh("revoked", "cat /data/file") == "shown\n"
    done = node.cli("restart", "--timeout", "0", "revoked", code=1)
    assert "does not allow" in done.stderr


def test_who_may_mount_gets_nothing_that_must_stay_read_only(share):
    """Root of a user namespace with CAP_SYS_ADMIN can remount whatever is mounted in it."""
    node, reference, folder = share
    (folder / "open").chmod(0o777)
    node.write_policy(mounts=[{"path": f"{folder}/open", "read_only": True, "idmap": "same"}])
    source = ["-v", f"{folder}/open:/data:ro"]
    assert "undo" in node.refused(reference, "x", "--cap-add", "SYS_ADMIN", *source)
    assert "undo" in node.refused(reference, "x", "--cap-add", "ALL", *source)
    node.cli("project", "set", "default", "allow_privileged", "true")
    try:
        assert "undo" in node.refused(reference, "x", "--privileged", *source)
        # Without that power nothing makes it writable, also without a system call filter.
        node.launch(reference, "ordinary", "--seccomp", "unconfined", *source)
        for script in ("mount -o remount,bind,rw /data", "umount /data",
                       "unshare -rm sh -c 'mount -o remount,bind,rw /data; touch /data/bad'",
                       "unshare -rm sh -c 'mount --bind /data /mnt; mount -o remount,bind,rw "
                       "/mnt; touch /mnt/bad'"):
            node.cli("exec", "ordinary", "--", "sh", "-c", script, code=None)
            node.cli("exec", "ordinary", "--", "touch", "/data/bad", code=None)
            assert not (folder / "open/bad").exists(), script
    finally:
        node.cli("project", "set", "default", "allow_privileged", "false")
