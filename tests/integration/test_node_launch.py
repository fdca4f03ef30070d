"""The main job, from a registry to a page from a published port and back, by the command line."""
import json
import re
import urllib.request

import images
import kernel
import node as node_module
import pytest
from node import eventually


def fetch(url, timeout=5):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read().decode()


def page(url):
    """The page, as soon as the web server of a just started instance listens."""
    def attempt():
        try:
            return fetch(url)
        except OSError:
            return None
    return eventually(attempt, 10, f"a page from {url}")


def test_from_the_registry_to_a_page_and_back(node):
    reference = node.registry.push(images.web(), "hello:1")
    before = node.nft()
    node.cli("image", "pull", "--insecure", reference)
    assert "hello" in node.out("image", "list")
    node.launch(reference, "web", "-p", "8080:80")

    assert "It works" in page(f"http://{node_module.NODE4}:8080/")
    assert "It works" in page(f"http://[{node_module.NODE6}]:8080/")
    with node.inside():
        assert "It works" in page("http://127.0.0.1:8080/")

    listing = node.out("list")
    assert re.search(r"\bweb\b.*\brunning\b", listing, re.I), listing
    info = node.json("info", "web")
    assert info["status"]["state"] == "running"
    assert info["status"]["image_digest"] == images.web().digest
    assert node.out("exec", "web", "--", "cat", "/var/www/index.html").startswith("<!doctype")
    # httpd -v writes a line per request, on its stderr
    eventually(lambda: "response:200" in node.cli("logs", "web").stderr, 10, "a line in the log")

    node.cli("delete", "--force", "web")
    assert node.api("GET", "/1.0/instances") == []
    with pytest.raises(OSError):
        fetch(f"http://{node_module.NODE4}:8080/", timeout=1)
    node.check_clean()
    # Nothing of the port is left; the table itself stays for the next one.
    assert not [line for line in node.nft().splitlines() if "8080" in line], before


def test_a_launch_pulls_what_is_missing(clean):
    reference = clean.registry.push(images.web(), "implicit:1")
    clean.launch(reference, "pulls", "--insecure")
    assert clean.instance("pulls")["status"]["state"] == "running"


def test_names_are_made_up_and_free_again_after_a_delete(busybox):
    node, reference = busybox
    node.cli("launch", reference)
    names = [it["meta"]["name"] for it in node.api("GET", "/1.0/instances?recursion=1")]
    assert len(names) == 1
    node.cli("delete", "--force", names[0])
    for _ in range(3):
        node.launch(reference, "again")
        node.cli("delete", "--force", "again")


def test_the_configuration_of_the_image_is_honoured(clean):
    reference = clean.registry.push(images.configured(), "configured:1")
    clean.launch(reference, "asis", "--insecure")
    lines = logged(clean, "asis", 5)
    assert lines == ["1000", "50", "/srv/data", "blue", "asis"]


def test_the_user_has_the_last_word(clean):
    reference = clean.registry.push(images.configured(), "configured:1")
    clean.launch(reference, "mine", "--insecure", "--env", "COLOUR=red", "--workdir", "/tmp",
                 "--user", "0:0", "--label", "team=blue", "--entrypoint", "/bin/sh",
                 command=["-c", "id -u; pwd; echo $COLOUR; exec sleep 1000000"])
    assert logged(clean, "mine", 3) == ["0", "/tmp", "red"]
    assert clean.instance("mine")["meta"]["labels"] == {"team": "blue"}


def logged(node, name, count):
    """The first lines that an instance wrote."""
    def enough():
        lines = node.out("logs", name).splitlines()
        return lines if len(lines) >= count else None
    return eventually(enough, 10, f"{count} lines in the log of {name}")[:count]


def test_stop_start_restart_pause_resume(busybox):
    node, reference = busybox
    node.launch(reference, "life")
    first = node.instance("life")["status"]
    node.cli("exec", "life", "--", "sh", "-c", "echo kept > /root/file")
    node.cli("stop", "--timeout", "1", "life")
    stopped = node.instance("life")["status"]
    assert stopped["state"] == "stopped" and not stopped.get("pid")
    assert kernel.wait_for_exit(first["pid"], 1)
    node.cli("start", "life")
    assert node.out("exec", "life", "--", "cat", "/root/file") == "kept\n"
    second = node.instance("life")["status"]
    node.cli("restart", "--timeout", "1", "life")
    third = node.instance("life")["status"]
    assert len({first["pid"], second["pid"], third["pid"]}) == 3

    node.cli("pause", "life")
    assert node.instance("life")["status"]["state"] == "paused"
    state = node.run(["grep", "State", f"/proc/{third['pid']}/status"]).stdout
    assert "D" in state or "S" in state
    assert node.cli("exec", "life", "--", "true", code=None, timeout=20).returncode != 0
    node.cli("resume", "life")
    assert node.instance("life")["status"]["state"] == "running"
    assert node.instance("life")["status"]["pid"] == third["pid"]
    node.cli("exec", "life", "--", "true")


def test_twenty_at_once(busybox):
    node, reference = busybox
    operations = [node.api("POST", "/1.0/instances", {"name": f"many{number}", "image": reference})
                  for number in range(20)]
    for operation in operations:
        done = node.wait_operation(operation)
        assert done["status"]["state"] == "done", done
    found = node.api("GET", "/1.0/instances?recursion=1")
    addresses = [it["spec"]["ports"][0]["ipv4"] for it in found]
    assert len(set(addresses)) == 20
    assert {it["status"]["state"] for it in found} == {"running"}


def test_lists_for_programs(busybox):
    node, reference = busybox
    node.launch(reference, "listed")
    assert [it["meta"]["name"] for it in node.json("list")] == ["listed"]
    assert any(it["meta"]["name"].endswith("busybox:1") for it in node.json("image", "list"))
    assert any(it["meta"]["name"] == "default" for it in node.json("network", "list"))
    assert node.json("operation", "list")
    assert node.json("info")
    assert re.match(r"\d+\.\d+", node.out("version").split()[-1])
    assert json.loads(node.out("version", "-f", "json"))
