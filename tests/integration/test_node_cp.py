"""brume cp: files of an instance out of it and into it, running or stopped, and hostile ones."""
import io
import os
import pathlib
import stat
import subprocess
import tarfile
import threading
import urllib.parse

import pytest
from node import eventually


@pytest.fixture
def web(busybox):
    node, reference = busybox
    node.launch(reference, "web")
    return node


@pytest.fixture(params=["running", "stopped"])
def either(web, request):
    """The instance in both states; `inside` looks into it, starting it when it must."""
    def script(text):
        if web.instance("web")["status"]["state"] != "running":
            web.cli("start", "web")
        return web.cli("exec", "web", "--", "sh", "-c", text).stdout
    web.cli("exec", "web", "--", "sh", "-c",
            "mkdir -p /data/sub && echo one > /data/file && echo two > /data/sub/two && "
            "ln -s file /data/link && ln /data/file /data/hard && mkfifo /data/pipe && "
            "chmod 640 /data/file && chown 12:34 /data/sub/two && "
            "dd if=/dev/zero of=/data/sparse bs=1 count=1 seek=10485760 2>/dev/null")
    if request.param == "stopped":
        web.cli("stop", "-t", "0", "web")
    web.inside = script
    return web


def cp(node, *words, code=0, **more):
    return node.cli("cp", *map(str, words), code=code, **more)


def test_a_file_out(either, scratch):
    cp(either, "web:/data/file", scratch / "named")
    assert (scratch / "named").read_text() == "one\n"
    assert stat.S_IMODE((scratch / "named").stat().st_mode) == 0o640
    cp(either, "web:/data/file", scratch)
    assert (scratch / "file").read_text() == "one\n"
    cp(either, "web:/data/link", scratch)
    assert os.readlink(scratch / "link") == "file"
    cp(either, "-L", "web:/data/link", scratch / "followed")
    assert (scratch / "followed").read_text() == "one\n"


def test_a_folder_out(either, scratch):
    cp(either, "web:/data", scratch / "new")
    new = scratch / "new"
    assert sorted(p.name for p in new.iterdir()) == ["file", "hard", "link", "pipe", "sparse",
                                                     "sub"]
    assert (new / "file").stat().st_ino == (new / "hard").stat().st_ino
    assert stat.S_ISFIFO((new / "pipe").lstat().st_mode)
    assert (new / "sub/two").stat().st_uid == os.getuid()
    assert (new / "sparse").stat().st_size == 10485761
    assert (new / "sparse").stat().st_blocks * 512 < 1 << 20
    # Into what exists: under its own name; its contents with /. at the end.
    cp(either, "web:/data", scratch)
    assert (scratch / "data/sub/two").read_text() == "two\n"
    (scratch / "flat").mkdir()
    cp(either, "-a", "web:/data/.", scratch / "flat")
    two = (scratch / "flat/sub/two").stat()
    assert (two.st_uid, two.st_gid) == (12, 34)


def test_a_file_in(either, scratch):
    (scratch / "site").mkdir()
    (scratch / "site/index.html").write_text("hello")
    (scratch / "site/run").write_text("#!/bin/sh\n")
    (scratch / "site/run").chmod(0o755)
    (scratch / "site/way").symlink_to("index.html")
    os.link(scratch / "site/index.html", scratch / "site/same")
    os.chown(scratch / "site/run", 7, 8)
    cp(either, scratch / "site/index.html", "web:/data")
    cp(either, scratch / "site/index.html", "web:/data/renamed")
    cp(either, scratch / "site", "web:/data")
    cp(either, scratch / "site", "web:/data/other")
    cp(either, "-a", str(scratch / "site") + "/.", "web:/data/sub")
    cp(either, scratch / "site/index.html", "web:/data/file")
    seen = either.inside("cd /data; cat index.html renamed site/index.html other/index.html file;"
                         "stat -c '%n %a %u:%g %h' site/run sub/run site/same; "
                         "readlink site/way; cat sub/two")
    assert seen == ("hello" * 5 + "site/run 755 0:0 1\nsub/run 755 7:8 1\nsite/same 644 0:0 2\n"
                    "index.html\ntwo\n")


