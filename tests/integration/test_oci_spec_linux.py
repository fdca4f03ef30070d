"""brume-oci: `linux`, `root`, `hostname` and the top of config.json, seen from the inside."""
import json
import os
import pathlib
import stat
import subprocess
import uuid

import pytest

KINDS = {"user": "user", "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts",
         "cgroup": "cgroup", "time": "time"}


def shown(bundle, *files, **more):
    script = "; ".join(f"readlink /proc/self/ns/{file}" for file in files)
    return bundle.sh(script, **more).split()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("user", "mount")])
def test_each_namespace_alone_and_inherited(bundle, kind):
    """What is named is new, what is not named is the runtime's."""
    bundle.linux["namespaces"] = [{"type": "mount"}, {"type": kind}]
    bundle.config["mounts"] = [{"destination": "/proc", "type": "bind", "source": "/proc",
                                "options": ["rbind"]}]
    if kind == "pid":
        bundle.config["mounts"] = [{"destination": "/proc", "type": "proc"}]
    bundle.linux["maskedPaths"] = bundle.linux["readonlyPaths"] = []
    del bundle.config["hostname"]
    for name, inside in zip(KINDS, shown(bundle, *KINDS.values())):
        own = os.readlink("/proc/self/ns/" + KINDS[name])
        assert (inside != own) == (name in ("mount", kind)), name


def test_a_path_that_is_no_such_namespace(bundle):
    for path, said in (("/proc/self/ns/net", "is not a uts namespace"),
                       ("/etc/passwd", "is not a uts namespace"), ("/nonexistent", "/nonexistent"),
                       ("relative", "absolute")):
        bundle.linux["namespaces"] = [{"type": "mount"}, {"type": "uts", "path": path}]
        done = bundle.run("true")
        assert done.returncode == 1 and said in done.stderr, done.stderr


def test_time_offsets_of_both_clocks(bundle):
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 5000000, "nanosecs": 7},
                                   "boottime": {"secs": 7000000}}
    out = bundle.sh("cat /proc/self/timens_offsets; cat /proc/uptime")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[:2]}
    assert rows == {"monotonic": ["5000000", "7"], "boottime": ["7000000", "0"]}
    assert float(out.splitlines()[2].split()[0]) > 7000000


def test_names(bundle):
    bundle.config["hostname"], bundle.config["domainname"] = "some-host", "some.domain"
    assert bundle.sh("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname").split() == [
        "some-host", "some.domain"]


def test_several_id_mappings(bundle):
    maps = [{"containerID": 0, "hostID": 100000, "size": 10},
            {"containerID": 1000, "hostID": 200000, "size": 1}]
    bundle.linux["namespaces"].append({"type": "user"})
    bundle.linux["uidMappings"] = maps
    bundle.linux["gidMappings"] = [dict(one, hostID=one["hostID"] + 5) for one in maps]
    for path in [bundle.rootfs, *bundle.rootfs.rglob("*")]:
        os.chown(path, 100000, 100005, follow_symlinks=False)
    out = bundle.sh("cat /proc/self/uid_map /proc/self/gid_map; touch /made")
    assert [line.split() for line in out.splitlines()] == [
        ["0", "100000", "10"], ["1000", "200000", "1"], ["0", "100005", "10"],
        ["1000", "200005", "1"]]
    made = (bundle.rootfs / "made").stat()
    assert (made.st_uid, made.st_gid) == (100000, 100005)


def test_devices_anywhere_of_every_type(bundle):
    bundle.linux["devices"] = [
        {"path": "/deep/down/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o604,
         "uid": 3, "gid": 4},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 250},
        {"path": "/dev/raw", "type": "u", "major": 1, "minor": 5},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o620}]
    out = bundle.sh("stat -c '%n %F %t:%T %a %u:%g' /deep/down/null /dev/disk /dev/raw /dev/pipe;"
                    "echo x > /deep/down/null; head -c 2 /dev/raw | wc -c")
    assert out.splitlines() == [
        "/deep/down/null character special file 1:3 604 3:4",
        "/dev/disk block special file 7:fa 666 0:0", "/dev/raw character special file 1:5 666 0:0",
        "/dev/pipe fifo 0:0 620 0:0", "2"]


