"""brume-oci: what config.json asks for, seen from inside of the container."""
import json
import os
import pathlib
import socket
import struct
import subprocess
import threading

import oci_bundle
import pytest

CGROUP_V1 = pathlib.Path("/sys/fs/cgroup/memory").exists()


def status_field(text, name):
    return next(line.split()[1] for line in text.splitlines() if line.startswith(name + ":"))


def test_namespaces_are_new(mapped):
    mapped.linux["namespaces"].append({"type": "time"})
    out = mapped.sh("for n in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$n;"
                    "done; hostname; cat /proc/self/uid_map; echo $$")
    lines = out.splitlines()
    for name, inside in zip(["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"], lines):
        assert inside != os.readlink(f"/proc/self/ns/{name}"), name
    assert lines[8] == "box" and lines[9].split() == ["0", str(oci_bundle.MAPPED), "65536"]
    assert lines[10] == "1"


def test_namespaces_by_path(bundle):
    """A second container in the namespaces of the first."""
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.start("sleep", "1000")
    pid = bundle.state()["pid"]
    files = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup",
             "time": "time"}
    second = oci_bundle.Bundle(bundle.runtime, bundle.folder / "second")
    second.linux["namespaces"] = [{"type": kind, "path": f"/proc/{pid}/ns/{file}"}
                                  for kind, file in files.items()] + [{"type": "mount"}]
    del second.config["hostname"]
    script = "; ".join(f"readlink /proc/self/ns/{file}" for file in files.values())
    lines = second.sh(script + "; ps | grep -c 'sleep 1000'").splitlines()
    assert lines[:-1] == [os.readlink(f"/proc/{pid}/ns/{file}") for file in files.values()]
    assert int(lines[-1]) >= 1
    second.close()


def test_user_and_mount_namespace_by_path(mapped):
    mapped.start("sleep", "1000")
    pid = mapped.state()["pid"]
    second = oci_bundle.Bundle(mapped.runtime, mapped.folder / "second", mapped=True)
    second.linux["namespaces"] = [{"type": kind, "path": f"/proc/{pid}/ns/{file}"} for kind, file in
                                  (("user", "user"), ("pid", "pid"), ("network", "net"))]
    second.linux["namespaces"] += [{"type": kind} for kind in ("mount", "ipc", "uts", "cgroup")]
    del second.linux["uidMappings"], second.linux["gidMappings"]
    out = second.sh("readlink /proc/self/ns/user; readlink /proc/self/ns/pid; id -u; touch /x")
    assert out.splitlines() == [os.readlink(f"/proc/{pid}/ns/user"),
                                os.readlink(f"/proc/{pid}/ns/pid"), "0"]
    assert (second.rootfs / "x").stat().st_uid == oci_bundle.MAPPED
    third = oci_bundle.Bundle(mapped.runtime, mapped.folder / "third")
    third.linux["namespaces"] = [{"type": "mount", "path": f"/proc/{pid}/ns/mnt"}]
    third.config["mounts"] = []
    third.linux["maskedPaths"] = third.linux["readonlyPaths"] = []
    del third.config["hostname"]
    (mapped.rootfs / "marker").write_text("first")
    assert third.sh("cat /marker") == "first"
    second.close()
    third.close()


def test_time_offsets(bundle):
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 0}}
    up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    assert float(bundle.sh("cat /proc/uptime").split()[0]) > up + 999000


def test_host_is_out_of_reach(mapped):
    out = mapped.sh("ps | wc -l; kill -0 2 2>/dev/null && echo reached; ls /proc | grep -c '^[0-9]'")
    assert "reached" not in out
    assert int(out.splitlines()[0]) <= 6
    # Not host root: what is not mapped cannot be owned or read.
    secret = mapped.folder / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    mapped.config["mounts"].append({"destination": "/secret", "type": "bind",
                                    "source": str(secret), "options": ["bind"]})
    done = mapped.run("sh", "-c", "cat /secret; echo x > /secret; chown 0 /secret")
    assert "secret\n" not in done.stdout and done.returncode != 0
    assert secret.read_text() == "secret"


