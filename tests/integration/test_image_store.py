"""image/ without the daemons: pulls from registries good and bad, imports, exports, the store, and
the root file systems that come of it."""
import errno
import io
import json
import os
import pathlib
import random
import select
import signal
import ssl
import stat
import struct
import subprocess
import tarfile
import threading

import images
import pytest
from conftest import need
from image_builder import DOCKER, OCI, Image, Layer, sha256, to_json
from registry import FaultyRegistry, Registry

LAYER_UID = 0x70000000
SLOT_UID = 0x40000000


class Here:
    """The session's own network namespace, as registry.py wants to be told."""
    pid = os.getpid()
    popen = staticmethod(subprocess.Popen)


class Failed(Exception):
    def __init__(self, line):
        self.code, self.text = int(line.split()[0]), line.split(" ", 1)[1].strip()
        super().__init__(line)


class Store:
    def __init__(self, build, folder, boot=None):
        self.program, self.worker = build / "tests/image-driver", build / "brume-image-worker"
        self.folder, self.boot = pathlib.Path(folder), boot
        self.dir = self.folder / "images"

    def environment(self, **more):
        env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        return {**env, "IMAGE_DRIVER_WORKER": str(self.worker),
                **({"IMAGE_DRIVER_BOOT": self.boot} if self.boot else {}), **more}

    def start(self, *args, env=None, **more):
        return subprocess.Popen([self.program, self.dir, *args], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.environment(**(env or {})), **more)

    def __call__(self, *args, data=None, raw=False, env=None):
        done = subprocess.run([self.program, self.dir, *args], input=data, capture_output=True,
                              env=self.environment(**(env or {})))
        if done.returncode:
            lines = done.stderr.decode().strip().splitlines()
            assert len(lines) == 1, done.stderr
            raise Failed(lines[0])
        return done.stdout if raw else json.loads(done.stdout or "null")

    def pull(self, reference, uid="one", **options):
        return self("pull", uid, reference, *(f"{k}={v}" for k, v in options.items()))

    def tree(self, layer):
        """The folder of an unpacked layer of an image's description."""
        return self.dir / "layers" / layer["diff_id"].split(":")[1] / "fs"

    def names(self, folder):
        return sorted(p.name for p in (self.dir / folder).iterdir())

    def check_empty(self, partial=()):
        """After a failure nothing may be left but beginnings of blobs."""
        assert self.names("records") == self.names("layers") == self.names("jobs") == []
        assert self.names("blobs/sha256") == self.names("trash") == []
        assert self.names("partial") == sorted(partial)


@pytest.fixture
def store(build, scratch):
    need("tests/image-driver", "brume-image-worker")
    # Another session that ends removes empty folders of this kind.
    (scratch / "in-use").touch()
    return Store(build, scratch)


@pytest.fixture
def faulty():
    opened = []

    def make(**more):
        opened.append(FaultyRegistry(Here, port=5001 + len(opened), **more))
        return opened[-1]
    yield make
    for registry in opened:
        registry.stop()


