"""brume-oci: cgroupsPath and linux.resources in control groups of version 1."""
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path("/sys/fs/cgroup")
V1 = (ROOT / "memory/memory.limit_in_bytes").exists()
pytestmark = pytest.mark.skipif(not V1, reason="this machine has no version 1 control groups")
UNLIMITED = "9223372036854771712\n"


def value(bundle, file, controller=None):
    controller = controller or file.split(".")[0]
    return (ROOT / controller / bundle.cgroup[1:] / file).read_text()


def start(bundle, **resources):
    bundle.linux["resources"].update(resources)
    bundle.start("sleep", "1000")


def refused(bundle, said, **resources):
    bundle.linux["resources"].update(resources)
    done = bundle.run("true")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1 and said in lines[0], done.stderr
    assert bundle.leftovers() == []


@pytest.mark.parametrize("path,seen", [("/a-b/c", "/brume-test-{0}/a-b/c"),
                                       ("rel/x", "/brume-test-{0}/rel/x")])
def test_absolute_and_relative_paths(bundle, path, seen):
    base = bundle.cgroup.rsplit("-", 1)[1]
    bundle.linux["cgroupsPath"] = ("/" if path[0] == "/" else "") + f"brume-test-{base}/" + \
        path.lstrip("/")
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"]
                                  if one["type"] != "cgroup"]
    assert f"pids:{seen.format(base)}\n" in bundle.sh("cat /proc/self/cgroup")
    for folder in ROOT.glob(f"*/brume-test-{base}"):
        for below in sorted(folder.rglob("*"), reverse=True):
            if below.is_dir():
                below.rmdir()
        folder.rmdir()


@pytest.mark.parametrize("path", ["", None])
def test_no_path(bundle, path):
    """Then one is made, named by the container."""
    bundle.linux["cgroupsPath"] = path
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"]
                                  if one["type"] != "cgroup"]
    line = next(line for line in bundle.sh("cat /proc/self/cgroup").splitlines() if ":pids:" in line)
    assert line.endswith(bundle.id), line
    assert not list(ROOT.glob(f"*/*{bundle.id}"))


@pytest.mark.parametrize("path", ["/", "/a/../../b", "//", "/./x"])
def test_bad_paths(bundle, path):
    bundle.linux["cgroupsPath"] = path
    done = bundle.run("true")
    assert done.returncode == 1 and "linux.cgroupsPath" in done.stderr


def test_memory(bundle):
    start(bundle, memory={"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20,
                          "swappiness": 0, "useHierarchy": True, "disableOOMKiller": True,
                          "kernelTCP": 8 << 20, "checkBeforeUpdate": True})
    assert value(bundle, "memory.limit_in_bytes") == f"{64 << 20}\n"
    assert value(bundle, "memory.soft_limit_in_bytes") == f"{32 << 20}\n"
    assert value(bundle, "memory.memsw.limit_in_bytes") == f"{96 << 20}\n"
    assert value(bundle, "memory.swappiness") == "0\n"
    assert value(bundle, "memory.use_hierarchy") == "1\n"
    assert "oom_kill_disable 1" in value(bundle, "memory.oom_control")
    assert value(bundle, "memory.kmem.tcp.limit_in_bytes") == f"{8 << 20}\n"


def test_unlimited_memory_and_values_left_alone(bundle):
    start(bundle, memory={"limit": -1, "swap": -1, "reservation": -1})
    for file in ("limit", "memsw.limit", "soft_limit"):
        assert value(bundle, f"memory.{file}_in_bytes") == UNLIMITED
    bundle.call("delete", "--force", bundle.id, check=True)
    # 0 is how clients write "nothing was asked for".
    start(bundle, memory={"limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": 0})
    assert value(bundle, "memory.limit_in_bytes") == UNLIMITED


def test_swap_counts_memory(bundle):
    refused(bundle, "linux.resources.memory.swap", memory={"limit": 64 << 20, "swap": 32 << 20})


def test_cpu(bundle):
    start(bundle, cpu={"shares": 321, "quota": 30000, "period": 100000, "burst": 2000,
                       "cpus": "0", "mems": "0"})
    seen = [value(bundle, f"cpu.{name}").strip() for name in
            ("shares", "cfs_quota_us", "cfs_period_us", "cfs_burst_us")]
    assert seen == ["321", "30000", "100000", "2000"]
    assert value(bundle, "cpuset.cpus") == value(bundle, "cpuset.mems") == "0\n"
    assert bundle.exec(bundle.id, "nproc").stdout == "1\n"