def test_links_do_not_lead_outside(bundle):
    """Mount destinations and masks are looked up inside of the root."""
    outside = bundle.folder / "outside"
    outside.mkdir()
    (bundle.rootfs / "evil").symlink_to(outside)
    (bundle.rootfs / "up").symlink_to("../../../../../../.." + str(outside))
    (bundle.rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub")
    source = bundle.folder / "file"
    source.write_text("content")
    bundle.config["mounts"] += [
        {"destination": "/evil/tmp", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/up/file", "type": "bind", "source": str(source), "options": ["bind"]},
        {"destination": "/../../etc/resolv.conf", "type": "bind", "source": str(source),
         "options": ["bind", "ro"]}]
    assert "content" in bundle.sh("cat /etc/resolv.conf; cat /run/systemd/resolve/stub")
    assert list(outside.iterdir()) == []


def test_mount_options(bundle):
    tree = bundle.folder / "tree"
    (tree / "sub").mkdir(parents=True)
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(tree / "sub")])
    try:
        def bind(name, *options):
            bundle.config["mounts"].append({"destination": "/" + name, "type": "none",
                                            "source": str(tree), "options": list(options)})
        bind("bind", "bind", "nosuid", "nodev", "noexec")
        bind("rbind", "rbind", "ro")
        bind("rro", "rbind", "rro")
        bundle.config["mounts"].append({"destination": "/t", "type": "tmpfs", "source": "x",
                                        "options": ["size=1m", "mode=700", "noatime", "noexec"]})
        out = bundle.sh("cat /proc/self/mountinfo")
    finally:
        subprocess.check_call(["umount", str(tree / "sub")])
    options = {line.split()[4]: line.split()[5] for line in out.splitlines()}
    assert "nosuid,nodev,noexec" in options["/bind"] and "/bind/sub" not in options
    assert options["/rbind"].startswith("ro") and options["/rbind/sub"].startswith("rw")
    assert options["/rro"].startswith("ro") and options["/rro/sub"].startswith("ro")
    assert "noatime" in options["/t"] and "noexec" in options["/t"]
    assert "size=1024k,mode=700" in out


@pytest.mark.parametrize("wanted,seen", [(None, None), ("private", None), ("slave", None),
                                         ("shared", "shared:"), ("rshared", "shared:"),
                                         ("unbindable", "unbindable")])
def test_rootfs_propagation(bundle, wanted, seen):
    if wanted:
        bundle.linux["rootfsPropagation"] = wanted
    line = next(line for line in bundle.sh("cat /proc/self/mountinfo").splitlines()
                if line.split()[4] == "/")
    fields = line.split(" - ")[0].split()[6:]
    assert (seen is None and not any("shared" in one for one in fields)) or \
        any(one.startswith(seen) for one in fields), line


def test_mount_propagation_comes_in(bundle):
    """rslave: what the host mounts below later is seen; nothing of the container's goes out."""
    tree = bundle.folder / "tree"
    tree.mkdir()
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(tree)])
    subprocess.check_call(["mount", "--make-shared", str(tree)])
    try:
        (tree / "later").mkdir()
        bundle.config["mounts"].append({"destination": "/tree", "type": "bind",
                                        "source": str(tree), "options": ["rbind", "rslave"]})
        bundle.start("sleep", "1000")
        subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", str(tree / "later")])
        (tree / "later/file").write_text("x")
        assert bundle.exec(bundle.id, "cat", "/tree/later/file").stdout == "x"
        bundle.call("delete", "--force", bundle.id, check=True)
    finally:
        subprocess.check_call(["umount", "-R", str(tree)])