def children_of(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def wait_for_bytes(process):
    """Until the first bytes of a layer have come."""
    for line in process.stderr:
        assert line.startswith(b"progress "), line
        if b"progress 0/" not in line:
            return


def layer_digests(image):
    return [layer["digest"] for layer in json.loads(image.manifest)["layers"]]


# -- what works ------------------------------------------------------------------------------------

def test_a_real_registry(store, scratch):
    need("docker-registry")
    registry = Registry(Here, scratch / "registry")
    try:
        info = store.pull(registry.push(images.layered(), "layered:1"))
        assert info["digest"] == images.layered().digest
        assert info["architecture"] == "amd64" and info["config"]["cmd"] == ["sleep", "2147483647"]
        assert len(info["layers"]) == 4
        assert store("list") == ["one"]
        assert store("info", "one")["digest"] == info["digest"]
    finally:
        registry.stop()


@pytest.mark.parametrize("compression,media", [("gzip", "oci"), ("zstd", "oci"), ("none", "oci"),
                                               ("gzip", "docker"), ("none", "docker")])
def test_what_a_layer_keeps(store, faulty, compression, media):
    image = images.layered(compression, media)
    info = store.pull(faulty().add(image, "layered:1"))
    second, third, fourth = (store.tree(layer) for layer in info["layers"][1:])
    assert (second / "data/owned").stat().st_uid == LAYER_UID + 1000
    assert (second / "data/owned").stat().st_gid == LAYER_UID + 50
    assert stat.S_IMODE((second / "data/setuid").stat().st_mode) == 0o4755
    assert (second / "data/one").samefile(second / "data/two")
    assert os.readlink(second / "data/outside") == "../../../../etc/passwd"
    assert (second / "data/pipe").is_fifo()
    assert os.getxattr(second / "data/attributes", "user.colour") == b"green"
    assert (second / "data/kept").stat().st_mtime == 1700000000
    assert (second / "data").stat().st_mtime == 1700000000
    old = (third / "data/old").stat()
    assert stat.S_ISCHR(old.st_mode) and old.st_rdev == 0
    assert os.getxattr(third / "data/sub", "trusted.overlay.opaque") == b"y"
    assert not (third / "data/sub/.wh..wh..opq").exists()
    assert (fourth / "data/ä ö").read_text() == "name"


def test_what_overlayfs_would_believe_is_dropped(store, faulty):
    layer = Layer().folder("d", xattrs={"user.overlay.opaque": "y", "trusted.overlay.opaque": "y",
                                        "security.selinux": "x", "user.mine": "1"})
    info = store.pull(faulty().add(Image([layer]), "attributes:1"))
    folder = store.tree(info["layers"][0]) / "d"
    assert [n for n in os.listxattr(folder)] == ["user.mine"]


def test_access_lists_keep_their_ids(store, faulty):
    def acl(user):
        entries = [(1, 7, 0xffffffff), (2, 7, user), (4, 5, 0xffffffff), (16, 7, 0xffffffff),
                   (32, 5, 0xffffffff)]
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    name, text = "system.posix_acl_default", acl(1000).decode("utf-8", "surrogateescape")
    layer = Layer().folder("d", xattrs={name: text}).file("d/f", "x", mode=0o640)
    info = store.pull(faulty().add(Image([layer]), "acl:1"))
    folder = store.tree(info["layers"][0]) / "d"
    assert os.getxattr(folder, name) == acl(LAYER_UID + 1000)
    # The default is for what the instance will make, not for what the image has.
    assert os.listxattr(folder / "f") == []
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o640


def test_devices_are_made_by_the_agents_side(store, faulty):
    layer = Layer().folder("dev").device("dev/null", 1, 3, mode=0o666).device("dev/x", 10, 200, uid=5)
    info = store.pull(faulty().add(Image([layer]), "devices:1"))
    tree = store.tree(info["layers"][0])
    null = (tree / "dev/null").stat()
    assert stat.S_ISCHR(null.st_mode) and null.st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE(null.st_mode) == 0o666 and null.st_uid == LAYER_UID
    assert (tree / "dev/x").stat().st_uid == LAYER_UID + 5
    assert (tree / "dev").stat().st_mtime == 1700000000


def test_replacements_inside_a_layer(store, faulty):
    layer = Layer().folder("a").file("a/f", "1").file("a", "now a file")
    layer.file("b", "file").folder("b").file("b/f", "2").symlink("c", "x").file("c", "3")
    layer.file("d", "old").file("d", "new").whiteout("e").folder("e").file("e/f", "4")
    layer.folder("g").whiteout("g")
    info = store.pull(faulty().add(Image([layer]), "replace:1"))
    tree = store.tree(info["layers"][0])
    assert (tree / "a").read_text() == "now a file" and (tree / "b/f").read_text() == "2"
    assert (tree / "c").read_text() == "3" and not (tree / "c").is_symlink()
    assert (tree / "d").read_text() == "new" and (tree / "e/f").read_text() == "4"
    # Hidden and made again: what the layers below have there stays hidden.
    for name in ("e", "g"):
        assert os.getxattr(tree / name, "trusted.overlay.opaque") == b"y"


def test_names_of_any_bytes(store, faulty):
    decomposed = "e\u0301"
    layer = Layer().file(decomposed, "d").file("\u00e9", "c").file("n" * 255, "long")
    info = store.pull(faulty().add(Image([layer]), "names:1"))
    tree = store.tree(info["layers"][0])
    assert sorted(os.listdir(os.fsencode(tree))) == sorted(
        [decomposed.encode(), "\u00e9".encode(), b"n" * 255])


def test_a_sparse_file_stays_sparse(store, scratch):
    need("tar")
    (scratch / "root").mkdir()
    with open(scratch / "root/sparse", "wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    tar = subprocess.run(["tar", "-S", "-C", scratch / "root", "-c", "."], check=True,
                         capture_output=True).stdout
    info = store("import", "one", "sparse", data=tar)
    found = (store.tree(info["layers"][0]) / "sparse").stat()
    assert found.st_size == (50 << 20) + 3 and found.st_blocks < 2048


def test_the_platform_is_chosen(store, faulty):
    registry = faulty()
    other = Image([Layer().file("wrong", "x")], architecture="riscv64")
    for image in (other, images.busybox()):
        registry.add(image, f"both:{image.architecture}")
    reference = registry.add_raw_manifest("both:1", *images.manifest_list([other, images.busybox()]))
    assert store.pull(reference)["digest"] == images.busybox().digest
    assert store.pull(reference, "two", platform="linux/riscv64")["digest"] == other.digest


def test_a_reference_with_a_digest(store, faulty):
    registry = faulty()
    registry.add(images.web(), "pinned:1")
    info = store.pull(f"{registry.address}/pinned@{images.web().digest}")
    assert info["digest"] == images.web().digest


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_user_and_password(store, faulty, auth):
    reference = faulty(auth=auth).add(images.layered(), "private:1")
    with pytest.raises(Failed, match="user name and a password"):
        store.pull(reference)
    with pytest.raises(Failed, match="password is wrong|denied"):
        store.pull(reference, username="user", password="wrong")
    store.check_empty()
    store.pull(reference, username="user", password="secret")
    text = (store.dir / "records/one.json").read_text()
    assert "secret" not in text and "username" not in text


def test_a_redirect_to_another_host_gets_no_credentials(store, faulty):
    first, second = faulty(auth="basic"), faulty()
    image = images.web()
    reference = first.add(image, "moved:1")
    second.add(image, "moved:1")
    seen, handler = [], second.server.RequestHandlerClass
    get = handler.do_GET

    def note(self, head=False):
        seen.append(self.headers.get("Authorization"))
        return get(self, head)
    handler.do_GET = note
    blob = first.server.RequestHandlerClass.blob

    def redirect(self, digest, head):
        if digest not in layer_digests(image):
            return blob(self, digest, head)
        return self.answer(307, headers=[("Location",
                                          f"http://{second.address}/v2/moved/blobs/{digest}")])
    first.server.RequestHandlerClass.blob = redirect
    store.pull(reference, username="user", password="secret")
    assert seen and not any(seen)


def test_a_second_pull_asks_for_the_manifest_only(store, faulty):
    registry = faulty()
    reference = registry.add(images.layered(), "again:1")
    first = store.pull(reference)
    registry.requests.clear()
    assert store.pull(reference, "two")["digest"] == first["digest"]
    assert [(m, p.rsplit("/", 2)[1]) for m, p, _ in registry.requests] == [("HEAD", "manifests")]
    assert store("list") in (["one", "two"], ["two", "one"])


def test_shared_layers_are_fetched_once(store, faulty):
    registry = faulty()
    store.pull(registry.add(images.busybox(), "first:1"))
    registry.requests.clear()
    store.pull(registry.add(images.configured(), "second:1"), "two")
    shared = layer_digests(images.busybox())[0]
    assert shared in layer_digests(images.configured())
    assert not [p for _, p, _ in registry.requests if shared in p]


def test_two_pulls_at_once_fetch_every_layer_once(store, faulty):
    registry = faulty()
    reference = registry.add(images.big(4_000_000), "at-once:1")
    store("twice", "one", "two", reference)
    assert sorted(store("list")) == ["one", "two"]
    for digest in layer_digests(images.big(4_000_000)):
        assert len([p for m, p, _ in registry.requests if digest in p and m == "GET"]) == 1


def test_a_proxy_from_the_environment(store, faulty):
    registry = faulty()
    reference = registry.add(images.web(), "proxied:1").replace(registry.address, "r.invalid")
    with pytest.raises(Failed, match="cannot be reached"):
        store.pull(reference)
    for name in ("http_proxy", "HTTP_PROXY"):
        store("pull", name.replace("_", "-"), reference,
              env={name: f"http://{registry.address}"})
    with pytest.raises(Failed, match="cannot be reached"):
        store("pull", "one", reference, env={"http_proxy": f"http://{registry.address}",
                                             "no_proxy": "r.invalid"})


def test_tls_is_verified(store, scratch, faulty):
    need("openssl")
    registry = faulty()
    reference = registry.add(images.web(), "tls:1")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj",
                    "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                    scratch / "key.pem", "-out", scratch / "cert.pem"], check=True,
                   capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(scratch / "cert.pem", scratch / "key.pem")
    registry.server.socket = context.wrap_socket(registry.server.socket, server_side=True)
    with pytest.raises(Failed, match="certificate is not trusted"):
        store.pull(reference, insecure="no")
    store("pull", "one", reference, "insecure=no", env={"SSL_CERT_FILE": str(scratch / "cert.pem")})
    store.pull(reference, "two")
    assert len(store("list")) == 2


def test_the_worker_has_no_power(store, faulty):
    registry, image, go_on = faulty(), images.big(300_000), threading.Event()
    registry.faults[layer_digests(image)[1]] = ("hang", go_on)
    process = store.start("pull", "one", registry.add(image, "power:1"),
                          env={"IMAGE_DRIVER_PROGRESS": "1"})
    process.stderr.readline()
    worker = children_of(process.pid)[0]
    status = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{worker}/status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split()[0] == str(LAYER_UID) and status["Groups"].strip() == ""
    assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1"
    # chown, dac_override, fowner, fsetid, setfcap; all of them in a namespace of its own.
    kept = sum(1 << bit for bit in (0, 1, 3, 4, 31))
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == kept
    assert int(status["CapBnd"], 16) == int(status["CapInh"], 16) == 0
    for name in ("user", "mnt"):
        assert os.readlink(f"/proc/{worker}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}")
    mounts = [line.split()[4:6] for line in
              pathlib.Path(f"/proc/{worker}/mountinfo").read_text().splitlines()]
    assert {place: options.split(",")[0] for place, options in mounts} == {"/": "ro", "/job": "rw"}
    assert sorted(os.listdir(f"/proc/{worker}/root")) == ["etc", "job"]
    targets = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")]
    assert not [t for t in targets if t.startswith("/") and not
                t.startswith(("/job", "/dev/null", "/blobs", "/layers"))], targets
    go_on.set()
    process.communicate()
    assert process.returncode == 0


# -- what breaks -----------------------------------------------------------------------------------

def test_a_broken_download_goes_on_where_it_stopped(store, faulty):
    registry, image = faulty(), images.big(3_000_000)
    reference, digest = registry.add(image, "breaks:1"), layer_digests(image)[1]
    registry.faults[digest] = ("drop-once", 1_000_000)
    store.pull(reference)
    assert [r for _, p, r in registry.requests if digest in p] == [None, "bytes=1000000-"]


def test_a_later_pull_goes_on_where_the_killed_worker_stopped(store, faulty):
    registry, image, go_on = faulty(), images.big(3_000_000), threading.Event()
    reference, digest = registry.add(image, "killed:1"), layer_digests(image)[1]
    registry.faults[digest] = ("hang", go_on)
    process = store.start("pull", "one", reference, env={"IMAGE_DRIVER_PROGRESS": "1"})
    wait_for_bytes(process)
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    assert process.wait() == 1
    assert b"killed by signal 9" in process.stderr.read()
    assert digest in store.names("partial") and not store.names("jobs")
    go_on.set()
    registry.faults.clear()
    registry.requests.clear()
    store.pull(reference)
    assert [r for _, p, r in registry.requests if digest in p] == ["bytes=1000-"]
    assert store.names("partial") == []


def test_the_agents_end_is_the_workers_end(store, faulty):
    registry, image, go_on = faulty(), images.big(3_000_000), threading.Event()
    reference, digest = registry.add(image, "agent:1"), layer_digests(image)[1]
    registry.faults[digest] = ("hang", go_on)
    process = store.start("pull", "one", reference, env={"IMAGE_DRIVER_PROGRESS": "1"})
    wait_for_bytes(process)
    watch = os.pidfd_open(children_of(process.pid)[0])
    process.kill()
    process.wait()
    assert select.select([watch], [], [], 10)[0], "the worker lives on"
    os.close(watch)
    go_on.set()
    registry.faults.clear()
    assert store("list") == []
    assert digest in store.names("partial") and not store.names("jobs")
    store.pull(reference)


def test_a_wrong_beginning_is_thrown_away(store, faulty):
    registry, image = faulty(), images.big(3_000_000)
    reference, digest = registry.add(image, "wrong:1"), layer_digests(image)[1]
    store("list")
    (store.dir / "partial" / digest).write_bytes(b"x" * 5000)
    store.pull(reference)
    assert [r for _, p, r in registry.requests if digest in p] == ["bytes=5000-", None]


@pytest.mark.parametrize("fault,words", [
    ("missing", "does not exist|blob unknown"), ("corrupt", "digest mismatch"),
    ("truncate", "truncated"), (("drop", 1000), "127.0.0.1:5001")])
def test_a_bad_blob(store, faulty, fault, words):
    registry, image = faulty(), images.big(300_000)
    reference, digest = registry.add(image, "bad:1"), layer_digests(image)[1]
    registry.faults[digest] = fault
    with pytest.raises(Failed, match=words) as failed:
        store.pull(reference)
    assert "layer 2 of 2" in failed.value.text
    partial = [name for name in store.names("partial") if name != layer_digests(image)[0]]
    assert partial == ([digest] if isinstance(fault, tuple) else [])
    store("gc")
    store.check_empty()


def test_a_bad_manifest(store, faulty):
    registry, image = faulty(), images.web()
    registry.add(image, "bad:1")
    registry.faults[image.digest] = "corrupt"
    with pytest.raises(Failed, match="digest mismatch"):
        store.pull(f"{registry.address}/bad@{image.digest}")
    reference = registry.add_raw_manifest("bad:2", b"{\"layers\":", OCI["manifest"])
    with pytest.raises(Failed, match="not valid JSON"):
        store.pull(reference)
    config = to_json({"architecture": "amd64", "os": "linux",
                      "rootfs": {"type": "layers", "diff_ids": [sha256(b"other")]}})
    registry.blobs[sha256(config)] = config
    manifest = json.loads(image.manifest)
    manifest["config"].update(digest=sha256(config), size=len(config))
    reference = registry.add_raw_manifest("bad:3", to_json(manifest), OCI["manifest"])
    with pytest.raises(Failed, match="digest mismatch|layers, the configuration"):
        store.pull(reference)
    store("gc")
    store.check_empty()


def test_an_unknown_image(store, faulty):
    registry = faulty()
    with pytest.raises(Failed, match="'nothing' does not exist in 127.0.0.1:5001/unknown") as failed:
        store.pull(f"{registry.address}/unknown:nothing")
    assert failed.value.code == -errno.ENOENT
    with pytest.raises(Failed, match="cannot be reached"):
        store.pull("127.0.0.1:1/unknown:1")
    with pytest.raises(Failed, match="write HOST/web"):
        store.pull("web")
    store.check_empty()


def test_plain_http_only_when_asked(store, faulty):
    reference = faulty().add(images.web(), "plain:1")
    with pytest.raises(Failed, match="--insecure"):
        store.pull(reference, insecure="no")


def test_an_image_for_another_architecture(store, faulty):
    registry = faulty()
    image = Image([Layer().file("x", "x")], architecture="riscv64")
    with pytest.raises(Failed, match="made for linux/riscv64, not for linux/"):
        store.pull(registry.add(image, "other:1"))
    index = registry.add_raw_manifest("other:2", *images.manifest_list([image]))
    with pytest.raises(Failed, match="there is: linux/riscv64"):
        store.pull(index)
    store("gc")
    store.check_empty()


TRICKS = {"dotdot": "'..'", "absolute": "'..'", "symlink": "through 'way', which is a symbolic link",
          "symlink-dotdot": "through 'way'", "hardlink": "'..'", "hardlink-symlink": "through 'way'"}


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_escapes(store, faulty, trick):
    image = images.escaping(trick)
    with pytest.raises(Failed) as failed:
        store.pull(faulty().add(image, "escape:1"))
    assert TRICKS[trick] in failed.value.text and "brume-escaped" in failed.value.text or \
        "stolen" in failed.value.text, failed.value.text
    assert not pathlib.Path("/tmp/brume-escaped").exists()
    assert store.names("layers") == store.names("records") == store.names("jobs") == []


def test_an_absolute_name_stays_inside(store, faulty):
    info = store.pull(faulty().add(Image([Layer().file("/etc/brume-inside", "x")]), "absolute:1"))
    assert (store.tree(info["layers"][0]) / "etc/brume-inside").exists()
    assert not pathlib.Path("/etc/brume-inside").exists()


@pytest.mark.parametrize("layer,words", [
    (lambda: Layer().file("a", "x", uid=70000), "'a' belongs to 70000:0"),
    (lambda: Layer().hardlink("a", "missing"), "'missing', which is not in this layer"),
    (lambda: Layer().file("f", "x").file("f/g", "y"), "goes through 'f', which is not a folder"),
    (lambda: Layer().file("d/" * 300 + "f", "x"), "nested deeper"),
    (lambda: Layer().file("d/.wh.", "x"), "hides nothing"),
    (lambda: Layer().file("x" * 300, "x"), "longer than 255 bytes")])
def test_a_strange_tar(store, faulty, layer, words):
    with pytest.raises(Failed, match=words):
        store.pull(faulty().add(Image([layer()]), "strange:1"))
    store("gc")
    store.check_empty()


def test_limits(store, faulty):
    reference = faulty().add(images.big(2_000_000), "limits:1")
    with pytest.raises(Failed, match="larger than 1000000 bytes when unpacked"):
        store.pull(reference, bytes=1_000_000)
    with pytest.raises(Failed, match="more than 10 files"):
        store.pull(reference, inodes=10)
    store("gc")
    store.check_empty()


def test_too_many_layers(store, faulty):
    layers = [Layer().file("x", "x")] * 501
    with pytest.raises(Failed, match="501 layers, at most 500"):
        store.pull(faulty().add(Image(layers), "many:1"))


def test_a_full_disk(build, scratch, faulty):
    disk = scratch / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=0711", "tmpfs", disk], check=True)
    try:
        store, image = Store(build, disk), images.big(8_000_000)
        with pytest.raises(Failed, match="No space left on device"):
            store.pull(faulty().add(image, "full:1"))
        assert store.names("layers") == store.names("records") == store.names("jobs") == []
        store("gc")
        store.check_empty()
    finally:
        subprocess.run(["umount", disk], check=True)


# -- imports and exports ---------------------------------------------------------------------------

def layout_tar(image, folder):
    image.write_layout(folder)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, ".")
    return buffer.getvalue()


