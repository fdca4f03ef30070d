"""Seccomp profiles that people bring along: where the policy allows it, checked, and bounded."""
import json
import pathlib

import pytest
from oci_bundle import SECCOMP_SOURCE

DENY = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 117}]}


@pytest.fixture
def permitted(busybox):
    """(node, reference); the policy goes with it."""
    yield busybox
    (busybox[0].state / "policy.json").unlink(missing_ok=True)


@pytest.fixture
def profile(tmp_path):
    def write(document):
        path = tmp_path / "profile.json"
        path.write_text(json.dumps(document, indent=2))
        return path
    return write


def test_a_seccomp_profile_of_ones_own(permitted, profile):
    node, reference = permitted
    path = profile(DENY)
    message = node.refused(reference, "x", "--seccomp", path)
    assert "seccomp_profiles" in message and len(message.splitlines()) == 1
    node.write_policy(seccomp_profiles={"projects": ["another"]})
    assert "seccomp_profiles" in node.refused(reference, "x", "--seccomp", path)
    node.write_policy(seccomp_profiles={"projects": ["default"]})
    node.launch(reference, "own", "--seccomp", path)
    assert "Structure needs cleaning" in node.sh("own", "mkdir /root/x 2>&1; true")
    # Nothing else of the belts is off, and exec gets the same.
    status = node.sh("own", "cat /proc/1/status /proc/self/status")
    assert status.count("Seccomp:\t2") == 2 and status.count("NoNewPrivs:\t1") == 2
    assert "of its own" in node.out("info", "own")
    node.launch(reference, "docker", "--security-opt", f"seccomp={path}")
    assert "Structure" in node.sh("docker", "mkdir /root/x 2>&1; true")


def test_dockers_profile_counts_the_instances_capabilities(permitted, profile):
    """The field's own list: sethostname comes with a capability only."""
    node, reference = permitted
    node.write_policy(seccomp_profiles={})
    path = profile(json.loads(pathlib.Path(SECCOMP_SOURCE).read_text()))
    node.launch(reference, "plain", "--seccomp", path)
    assert node.sh("plain", "mkdir /root/x && echo made") == "made\n"
    assert "not permitted" in node.sh("plain", "hostname other 2>&1; true")
    node.launch(reference, "admin", "--seccomp", path, "--cap-add", "SYS_ADMIN")
    assert node.sh("admin", "hostname other && hostname") == "other\n"


@pytest.mark.parametrize("change, words", [
    ({"defaultAction": "SCMP_ACT_MAYBE"}, "SCMP_ACT_MAYBE"),
    ({"listenerPath": "/run/x"}, "listenerPath"),
    ({"syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]}, "no_such_call"),
    ({"syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}, "process of the host"),
    ({"syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "includes": {"when": 1}}]},
     "syscalls[0].includes"),
])
def test_a_seccomp_profile_with_a_mistake(permitted, profile, change, words):
    node, reference = permitted
    node.write_policy(seccomp_profiles={})
    message = node.refused(reference, "x", "--seccomp", profile({**DENY, **change}))
    assert words in message.splitlines()[0], message
    assert node.api("GET", "/1.0/instances") == []


def test_many_seccomp_profiles_do_not_fill_the_run_folder(permitted, profile):
    node, reference = permitted
    node.write_policy(seccomp_profiles={})
    node.launch(reference, "first", "--seccomp", profile(DENY))
    kept = node.run_folder / "oci/.seccomp"
    for number in range(300):
        (kept / f"{number:064x}").write_bytes(b"x")
    rule = {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO"}
    node.launch(reference, "second", "--seccomp", profile({**DENY, "syscalls": [rule]}))
    assert len(list(kept.iterdir())) < 5
