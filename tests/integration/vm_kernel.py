"""A kernel for the virtual machines of a node: Debian's cloud kernel, as the node would take it."""
import glob
import subprocess

import pytest
from guest_machine import kernel


def need_kernel():
    """Its folder; skips the test where it was not fetched."""
    folder = kernel()
    if not folder:
        pytest.skip("Debian's cloud kernel is not here: tools/fetch_kernel")
    return folder


def give_kernel(node):
    folder = need_kernel()
    subprocess.run([node.build / "tests" / "kernel-driver", node.state / "kernels",
                    glob.glob(folder + "/boot/vmlinuz-*")[0],
                    glob.glob(folder + "/lib/modules/*")[0], node.build / "brume-init",
                    node.build / "brume-image-worker"],
                   check=True, capture_output=True, timeout=120)
