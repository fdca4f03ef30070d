"""What bad input gets: one clear line, exit code 1 or 2, and nothing changed."""
import json
import os
import pathlib
import shutil
import socket
import subprocess

import images
import pytest
from image_builder import Image, Layer, sha256
from node import Failure
from registry import FaultyRegistry

ESCAPED = pathlib.Path("/tmp/brume-escaped")


@pytest.fixture
def bad(busybox):
    """bad(ARGS..., says=[words], code=1): runs brume and checks the error and that nothing changed."""
    node, reference = busybox

    def run(*args, says=(), code=1, **more):
        def census():
            return (sorted(node.api("GET", "/1.0/instances")),
                    sorted(node.api("GET", "/1.0/images")),
                    sorted(node.api("GET", "/1.0/networks")), node.census())
        before = census()
        done = node.cli(*args, code=code, **more)
        lines = done.stderr.strip().splitlines()
        assert 1 <= len(lines) <= 2, done.stderr
        assert len(lines[0]) < 400, done.stderr
        for word in says:
            assert word.lower() in done.stderr.lower(), done.stderr
        node.leftovers()
        after = census()
        assert after == before
        return done.stderr
    run.node, run.reference = node, reference
    return run


@pytest.fixture
def faulty(bad):
    registry = FaultyRegistry(bad.node)
    yield registry
    registry.stop()


def test_an_unknown_image(bad):
    bad("launch", "--insecure", bad.node.registry.address + "/nothing:1", "x", says=["nothing"])
    bad("image", "pull", "--insecure", bad.node.registry.address + "/nothing:1", says=["nothing"])


def test_a_registry_that_is_not_there(bad):
    bad("image", "pull", "--insecure", "127.0.0.1:5999/a:1", says=["127.0.0.1:5999"])


@pytest.mark.parametrize("reference", ["UPPER/case:1", "a b", "", "x:y:z", "../etc", "a@sha256:12",
                                       "-rm", "x" * 600])
def test_a_malformed_reference(bad, reference):
    bad("image", "pull", "--insecure", "--", reference, code=None)


def test_a_layer_with_other_bytes_than_its_digest_says(bad, faulty):
    image = images.big(100_000)
    reference = faulty.add(image, "corrupt:1")
    digest = json.loads(image.manifest)["layers"][1]["digest"]
    faulty.faults[digest] = "corrupt"
    bad("image", "pull", "--insecure", reference, says=["digest"])
    del faulty.faults[digest]
    bad.node.cli("image", "pull", "--insecure", reference)
    bad.node.cli("image", "delete", reference)


def test_a_manifest_with_other_bytes_than_its_digest_says(bad, faulty):
    image = images.web()
    faulty.add(image, "corrupt:2")
    faulty.faults[image.digest] = "corrupt"
    bad("image", "pull", "--insecure", f"{faulty.address}/corrupt@{image.digest}", says=["digest"])


@pytest.mark.parametrize("fault", ["truncate", "missing", ("drop", 500)])
def test_a_truncated_or_missing_layer(bad, faulty, fault):
    image = images.big(100_000)
    reference = faulty.add(image, "short:1")
    faulty.faults[json.loads(image.manifest)["layers"][1]["digest"]] = fault
    bad("image", "pull", "--insecure", reference)


def test_a_layer_whose_compression_is_broken(bad, faulty):
    image = images.big(100_000)
    manifest = json.loads(image.manifest)
    old = manifest["layers"][1]["digest"]
    broken = image.blobs[old][:50_000]
    faulty.blobs.update({sha256(broken): broken, **image.blobs})
    manifest["layers"][1].update(digest=sha256(broken), size=len(broken))
    reference = faulty.add_raw_manifest("broken:1", json.dumps(manifest).encode(),
                                        image.media["manifest"])
    bad("image", "pull", "--insecure", reference)


