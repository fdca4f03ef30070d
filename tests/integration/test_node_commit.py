"""brume commit: what an instance has changed becomes an image that everybody can read."""
import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile

import images
import pytest
from node import Failure, eventually


@pytest.fixture
def app(clean):
    reference = clean.registry.push(images.layered(), "layered:1")
    clean.cli("image", "pull", "--insecure", reference)
    clean.launch(reference, "app", "-e", "MODE=fast")

    def inside(script, name="app"):
        return clean.cli("exec", name, "--", "sh", "-c", script).stdout
    inside.node, inside.reference = clean, reference
    yield inside
    clean.delete_all()
    for image in clean.json("image", "list"):
        clean.cli("image", "delete", image["meta"]["name"], code=None)


CHANGE = ("echo x >> /data/kept; rm /data/old; rm -r /data/sub; mkdir /data/sub; "
          "echo fresh > /data/sub/fresh; mkdir -p /new/deep; echo a > /new/a; ln /new/a /new/b; "
          "ln -s a /new/link; mkfifo /new/pipe; chmod 4711 /data/owned; chown 33:44 /new/deep; "
          "touch -d @1000000000 /new/a")
LOOK = ("cat /data/kept /new/a /data/sub/fresh; ls /data/sub; test ! -e /data/old && echo gone; "
        "stat -c '%n %a %u:%g %h' /new/a /new/deep /data/owned; readlink /new/link; "
        "test -p /new/pipe && echo pipe; stat -c %Y /new/a; echo $MODE")


def layout_of(data):
    tar = tarfile.open(fileobj=io.BytesIO(data))
    files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}

    def blob(digest):
        found = files["blobs/" + digest.replace(":", "/")]
        assert hashlib.sha256(found).hexdigest() == digest.split(":")[1]
        return found
    index = json.loads(files["index.json"])
    manifest = json.loads(blob(index["manifests"][0]["digest"]))
    config = json.loads(blob(manifest["config"]["digest"]))
    return manifest, config, [blob(layer["digest"]) for layer in manifest["layers"]]


def test_commit_and_launch(app):
    node = app.node
    app(CHANGE)
    wanted = app(LOOK)
    done = node.cli("commit", "-m", "tuned", "-a", "me", "-c", "ENV COLOUR=blue", "-c",
                    'CMD ["sleep", "2147483647"]', "app", "shop:2")
    assert done.stdout.startswith("shop:2: committed, sha256:")
    node.cli("launch", "shop:2", "copy")
    assert app(LOOK, "copy") == wanted
    assert app("echo $COLOUR", "copy") == "blue\n"
    assert node.cli("diff", "copy").stdout == ""
    # It is an image like any other: exported, deleted, imported.
    manifest, config, layers = layout_of(node.cli("image", "export", "shop:2", "-",
                                                  text=False).stdout)
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 5
    assert config["author"] == "me"
    last = config["history"][-1]
    assert last["comment"] == "tuned" and last["author"] == "me"
    assert "MODE=fast" in config["config"]["Env"] and "COLOUR=blue" in config["config"]["Env"]
    assert len([h for h in config["history"] if not h.get("empty_layer")]) == 5
    with tarfile.open(fileobj=io.BytesIO(layers[-1])) as tar:
        names = tar.getnames()
        assert "data/.wh.old" in names and "data/sub/.wh..wh..opq" in names
        assert names.index("data") < names.index("data/sub") < names.index("data/sub/fresh")
        assert tar.getmember("new/deep").uid == 33
        assert not any("etc/hosts" in n or n.startswith("dev") for n in names)
        order = [n for n in names if "/" not in n and n != "."]
        assert order == sorted(order)
    # The layer below is not touched: the first image is what it was.
    node.cli("launch", app.reference, "first")
    assert app("cat /data/old", "first") == "again"


def test_the_same_bytes_again(app):
    app(CHANGE)
    app.node.cli("commit", "app", "one")
    app.node.cli("commit", "app", "two")
    found = {i["meta"]["name"]: i["status"]["layers"][-1] for i in app.node.json("image", "list")}
    assert found["one"]["diff_id"] == found["two"]["diff_id"]
    assert found["one"]["digest"] == found["two"]["digest"]


def test_of_a_stopped_instance(app):
    app(CHANGE)
    app.node.cli("stop", "-t", "0", "app")
    app.node.cli("commit", "-q", "app", "rest")
    app.node.cli("launch", "rest", "copy")
    assert app("cat /data/sub/fresh", "copy") == "fresh\n"


def test_a_commit_of_a_commit(app):
    app("echo 1 > /one")
    app.node.cli("commit", "app", "first")
    app.node.cli("launch", "first", "next")
    app("rm /one; echo 2 > /two", "next")
    app.node.cli("commit", "next", "second")
    app.node.cli("launch", "second", "last")
    assert app("cat /two; ls /one 2>&1 | wc -l; ls /one 2>/dev/null | wc -l", "last") == "2\n1\n0\n"


def test_the_base_has_got_a_newer_image(app):
    """Of the layers that a newer image has replaced only the unpacked trees are left."""
    node = app.node
    app("echo mine > /mine")
    newer = images.Image([images.busybox_layer(images.BUSYBOX)],
                         {"Cmd": ["sleep", "1"], "Env": [images.PATH_ENV]})
    assert node.registry.push(newer, "layered:1") == app.reference
    node.cli("image", "pull", "--insecure", app.reference)
    wanted = app("find /data | sort; cat /data/sub/new /data/old; stat -c %u /data/owned")
    node.cli("commit", "app", "kept")
    node.cli("launch", "kept", "copy")
    assert app("find /data | sort; cat /data/sub/new /data/old; stat -c %u /data/owned",
               "copy") == wanted
    assert app("cat /mine", "copy") == "mine\n"


