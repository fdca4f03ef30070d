"""A whole Debian from a disk image: firmware, boot loader, its own kernel, systemd, cloud-init, an ssh server.

Minutes where every instruction is translated, so ./test.sh runs it only by its name: ./test.sh node_vm_cloud
"""
# test.sh: by name only
import os
import subprocess

import cloud_disk
import node as node_module
import pytest
from conftest import need
from node import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
BOOT = 400
USER_DATA = """#cloud-config
ssh_genkeytypes: [ed25519]
locale: C.UTF-8
package_update: false
write_files:
- path: /etc/written
  content: "by user data\\n"
runcmd:
- echo "ran once" >>/var/tmp/ran
"""


@pytest.fixture(scope="module")
def cloudy(shared_node, tmp_path_factory):
    """A node with a machine from the image; calling it runs a command in there by ssh."""
    need("qemu-system-x86_64", "qemu-img", "mmdebstrap", "syslinux", "mformat", "ssh", "ssh-keygen")
    folder = tmp_path_factory.mktemp("cloud")
    image = cloud_disk.get()
    for name in ("key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "setup.yaml").write_text(USER_DATA)
    node = shared_node
    node.run([node.build / "brume", "image", "import", f"/proc/self/fd/{image}", "debian"], timeout=120,
             env=node.environment(), pass_fds=[image])
    os.close(image)
    node.cli("launch", "--vm", "debian", "cloudy", "-p", "2222:22", "-m", "512M", "--cpus", "2", "--disk", "6G",
             "--user-data", folder / "setup.yaml", "--ssh-key", folder / "key.pub", "--stop-timeout", "150")

    def ssh(*words, key="key"):
        return subprocess.run(["ssh", "-F", "none", "-i", folder / key, "-o", "IdentitiesOnly=yes", "-p", "2222", "-o", "BatchMode=yes", "-o",
                               "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                               "ConnectTimeout=20", "-o", "LogLevel=ERROR", f"debian@{node_module.NODE4}", *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOOT, check=False)
    node.ssh = ssh
    yield node
    node.check_clean()


def console(node):
    return node.cli("logs", "--tail", "40", "cloudy").stdout


def until_configured(node):
    """It lets us in, and cloud-init has come to its end; gives what that says."""
    def let_in():
        if node.instance("cloudy")["status"]["state"] != "running":
            raise RuntimeError("it does not run: " + console(node))
        return node.ssh("true").returncode == 0
    try:
        eventually(let_in, BOOT, "a login by ssh")
    except AssertionError as failure:
        raise AssertionError(f"{failure}; its console said\n{console(node)}") from None
    return node.ssh("cloud-init", "status", "--wait", "--long").stdout


def told(node, *words):
    done = node.ssh(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_whole_system(cloudy):
    node = cloudy
    status = until_configured(node)
    assert "status: done" in status, status
    info = node.json("info", "cloudy")
    assert told(node, "hostname") == "cloudy\n"
    assert told(node, "cat", "/etc/written") == "by user data\n"
    assert told(node, "cat", "/var/tmp/ran") == "ran once\n"
    assert told(node, "cat", "/run/cloud-init/.instance-id").strip() == info["meta"]["uid"]
    assert "cloud-amd64" in told(node, "uname", "-r")
    assert told(node, "sudo", "id", "-u") == "0\n", "the image's user may become root"
    port = info["spec"]["ports"][0]
    addresses = told(node, "ip", "-br", "address", "show", "eth0")
    assert port["ipv4"] in addresses and port["ipv6"] in addresses
    mtu = told(node, "cat", "/sys/class/net/eth0/mtu").strip()
    assert mtu == str(node.json("network", "info", "default")["status"]["mtu"])
    assert port["ipv4"] in told(node, "getent", "ahostsv4", "cloudy.brume.internal"), "the network's name server"
    mib = int(told(node, "df", "--output=size", "-BM", "/").split()[-1].rstrip("M"))
    assert mib > 5 * 1024, "the file system has grown into its disk"
    assert node.ssh("systemctl", "is-system-running", "--wait").stdout == "running\n", \
        told(node, "systemctl", "--failed")
    denied = node.ssh("true", key="stranger")
    assert denied.returncode == 255 and "Permission denied" in denied.stderr


def test_it_stops_and_comes_back_as_it_was(cloudy):
    node = cloudy
    node.cli("stop", "cloudy", timeout=200)
    status = node.json("info", "cloudy")["status"]
    assert status["state"] == "stopped" and status["exit_code"] == 0, console(node)
    node.cli("start", "cloudy")
    assert "status: done" in until_configured(node)
    assert told(node, "cat", "/var/tmp/ran") == "ran once\n", "a restart is no first boot"
    assert told(node, "hostname") == "cloudy\n"


def test_nothing_of_it_is_left(cloudy):
    node = cloudy
    uid = node.json("info", "cloudy")["meta"]["uid"]
    folder = node.state / "instances" / uid
    assert (folder / "disk").exists()
    node.cli("delete", "--force", "cloudy")
    assert not folder.exists()
    assert not node.run(["pgrep", "-f", f"qemu.*{uid}"], check=False).stdout
    node.cli("image", "delete", "debian")
    blobs = node.state / "images/blobs/sha256"
    eventually(lambda: not [b for b in blobs.iterdir() if b.stat().st_size > 100 << 20], 20, "the disk's blob goes")
