"""brume diff: what an instance has changed of its image's files."""
import json
import os
import subprocess

import images
import pytest
from node import eventually


@pytest.fixture
def app(clean):
    """An instance of an image with several layers, whiteouts and an opaque folder."""
    reference = clean.registry.push(images.layered(), "layered:1")
    clean.cli("image", "pull", "--insecure", reference)
    clean.launch(reference, "app")

    def inside(script):
        return clean.cli("exec", "app", "--", "sh", "-c", script).stdout
    inside.node = clean
    inside.diff = lambda: clean.cli("diff", "app").stdout.splitlines()
    return inside


def test_nothing_changed(app):
    assert app.diff() == []
    app.node.cli("stop", "-t", "0", "app")
    assert app.diff() == []
    app.node.cli("start", "app")
    assert app.diff() == []
    assert json.loads(app.node.cli("diff", "app", "-f", "json").stdout) == []


def test_every_kind(app):
    app("echo x >> /data/kept; rm /data/old; mkdir /new; echo a > /new/a; ln -s a /new/link;"
        "mkfifo /new/pipe; chmod 600 /data/owned; rm /data/one; rm -r /data/sub; mkdir /data/sub;"
        "echo fresh > /data/sub/fresh; rm /data/setuid; mkdir /data/setuid; rm -r '/data/ä ö'")
    assert app.diff() == [
        "C /data", "C /data/kept", "D /data/old", "D /data/one", "C /data/owned", "C /data/setuid",
        "C /data/sub", "A /data/sub/fresh", "D /data/sub/new", "D /data/ä ö",
        "A /new", "A /new/a", "A /new/link", "A /new/pipe"]
    listed = json.loads(app.node.cli("diff", "app", "-f", "json").stdout)
    assert {"kind": "D", "path": "/data/old"} in listed and len(listed) == 14
    assert app.node.cli("diff", "-q", "app").stdout.splitlines()[:2] == ["/data", "/data/kept"]
    assert app.node.cli("diff", "-f", "csv", "app").stdout.splitlines()[:2] == ["KIND,PATH", "C,/data"]
    assert app.node.cli("diff", "-f", "plain", "app").stdout.splitlines()[1] == "C\t/data/kept"
    # The same when it does not run.
    running = app.diff()
    app.node.cli("stop", "-t", "0", "app")
    assert app.diff() == running


def test_only_metadata(app):
    app("chown 5:6 /data/kept; chmod 711 /data/sub; touch -d @1000 /data/owned")
    assert app.diff() == ["C /data", "C /data/kept", "C /data/owned", "C /data/sub"]


def test_what_is_the_same_again(app):
    """Opened for writing, made and removed: overlayfs has a copy, but nothing differs."""
    app("exec 3<>/data/kept; : > /data/tmp; rm /data/tmp")
    assert app.diff() == ["C /data"]
    app("t=$(stat -c %Y /data/two); echo linkex > /data/two; touch -d @$t /data/two")
    assert "C /data/two" in app.diff()


def test_mounts_are_not_changes(app, scratch):
    """Places that brume makes to mount on are not shown; what the instance makes there is."""
    image = images.Image([images.busybox_layer(images.BUSYBOX)],
                         {"Cmd": ["sleep", "100000"], "Env": [images.PATH_ENV]})
    reference = app.node.registry.push(image, "bare:1")
    app.node.cli("launch", "--insecure", "--tmpfs", "/run/data", reference, "bare")
    assert app.node.cli("diff", "bare").stdout == ""
    app.node.cli("exec", "bare", "--", "sh", "-c", "echo x > /run/other; echo y > /run/data/z")
    assert app.node.cli("diff", "bare").stdout.splitlines() in (
        ["A /run", "A /run/other"], ["C /run", "A /run/other"])


def test_names_that_are_no_text(app):
    app("touch \"$(printf '/data/b\\377d')\" \"$(printf '/data/line\\nbreak')\"")
    listed = json.loads(app.node.cli("diff", "app", "-f", "json").stdout)
    assert [c["path"] for c in listed] == ["/data", "/data/b\ufffdd", "/data/line\nbreak"]
    assert "A /data/line?break" in app.diff()


def test_what_is_refused(app):
    assert "nobody" in app.node.cli("diff", "nobody", code=1).stderr
    app.node.cli("diff", code=2)
    status, answer = app.node.api("GET", "/1.0/instances/app/changes?other=1", raw=True)
    assert status == 400


def test_while_it_changes(app):
    """A tree that is torn down and made again meanwhile gives an answer, or a reason."""
    loop = app.node.popen([app.node.build / "brume", "--socket", app.node.socket, "exec", "app",
                           "--", "sh", "-c", "while :; do mkdir -p /w/a/b/c; echo x > /w/a/b/c/d;"
                           "mv /w/a /w/e; ln -s /etc /w/a; rm -rf /w; done"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    good = 0
    for _ in range(30):
        done = app.node.cli("diff", "app", code=None)
        good += done.returncode == 0
        assert "passwd" not in done.stdout
    loop.kill()
    assert good > 10
    eventually(lambda: app.node.cli("diff", "app").returncode == 0, 5, "a diff")
    assert os.path.exists("/etc/passwd")