def test_streams(either, scratch):
    out = either.cli("cp", "web:/data", "-", text=False).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        names = tar.getnames()
        assert names[0] == "data" and "data/sub/two" in names
        assert tar.getmember("data/sub/two").uid == 12
        assert tar.getmember("data/pipe").isfifo()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("a/b/c")
        info.size, info.uid = 2, 99
        tar.addfile(info, io.BytesIO(b"hi"))
    either.cli("cp", "-a", "-", "web:/data", input=buffer.getvalue(), text=False)
    assert either.inside("cat /data/a/b/c; stat -c %u /data/a/b/c") == "hi99\n"


def test_the_files_that_the_node_makes(web, scratch):
    """What is mounted in a running instance is copied as the instance sees it."""
    cp(web, "web:/etc/hostname", scratch)
    assert (scratch / "hostname").read_text() == "web\n"
    (scratch / "hosts").write_text("10.1.1.1 other\n")
    cp(web, scratch / "hosts", "web:/etc/hosts")
    assert web.cli("exec", "web", "--", "cat", "/etc/hosts").stdout == "10.1.1.1 other\n"


def test_what_a_stopped_one_does_not_have(busybox, scratch):
    """A copy below a mount would be hidden by it at the next start: it is refused, not lost."""
    node, reference = busybox
    node.launch(reference, "web", "--tmpfs", "/cache")
    (scratch / "file").write_text("x")
    cp(node, scratch / "file", "web:/cache/file")
    assert node.cli("exec", "web", "--", "cat", "/cache/file").stdout == "x"
    node.cli("stop", "-t", "0", "web")
    for words in ([scratch / "file", "web:/cache"], [scratch / "file", "web:/cache/file"],
                  [scratch / "file", "web://etc/./hosts"], ["web:/cache/file", scratch / "got"]):
        done = cp(node, *words, code=1)
        assert "is mounted on" in done.stderr and "start it first" in done.stderr, done.stderr
    cp(node, scratch / "file", "web:/cached")
    node.cli("start", "web")
    assert node.cli("exec", "web", "--", "cat", "/cached").stdout == "x"


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_root_that_cannot_be_written_is_not(busybox, scratch, state):
    node, reference = busybox
    node.launch(reference, "fixed", "--read-only", "--tmpfs", "/tmp")
    (scratch / "file").write_text("x")
    if state == "stopped":
        node.cli("stop", "-t", "0", "fixed")
    else:
        cp(node, scratch / "file", "fixed:/tmp")
    assert "read-only" in cp(node, scratch / "file", "fixed:/root", code=1).stderr.lower()
    cp(node, "fixed:/bin/busybox", scratch / "got")


def test_what_is_refused(web, scratch):
    (scratch / "file").write_text("x")
    (scratch / "folder").mkdir()
    for words, code, says in (
            (["web:/nothing", scratch], 1, "/nothing"),
            (["web:/proc/kmsg", scratch], 1, "made by the kernel (proc)"),
            ([scratch / "file", "web:/proc/x"], 1, "made by the kernel (proc)"),
            ([scratch / "nothing", "web:/"], 1, "nothing"),
            ([scratch / "file", "web:/no/such/place"], 1, "/no/such: No such file or directory\n"),
            ([scratch / "folder", "web:/bin/busybox"], 1, "a folder cannot be copied onto it"),
            ([scratch / "file", "web:/bin/new/"], 1, "no folder"),
            (["web:/etc", scratch / "file"], 1, "a folder cannot be copied onto it"),
            (["nobody:/etc", scratch], 1, "nobody"),
            ([scratch / "file", "nobody:/etc"], 1, "nobody"),
            (["web:/etc", "web:/srv"], 2, "from instance to instance"),
            ([scratch / "file", scratch / "folder"], 2, "must be in an instance")):
        done = cp(web, *words, code=code)
        assert says in done.stderr and done.stdout == "", (words, done)
        assert done.stderr.count("\n") <= 2 and ("brume list" in done.stderr) == ("nobody" in says)
    # Kernel file systems below a folder are left empty, whatever endless files they hold.
    cp(web, "web:/proc", scratch)
    assert list((scratch / "proc").iterdir()) == []
    # Devices are entries of a tar, and are not made here.
    out = web.cli("cp", "web:/dev/.", "-", text=False).stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert any(member.ischr() for member in tar)
    cp(web, "web:/dev", scratch)
    assert not (scratch / "dev/zero").exists()
    device = io.BytesIO()
    with tarfile.open(fileobj=device, mode="w") as tar:
        info = tarfile.TarInfo("disk")
        info.type, info.devmajor, info.devminor = tarfile.BLKTYPE, 8, 0
        tar.addfile(info)
    done = web.cli("cp", "-", "web:/tmp", input=device.getvalue(), text=False, code=1)
    assert b"device" in done.stderr