@pytest.mark.parametrize("around", ["cat", "gzip", "zstd"])
def test_import_of_a_layout(store, scratch, around):
    data = layout_tar(images.layered(), scratch / "layout")
    data = subprocess.run([around] if around == "cat" else [around, "-c"], input=data, check=True,
                          capture_output=True).stdout
    info = store("import", "one", "layout", data=data)
    assert info["digest"] == images.layered().digest
    assert (store.tree(info["layers"][3]) / "data/old").read_text() == "again"


def test_import_of_a_docker_save(store, scratch):
    image = images.layered("none", "docker")
    path = image.write_docker_save(scratch / "saved.tar")
    info = store("import", "one", "saved", data=path.read_bytes())
    assert [layer["diff_id"] for layer in info["layers"]] == layer_digests(image)
    assert info["config"]["cmd"] == ["sleep", "2147483647"]


@pytest.mark.parametrize("around", ["cat", "gzip", "zstd"])
def test_import_of_a_root_file_system(store, around):
    data = Layer().folder(".", mode=0o751).folder("bin").file("bin/sh", "x", uid=3).tar()
    data = subprocess.run([around] if around == "cat" else [around, "-c"], input=data, check=True,
                          capture_output=True).stdout
    info = store("import", "one", "root", data=data)
    assert len(info["layers"]) == 1 and info["layers"][0]["digest"] == sha256(data)
    assert (store.tree(info["layers"][0]) / "bin/sh").stat().st_uid == LAYER_UID + 3


