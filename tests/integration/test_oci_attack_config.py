"""brume-oci: hostile bytes where a configuration should be: one line, exit code 1, nothing changed."""
import contextlib
import json
import os
import time

import pytest
from node import eventually

MIB = 1 << 20


def put(bundle, data):
    (bundle.folder / "bundle").mkdir(exist_ok=True)
    (bundle.folder / "bundle/config.json").write_bytes(data)


def refused(bundle, *said, seconds=20):
    start = time.monotonic()
    done = bundle.call("run", bundle.id, timeout=seconds)
    assert done.returncode == 1, (done.returncode, done.stderr[:300])
    assert len(done.stderr.splitlines()) == 1 and len(done.stderr) < 2000, done.stderr[:3000]
    for word in said:
        assert word in done.stderr, done.stderr
    assert time.monotonic() - start < seconds
    assert bundle.leftovers() == []


def dump(bundle, **more):
    return json.dumps({**bundle.config, **more}).encode()


@pytest.mark.parametrize("data", [
    b"[" * 100000, b'{"a":' * 100000, b'{"ociVersion":"1.0.2","process":' + b"[" * 4096 + b"]" * 4096 + b"}",
    b"\xff\xfe{\x00}\x00", b'{"ociVersion":"1.0.2\xc3\x28"}', b'{"ociVersion":"1.0.2","root":{"path":"\\ud800"}}',
    b"{}" + b" " * 100, b"null", b"1e999999", b'{"ociVersion":1e400}', b"-", b"\x00" * 5000,
], ids=["arrays", "objects", "nested", "utf16", "not-utf8", "surrogate", "empty", "null", "huge-float",
        "huge-version", "minus", "zeros"])
def test_not_a_configuration(bundle, data):
    put(bundle, data)
    refused(bundle, "config.json")


def test_too_large(bundle):
    put(bundle, dump(bundle, annotations={"x": "y" * 64 * MIB}))
    refused(bundle, "config.json")


@pytest.mark.parametrize("where", ["mounts", "env", "args", "devices", "namespaces", "rlimits", "syscalls"])
def test_long_lists(bundle, where):
    """Large, but not too large: an answer in time, whichever it is, and no crash."""
    count = 1000
    config = bundle.config
    if where == "mounts":
        config["mounts"] = [{"destination": f"/m{i}", "type": "tmpfs"} for i in range(count)]
        config["mounts"][-1] = {"destination": "/x", "type": "nofs"}
    elif where in ("env", "args"):
        config["process"][where] = ["A=" + "x" * 20] * count + ([""] if where == "env" else [])
        config["process"]["cwd"] = "relative"
    elif where == "devices":
        config["linux"]["devices"] = [{"path": f"/dev/d{i}", "type": "c", "major": 1, "minor": 3}
                                      for i in range(count)] + [{"path": "/dev/z", "type": "z"}]
    elif where == "namespaces":
        config["linux"]["namespaces"] += [{"type": "pid"}] * count
    elif where == "rlimits":
        config["process"]["rlimits"] = [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * count
    else:
        config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 0, "value": i, "op": "SCMP_CMP_EQ"}]} for i in range(count)]}
    put(bundle, dump(bundle))
    if where == "syscalls":
        done = bundle.call("run", bundle.id, timeout=170)
        assert done.returncode in (0, 1) and len(done.stderr.splitlines()) <= 1
    else:
        refused(bundle, seconds=100)


TOO_LONG = 10 ** 40
# Numbers that mean something all the same: no limit, or more than the kernel's greatest.
CARRIED_OUT = {("pids", "limit"): [-(1 << 31) - 1], ("memory", "limit"): [1 << 32, (1 << 64) - 1],
               ("cpu", "shares"): [1 << 32, (1 << 64) - 1]}


@pytest.mark.parametrize("path", [
    ("process", "user", "uid"), ("process", "user", "gid"), ("process", "oomScoreAdj"),
    ("process", "user", "umask"), ("linux", "resources", "pids", "limit"),
    ("linux", "resources", "memory", "limit"), ("linux", "resources", "cpu", "shares"),
    ("linux", "resources", "cpu", "period"), ("linux", "devices", 0, "major"),
    ("linux", "uidMappings", 0, "size"), ("linux", "uidMappings", 0, "hostID")])