def test_tmpcopyup_and_readonly_root(bundle):
    (bundle.rootfs / "data/deep").mkdir(parents=True)
    (bundle.rootfs / "data/deep/file").write_text("kept")
    (bundle.rootfs / "data/link").symlink_to("deep/file")
    os.chown(bundle.rootfs / "data/deep/file", 5, 6)
    bundle.config["root"]["readonly"] = True
    bundle.config["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs",
                                    "options": ["tmpcopyup"]})
    out = bundle.sh("cat /data/link; echo; stat -c '%u %g' /data/deep/file; echo new > /data/x;"
                    "touch /x 2>&1 || true")
    assert out.splitlines()[:2] == ["kept", "5 6"] and "Read-only" in out
    assert not (bundle.rootfs / "data/x").exists()


def test_idmapped_mount(mapped):
    tree = mapped.folder / "tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    os.chown(tree / "file", 1000, 1000)
    maps = [{"containerID": 0, "hostID": oci_bundle.MAPPED, "size": 65536}]
    mapped.config["mounts"].append({"destination": "/tree", "type": "bind", "source": str(tree),
                                    "options": ["bind"], "uidMappings": maps, "gidMappings": maps})
    assert mapped.sh("stat -c '%u %g' /tree/file") == "1000 1000\n"


def test_devices(bundle):
    bundle.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5,
                                "fileMode": 0o640, "uid": 7, "gid": 8},
                               {"path": "/pipe", "type": "p", "fileMode": 0o600}]
    out = bundle.sh("cd /dev; stat -c '%n %a %u %g' null zero full random urandom tty mine /pipe;"
                    "for f in fd stdin stdout stderr ptmx; do readlink $f; done; echo x > /dev/null")
    assert "mine 640 7 8" in out and "/pipe 600 0 0" in out and "null 666 0 0" in out
    assert "/proc/self/fd/1" in out and "pts/ptmx" in out


def test_device_rules(bundle):
    bundle.linux["resources"]["devices"] += [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}]
    bundle.linux["devices"] = [
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666},
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]
    done = bundle.run("sh", "-c", "head -c 1 /dev/zero | wc -c; head -c1 /dev/kmsg; : < /dev/fuse;"
                                  ": > /dev/fuse")
    assert done.stdout.startswith("1\n")
    denied = [line for line in done.stderr.splitlines() if "not permitted" in line]
    assert any("kmsg" in line for line in denied), done.stderr


def test_capabilities(bundle):
    caps = {"bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"], "permitted": ["CAP_CHOWN",
            "CAP_KILL"], "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"]}
    bundle.process["capabilities"] = caps
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    out = bundle.sh("cat /proc/self/status")
    assert int(status_field(out, "CapBnd"), 16) == 1 << 0 | 1 << 5 | 1 << 13
    # A user's exec keeps what is ambient.
    assert int(status_field(out, "CapEff"), 16) == 1 << 5
    assert int(status_field(out, "CapAmb"), 16) == 1 << 5
    assert int(status_field(out, "CapInh"), 16) == 1 << 5


def test_user_groups_umask_and_cwd(bundle):
    bundle.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o27}
    bundle.process["cwd"] = "/made/for/me"
    out = bundle.sh("id -u; id -g; id -G; umask; pwd; echo $HOME")
    assert out.split() == ["1000", "1001", "1001", "5", "6", "0027", "/made/for/me", "/tmp"]


def test_limits_and_oom_score(bundle):
    bundle.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                                 {"type": "RLIMIT_CORE", "soft": 0, "hard": 18446744073709551615}]
    bundle.process["oomScoreAdj"] = 321
    out = bundle.sh("cat /proc/self/limits /proc/self/oom_score_adj; grep NoNewPrivs "
                    "/proc/self/status")
    assert "Max open files            100                  200" in out
    assert "Max core file size        0                    unlimited" in out
    assert "\n321\n" in out and "NoNewPrivs:\t1" in out


def test_scheduler_io_priority_personality(bundle):
    bundle.process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    bundle.process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    bundle.linux["personality"] = {"domain": "LINUX32"}
    out = bundle.sh("cut -d' ' -f19,41 /proc/self/stat; ionice -p $$; uname -m")
    assert out.splitlines()[0] == "5 3", out
    assert "prio 6" in out and out.splitlines()[-1] == "i686"