def test_a_layer_that_is_not_what_the_configuration_says(bad, faulty):
    # A layer that the store has already would not be asked for.
    image, other = Image([Layer().file("a", "b")]), Image([Layer().file("x", "y")])
    manifest = json.loads(image.manifest)
    manifest["layers"] = json.loads(other.manifest)["layers"]
    faulty.blobs.update({**image.blobs, **other.blobs})
    reference = faulty.add_raw_manifest("mismatch:1", json.dumps(manifest).encode(),
                                        image.media["manifest"])
    bad("image", "pull", "--insecure", reference)


MANIFESTS = [b"", b"{", b"[]", b"null", b'{"schemaVersion":1}',
             b'{"schemaVersion":2,"config":{},"layers":[]}',
             b'{"schemaVersion":2,"config":7,"layers":"x"}', b"[" * 100_000, b" " * 9_000_000]


@pytest.mark.parametrize("number", range(len(MANIFESTS)))
def test_a_manifest_that_is_none(bad, faulty, number):
    reference = faulty.add_raw_manifest("odd:1", MANIFESTS[number],
                                        "application/vnd.oci.image.manifest.v1+json")
    bad("image", "pull", "--insecure", reference)


@pytest.mark.parametrize("trick", ["dotdot", "absolute", "symlink", "symlink-dotdot", "hardlink",
                                   "hardlink-symlink"])
def test_a_layer_that_tries_to_get_out(busybox, trick):
    node, _ = busybox
    reference = node.registry.push(images.escaping(trick), f"evil:{trick}")
    passwd = os.stat("/etc/passwd")
    # Refused, or kept inside: never outside.
    done = node.cli("image", "pull", "--insecure", reference, code=None)
    assert done.returncode in (0, 1)
    if done.returncode:
        assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
    else:
        node.cli("image", "delete", reference)
    if trick == "dotdot":
        assert done.returncode == 1
    assert not ESCAPED.exists()
    assert os.stat("/etc/passwd").st_nlink == passwd.st_nlink
    assert os.stat("/etc/passwd").st_uid == 0


def test_an_imported_tar_with_tricks(bad, scratch):
    for name, data in {"nothing.tar": b"", "text.tar": b"hello" * 500,
                       "dotdot.tar": Layer().file("../../../../tmp/brume-escaped", "x").tar()}.items():
        (scratch / name).write_bytes(data)
        bad("image", "import", str(scratch / name), "trick")
        assert not ESCAPED.exists()
    bad("image", "import", str(scratch / "absent.tar"), "trick", says=["absent.tar"])


def test_a_port_that_is_taken(bad):
    bad.node.launch(bad.reference, "first", "-p", "7000:80")
    bad("launch", bad.reference, "second", "-p", "7000:80", says=["7000", "first"])
    bad.node.launch(bad.reference, "third", "-p", "7000:80/udp")


def test_a_port_that_a_program_of_the_host_has(bad):
    with bad.node.inside():
        link = socket.socket()
        link.bind(("0.0.0.0", 7001))
        link.listen()
    try:
        bad("launch", bad.reference, "host-port", "-p", "7001:80", says=["7001"])
    finally:
        link.close()


def test_an_image_for_another_architecture(bad):
    other = Image([Layer().file("x", "y")], {"Cmd": ["/x"]}, architecture="s390x")
    reference = bad.node.registry.push(other, "other:1")
    bad("launch", "--insecure", reference, "x", says=["s390x"])
    bad("image", "pull", "--insecure", reference, says=["s390x"])


def test_a_name_that_is_taken(bad):
    bad.node.launch(bad.reference, "taken")
    bad("launch", bad.reference, "taken", says=["taken"])


@pytest.mark.parametrize("name", ["Upper", "9lives", "a_b", "a.b", "-a", "a-", "a" * 64, "a/b", "ä"])
def test_a_malformed_name(bad, name):
    bad("launch", "--", bad.reference, name, code=None)
    status, answer = bad.node.api("POST", "/1.0/instances", {"name": name, "image": bad.reference},
                                  raw=True)
    assert status == 400 and answer["type"] == "error", answer


