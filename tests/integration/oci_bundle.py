"""Bundles for brume-oci, made of busybox-static, and what one needs to look at them."""
import copy
import ctypes
import functools
import json
import os
import pathlib
import shutil
import subprocess
import uuid

import kernel

BUSYBOX = "/bin/busybox"
ALL_NAMESPACES = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
DOCKER_CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD",
               "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
               "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"]
MASKED = ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
          "/sys/firmware"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
MAPPED = 0x40000000
SECCOMP_SOURCE = "/usr/share/containers/seccomp.json"

_libc = ctypes.CDLL(None, use_errno=True)


def seccomp_profile(caps=()):
    """Docker's default profile, as an engine would put it into config.json for this machine."""
    source = json.loads(pathlib.Path(SECCOMP_SOURCE).read_text())
    rules = []
    for rule in source["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if includes.get("arches") and "amd64" not in includes["arches"]:
            continue
        if "amd64" in (excludes.get("arches") or []):
            continue
        if not set(includes.get("caps") or []) <= set(caps):
            continue
        if set(excludes.get("caps") or []) & set(caps):
            continue
        rules.append({key: rule[key] for key in ("names", "action", "args", "errnoRet")
                      if rule.get(key) is not None})
    return {"defaultAction": source["defaultAction"],
            "defaultErrnoRet": source.get("defaultErrnoRet", 1),
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": rules}


@functools.cache
def applets():
    names = subprocess.check_output([BUSYBOX, "--list"], text=True).split()
    return [name for name in names if name != "busybox"]


def make_root(folder, owner=0):
    """A root file system with all of busybox's commands."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(BUSYBOX, folder / "bin/busybox")
    # Plain strings: four hundred path objects were half of a test's time in the lab.
    place = str(folder / "bin") + "/"
    for applet in set(applets()) - set(os.listdir(place)):
        os.symlink("busybox", place + applet)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:\n")
    if owner:
        os.chown(folder, owner, owner)
        for top, folders, files in os.walk(folder):
            for name in folders + files:
                os.chown(f"{top}/{name}", owner, owner, follow_symlinks=False)
    return folder


def default_config():
    """What docker writes, without seccomp."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 0, "gid": 0}, "args": ["true"],
            "env": ["PATH=/bin:/usr/bin"], "cwd": "/",
            "capabilities": {name: list(DOCKER_CAPS)
                             for name in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True},
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}],
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in ALL_NAMESPACES],
            "maskedPaths": list(MASKED), "readonlyPaths": list(READONLY)}}


class Bundle:
    """A bundle, and the runtime to run it; everything lies under one folder."""

    def __init__(self, runtime, folder, mapped=False):
        self.runtime, self.folder = str(runtime), folder
        self.root = folder / "run"
        self.rootfs = make_root(folder / "bundle/rootfs", MAPPED if mapped else 0)
        self.config = default_config()
        self.id = "test-" + uuid.uuid4().hex[:12]
        self.cgroup = "/brume-test-" + uuid.uuid4().hex[:12]
        self.config["linux"]["cgroupsPath"] = self.cgroup
        if mapped:
            self.config["linux"]["namespaces"].append({"type": "user"})
            maps = [{"containerID": 0, "hostID": MAPPED, "size": 65536}]
            self.config["linux"]["uidMappings"] = self.config["linux"]["gidMappings"] = maps

    @property
    def process(self):
        return self.config["process"]

    @property
    def linux(self):
        return self.config["linux"]

    def write(self):
        (self.folder / "bundle/config.json").write_text(json.dumps(self.config))

    def command(self, verb, *words, globals_=()):
        return [self.runtime, "--root", str(self.root), *globals_, verb, *map(str, words)]

    def call(self, verb, *words, globals_=(), check=False, **more):
        more.setdefault("stdin", subprocess.DEVNULL)
        more["timeout"] = kernel.patient(more.get("timeout", 60))
        done = subprocess.run(self.command(verb, *words, globals_=globals_), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              cwd=self.folder / "bundle", **more)
        if check and done.returncode:
            raise AssertionError(f"{verb} {words}: {done.returncode}: {done.stderr}")
        return done

    def run(self, *args, options=(), **more):
        """Runs a command in a new container; gives the finished process."""
        if args:
            self.process["args"] = list(args)
        self.write()
        return self.call("run", *options, self.id, **more)

    def sh(self, script, **more):
        """Output of a shell script in a new container."""
        done = self.run("sh", "-ec", script, **more)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def create(self, *args, options=(), check=True):
        """Creates without pipes, which init would hold open."""
        if args:
            self.process["args"] = list(args)
        self.write()
        with open(self.folder / "out", "wb") as out, open(self.folder / "err", "wb") as err:
            code = subprocess.call(self.command("create", *options, self.id), stdout=out,
                                   stderr=err, stdin=subprocess.DEVNULL,
                                   cwd=self.folder / "bundle")
        if check:
            assert code == 0, (self.folder / "err").read_text()
        return code

    def start(self, *args, options=()):
        self.create(*args, options=options)
        self.call("start", self.id, check=True)

    def output(self):
        return (self.folder / "out").read_text()

    def state(self):
        return json.loads(self.call("state", self.id, check=True).stdout)

    def exec(self, *words, **more):
        return self.call("exec", *words, **more)

    def close(self):
        self.call("delete", "--force", self.id)

    def copy_config(self):
        return copy.deepcopy(self.config)

    def leftovers(self):
        """Whatever of the container still exists."""
        left = [str(path) for path in pathlib.Path("/sys/fs/cgroup").glob(f"*{self.cgroup}")]
        if self.root.exists():
            left += [str(path) for path in self.root.iterdir() if path.name[0] != "."]
        return left


def with_python(bundle):
    """Shows the host's programs in the container: for tests that make system calls themselves."""
    for name in ("lib", "lib64"):
        (bundle.rootfs / name).symlink_to("usr/" + name)
    bundle.config["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr",
                                    "options": ["rbind", "ro"]})


def python(bundle, script, **more):
    """Runs a python script in a container that with_python() has prepared; the finished process."""
    return bundle.run("/usr/bin/python3", "-I", "-S", "-c", script, **more)


def detached_mount(folder):
    """A detached clone of a folder as a mount descriptor, as an agent hands one to --rootfs-fd."""
    open_tree, clone, cloexec = 428, 1, 0o2000000
    fd = _libc.syscall(open_tree, -100, str(folder).encode(), clone | cloexec)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_tree")
    return fd
