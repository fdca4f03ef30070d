"""brume-oci: AppArmor profiles and SELinux labels where the kernel has them (the lab has AppArmor)."""
import pathlib
import shutil
import subprocess
import uuid

import pytest

ENABLED = pathlib.Path("/sys/module/apparmor/parameters/enabled")
HERE = ENABLED.exists() and ENABLED.read_text() == "Y\n" and shutil.which("apparmor_parser")
pytestmark = pytest.mark.skipif(not HERE, reason="AppArmor, with its parser, is not here")


@pytest.fixture
def profile():
    """A loaded profile that allows all but writing to /tmp."""
    name = "brume-test-" + uuid.uuid4().hex[:12]
    text = (f"profile {name} flags=(attach_disconnected,mediate_deleted) {{\n"
            "  capability, network, mount, umount, pivot_root, signal, ptrace, unix, file,\n"
            "  deny /tmp/** w,\n}\n")
    subprocess.run(["apparmor_parser", "-K", "-r"], input=text, text=True, check=True)
    yield name
    subprocess.run(["apparmor_parser", "-K", "-R"], input=text, text=True, check=False)


def test_the_profile_is_on(bundle, profile):
    bundle.process["apparmorProfile"] = profile
    done = bundle.run("sh", "-c", "cat /proc/self/attr/current; touch /tmp/x; touch /root/x && "
                                  "echo elsewhere")
    assert done.stdout.splitlines() == [f"{profile} (enforce)", "elsewhere"], done
    assert "Permission denied" in done.stderr


def test_with_no_new_privileges_and_a_user(mapped, profile):
    mapped.process["apparmorProfile"] = profile
    mapped.process["user"] = {"uid": 1000, "gid": 1000}
    assert mapped.sh("cat /proc/self/attr/current") == f"{profile} (enforce)\n"


def test_exec_runs_under_it_too(bundle, profile):
    bundle.process["apparmorProfile"] = profile
    bundle.start("sleep", "1000")
    done = bundle.exec(bundle.id, "cat", "/proc/self/attr/current")
    assert done.stdout == f"{profile} (enforce)\n"


def test_exec_has_an_option_for_another(bundle, profile):
    bundle.start("sleep", "1000")
    assert bundle.exec(bundle.id, "cat", "/proc/self/attr/current").stdout == "unconfined\n"
    done = bundle.exec("--apparmor", profile, bundle.id, "cat", "/proc/self/attr/current")
    assert done.stdout == f"{profile} (enforce)\n", done


def test_a_profile_that_is_not_loaded(bundle):
    bundle.process["apparmorProfile"] = "brume-no-such-profile"
    done = bundle.run("true")
    assert done.returncode != 0 and "brume-no-such-profile" in done.stderr
    assert bundle.leftovers() == []


def test_unconfined(bundle):
    bundle.process["apparmorProfile"] = "unconfined"
    assert bundle.sh("cat /proc/self/attr/current") == "unconfined\n"