def test_cpu_idle_and_no_quota(bundle):
    start(bundle, cpu={"idle": 1, "quota": -1, "period": 50000})
    assert value(bundle, "cpu.idle") == "1\n"
    assert value(bundle, "cpu.cfs_quota_us") == "-1\n"
    assert value(bundle, "cpu.cfs_period_us") == "50000\n"


@pytest.mark.skipif(not (ROOT / "cpu/cpu.rt_runtime_us").exists(),
                    reason="this kernel gives groups no real-time budget")
def test_real_time(bundle):
    start(bundle, cpu={"realtimePeriod": 500000, "realtimeRuntime": 7000})
    assert value(bundle, "cpu.rt_period_us") == "500000\n"
    assert value(bundle, "cpu.rt_runtime_us") == "7000\n"


@pytest.mark.parametrize("name,resources,file", [
    ("memory.kernel", {"memory": {"kernel": 64 << 20}}, "memory/memory.kmem.limit_in_bytes"),
    ("blockIO.leafWeight", {"blockIO": {"leafWeight": 300}}, "blkio/blkio.leaf_weight"),
    ("cpu.realtimeRuntime", {"cpu": {"realtimeRuntime": 1000}}, "cpu/cpu.rt_runtime_us")])
def test_what_newer_kernels_have_no_more(bundle, name, resources, file):
    """Its effect, or words that say that it has none, also where the kernel says nothing itself."""
    bundle.linux["resources"].update(resources)
    if bundle.run("true").returncode:
        refused(bundle, f"linux.resources.{name}: this kernel's control groups have no", **resources)
        return
    start(bundle, **resources)
    controller, file = file.split("/")
    wanted = next(iter(next(iter(resources.values())).values()))
    assert value(bundle, file, controller) == f"{wanted}\n"


def test_values_that_the_kernel_refuses(bundle):
    refused(bundle, "linux.resources.cpu.burst", cpu={"quota": 1000, "burst": 100000})
    refused(bundle, "linux.resources.cpu.cpus", cpu={"cpus": "4095"})
    refused(bundle, "linux.resources.cpu.idle", cpu={"idle": 2})


@pytest.mark.parametrize("limit,seen", [(77, "77\n"), (0, "max\n"), (-1, "max\n")])
def test_pids(bundle, limit, seen):
    start(bundle, pids={"limit": limit})
    assert value(bundle, "pids.max") == seen


def disk():
    """Numbers of a block device of this machine."""
    for folder in sorted(pathlib.Path("/sys/block").iterdir()):
        if not folder.name.startswith(("loop", "ram")):
            return [int(part) for part in (folder / "dev").read_text().split(":")]
    return pytest.skip("no block device")


def test_throttles(bundle):
    major, minor = disk()
    one = {"major": major, "minor": minor}
    start(bundle, blockIO={"throttleReadBpsDevice": [dict(one, rate=1 << 20)],
                           "throttleWriteBpsDevice": [dict(one, rate=2 << 20)],
                           "throttleReadIOPSDevice": [dict(one, rate=100)],
                           "throttleWriteIOPSDevice": [dict(one, rate=200)]})
    for file, rate in (("read_bps", 1 << 20), ("write_bps", 2 << 20), ("read_iops", 100),
                       ("write_iops", 200)):
        assert value(bundle, f"blkio.throttle.{file}_device") == f"{major}:{minor} {rate}\n"


def test_weights(bundle):
    major, minor = disk()
    bundle.linux["resources"]["blockIO"] = {"weight": 300}
    done = bundle.run("true")
    if done.returncode:
        assert "linux.resources.blockIO.weight: this kernel's control groups have no" in done.stderr
        return
    start(bundle)
    seen = [path for path in (ROOT / "blkio" / bundle.cgroup[1:]).iterdir() if "weight" in path.name]
    assert any("300" in path.read_text() for path in seen)
    bundle.close()
    # Of one device only where it has the scheduler for it.
    bundle.linux["resources"]["blockIO"] = {"weightDevice": [
        {"major": major, "minor": minor, "weight": 500}]}
    done = bundle.run("true")
    assert done.returncode == 0 or "linux.resources.blockIO.weightDevice" in done.stderr