@pytest.mark.parametrize("options", [
    ["--memory", "lots"], ["--memory", "-1"], ["--memory", "1"], ["--cpus", "0"], ["--cpus", "x"],
    ["--pids", "0"], ["--pids", "99999999999999999999"], ["--restart", "sometimes"],
    ["--restart", "on-failure:x"], ["-p", "0:80"], ["-p", "65536:80"], ["-p", "80"],
    ["-p", "1:2:3:4:5"], ["-p", "80:80/sctp"], ["-p", "x:80"], ["--env", "=x"], ["--network", "no-such"],
    ["--no-such-option"]])
def test_a_bad_option(bad, options):
    done = bad.node.cli("launch", *options, bad.reference, "x", code=None)
    if options == ["-p", "80"] and done.returncode == 0:
        return bad.node.cli("delete", "--force", "x")
    assert done.returncode in (1, 2), done
    assert 1 <= len(done.stderr.strip().splitlines()) <= 3, done.stderr
    assert bad.node.api("GET", "/1.0/instances") == []
    return None


@pytest.mark.parametrize("args", [[], ["no-such-verb"], ["launch"], ["delete"], ["exec"], ["image"],
                                  ["image", "no-such"], ["list", "-f", "xml"], ["list", "extra"]])
def test_a_usage_error(bad, args):
    done = bad.node.cli(*args, code=None)
    assert done.returncode == 2, done
    assert done.stderr.strip(), done


@pytest.mark.parametrize("verb", ["info", "start", "stop", "restart", "pause", "resume", "delete", "logs"])
def test_an_unknown_instance(bad, verb):
    bad(verb, "no-such", says=["no-such"])


def test_a_user_or_program_that_the_image_does_not_have(bad):
    for options, command in ((["--user", "nobody-knows"], ()), ([], ["/no/such/program"]),
                             (["--workdir", "relative"], ())):
        done = bad.node.launch(bad.reference, "odd", *options, command=command, code=None)
        assert done.returncode in (1, 2) and len(done.stderr.strip().splitlines()) <= 2, done
        bad.node.cli("delete", "--force", "odd", code=None)


def test_deleting_what_runs_needs_force(bad):
    bad.node.launch(bad.reference, "busy")
    bad("delete", "busy", says=["force"])
    assert bad.node.instance("busy")["status"]["state"] == "running"


def test_the_daemon_does_not_run(bad, scratch):
    for path in (str(scratch / "absent.sock"), str(scratch)):
        done = bad.node.run([bad.node.build / "brume", "list"], check=False,
                            env=bad.node.environment(BRUME_HOST="unix://" + path))
        assert done.returncode == 1
        lines = done.stderr.strip().splitlines()
        assert len(lines) <= 2 and path in done.stderr, done.stderr


def test_a_socket_one_may_not_use(bad):
    shutil.copy(bad.node.build / "brume", bad.node.folder / "brume-copy")
    (bad.node.folder / "brume-copy").chmod(0o755)
    done = bad.node.run(["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups",
                         bad.node.folder / "brume-copy", "list"], check=False,
                        env=bad.node.environment())
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "permission" in done.stderr.lower() or "may not" in done.stderr.lower(), done.stderr


def test_a_disk_that_is_full_while_unpacking(build, scratch):
    from conftest import make_node, with_registry
    disk = scratch / "disk"
    with open(disk, "wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    node = make_node(build, scratch / "node")
    try:
        with_registry(node, scratch / "registry")
        node.run(["mount", "-o", "loop", str(disk), str(node.state)])
        node.run(["chmod", "711", str(node.state)])
        node.untouched = node.census()
        node.start()
        small = node.registry.push(images.busybox(), "small:1")
        node.cli("image", "pull", "--insecure", small)
        big = node.registry.push(images.big(80 << 20), "big:1")
        done = node.cli("image", "pull", "--insecure", big, code=1)
        assert "space" in done.stderr.lower() or "full" in done.stderr.lower(), done.stderr
        assert len(done.stderr.strip().splitlines()) <= 2
        # The space is free again and the node works.
        node.launch(small, "works")
        node.cli("exec", "works", "--", "sh", "-c", "head -c 5000000 /dev/zero > /root/file")
    finally:
        try:
            node.close()
        except Failure:
            node.run(["umount", "-l", str(node.state)], check=False)
            raise