@pytest.mark.parametrize("data,words", [
    (b"", "neither a tar"), (b"hello\n" * 1000, "neither a tar"), (b"\0" * 10240, "neither a tar"),
    (b"\x1f\x8b broken", "gzip stream")], ids=["nothing", "text", "zeros", "gzip"])
def test_import_of_something_else(store, data, words):
    with pytest.raises(Failed, match=words):
        store("import", "one", "else", data=data)
    store.check_empty()


def test_import_of_a_broken_layout(store, scratch):
    image = images.layered()
    victim = scratch / "layout/blobs/sha256" / layer_digests(image)[1].split(":")[1]
    image.write_layout(scratch / "layout")
    victim.write_bytes(victim.read_bytes()[:-5])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(scratch / "layout", ".")
    with pytest.raises(Failed, match="layer 2: digest mismatch"):
        store("import", "one", "broken", data=buffer.getvalue())
    store.check_empty()


def test_export_and_back(store, scratch, faulty):
    need("skopeo")
    store.pull(faulty().add(images.layered(), "round:1"))
    path = scratch / "out.tar"
    path.write_bytes(store("export", "one", raw=True))
    seen = subprocess.run(["skopeo", "inspect", f"oci-archive:{path}"], capture_output=True,
                          check=True)
    assert json.loads(seen.stdout)["Digest"] == images.layered().digest
    store("remove", "one")
    assert store("gc")["layers"] == 4
    assert store("import", "two", "back", data=path.read_bytes())["digest"] == \
        images.layered().digest