def test_what_version_1_has_not(bundle):
    refused(bundle, "linux.resources.unified.memory.high", unified={"memory.high": "1000000"})


def test_a_controller_that_is_not_mounted(bundle):
    if not (ROOT / "net_cls").exists():
        refused(bundle, 'network.classID: this machine has no control group controller "net_cls"',
                network={"classID": 5})
    bundle.linux["resources"].pop("network", None)
    if not (ROOT / "hugetlb").exists():
        bundle.linux["resources"]["hugepageLimits"] = [{"pageSize": "3MB", "limit": 1}]
        done = bundle.run("true")
        assert done.returncode == 1 and "linux.resources.hugepageLimits" in done.stderr


@pytest.fixture
def extra(scratch, request):
    """A hierarchy with controllers that nothing else here uses, mounted for the test."""
    folder = scratch / "hierarchy"
    folder.mkdir()
    if subprocess.call(["mount", "-t", "cgroup", "-o", request.param, "x", str(folder)],
                       stderr=subprocess.DEVNULL):
        pytest.skip(f"version 1 of {request.param} cannot be mounted")
    yield folder
    subprocess.check_call(["umount", str(folder)])


@pytest.mark.parametrize("extra", ["net_cls,net_prio"], indirect=True)
def test_network(bundle, extra):
    start(bundle, network={"classID": 0x100001, "priorities": [{"name": "lo", "priority": 7}]})
    group = extra / bundle.cgroup[1:]
    assert (group / "net_cls.classid").read_text() == f"{0x100001}\n"
    assert "lo 7\n" in (group / "net_prio.ifpriomap").read_text()
    bundle.close()
    assert not group.exists()


@pytest.mark.parametrize("extra", ["hugetlb"], indirect=True)
def test_hugetlb(bundle, extra):
    sizes = [path.name.split(".")[1] for path in extra.glob("hugetlb.*.usage_in_bytes")]
    start(bundle, hugepageLimits=[{"pageSize": size, "limit": 4 << 30} for size in sizes])
    group = extra / bundle.cgroup[1:]
    for size in sizes:
        for kind in ("limit", "rsvd.limit"):
            assert (group / f"hugetlb.{size}.{kind}_in_bytes").read_text() == f"{4 << 30}\n"
    bundle.close()


# Rules in the order of the list; what is in each list is allowed or not.
@pytest.mark.parametrize("rules,kmsg,fuse", [
    ([{"allow": False, "access": "rwm"}], "", ""),
    ([{"allow": False, "access": "rwm"},
      {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}], "rw", ""),
    ([{"allow": False, "access": "rwm"},
      {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"},
      {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"}], "r", ""),
    ([{"allow": True, "access": "rwm"},
      {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "r"}], "rw", "w"),
    ([{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "access": "w"}],
     "", "w")])
def test_device_rules(bundle, rules, kmsg, fuse):
    bundle.linux["resources"]["devices"] = rules
    bundle.linux["devices"] = [
        {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11},
        {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    bundle.process["capabilities"] = {name: ["CAP_SYSLOG", "CAP_DAC_OVERRIDE"] for name in
                                      ("bounding", "permitted", "effective")}
    out = bundle.sh("for d in kmsg fuse; do (: < /dev/$d) 2>/tmp/e && echo $d r || "
                    "grep -q 'not permitted' /tmp/e || echo $d r;"
                    "(: >> /dev/$d) 2>/tmp/e && echo $d w || "
                    "grep -q 'not permitted' /tmp/e || echo $d w; done")
    seen = {"kmsg": "", "fuse": ""}
    for line in out.splitlines():
        seen[line.split()[0]] += line.split()[1]
    assert seen == {"kmsg": kmsg, "fuse": fuse}


def test_version_2_mounted_over_version_1(bundle):
    """What an engine inside of a container leaves: the hierarchies below are mounted and cannot be reached."""
    bundle.process["args"] = ["grep", "^0:", "/proc/self/cgroup"]
    bundle.linux["namespaces"] = [one for one in bundle.linux["namespaces"] if one["type"] != "cgroup"]
    bundle.write()
    done = subprocess.run(["unshare", "--mount", "sh", "-c",
                           'mount -t cgroup2 cgroup2 /sys/fs/cgroup && "$@"', "sh", *bundle.command("run", bundle.id)],
                          cwd=bundle.folder / "bundle", stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"0::{bundle.cgroup}\n")