@pytest.mark.parametrize("value", [-(1 << 31) - 1, 1 << 32, (1 << 64) - 1, TOO_LONG, 1.5, "1"], ids=str)
def test_numbers_out_of_range(bundle, path, value):
    """Accepted when it means something; else refused by the property's name.  No third way."""
    config = bundle.config
    config["linux"]["devices"] = [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]
    if path[1] == "uidMappings":
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 1 << 20, "size": 1}]
        config["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 1 << 20, "size": 1}]
    place = config
    for name in path[:-1]:
        place = place.setdefault(name, {}) if isinstance(place, dict) else place[name]
    place[path[-1]] = value
    config["process"]["args"] = ["true"]
    put(bundle, dump(bundle))
    done = bundle.call("run", bundle.id, timeout=20)
    assert done.returncode in (0, 1) and len(done.stderr.splitlines()) == done.returncode, done.stderr
    if done.returncode == 0:
        assert value in CARRIED_OUT.get(path[-2:], ()), "taken for another number"
    elif value != TOO_LONG:
        assert path[-1] in done.stderr, done.stderr


@pytest.mark.parametrize("text", ["nul\u0000inside", "new\nline", "../../../../x", "/" * 5000, "a" * 5000,
                                  "%s%n%d"], ids=["nul", "line", "up", "slashes", "long", "format"])
@pytest.mark.parametrize("place", ["cwd", "hostname", "destination", "device", "masked", "cgroup",
                                   "sysctl", "root", "hook", "annotation"])
def test_strings(bundle, place, text):
    config = bundle.config
    if place == "cwd":
        config["process"]["cwd"] = "/" + text
    elif place == "hostname":
        config["hostname"] = text
    elif place == "destination":
        config["mounts"].append({"destination": "/" + text, "type": "tmpfs"})
    elif place == "device":
        config["linux"]["devices"] = [{"path": "/dev/" + text, "type": "p"}]
    elif place == "masked":
        config["linux"]["maskedPaths"].append("/" + text)
    elif place == "cgroup":
        config["linux"]["cgroupsPath"] = bundle.cgroup + "/../.." + "/" + text
    elif place == "sysctl":
        config["linux"]["sysctl"] = {"net." + text: "1"}
    elif place == "root":
        config["root"]["path"] = "rootfs-" + text
    elif place == "hook":
        config["hooks"] = {"prestart": [{"path": text}]}
    else:
        config["annotations"] = {text: text}
    config["process"]["args"] = ["true"]
    put(bundle, dump(bundle))
    before = sorted(os.listdir("/")), sorted(os.listdir(bundle.folder))
    done = bundle.call("run", bundle.id, timeout=20)
    assert done.returncode in (0, 1), done.stderr
    if "\n" not in text:
        assert len(done.stderr.splitlines()) == done.returncode, done.stderr
    if place in ("cgroup", "sysctl", "root", "hook"):
        assert done.returncode == 1
    assert before[0] == sorted(os.listdir("/"))
    assert set(os.listdir(bundle.folder)) - set(before[1]) <= {"run"}
    assert bundle.leftovers() == []


# Whatever is wrong with it, it is of this container: else that alone would be why it is refused.
OWN = b'{"version":"1","id":"OWN","bundle":"/",'


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\0" * 100, b"[" * 100000, OWN + b'"pid":-1}',
                                  OWN + b'"pid":1e99}', OWN + b'"pid":99999999999}',
                                  OWN + b'"cgroup":"/../../x"}', b"x" * 4 * MIB,
                                  b'{"version":"1","id":"x","bundle":"/"}'],
                         ids=["empty", "cut", "array", "zeros", "deep", "pid", "float", "pid-range", "cgroup",
                              "large", "other"])
def test_a_hostile_state(bundle, data):
    """state.json as something else left it: every verb fails in one line, --force takes it away."""
    bundle.start("sleep", "1000")
    pid = bundle.state()["pid"]
    data = data.replace(b"OWN", bundle.id.encode())
    (bundle.root / bundle.id / "state.json").write_bytes(data)
    for verb in ("state", "kill", "exec", "start", "pause", "delete"):
        words = [bundle.id] + (["true"] if verb == "exec" else [])
        done = bundle.call(verb, *words, timeout=20)
        assert done.returncode != 0 and len(done.stderr.splitlines()) == 1, (verb, done.stderr)
    assert os.path.exists(f"/proc/{pid}"), "a process was killed that the state does not name"
    os.kill(pid, 9)
    bundle.call("delete", "--force", bundle.id)
    if (bundle.root / bundle.id).exists():
        (bundle.root / bundle.id / "state.json").unlink()
        bundle.call("delete", "--force", bundle.id)

    def removed():
        for group in [path for path in bundle.leftovers() if "cgroup" in path]:
            with contextlib.suppress(OSError):
                os.rmdir(group)
        return bundle.leftovers() == []
    eventually(removed, 20, "the end of the control groups")


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100000, b'{"args":[],"cwd":"/","user":{"uid":0,"gid":0}}',
                                  b'{"args":["true"],"cwd":"../x","user":{"uid":0,"gid":0}}',
                                  b'{"args":["true"],"cwd":"/","user":{"uid":4294967296,"gid":0}}',
                                  b'{"args":["tr\\u0000ue"],"cwd":"/","user":{"uid":0,"gid":0}}'],
                         ids=["empty", "nothing", "deep", "args", "cwd", "uid", "nul"])
def test_a_hostile_process_file(bundle, data):
    bundle.start("sleep", "1000")
    (bundle.folder / "process.json").write_bytes(data)
    done = bundle.exec("--process", bundle.folder / "process.json", bundle.id, timeout=20)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "process" in done.stderr
