"""brume-oci: linux.resources on a host that has control groups of version 2 with all controllers.

Runs in the lab; a developer's kernel with version 1 has given its controllers away.
"""
import os
import pathlib
import stat
import subprocess

import oci_bundle
import pytest

ROOT = pathlib.Path("/sys/fs/cgroup")
OFFERED = ROOT / "cgroup.controllers"
HAS = OFFERED.read_text().split() if OFFERED.exists() else []
pytestmark = pytest.mark.skipif("memory" not in HAS, reason="this machine has no version 2 with all "
                                                            "controllers (the lab has)")


def value(bundle, file):
    return (ROOT / bundle.cgroup[1:] / file).read_text()


def start(bundle, **resources):
    bundle.linux["resources"].update(resources)
    bundle.start("sleep", "1000")


def refused(bundle, said, **resources):
    bundle.linux["resources"].update(resources)
    done = bundle.run("true")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1 and said in lines[0], done.stderr
    assert bundle.leftovers() == []


def test_memory(bundle):
    start(bundle, memory={"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20,
                          "useHierarchy": True})
    assert value(bundle, "memory.max") == f"{64 << 20}\n"
    assert value(bundle, "memory.low") == f"{32 << 20}\n"
    # Version 2 counts swap alone.
    assert value(bundle, "memory.swap.max") == f"{32 << 20}\n"


def test_memory_unlimited_and_left_alone(bundle):
    start(bundle, memory={"limit": -1, "swap": -1, "reservation": 0, "kernel": 0, "kernelTCP": -1})
    assert value(bundle, "memory.max") == value(bundle, "memory.swap.max") == "max\n"
    assert value(bundle, "memory.low") == "0\n"


def test_no_swap(bundle):
    start(bundle, memory={"limit": 64 << 20, "swap": 64 << 20})
    assert value(bundle, "memory.swap.max") == "0\n"


@pytest.mark.parametrize("memory,said", [
    ({"swap": 64 << 20}, "memory.limit"), ({"limit": 64 << 20, "swap": 1 << 20}, "memory.swap"),
    ({"swappiness": 10}, "memory.swappiness"), ({"disableOOMKiller": True}, "disableOOMKiller"),
    ({"kernel": 1 << 20}, "memory.kernel"), ({"kernelTCP": 1 << 20}, "memory.kernelTCP"),
    ({"useHierarchy": False}, "memory.useHierarchy")])
def test_memory_that_cannot_be_converted(bundle, memory, said):
    refused(bundle, said, memory=memory)


def test_memory_is_enforced(bundle):
    bundle.linux["resources"]["memory"] = {"limit": 16 << 20, "swap": 16 << 20}
    done = bundle.run("sh", "-c", "head -c 64m /dev/zero | tail | wc -c")
    assert "67108864" not in done.stdout


@pytest.mark.parametrize("shares,weight", [(2, 1), (512, 59), (1024, 100), (2048, 174),
                                           (262144, 10000)])
def test_shares_become_a_weight(bundle, shares, weight):
    start(bundle, cpu={"shares": shares})
    assert value(bundle, "cpu.weight") == f"{weight}\n"


def test_cpu(bundle):
    start(bundle, cpu={"quota": 30000, "period": 100000, "burst": 2000, "cpus": "0", "mems": "0"})
    assert value(bundle, "cpu.max") == "30000 100000\n"
    assert value(bundle, "cpu.max.burst") == "2000\n"
    assert value(bundle, "cpuset.cpus") == value(bundle, "cpuset.mems") == "0\n"
    assert bundle.exec(bundle.id, "nproc").stdout == "1\n"


def test_cpu_without_quota(bundle):
    start(bundle, cpu={"period": 50000, "quota": -1, "idle": 1, "shares": 512})
    assert value(bundle, "cpu.max") == "max 50000\n"
    assert value(bundle, "cpu.idle") == "1\n"


def test_real_time_cannot_be_converted(bundle):
    refused(bundle, "cpu.realtimeRuntime", cpu={"realtimeRuntime": 1000})
    refused(bundle, "cpu.realtimePeriod", cpu={"realtimePeriod": 1000})


@pytest.mark.parametrize("limit,seen", [(55, "55\n"), (0, "max\n"), (-1, "max\n")])
def test_pids(bundle, limit, seen):
    start(bundle, pids={"limit": limit})
    assert value(bundle, "pids.max") == seen


