"""An instance gets another name: it goes on undisturbed, and everybody finds it under the new one."""
import json

import images


def resolve(node, asker, name):
    """Addresses that an instance gets for a name; an empty list when there is none."""
    done = node.cli("exec", asker, "--", "nslookup", name, code=None)
    answers = done.stdout.split("Name:", 1)
    return sorted(word for word in answers[1].split() if word[0] in "1f" and (":" in word or "." in word)
                  and word.rstrip("0123456789") != word) if len(answers) > 1 else []


def address(node, name):
    return node.instance(name)["spec"]["ports"][0]["ipv4"]


def hosts(node, it):
    [file] = node.run_folder.glob(f"networks/*/hosts/{it['spec']['ports'][0]['uid']}")
    return file.read_text()


def test_it_goes_on_under_the_new_name(busybox):
    node, reference = busybox
    node.launch(reference, "asker", command=("sleep", "1000"))
    node.launch(reference, "web", "-p", "8090:80", command=(
        "sh", "-c", "echo ready; mkdir /w; echo it is me >/w/index.html; exec httpd -f -h /w"))
    before = node.instance("web")
    stream = node.websocket("/1.0/events?kind=instance&name=web")
    assert node.out("rename", "web", "shop") == "shop: renamed\n"
    event = json.loads(stream.recv())
    while event["action"] == "updated":
        event = json.loads(stream.recv())
    stream.close()
    assert (event["action"], event["name"], event["old_name"]) == ("renamed", "shop", "web")
    after = node.instance("shop")
    assert after["meta"]["uid"] == before["meta"]["uid"]
    assert after["status"]["pid"] == before["status"]["pid"]
    assert after["status"]["started"] == before["status"]["started"]
    assert after["status"]["generation"] == after["meta"]["generation"]
    assert node.api("GET", "/1.0/instances/web", raw=True)[0] == 404
    assert [one["meta"]["name"] for one in node.json("list")] == ["asker", "shop"]
    assert hosts(node, after).split()[2] == "shop"
    assert address(node, "shop") in resolve(node, "asker", "shop.brume.internal")
    assert address(node, "shop") not in resolve(node, "asker", "web.brume.internal")
    assert "it is me" in node.run(["busybox", "wget", "-qO-", "http://192.0.2.2:8090/"]).stdout
    assert "ready" in node.out("logs", "shop")
    # The host name is the name at the start; the next start has the new one.
    assert node.out("exec", "shop", "--", "hostname") == "web\n"
    node.cli("restart", "--force", "shop")
    assert node.out("exec", "shop", "--", "hostname") == "shop\n"
    assert node.json("rename", "shop", "shop")["status"]["state"] == "done"
    # The old name can be taken at once.
    node.launch(reference, "web", command=("sleep", "1000"))
    assert address(node, "web") in resolve(node, "asker", "web.brume.internal")


def test_states_other_than_running(busybox):
    node, reference = busybox
    node.launch(reference, "a", command=("sleep", "1000"))
    node.cli("pause", "a")
    node.cli("rename", "a", "b")
    it = node.instance("b")
    assert it["status"]["state"] == "paused"
    assert hosts(node, it).split()[2] == "b"
    node.cli("stop", "--force", "b")
    node.cli("rename", "b", "c")
    assert node.instance("c")["status"]["state"] == "stopped"
    node.cli("start", "c")
    assert node.out("exec", "c", "--", "hostname") == "c\n"
    node.launch(reference, "named", "--hostname", "mine", "--network", "none", command=("sleep", "1000"))
    node.cli("rename", "named", "other")
    node.cli("restart", "--force", "other")
    assert node.out("exec", "other", "--", "hostname") == "mine\n"


def test_refusals_change_nothing(busybox):
    node, reference = busybox
    node.launch(reference, "a", command=("sleep", "1000"))
    node.launch(reference, "b", command=("sleep", "1000"))
    revision = node.instance("a")["meta"]["revision"]
    for arguments, words in ((("a", "b"), 'instance "b" exists already'),
                             (("c", "d"), 'instance "c" does not exist'),
                             (("a", "A b"), "name:"), (("a", ""), "name:"), (("a", "x" * 64), "name:")):
        done = node.cli("rename", *arguments, code=1)
        assert words in done.stderr and done.stdout == ""
    assert node.cli("rename", "a", code=2).stdout == ""
    for body in ({}, {"name": 1}, {"name": "c", "more": 1}):
        assert node.api("POST", "/1.0/instances/a/rename", body, raw=True)[0] == 400
    assert node.instance("a")["meta"]["revision"] == revision


def test_kill_9_in_the_middle(node):
    reference = node.registry.push(images.busybox(), "busybox:1")
    node.cli("image", "pull", "--insecure", reference)
    node.launch(reference, "n0", command=("sleep", "1000"))
    pid, uid = node.instance("n0")["status"]["pid"], node.instance("n0")["meta"]["uid"]
    for number in range(6):
        operation = node.api("POST", f"/1.0/instances/n{number}/rename", {"name": f"n{number + 1}"})
        node.kill("agentd" if number % 2 else "brumed")
        node.wait_ready()
        assert node.wait_operation(operation)["status"]["state"] == "done"
        it = node.wait_state(f"n{number + 1}", "running")
        assert it["status"]["pid"] == pid and it["meta"]["uid"] == uid
        assert hosts(node, it).split()[2] == f"n{number + 1}"
