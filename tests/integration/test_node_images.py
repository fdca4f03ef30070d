"""Images: pulls from all kinds of registries, imports, exports, and what a prune takes away."""
import json
import subprocess
import tarfile

import images
import pytest
from image_builder import Layer
from node import eventually
from registry import FaultyRegistry


@pytest.fixture
def faulty(clean):
    opened = []

    def make(**more):
        opened.append(FaultyRegistry(clean, port=5001 + len(opened), **more))
        return opened[-1]
    yield make
    for registry in opened:
        registry.stop()
    clean.delete_all()
    clean.cli("image", "prune")


def run_once(node, reference, script, *options):
    """Launches, runs the script by exec, deletes; gives what it wrote."""
    node.launch(reference, "look", *options)
    try:
        return node.out("exec", "look", "--", "sh", "-c", script)
    finally:
        node.cli("delete", "--force", "look")


LOOK = r"""
cat /data/kept; echo; cat /data/old; echo; ls /data/sub; stat -c %a /data/setuid
stat -c %u:%g /data/owned; [ /data/one -ef /data/two ] && echo same; readlink /data/absolute
readlink /data/outside; [ -p /data/pipe ] && echo pipe; cat '/data/ä ö'; echo
cat /deep/n*/n*/n*/n*/f*; echo
"""
SEEN = ("kept\nagain\nnew\n4755\n1000:50\nsame\n/data/kept\n../../../../etc/passwd\npipe\nname\n"
        "long\n")


@pytest.mark.parametrize("compression,media", [("gzip", "oci"), ("zstd", "oci"), ("none", "oci"),
                                               ("gzip", "docker")])
def test_layers_become_the_root(faulty, clean, compression, media):
    reference = faulty().add(images.layered(compression, media), f"layered:{compression}-{media}")
    assert run_once(clean, reference, LOOK, "--insecure") == SEEN


def test_a_pull_from_debians_registry(clean):
    reference = clean.registry.push(images.layered(), "layered:1")
    clean.cli("image", "pull", "--insecure", reference)
    info = clean.json("image", "info", reference)
    assert info["status"]["digest"] == images.layered().digest
    assert len(info["status"]["layers"]) == 4
    assert run_once(clean, reference, LOOK) == SEEN


def test_a_reference_with_a_digest(faulty, clean):
    registry, image = faulty(), images.web()
    registry.add(image, "pinned:1")
    reference = f"{registry.address}/pinned@{image.digest}"
    assert run_once(clean, reference, "echo ok", "--insecure") == "ok\n"


def test_the_platform_is_chosen_from_an_index(clean):
    other = images.Image([Layer().file("wrong", "x")], {"Cmd": ["/wrong"]}, architecture="riscv64")
    reference = clean.registry.push_index([other, images.busybox()], "both:1")
    assert run_once(clean, reference, "echo ok", "--insecure") == "ok\n"


def test_a_container_of_another_architecture_is_refused(clean):
    """With what would run it, and not by the kernel's "exec format error"."""
    reference = clean.registry.push(images.busybox(architecture="arm64"), "foreign:1")
    text = clean.cli("launch", "--insecure", reference, "far", code=1).stderr
    assert "made for linux/arm64" in text and "--vm --emulate runs it" in text
    clean.cli("image", "pull", "--insecure", "--platform", "linux/arm64", reference)
    for words in ([], ["-a", "--rm"], ["--platform", "linux/arm64"]):
        text = clean.cli("launch", *words, reference, "far", code=1).stderr
        assert text.count("\n") == 1 and "the image is for arm64 and this node for amd64" in text
        assert "--vm --emulate runs it" in text
        assert clean.api("GET", "/1.0/instances") == []
    clean.cli("image", "delete", reference)


def test_an_image_of_many_layers(clean):
    reference = clean.registry.push(images.many_layers(80), "many:1")
    assert run_once(clean, reference, "cat /layer1 /layer79; ls / | grep -c layer",
                    "--insecure") == "17979\n"


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_user_and_password(faulty, clean, auth):
    reference = faulty(auth=auth).add(images.web(), "private:1")
    refused = clean.cli("image", "pull", "--insecure", reference, code=1)
    assert len(refused.stderr.strip().splitlines()) <= 2
    assert "log in" in refused.stderr.lower() or "401" in refused.stderr or \
        "user" in refused.stderr.lower(), refused.stderr
    clean.cli("image", "pull", "--insecure", "--username", "user", "--password-stdin", reference,
              input="secret\n")
    assert "secret" not in json.dumps(clean.api("GET", "/1.0/images?recursion=1"))
    assert "secret" not in json.dumps(clean.api("GET", "/1.0/operations?recursion=1"))


def test_a_broken_download_is_resumed(faulty, clean):
    registry, image = faulty(), images.big(8_000_000)
    reference = registry.add(image, "breaks:1")
    digest = json.loads(image.manifest)["layers"][1]["digest"]
    registry.faults[digest] = ("drop-once", 3_000_000)
    clean.cli("image", "pull", "--insecure", reference)
    ranges = [asked for _, path, asked in registry.requests if digest in path and asked]
    assert ranges, "nothing was resumed"