def test_podmans_and_dockers_archives(store, scratch):
    """What other people's tools write can be read."""
    need("skopeo")
    layout = images.layered().write_layout(scratch / "layout")
    for kind in ("oci-archive", "docker-archive"):
        path = scratch / f"{kind}.tar"
        subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:latest", f"{kind}:{path}:some:tag"],
                       check=True)
        info = store("import", kind, kind, data=path.read_bytes())
        assert len(info["layers"]) == 4
    assert len(store.names("layers")) == 4


# -- the store -------------------------------------------------------------------------------------

def test_what_is_collected(store, faulty):
    registry = faulty()
    one = store.pull(registry.add(images.layered(), "one:1"))
    store.pull(registry.add(images.web(), "two:1"), "two")
    assert store("gc") == {"blobs": 0, "bytes": 0, "layers": 0}
    store("remove", "one")
    layers = [layer["diff_id"] for layer in one["layers"]]
    store("gc", *layers)  # an instance still uses them
    assert all(store.tree(layer).is_dir() for layer in one["layers"])
    store("gc")
    assert store("list") == ["two"] and store("info", "two")
    assert not store.tree(one["layers"][1]).exists()
    store("remove", "two")
    store("gc")
    store.check_empty()


def test_a_reboot_before_the_disk_had_it(build, scratch, faulty):
    reference = faulty().add(images.web(), "reboot:1")
    before = Store(build, scratch, boot="before")
    info = before.pull(reference)
    assert before.names("fresh") == [] or before("list") == ["one"]
    # As if the machine had stopped between the pull and the synchronization.
    hexes = [layer["diff_id"].split(":")[1] for layer in info["layers"]]
    (before.dir / "fresh" / hexes[0]).symlink_to("before")
    assert before("list") == ["one"]
    (before.dir / "fresh" / hexes[0]).unlink(missing_ok=True)
    (before.dir / "fresh" / hexes[0]).symlink_to("before")
    after = Store(build, scratch, boot="after")
    assert after("list") == [] and not after.tree(info["layers"][0]).exists()
    after.pull(reference)
    assert after("list") == ["one"]