def test_a_device_over_something_else_is_refused(bundle):
    (bundle.rootfs / "thing").write_text("x")
    bundle.linux["devices"] = [{"path": "/thing", "type": "c", "major": 1, "minor": 3}]
    done = bundle.run("true")
    assert done.returncode == 1 and "/thing" in done.stderr and bundle.leftovers() == []
    # The same device is fine.
    (bundle.rootfs / "thing").unlink()
    os.mknod(bundle.rootfs / "thing", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    assert bundle.run("true").returncode == 0


@pytest.mark.parametrize("mapping", [False, True])
def test_default_devices_and_links(request, mapping):
    bundle = request.getfixturevalue("mapped" if mapping else "bundle")
    out = bundle.sh("cd /dev; for n in null zero full random urandom tty; do "
                    "stat -c '%n %t:%T %a' $n; done; for l in fd stdin stdout stderr ptmx; do "
                    "echo $l $(readlink $l); done; head -c 3 zero | wc -c; echo x > null; "
                    "echo x > full || true; head -c 1 urandom | wc -c; (: < ptmx)")
    for line in ("null 1:3 666", "zero 1:5 666", "full 1:7 666", "random 1:8 666",
                 "urandom 1:9 666", "tty 5:0 666", "fd /proc/self/fd", "stdin /proc/self/fd/0",
                 "stdout /proc/self/fd/1", "stderr /proc/self/fd/2", "ptmx pts/ptmx", "3", "1"):
        assert line in out.splitlines(), (line, out)


def test_sysctls_of_every_namespace(bundle):
    bundle.linux["sysctl"] = {
        "net.ipv4.ip_forward": "1", "net/ipv4/conf/lo/arp_announce": "2", "kernel.shmmni": "1234",
        "fs.mqueue.msg_max": "11", "kernel.domainname": "by.sysctl", "kernel.sem": "250 32000 32 99"}
    host = pathlib.Path("/proc/sys/kernel/shmmni").read_text()
    out = bundle.sh("cd /proc/sys; cat net/ipv4/ip_forward net/ipv4/conf/lo/arp_announce "
                    "kernel/shmmni fs/mqueue/msg_max kernel/domainname kernel/sem")
    assert out.split() == ["1", "2", "1234", "11", "by.sysctl", "250", "32000", "32", "99"]
    assert pathlib.Path("/proc/sys/kernel/shmmni").read_text() == host


@pytest.mark.parametrize("name,without,said", [
    ("kernel.panic", None, "kernel.panic"), ("vm.overcommit_memory", None, "change the host"),
    ("kernel.hostname", None, "hostname"), ("net.ipv4.ip_forward", "network", "network namespace"),
    ("kernel.msgmax", "ipc", "ipc namespace"), ("fs.mqueue.msg_max", "ipc", "ipc namespace"),
    ("net/../kernel/panic", None, "not a name"), ("net.nothing", None, "net.nothing")])
def test_sysctls_that_are_refused(bundle, name, without, said):
    bundle.linux["sysctl"] = {name: "1"}
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"]
                                  if one["type"] != without]
    bundle.config["mounts"] = [one for one in bundle.config["mounts"] if one["type"] != "mqueue"]
    done = bundle.run("true")
    assert done.returncode == 1 and said in done.stderr and bundle.leftovers() == []


def test_a_readonly_root_leaves_the_mounts(bundle):
    bundle.config["root"]["readonly"] = True
    bundle.config["mounts"].append({"destination": "/tmp", "type": "tmpfs"})
    done = bundle.run("sh", "-c", "touch /x; touch /tmp/x && echo ok")
    assert done.stdout == "ok\n" and "Read-only" in done.stderr


def test_masked_and_readonly_paths_have_to_be_absolute(bundle):
    for name in ("maskedPaths", "readonlyPaths"):
        bundle.linux[name], kept = ["proc/kcore"], bundle.linux[name]
        done = bundle.run("true")
        assert done.returncode == 1 and "linux." + name in done.stderr
        bundle.linux[name] = kept


@pytest.mark.parametrize("domain,machine", [("LINUX", os.uname().machine), ("LINUX32", "i686")])
def test_personality(bundle, domain, machine):
    bundle.linux["personality"] = {"domain": domain, "flags": []}
    assert bundle.sh("uname -m") == machine + "\n"
    bundle.linux["personality"]["flags"] = ["ADDR_NO_RANDOMIZE"]
    done = bundle.run("true")
    assert done.returncode == 1 and "linux.personality.flags" in done.stderr