def test_a_second_pull_fetches_no_layer(faulty, clean):
    registry = faulty()
    reference = registry.add(images.layered(), "again:1")
    clean.cli("image", "pull", "--insecure", reference)
    registry.requests.clear()
    clean.cli("image", "pull", "--insecure", reference)
    assert not [path for _, path, _ in registry.requests if "/blobs/" in path]


# -- import and export -----------------------------------------------------------------------------

def test_import_of_a_layout_folder(clean, scratch):
    layout = images.layered().write_layout(scratch / "layout")
    clean.cli("image", "import", str(layout), "layout-folder")
    assert run_once(clean, "layout-folder", LOOK) == SEEN


@pytest.mark.parametrize("compress", ["cat", "gzip", "zstd"])
def test_import_of_a_layout_tar(clean, scratch, compress):
    layout = images.layered().write_layout(scratch / "layout")
    plain = scratch / "layout.tar"
    with tarfile.open(plain, "w") as tar:
        tar.add(layout, ".")
    path = scratch / "layout.any"
    with open(path, "wb") as out:
        subprocess.run([compress] if compress == "cat" else [compress, "-c"], check=True,
                       stdin=open(plain, "rb"), stdout=out)
    clean.cli("image", "import", str(path), f"layout-{compress}")
    assert run_once(clean, f"layout-{compress}", LOOK) == SEEN


def test_import_of_a_docker_save(clean, scratch):
    path = images.layered("none", "docker").write_docker_save(scratch / "saved.tar")
    clean.cli("image", "import", str(path), "docker-saved")
    assert run_once(clean, "docker-saved", LOOK) == SEEN


def test_import_of_a_root_file_system(clean, scratch):
    path = scratch / "root.tar"
    path.write_bytes(images.busybox_layer().file("flag", "root").tar())
    clean.cli("image", "import", str(path), "plain-root")
    clean.launch("plain-root", "look", command=["/bin/sleep", "100000"])
    assert clean.out("exec", "look", "--", "/bin/cat", "/flag") == "root"


def test_import_from_a_pipe(clean, scratch):
    data = images.busybox_layer().file("flag", "pipe").tar()
    clean.cli("image", "import", "-", "piped", input=data, text=False)
    assert clean.json("image", "info", "piped")["status"]["state"] == "ready"


def test_what_is_exported_can_be_imported(clean, scratch):
    reference = clean.registry.push(images.layered(), "round:1")
    clean.cli("image", "pull", "--insecure", reference)
    path = scratch / "out.tar"
    clean.cli("image", "export", reference, str(path))
    # Other people's tool reads it and sees the same image.
    seen = subprocess.run(["skopeo", "inspect", f"oci-archive:{path}"], capture_output=True, text=True)
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout)["Digest"] == images.layered().digest
    clean.cli("image", "delete", reference)
    clean.cli("image", "import", str(path), "came-back")
    assert clean.json("image", "info", "came-back")["status"]["digest"] == images.layered().digest
    assert run_once(clean, "came-back", LOOK) == SEEN


# -- what goes away --------------------------------------------------------------------------------

def stored(node):
    """The names of everything that is stored of images, without the store's own bookkeeping."""
    place = node.state / "images"
    return {str(p.relative_to(place)) for p in place.rglob("*")
            if len(p.name) >= 32 and p.name.isalnum()}


def test_prune_takes_what_nobody_uses(clean):
    clean.cli("image", "prune")
    before = stored(clean)
    used = clean.registry.push(images.layered(), "used:1")
    other = clean.registry.push(images.web(), "unused:1")
    clean.launch(used, "uses", "--insecure")
    clean.cli("image", "pull", "--insecure", other)
    clean.cli("image", "prune")
    names = [it["meta"]["name"] for it in clean.api("GET", "/1.0/images?recursion=1")]
    assert [n for n in names if "used:1" in n and "unused" not in n] and \
        not [n for n in names if "unused" in n], names
    assert clean.out("exec", "uses", "--", "cat", "/data/kept") == "kept"
    clean.cli("delete", "--force", "uses")
    clean.cli("image", "prune")
    assert clean.api("GET", "/1.0/images") == []
    eventually(lambda: stored(clean) <= before, 10, "an empty store")


def test_an_image_in_use_is_not_deleted(busybox):
    node, reference = busybox
    node.launch(reference, "user")
    done = node.cli("image", "delete", reference, code=1)
    assert "user" in done.stderr, done.stderr
    node.cli("exec", "user", "--", "true")


def test_two_names_share_their_layers(clean):
    clean.cli("image", "prune")
    first = clean.registry.push(images.layered(), "first:1")
    second = clean.registry.push(images.layered(), "second:1")
    clean.cli("image", "pull", "--insecure", first)
    one = stored(clean)
    clean.cli("image", "pull", "--insecure", second)
    clean.cli("image", "delete", first)
    assert run_once(clean, second, "cat /data/kept") == "kept"
    assert len(stored(clean)) <= len(one) + 1
