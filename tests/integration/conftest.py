"""Fixtures of the integration tests.

They need root.  The whole session runs in a network and a mount namespace of its own, every node in
two more.  Without root, or without the programs, the tests are skipped with the reason.

    BRUME_BUILD=build /usr/bin/python3 -m pytest tests/integration
"""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tools")]

import kernel  # noqa: E402
import netns  # noqa: E402
import node as node_module  # noqa: E402
import oci_bundle  # noqa: E402
import registry as registry_module  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds; not in test.sh --fast")
    if os.geteuid() == 0 and not config.option.collectonly:
        kernel.isolate()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        # What the tests fork must not inherit a limit that the kernel refuses to raise later.
        os.umask(0o022)


class TooLong(AssertionError):
    """A test exceeded its time."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """No test may hang: after this time it fails where it stands."""
    limit = round(kernel.patient(600 if item.get_closest_marker("slow") else 180))

    def stop(*_):
        raise TooLong(f"not finished after {limit} s")
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def build_folder():
    return pathlib.Path(os.environ.get("BRUME_BUILD", ROOT / "build")).resolve()


def need(*programs):
    """Skips the test unless it can run here."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for name in programs:
        if not (build_folder() / name).exists() and not shutil.which(name):
            pytest.skip(f"{name} is not there (set BRUME_BUILD to the build folder)")


@pytest.fixture(scope="session")
def build():
    """The folder with the programs under test."""
    need()
    if not build_folder().is_dir():
        pytest.skip(f"{build_folder()} is not there (set BRUME_BUILD to the build folder)")
    return build_folder()


_made = []


def make_scratch():
    """A folder that mapped users may pass (pytest's tmp_path is private)."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="brume-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    _made.append(folder)
    return folder


@pytest.fixture
def scratch():
    """A folder of this test's own."""
    folder = make_scratch()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(build, scratch):
    """The small world of netns, for tests of net/."""
    need("nft", "dnsmasq", "tests/net-driver")
    made = netns.World(build / "tests/net-driver", scratch)
    yield made
    made.close()


def make_node(build, folder, **more):
    need("brumed", "brume-agentd", "brume-keeper", "brume-oci", "brume", "docker-registry")
    return node_module.Node(build, folder, **more)


def with_registry(node, folder):
    node.registry = registry_module.Registry(node, folder)
    node.registries.append(node.registry)
    return node


@pytest.fixture
def node(build, scratch):
    """A running node of this test alone, with a registry on its loopback."""
    it = make_node(build, scratch / "node")
    try:
        it.start()
        with_registry(it, scratch / "registry")
        yield it
    finally:
        it.close()


@pytest.fixture(scope="module")
def shared_node(build):
    """A running node for all tests of one file; `clean` removes what each of them made."""
    folder = make_scratch()
    it = make_node(build, folder / "node")
    try:
        it.start()
        with_registry(it, folder / "registry")
        yield it
    finally:
        try:
            it.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def clean(shared_node):
    """The shared node; after the test nothing of its instances may be left."""
    yield shared_node
    shared_node.check_clean()


@pytest.fixture
def busybox(clean):
    """The shared node with the image `busybox` pulled; gives (node, reference)."""
    import images
    reference = clean.registry.push(images.busybox(), "busybox:1")
    clean.cli("image", "pull", "--insecure", reference)
    return clean, reference


def pytest_sessionfinish(session, exitstatus):
    # What was still mounted then may go now.  Others' are none of our business: they may be in use.
    for folder in _made:
        with contextlib.suppress(OSError):
            folder.rmdir()


@pytest.fixture
def bundle(build, scratch):
    need("brume-oci", "busybox")
    it = oci_bundle.Bundle(build / "brume-oci", scratch)
    yield it
    it.close()
    assert it.leftovers() == []


@pytest.fixture
def mapped(build, scratch):
    need("brume-oci", "busybox")
    it = oci_bundle.Bundle(build / "brume-oci", scratch, mapped=True)
    yield it
    it.close()
    assert it.leftovers() == []


def arm(bundle):
    """Puts the hostile program into a bundle's root file system."""
    need("tests/hostile")
    shutil.copy(build_folder() / "tests/hostile", bundle.rootfs / "bin/hostile")
    return bundle


@pytest.fixture
def armed(bundle):
    return arm(bundle)


@pytest.fixture
def armed_mapped(mapped):
    return arm(mapped)