def test_only_one_agent(store, faulty):
    registry, image, go_on = faulty(), images.big(300_000), threading.Event()
    reference = registry.add(image, "lock:1")
    registry.faults[layer_digests(image)[1]] = ("hang", go_on)
    process = store.start("pull", "one", reference, env={"IMAGE_DRIVER_PROGRESS": "1"})
    process.stderr.readline()
    with pytest.raises(Failed, match="used by another process"):
        store("list")
    go_on.set()
    process.communicate()
    assert process.returncode == 0


def test_damaged_records_are_as_good_as_none(store, faulty):
    reference = faulty().add(images.web(), "damaged:1")
    store.pull(reference)
    (store.dir / "records/one.json").write_text("{")
    assert store("list") == []
    store.pull(reference)
    assert store("list") == ["one"]


# -- root file systems -----------------------------------------------------------------------------

@pytest.fixture
def mounted(store, scratch):
    target = scratch / "root"
    target.mkdir()

    def mount(uid, slot=3):
        store("rootfs", uid, str(slot), str(scratch / "instance/upper"),
              str(scratch / "instance/work"), str(target))
        return target
    yield mount
    subprocess.run(["umount", "-q", target], check=False)


def test_the_layers_become_a_root(store, faulty, mounted):
    store.pull(faulty().add(images.layered(), "root:1"))
    root, base = mounted("one"), SLOT_UID + 3 * 65536
    assert (root / "data/old").read_text() == "again"
    assert os.listdir(root / "data/sub") == ["new"]
    assert (root / "data/owned").stat().st_uid == base + 1000
    assert (root / "data/setuid").stat().st_uid == base
    (root / "data/kept").write_text("changed")
    assert root.stat().st_uid == base and stat.S_IMODE(root.stat().st_mode) == 0o755