@pytest.mark.parametrize("tool", ["skopeo", "podman"])
def test_others_can_read_it(app, scratch, tool):
    app(CHANGE)
    app.node.cli("commit", "-c", "LABEL made=here", "app", "theirs")
    app.node.cli("image", "export", "theirs", str(scratch / "image.tar"))
    if tool == "skopeo":
        policy = scratch / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        seen = json.loads(app.node.run(
            ["skopeo", "--policy", policy, "inspect", f"oci-archive:{scratch}/image.tar"]).stdout)
        assert seen["Labels"] == {"made": "here"} and len(seen["Layers"]) == 5
        app.node.run(["skopeo", "--policy", policy, "copy", f"oci-archive:{scratch}/image.tar",
                      f"dir:{scratch}/dir"])
        assert len(list((scratch / "dir").iterdir())) == 8
    else:
        podman = ["podman", "--root", str(scratch / "root"), "--runroot", str(scratch / "run"),
                  "--storage-driver", "vfs"]
        app.node.run([*podman, "load", "-i", scratch / "image.tar"], timeout=120)
        listed = json.loads(app.node.run([*podman, "images", "--format", "json"]).stdout)
        mount = app.node.run([*podman, "image", "mount", listed[0]["Id"]]).stdout.strip()
        assert open(f"{mount}/data/sub/fresh").read() == "fresh\n"
        assert not os.path.exists(f"{mount}/data/old")
        app.node.run([*podman, "image", "unmount", listed[0]["Id"]])


def test_what_is_refused(app):
    node = app.node
    for words, code, says in (
            (["nobody", "x"], 1, "nobody"),
            (["app", app.reference], 1, "exists already"),
            (["-c", "RUN rm -rf /", "app", "x"], 1, "must begin with CMD"),
            (["-c", "CMD [1]", "app", "x"], 1, "strings only"),
            (["-c", "EXPOSE many", "app", "x"], 1, "ports like 80"),
            (["-p", "perhaps", "app", "x"], 2, "true or false"),
            (["app", "Bad Name"], 1, "Bad Name"),
            (["app"], 2, "")):
        done = node.cli("commit", *words, code=code)
        assert says in done.stderr and done.stdout == "", words
    for body in ({"instance": "app"}, {"instance": "app", "name": "x", "other": 1},
                 {"instance": "app", "name": "x", "changes": "CMD x"},
                 {"instance": "app", "name": "x", "changes": ["CMD x\nRUN y"]},
                 {"instance": 7, "name": "x"}):
        status, answer = node.api("POST", "/1.0/images", body, raw=True)
        assert status == 400, (body, answer)
    assert [i["meta"]["name"] for i in node.json("image", "list")] == [app.reference]


def test_it_stands_still_and_goes_on(app):
    """While it is read it does not run; afterwards it does, also when it is paused by its owner."""
    node = app.node
    node.cli("pause", "app")
    node.cli("commit", "app", "paused")
    assert node.instance("app")["status"]["state"] == "paused"
    node.cli("resume", "app")
    node.cli("commit", "app", "running")
    assert app("echo alive") == "alive\n"
    node.cli("commit", "-p", "false", "app", "moving")
    assert app("echo alive") == "alive\n"


def _big(app):
    """Something to read for a while, which does not compress."""
    app("dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null")


def test_cancel(app):
    node = app.node
    _big(app)
    status, answer = node.api("POST", "/1.0/images", {"instance": "app", "name": "late"}, raw=True)
    assert status == 202
    node.api("DELETE", answer["operation"])
    done = node.wait_operation(answer["operation"])
    assert done["status"]["state"] in ("cancelled", "done")
    if done["status"]["state"] == "cancelled":
        assert [i["meta"]["name"] for i in node.json("image", "list")] == [app.reference]
    assert app("echo alive") == "alive\n"


@pytest.mark.slow
@pytest.mark.parametrize("daemon", ["agentd", "brumed", "keeper"])
def test_a_daemon_is_killed_meanwhile(app, daemon):
    """The commit ends well or with a reason; the instance goes on and nothing is left."""
    node = app.node
    _big(app)
    status, answer = node.api("POST", "/1.0/images", {"instance": "app", "name": "hit"}, raw=True)
    assert status == 202
    eventually(lambda: b"layer" in b"".join(_workers()), 20, "the worker")
    node.kill(daemon, signal.SIGKILL)
    node.wait_ready()
    done = node.wait_operation(answer["operation"], timeout=120)
    assert done["status"]["state"] == "done", done
    eventually(lambda: app("echo alive") == "alive\n", 20, "the instance")
    node.cli("launch", "hit", "copy")
    assert app("ls -l /big | awk '{print $5}'", "copy").strip() == str(64 << 20)
    assert not list((node.run_folder / "instances").glob("*/frozen"))
    assert not list((node.state / "images/jobs").iterdir())


def _workers():
    found = subprocess.run(["ps", "-eo", "args"], stdout=subprocess.PIPE, check=True).stdout
    return [line for line in found.splitlines() if line.startswith(b"brume-image-worker")]


def test_failure_is_not_silent(app):
    """An instance that is deleted meanwhile, or a layer that cannot be written, is said."""
    app("echo x > /.wh.bad")
    with pytest.raises(Failure, match="begins with .wh."):
        app.node.cli("commit", "app", "bad")
    assert [i["meta"]["name"] for i in app.node.json("image", "list")] == [app.reference]
    assert app("echo alive") == "alive\n"