@pytest.fixture
def disk():
    """Numbers of a disk with requests, as io.max wants one."""
    for folder in sorted(pathlib.Path("/sys/block").iterdir()):
        if not folder.name.startswith(("loop", "ram", "zram")):
            return [int(part) for part in (folder / "dev").read_text().split(":")]
    return pytest.skip("no disk")


def test_throttles(bundle, disk):
    major, minor = disk
    one = {"major": major, "minor": minor}
    start(bundle, blockIO={"throttleReadBpsDevice": [dict(one, rate=1 << 20)],
                           "throttleWriteBpsDevice": [dict(one, rate=2 << 20)],
                           "throttleReadIOPSDevice": [dict(one, rate=100)],
                           "throttleWriteIOPSDevice": [dict(one, rate=0)]})
    assert value(bundle, "io.max") == (f"{major}:{minor} rbps={1 << 20} wbps={2 << 20} riops=100 "
                                       "wiops=max\n")


def test_io_weight(bundle, disk):
    """BFQ's own scale where the kernel has it, else io.weight's."""
    bundle.linux["resources"]["blockIO"] = {"weight": 500}
    done = bundle.run("true")
    if done.returncode:
        assert "linux.resources.blockIO.weight" in done.stderr
        pytest.skip("this kernel has neither io.bfq.weight nor io.weight")
    start(bundle)
    group = ROOT / bundle.cgroup[1:]
    if (group / "io.bfq.weight").exists():
        assert "500" in value(bundle, "io.bfq.weight")
    else:
        assert value(bundle, "io.weight") == f"default {1 + (500 - 10) * 9999 // 990}\n"


@pytest.fixture
def bfq(disk):
    """A disk whose scheduler has weights for devices: its numbers."""
    subprocess.call(["modprobe", "bfq"], stderr=subprocess.DEVNULL)
    path = pathlib.Path("/sys/dev/block/{}:{}/queue/scheduler".format(*disk))
    if "bfq" not in path.read_text():
        pytest.skip("this kernel has no BFQ")
    before = path.read_text().split("[")[1].split("]")[0]
    path.write_text("bfq")
    yield disk
    path.write_text(before)


def test_io_weight_of_a_device(bundle, bfq):
    major, minor = bfq
    start(bundle, blockIO={"weight": 300, "weightDevice": [
        {"major": major, "minor": minor, "weight": 500}]})
    assert value(bundle, "io.bfq.weight").splitlines() == ["default 300", f"{major}:{minor} 500"]


def test_leaf_weight_cannot_be_converted(bundle):
    refused(bundle, "blockIO.leafWeight", blockIO={"leafWeight": 100})


@pytest.mark.skipif("hugetlb" not in HAS, reason="no hugetlb controller")
def test_hugetlb(bundle):
    sizes = [path.name[len("hugepages-"):-2] for path in
             pathlib.Path("/sys/kernel/mm/hugepages").iterdir()]
    names = [f"{int(size) >> 20}GB" if int(size) >= 1 << 20 else f"{int(size) >> 10}MB"
             for size in sizes]
    start(bundle, hugepageLimits=[{"pageSize": name, "limit": 4 << 30} for name in names])
    for name in names:
        assert value(bundle, f"hugetlb.{name}.max") == f"{4 << 30}\n"
        assert value(bundle, f"hugetlb.{name}.rsvd.max") == f"{4 << 30}\n"
    assert names
    bundle.close()
    refused(bundle, "linux.resources.hugepageLimits",
            hugepageLimits=[{"pageSize": "3MB", "limit": 1}])


@pytest.mark.skipif("rdma" not in HAS, reason="no rdma controller")
def test_rdma(bundle):
    """Without such a device the kernel refuses the line; with rxe there is one to limit."""
    refused(bundle, 'linux.resources.rdma: writing "nodevice0 hca_handle=3 hca_object=max" to rdma.max',
            rdma={"nodevice0": {"hcaHandles": 3}})
    made = subprocess.call("modprobe rdma_rxe && modprobe dummy && ip link add rx0 type dummy && "
                           "ip link set rx0 up && rdma link add rxe0 type rxe netdev rx0",
                           shell=True, stderr=subprocess.DEVNULL) == 0
    try:
        if not made:
            pytest.skip("no software RDMA device can be made here")
        start(bundle, rdma={"rxe0": {"hcaHandles": 3}})
        assert "rxe0 hca_handle=3 hca_object=max" in value(bundle, "rdma.max")
    finally:
        subprocess.call("rdma link delete rxe0; ip link delete rx0", shell=True,
                        stderr=subprocess.DEVNULL)