def test_sysctl_and_names(bundle):
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4321",
                              "net/ipv4/ip_unprivileged_port_start": "80"}
    bundle.config["domainname"] = "example"
    out = bundle.sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax "
                    "/proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/domainname")
    assert out.split() == ["1", "4321", "80", "example"]
    assert pathlib.Path("/proc/sys/kernel/msgmax").read_text() != "4321\n"


def test_sysctl_in_a_user_namespace(mapped):
    mapped.linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    assert mapped.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "0\n"


def test_masked_and_readonly_paths(bundle):
    (bundle.rootfs / "hidden").mkdir()
    (bundle.rootfs / "hidden/file").write_text("x")
    (bundle.rootfs / "secret").write_text("x")
    (bundle.rootfs / "still").mkdir()
    bundle.linux["maskedPaths"] += ["/hidden", "/secret", "/not/there"]
    bundle.linux["readonlyPaths"] += ["/still", "/not/there"]
    out = bundle.sh("ls /hidden | wc -l; wc -c < /secret; touch /still/x 2>&1 || true;"
                    "echo 1 > /proc/sys/kernel/hostname 2>&1 || true")
    assert out.split()[:2] == ["0", "0"] and out.count("Read-only") >= 1


def write_number(bundle, controller, file):
    return (pathlib.Path("/sys/fs/cgroup") / controller / bundle.cgroup[1:] / file).read_text()


@pytest.mark.skipif(not CGROUP_V1, reason="this machine has no version 1 control groups")
def test_resources_v1(bundle):
    bundle.linux["resources"].update({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 64 << 20,
                   "swappiness": 10},
        "cpu": {"shares": 333, "quota": 50000, "period": 200000, "burst": 1000, "cpus": "0",
                "mems": "0"},
        "pids": {"limit": 33},
        "blockIO": {"throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 1048576}]}})
    if not pathlib.Path("/sys/block/vda").exists():
        del bundle.linux["resources"]["blockIO"]
    bundle.start("sleep", "1000")
    assert write_number(bundle, "memory", "memory.limit_in_bytes") == f"{64 << 20}\n"
    assert write_number(bundle, "memory", "memory.soft_limit_in_bytes") == f"{32 << 20}\n"
    assert write_number(bundle, "memory", "memory.swappiness") == "10\n"
    assert write_number(bundle, "cpu", "cpu.shares") == "333\n"
    assert write_number(bundle, "cpu", "cpu.cfs_quota_us") == "50000\n"
    assert write_number(bundle, "cpu", "cpu.cfs_period_us") == "200000\n"
    assert write_number(bundle, "cpuset", "cpuset.cpus") == "0\n"
    assert write_number(bundle, "pids", "pids.max") == "33\n"
    for controller in pathlib.Path("/sys/fs/cgroup").iterdir():
        procs = controller / bundle.cgroup[1:] / "cgroup.procs"
        if procs.exists():
            assert procs.read_text().split() == [str(bundle.state()["pid"])]
    assert bundle.exec(bundle.id, "cat", "/sys/fs/cgroup/pids/pids.max").stdout == "33\n"


def test_memory_and_pids_cannot_be_exceeded(bundle):
    bundle.linux["resources"].update({"memory": {"limit": 16 << 20, "swap": 16 << 20},
                                      "pids": {"limit": 10}})
    done = bundle.run("sh", "-c", "head -c 64m /dev/zero | tail | wc -c")
    assert "67108864" not in done.stdout
    done = bundle.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 9 & done; "
                                  "echo all")
    assert done.returncode != 0 and "fork" in done.stderr


def test_seccomp(bundle):
    bundle.linux["seccomp"] = oci_bundle.seccomp_profile(oci_bundle.DOCKER_CAPS)
    bundle.linux["seccomp"]["syscalls"].append(
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28})
    bundle.linux["seccomp"]["syscalls"] = [
        rule if rule["action"] != "SCMP_ACT_ALLOW" else
        dict(rule, names=[name for name in rule["names"] if name not in ("mkdir", "mkdirat")])
        for rule in bundle.linux["seccomp"]["syscalls"]]
    for _ in range(2):  # compiled, then kept
        out = bundle.sh("grep Seccomp: /proc/self/status; mkdir /x 2>&1 || true;"
                        "unshare -m true 2>&1 || true")
        assert "Seccomp:\t2" in out and "No space left" in out and "not permitted" in out
    kept = list((bundle.root / ".seccomp").iterdir())
    assert len(kept) == 1 and kept[0].stat().st_mode & 0o777 == 0o600
    # One that others could have written is not believed.
    kept[0].write_bytes(b"nonsense")
    kept[0].chmod(0o666)
    assert "Seccomp:\t2" in bundle.sh("grep Seccomp: /proc/self/status")