def test_the_roots_own_attributes(store, faulty, mounted):
    first = Layer().folder(".", mode=0o711, uid=7, gid=8).file("a", "a")
    store.pull(faulty().add(Image([first, Layer().file("b", "b")]), "attributes:1"))
    found = mounted("one").stat()
    assert stat.S_IMODE(found.st_mode) == 0o711
    assert found.st_uid == SLOT_UID + 3 * 65536 + 7 and found.st_gid == SLOT_UID + 3 * 65536 + 8


def test_capabilities_follow_the_ids(store, mounted, scratch):
    """A file capability of the image counts inside the instance's user namespace, and only there."""
    need("setcap", "getcap", "tar")
    (scratch / "tree").mkdir()
    program = scratch / "tree/program"
    program.write_bytes(b"x")
    subprocess.run(["setcap", "cap_net_raw+ep", program], check=True)
    tar = subprocess.run(["tar", "--xattrs", "--xattrs-include=security.capability", "-C",
                          scratch / "tree", "-c", "."], check=True, capture_output=True).stdout
    store("import", "one", "caps", data=tar)
    root = mounted("one")
    seen = subprocess.run(["getcap", "-n", root / "program"], capture_output=True, text=True,
                          check=True).stdout
    assert "cap_net_raw=ep" in seen and f"rootid={SLOT_UID + 3 * 65536}" in seen