def test_network_classes_are_of_version_1(bundle):
    refused(bundle, 'no control group controller "net_cls"', network={"classID": 1})


def test_unified(bundle, disk):
    major, minor = disk
    start(bundle, unified={"memory.high": "50000000", "pids.max": "66", "memory.oom.group": "1",
                           "io.max": f"{major}:{minor} rbps=2097152\n{major}:{minor} wiops=120"})
    assert int(value(bundle, "memory.high")) == 50000000 // 4096 * 4096
    assert value(bundle, "pids.max") == "66\n" and value(bundle, "memory.oom.group") == "1\n"
    assert "rbps=2097152 wbps=max riops=max wiops=120" in value(bundle, "io.max")


@pytest.mark.parametrize("name,said", [("memory.nothing", "unified.memory.nothing"),
                                       ("nothing.max", "unified.nothing.max"),
                                       ("../x.y", "unified"), ("plain", "unified")])
def test_unified_that_is_refused(bundle, name, said):
    refused(bundle, said, unified={name: "1"})


def test_device_rules_are_a_program(bundle):
    bundle.linux["resources"]["devices"] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}]
    bundle.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11},
                               {"path": "/dev/mem", "type": "c", "major": 1, "minor": 1}]
    for caps in bundle.process["capabilities"].values():
        caps += ["CAP_SYSLOG", "CAP_SYS_RAWIO"]
    done = bundle.run("sh", "-c", "head -c 3 /dev/zero | wc -c; (: < /dev/kmsg) && echo read;"
                                  "(: > /dev/kmsg) || echo no-write; (: < /dev/mem) || echo no-mem")
    assert done.stdout.split() == ["3", "read", "no-write", "no-mem"], done.stderr


def test_a_writable_group_belongs_to_the_containers_user(mapped):
    for entry in mapped.config["mounts"]:
        if entry["type"] == "cgroup":
            entry["options"] = ["nosuid", "noexec", "nodev", "rw"]
    mapped.start("sleep", "1000")
    group = ROOT / mapped.cgroup[1:]
    owned = {path.name for path in [group, *group.iterdir()]
             if path.stat().st_uid == oci_bundle.MAPPED}
    assert {group.name, "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} <= owned
    assert not {"memory.max", "pids.max", "cpu.max", "cgroup.freeze"} & owned
    done = mapped.exec(mapped.id, "sh", "-ec", "mkdir /sys/fs/cgroup/below; echo 0 > "
                       "/sys/fs/cgroup/below/cgroup.procs; cat /proc/self/cgroup; "
                       "echo 5 > /sys/fs/cgroup/pids.max || echo limit-kept")
    assert done.stdout.splitlines() == ["0::/below", "limit-kept"], done
    assert stat.S_ISDIR((group / "below").stat().st_mode)
    mapped.call("delete", "--force", mapped.id, check=True)
    assert not group.exists()


def test_a_readonly_group_stays_roots(mapped):
    mapped.start("sleep", "1000")
    group = ROOT / mapped.cgroup[1:]
    assert group.stat().st_uid == 0 and os.access(group, os.W_OK)


def test_check_before_update(bundle):
    """The one thing version 2 would do is to kill."""
    bundle.start("sh", "-c", "head -c 30m /dev/zero | tail -c 30m | (sleep 1000)")
    while int(value(bundle, "memory.current")) < 8 << 20:
        pass
    update = bundle.folder / "resources.json"
    for check in (True, False):
        update.write_text('{"memory": {"limit": 4194304, "checkBeforeUpdate": %s}}' %
                          str(check).lower())
        done = bundle.call("update", "-r", str(update), bundle.id)
        if check:
            assert done.returncode == 1 and "in use" in done.stderr, done
            assert value(bundle, "memory.max") == "max\n"
            assert bundle.state()["status"] == "running"
        else:
            assert done.returncode == 0 and value(bundle, "memory.max") == f"{4 << 20}\n"