@pytest.mark.skipif(not pathlib.Path("/proc/self/numa_maps").exists(), reason="no NUMA policies")
@pytest.mark.parametrize("policy,seen", [
    ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
     "interleave=static:0"),
    ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"), ({"mode": "MPOL_LOCAL"}, "local"),
    ({"mode": "MPOL_DEFAULT"}, "default"), ({}, "default")])
def test_memory_policy(bundle, policy, seen):
    bundle.linux["memoryPolicy"] = policy
    assert {line.split()[1] for line in bundle.sh("cat /proc/self/numa_maps").splitlines()} == {
        seen}
    bundle.start("sleep", "1000")
    assert seen in bundle.exec(bundle.id, "cat", "/proc/self/numa_maps").stdout


def test_memory_policies_that_are_refused(bundle):
    for policy, said in (({"mode": "MPOL_X"}, "MPOL_X"),
                         ({"mode": "MPOL_BIND", "nodes": "x"}, "linux.memoryPolicy.nodes"),
                         ({"mode": "MPOL_BIND", "nodes": "900"}, "linux.memoryPolicy"),
                         ({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_X"]}, "MPOL_F_X")):
        bundle.linux["memoryPolicy"] = policy
        done = bundle.run("true")
        assert done.returncode == 1 and said in done.stderr, done.stderr


@pytest.fixture
def interface():
    """One end of a cable, with addresses, in the runtime's network namespace."""
    name = "t" + uuid.uuid4().hex[:8]
    subprocess.check_call(["ip", "link", "add", name, "type", "veth", "peer", "name", name + "p"])
    subprocess.check_call(["ip", "link", "set", name, "up"])
    subprocess.check_call(["ip", "address", "add", "10.77.1.5/24", "brd", "+", "dev", name])
    subprocess.check_call(["ip", "address", "add", "fd77::5/64", "dev", name])
    subprocess.check_call(["ip", "address", "add", "10.77.2.5/32", "dev", name, "valid_lft", "900",
                           "preferred_lft", "900"])
    yield name
    subprocess.call(["ip", "link", "delete", name + "p"], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("new_name", [None, "eth7"])
def test_net_devices(bundle, interface, new_name):
    bundle.linux["netDevices"] = {interface: {"name": new_name} if new_name else {}}
    name = new_name or interface
    # It is there in time for a sysctl of its own.
    bundle.linux["sysctl"] = {f"net/ipv4/conf/{name}/arp_announce": "2"}
    out = bundle.sh(f"ip address show {name}; cat /proc/sys/net/ipv4/conf/{name}/arp_announce")
    assert "UP" in out and out.splitlines()[-1] == "2"
    assert "inet 10.77.1.5/24 brd 10.77.1.255" in out and "inet6 fd77::5/64" in out
    assert "10.77.2.5" not in out, "only permanent addresses go with it"


def test_net_devices_in_a_user_namespace(mapped, interface):
    mapped.linux["netDevices"] = {interface: {"name": "eth0"}}
    assert "10.77.1.5/24" in mapped.sh("ip address show eth0")


def test_net_devices_into_a_namespace_by_path(bundle, interface):
    holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    try:
        while os.readlink(f"/proc/{holder.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"]
                                      if one["type"] != "network"]
        bundle.linux["namespaces"].append({"type": "network",
                                           "path": f"/proc/{holder.pid}/ns/net"})
        bundle.linux["netDevices"] = {interface: {}}
        assert interface in bundle.sh("ip link")
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize("devices,without,said", [
    ({"nothere0": {}}, None, "nothere0"), ({"lo": {"name": "x0"}}, None, "lo"),
    ({"x": {"name": "a/b"}}, None, "linux.netDevices.x.name"),
    ({"x" * 16: {}}, None, "linux.netDevices"), ({"x": {}}, "network", "network namespace"),
    ({"a": {"name": "z"}, "b": {"name": "z"}}, None, "twice")])
def test_net_devices_that_are_refused(bundle, devices, without, said):
    bundle.linux["netDevices"] = devices
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"]
                                  if one["type"] != without]
    done = bundle.run("true")
    assert done.returncode == 1 and said in done.stderr and bundle.leftovers() == []


@pytest.mark.skipif(pathlib.Path("/sys/fs/resctrl/schemata").exists(), reason="resctrl is here")
def test_rdt_where_there_is_none(bundle):
    bundle.linux["intelRdt"] = {"closID": "gold"}
    done = bundle.run("true")
    assert done.returncode == 1 and "resctrl" in done.stderr and bundle.leftovers() == []


@pytest.mark.skipif(pathlib.Path("/sys/fs/selinux/enforce").exists(), reason="SELinux is here")
def test_selinux_where_there_is_none(bundle):
    bundle.linux["mountLabel"] = "system_u:object_r:container_file_t:s0"
    done = bundle.run("true")
    assert done.returncode == 1 and "linux.mountLabel: SELinux is not enabled" in done.stderr
    bundle.linux["mountLabel"] = ""
    assert bundle.run("true").returncode == 0


@pytest.mark.skipif(pathlib.Path("/sys/module/apparmor/parameters/enabled").exists(),
                    reason="AppArmor is here")
def test_apparmor_where_there_is_none(bundle):
    bundle.process["apparmorProfile"] = "docker-default"
    done = bundle.run("true")
    assert done.returncode == 1 and "AppArmor is not enabled" in done.stderr
    bundle.process["apparmorProfile"] = "unconfined"
    assert bundle.run("true").returncode == 0


def test_versions_and_other_platforms(bundle):
    """Every 1.x is for us; what other platforms or later versions define is ignored."""
    for version in ("1.0.0", "1.0.2-dev", "1.1.0+vm", "1.2.1", "1.9.0"):
        bundle.config["ociVersion"] = version
        assert bundle.run("true").returncode == 0, version
    bundle.config.update({"windows": {"layerFolders": ["x"]}, "solaris": {"milestone": "x"},
                          "zos": {"namespaces": []}, "freebsd": {"jail": {}}, "vm": {},
                          "future": {"x": [1]}})
    bundle.process["future"] = bundle.linux["future"] = {"y": None}
    bundle.linux["resources"]["future"] = 1
    bundle.config["mounts"][0]["future"] = "x"
    assert bundle.run("true").returncode == 0
    for version in ("0.9.0", "2.0.0", "1.0", "one", 1):
        bundle.config["ociVersion"] = version
        done = bundle.run("true")
        assert done.returncode == 1 and "ociVersion" in done.stderr, version


def test_annotations(bundle):
    bundle.config["annotations"] = {"org.example.a": "1", "empty": ""}
    bundle.create("sleep", "1000")
    assert bundle.state()["annotations"] == {"org.example.a": "1", "empty": ""}


def test_features_are_what_is_there(bundle):
    """Each promise of `features` is kept: the names are taken, and all of this file's are there."""
    features = json.loads(bundle.call("features", check=True).stdout)
    linux = features["linux"]
    assert features["ociVersionMin"] == "1.0.0" and features["ociVersionMax"] == "1.2.1"
    assert set(linux["namespaces"]) == set(KINDS)
    assert features["hooks"] == ["prestart", "createRuntime", "createContainer", "startContainer",
                                 "poststart", "poststop"]
    assert len(linux["capabilities"]) == 41 and "CAP_CHECKPOINT_RESTORE" in linux["capabilities"]
    assert linux["netDevices"] == {"enabled": True}
    assert linux["mountExtensions"] == {"idmap": {"enabled": True}}
    assert linux["cgroup"]["v1"] and linux["cgroup"]["v2"] and linux["cgroup"]["rdma"]
    for option in ("bind", "rbind", "ro", "rro", "rnosymfollow", "tmpcopyup", "idmap", "ridmap",
                   "copy-symlink", "src-nofollow", "dest-nofollow", "rslave", "sync", "defaults"):
        assert option in features["mountOptions"], option
    assert len(features["mountOptions"]) == len(set(features["mountOptions"]))
    seccomp = linux["seccomp"]
    for arch in seccomp["archs"]:
        bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch]}
        assert bundle.run("true").returncode == 0, arch
    for action in seccomp["actions"]:
        if action == "SCMP_ACT_NOTIFY":
            continue
        bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["kcmp"], "action": action}]}
        assert bundle.run("true").returncode == 0, action
    for flag in seccomp["knownFlags"]:
        bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag]}
        assert bundle.run("true").returncode == 0, flag