def test_a_tar_cannot_leave_the_instance(web, scratch):
    target = scratch / "target"
    target.write_text("safe")
    target.chmod(0o666)
    for name, kind, link in (("../../../.." + str(target), tarfile.REGTYPE, ""),
                             ("hard", tarfile.LNKTYPE, "../../.." + str(target))):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info, io.BytesIO(b""))
        web.cli("cp", "-", "web:/tmp", input=buffer.getvalue(), text=False, code=1)
    # Through a link that the tar itself brings, and through one of the instance.
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("way")
        info.type, info.linkname = tarfile.SYMTYPE, str(scratch)
        tar.addfile(info)
        info = tarfile.TarInfo("way/target")
        info.size = 6
        tar.addfile(info, io.BytesIO(b"broken"))
    web.cli("cp", "-", "web:/tmp", input=buffer.getvalue(), text=False, code=None)
    web.cli("exec", "web", "--", "ln", "-s", str(scratch), "/tmp/out")
    (scratch / "source").write_text("broken")
    cp(web, scratch / "source", "web:/tmp/out/target", code=None)
    cp(web, "web:/tmp/out/target", scratch / "stolen", code=None)
    assert target.read_text() == "safe"
    assert not (scratch / "stolen").exists() or (scratch / "stolen").read_text() == "broken"


@pytest.mark.slow
def test_a_hostile_instance_swaps_links(web, scratch):
    """While files are copied both ways the instance exchanges folders and links to the host."""
    secret = scratch / "host"
    secret.mkdir(mode=0o755)
    (secret / "file").write_text("secret")
    (secret / "file").chmod(0o666)
    before = secret.stat().st_mtime_ns
    loop = web.popen([web.build / "brume", "--socket", web.socket, "exec", "web", "--", "sh", "-c",
                      f"mkdir -p /a/real/deep; echo mine > /a/real/file; cd /a; while :; do "
                      f"ln -s {secret} swap 2>/dev/null; mv -T real x 2>/dev/null; "
                      f"mv swap real 2>/dev/null; mv real swap; mv -T x real; "
                      f"rm -f swap; done"],
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    source = scratch / "file"
    source.write_text("from the host")
    got = scratch / "got"
    for number in range(40):
        cp(web, source, "web:/a/real/file", code=None)
        cp(web, source, "web:/a/real", code=None)
        subprocess.run(["rm", "-rf", got], check=True)
        cp(web, "web:/a", got, code=None)
        for path in got.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert "secret" not in path.read_text(), number
        done = web.cli("cp", "-L", "web:/a/real/file", "-", text=False, code=None)
        assert b"secret" not in done.stdout
    loop.kill()
    assert (secret / "file").read_text() == "secret"
    assert [p.name for p in secret.iterdir()] == ["file"]
    assert secret.stat().st_mtime_ns == before


def test_a_copy_in_progress_gives_way_to_a_start(either, scratch):
    """A new run never shares its changed files with a copy: the copy ends with a reason."""
    node = either
    if node.instance("web")["status"]["state"] == "running":
        node.cli("stop", "-t", "0", "web")
    reader, writer = os.pipe()
    copying = node.popen([node.build / "brume", "--socket", node.socket, "cp", "-", "web:/data"],
                         stdin=reader, stderr=subprocess.PIPE)
    os.close(reader)
    os.write(writer, b"\0" * 10)
    eventually(lambda: workers(node), 10, "a worker")
    node.cli("start", "web")
    assert node.instance("web")["status"]["state"] == "running"
    os.close(writer)
    assert copying.wait(20) == 1
    assert b"being started" in copying.stderr.read()
    assert not workers(node)


def workers(node):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"brume-image-worker"):
                found.append(int(entry.name))
    return found


