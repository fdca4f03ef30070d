"""A kernel for the virtual machines of a node: Debian's cloud kernel, as the node would take it."""
import glob
import subprocess

import pytest
from guest_machine import kernel


def give_kernel(node):
    """Imports it; skips the test where it cannot be had."""
    folder = kernel()
    if not folder:
        pytest.skip("Debian's cloud kernel is not here and cannot be fetched")
    subprocess.run([node.build / "tests" / "kernel-driver", node.state / "kernels",
                    glob.glob(folder + "/boot/vmlinuz-*")[0],
                    glob.glob(folder + "/lib/modules/*")[0], node.build / "brume-init",
                    node.build / "brume-image-worker"],
                   check=True, capture_output=True, timeout=120)
