"""brume kernel: the node's kernels for virtual machines, through command line, API and agent."""
import glob
import json
import os

import pytest
from vm_kernel import need_kernel

pytestmark = pytest.mark.slow


def test_kernels_of_a_node(clean, tmp_path):
    folder = need_kernel()
    vmlinuz = glob.glob(folder + "/boot/vmlinuz-*")[0]
    modules = glob.glob(folder + "/lib/modules/*")[0]
    version = os.path.basename(modules)

    def listed():
        kernels = json.loads(clean.cli("kernel", "list", "-f", "json").stdout)
        return [(k["name"], k["default"]) for k in kernels]

    assert listed() == []
    done = clean.cli("kernel", "import", "--modules", modules, vmlinuz, timeout=120)
    assert done.stdout.strip() == version
    vmlinux = clean.state / "kernels" / version / "vmlinux"
    clean.cli("kernel", "import", "--name", "plain", str(vmlinux), timeout=120)
    assert listed() == [(version, True), ("plain", False)]
    clean.cli("kernel", "default", "plain")
    assert listed() == [(version, False), ("plain", True)]
    clean.cli("kernel", "delete", version)
    for words, args in (("there is no kernel nothing", ("default", "nothing")),
                        ("there is no kernel nothing", ("delete", "nothing")),
                        ("not a Linux kernel", ("import", __file__)),
                        ("No such file", ("import", "/nowhere/vmlinuz"))):
        failed = clean.cli("kernel", *args, code=1)
        assert words in failed.stderr, failed
        assert len(failed.stderr.strip().splitlines()) <= 2, failed.stderr
    clean.cli("kernel", "rm", "plain")
    assert listed() == []