def test_seccomp_without_no_new_privileges(bundle):
    """The filter needs a capability that the program has not; it gets the filter all the same."""
    bundle.linux["seccomp"] = oci_bundle.seccomp_profile()
    bundle.process["noNewPrivileges"] = False
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    for name in ("effective", "permitted", "bounding"):
        bundle.process["capabilities"][name] = ["CAP_CHOWN"]
    out = bundle.sh("grep -E 'Seccomp:|NoNew|CapPrm' /proc/self/status")
    assert "Seccomp:\t2" in out and "NoNewPrivs:\t0" in out and "CapPrm:\t0000000000000000" in out


def test_seccomp_listener(bundle):
    path = str(bundle.folder / "listener")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                               "listenerMetadata": "meta",
                               "syscalls": [{"names": ["chown", "fchownat", "lchown"],
                                             "action": "SCMP_ACT_NOTIFY"}]}
    seen = {}

    def answer():
        import fcntl
        connection, _ = listener.accept()
        text, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        seen["message"] = json.loads(text)
        request = bytearray(80)
        fcntl.ioctl(fds[0], 0xc0502100, request)  # SECCOMP_IOCTL_NOTIF_RECV
        ident, = struct.unpack_from("Q", request)
        fcntl.ioctl(fds[0], 0xc0182101, struct.pack("QqiI", ident, 0, -5, 0))
        os.close(fds[0])
    thread = threading.Thread(target=answer)
    thread.start()
    done = bundle.run("chown", "1", "/etc/passwd")
    thread.join(20)
    assert done.returncode == 1 and "Input/output error" in done.stderr
    message = seen["message"]
    assert message["fds"] == ["seccompFd"] and message["metadata"] == "meta"
    assert message["state"]["id"] == bundle.id and message["pid"] > 0


def test_the_runtime_cannot_be_overwritten(bundle):
    """A container with the host's root user runs the runtime's own file and tries to write to it."""
    before = pathlib.Path(bundle.runtime).read_bytes()
    del bundle.process["capabilities"]
    bundle.process["noNewPrivileges"] = False
    bundle.start("sleep", "1000")
    (bundle.rootfs / "bin/evil").write_text("#!/proc/self/exe\n")
    (bundle.rootfs / "bin/evil").chmod(0o755)
    watch = ("i=0; while [ $i -lt 400 ]; do for p in /proc/[0-9]*; do "
             "case $p in /proc/1|/proc/$$) continue;; esac; "
             "(echo x > $p/exe) 2>/dev/null && echo written; done; i=$((i+1)); done; true")
    watcher = subprocess.Popen(bundle.command("exec", bundle.id, "sh", "-c", watch),
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    for _ in range(20):
        bundle.exec(bundle.id, "/bin/evil")
        bundle.exec(bundle.id, "true")
    watcher.kill()
    watcher.wait()
    assert pathlib.Path(bundle.runtime).read_bytes() == before


def test_no_pivot(bundle):
    assert "bin" in bundle.sh("ls /", options=["--no-pivot"])
