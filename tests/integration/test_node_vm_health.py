"""Health checks of virtual machines: a command in the guest, a page and a port from the node."""
import images
import pytest
from conftest import need
from vm_kernel import give_kernel

pytestmark = pytest.mark.slow
BOOT = 240  # seconds: emulated, on a machine with other work


@pytest.fixture(scope="module")
def web(shared_node):
    """A node with a kernel and the reference of an image that serves a page."""
    need("qemu-system-x86_64", "mke2fs")
    give_kernel(shared_node)
    reference = shared_node.registry.push(images.web(), "web:1")
    shared_node.cli("image", "pull", "--insecure", reference)
    yield shared_node, reference
    shared_node.check_clean()


def wait_health(node, name, state):
    return node.wait_instance(name, lambda it: it["status"].get("health", {}).get("state") == state,
                              timeout=BOOT)["status"]["health"]


def launch(node, reference, name, *options, command=()):
    node.launch(reference, name, "--vm", "-m", "128M", *options, "--health-interval", "200ms",
                "--health-timeout", "20s", command=command, timeout=BOOT)


def test_a_command_in_the_guest(web):
    node, reference = web
    launch(node, reference, "command", "--tmpfs", "/state", "--health-retries", "2", "--health-on-failure", "restart",
           "--health-cmd", "echo looked; test ! -e /state/sick")
    last = wait_health(node, "command", "healthy")["log"][-1]
    assert (last["exit_code"], last["output"]) == (0, "looked")
    # The daemons' end is no failure of a check.
    for name in ("agentd", "brumed"):
        assert node.kill(name)
        node.wait_ready()
    pid = node.json("info", "command")["status"]["pid"]
    assert node.json("info", "command")["status"]["health"]["state"] == "healthy"
    node.cli("exec", "command", "--", "touch", "/state/sick")
    node.wait_instance("command", lambda it: it["status"]["state"] == "running" and
                       it["status"].get("restarts") == 1 and it["status"].get("pid") != pid, timeout=BOOT)
    wait_health(node, "command", "healthy")
    node.cli("delete", "--force", "command")


def test_what_it_serves(web):
    node, reference = web
    launch(node, reference, "page", "--health-http", "80/", "--health-retries", "1")
    wait_health(node, "page", "healthy")
    node.cli("exec", "page", "--", "sh", "-c", "rm -rf /var/www/*")
    assert "404" in wait_health(node, "page", "unhealthy")["log"][-1]["output"]
    node.cli("delete", "--force", "page")
    launch(node, reference, "port", "--health-tcp", "80", "--health-retries", "1",
           command=("sh", "-c", "httpd -h /var/www; exec sleep 100000"))
    wait_health(node, "port", "healthy")
    node.cli("exec", "port", "--", "killall", "httpd")
    assert "refused" in wait_health(node, "port", "unhealthy")["log"][-1]["output"]
    node.cli("delete", "--force", "port")