def test_hundreds_of_layers(store, faulty, mounted):
    layers = [Layer().file(f"f{i:03}", str(i)) for i in range(500)]
    store.pull(faulty().add(Image(layers), "many:1"))
    root = mounted("one")
    assert len(os.listdir(root)) == 500 and (root / "f499").read_text() == "499"


def test_the_same_layer_twice(store, faulty, mounted):
    again, middle = Layer().file("a", "1"), Layer().file("a", "2").file("b", "2")
    image = Image([again, middle, again])
    store.pull(faulty().add(image, "twice:1"))
    root = mounted("one")
    assert (root / "a").read_text() == "1" and (root / "b").read_text() == "2"


def test_random_trees_survive(store):
    """Anything that tar packs comes out as GNU tar would unpack it."""
    rng, layer, expected = random.Random(5), Layer(), {}
    for number in range(300):
        name = "/".join(f"d{rng.randrange(6)}" for _ in range(rng.randrange(4))) + f"/f{number}"
        data = rng.randbytes(rng.choice([0, 1, 511, 512, 513, 70000]))
        layer.file(name, data, mode=rng.choice([0o600, 0o644, 0o755]), uid=rng.randrange(65536))
        expected[name] = data
    info = store("import", "one", "random", data=layer.tar())
    tree = store.tree(info["layers"][0])
    assert {str(p.relative_to(tree)) for p in tree.rglob("*") if p.is_file()} == \
        {name.lstrip("/") for name in expected}
    for name, data in expected.items():
        assert (tree / name.lstrip("/")).read_bytes() == data


def test_docker_media_types_are_kept(store, faulty):
    info = store.pull(faulty().add(images.layered("gzip", "docker"), "types:1"))
    assert info["layers"][0]["media_type"] == DOCKER["layer"]["gzip"]