def test_the_worker_is_alone(web, scratch):
    """What copies is not seen inside, has no rights outside, and ends with the agent."""
    reader, writer = os.pipe()
    copying = web.popen([web.build / "brume", "--socket", web.socket, "cp", "-", "web:/tmp"],
                        stdin=reader, stderr=subprocess.DEVNULL)
    os.close(reader)
    os.write(writer, b"\0" * 10)
    [pid] = eventually(lambda: workers(web), 10, "a worker")
    eventually(lambda: "Seccomp:\t2" in pathlib.Path(f"/proc/{pid}/status").read_text(), 10,
               "its sandbox")
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert all(int(uid) >= 0x40000000 for uid in status["Uid"].split())
    assert status["NoNewPrivs"] == "1" and status["CapBnd"].strip("0") == ""
    assert os.listdir(f"/proc/{pid}/root/") == []
    init = web.instance("web")["status"]["pid"]
    for kind in ("user", "pid", "mnt", "net", "ipc"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/{init}/ns/{kind}")
    inside = web.cli("exec", "web", "--", "ls", "/proc").stdout.split()
    assert len([p for p in inside if p.isdigit()]) <= 3
    web.kill("agentd")
    eventually(lambda: not workers(web), 10, "the worker's end")
    os.close(writer)
    assert copying.wait(20) == 1
    web.wait_ready()
    cp(web, "web:/bin/busybox", scratch)


def test_the_api(web):
    def call(method, path, **more):
        return web.api(method, f"/1.0/instances/web/files?path={urllib.parse.quote(path)}",
                       raw=True, **more)
    status, answer = call("GET", "/bin/busybox&stat=1".replace("&", "%26"))
    assert status == 404
    status, answer = web.api("GET", "/1.0/instances/web/files?path=/bin/busybox&stat=1", raw=True)
    assert status == 200 and answer["metadata"]["type"] == "file"
    assert answer["metadata"]["size_bytes"] > 1000
    for path in ("", "relative", "/" + "x" * 5000):
        status, answer = call("GET", path)
        assert status == 400, path
    status, answer = web.api("GET", "/1.0/instances/web/files?path=/&other=1", raw=True)
    assert status == 400


def test_many_at_once(web, scratch):
    """A stopped instance has one root at a time; those who come together wait for each other."""
    web.cli("exec", "web", "--", "sh", "-c", "for i in $(seq 200); do echo $i > /tmp/$i; done")
    web.cli("stop", "-t", "0", "web")
    threads = [threading.Thread(target=cp, args=(web, "web:/tmp", scratch / str(i)))
               for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(list((scratch / str(i)).iterdir())) == 200 for i in range(6))


def test_attributes_go_through_a_tar(busybox):
    """What setcap has set, and people's own attributes; nothing that the host would believe."""
    node, reference = busybox
    capability = "\x01\x00\x00\x02" + "\x00\x04\x00\x00" + "\x00" * 12  # net_bind_service=ep
    attributes = {"user.colour": "blue", "security.capability": capability,
                  "security.selinux": "x", "trusted.overlay.opaque": "y"}
    info = tarfile.TarInfo("bound")
    info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in attributes.items()}
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)

    def round_trip(name, *options):
        node.launch(reference, name)
        node.run([node.build / "brume", "cp", *options, "-", f"{name}:/root"],
                 env=node.environment(), input=data.getvalue(), text=False)
        back = node.run([node.build / "brume", "cp", f"{name}:/root/bound", "-"],
                        env=node.environment(), text=False).stdout
        with tarfile.open(fileobj=io.BytesIO(back)) as tar:
            return {key.removeprefix("SCHILY.xattr."): value for key, value
                    in tar.getmember("bound").pax_headers.items() if "xattr" in key}
    assert round_trip("whole", "-a") == {key: attributes[key] for key in
                                         ("user.colour", "security.capability")}
    # Without its owner a file gets no powers either.
    assert round_trip("plain") == {"user.colour": "blue"}
