"""brume-oci: linux.seccomp, each action, operator and flag seen from inside of the container."""
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import threading

import oci_bundle
import pytest

KCMP = 312  # a call that nothing else needs: kcmp(pid, pid, type, a, b)
CALL = ("import ctypes, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "r = libc.syscall({number}, *[ctypes.c_ulong(int(a)) for a in {args}])\n"
        "print(r, ctypes.get_errno())")
RECEIVE, SEND = 0xc0502100, 0xc0182101


@pytest.fixture
def able(bundle):
    oci_bundle.with_python(bundle)
    return bundle


def profile(action, names=("kcmp",), default="SCMP_ACT_ALLOW", **more):
    rule = {"names": list(names), "action": action}
    rule.update({key: more.pop(key) for key in ("args", "errnoRet") if key in more})
    return {"defaultAction": default, "syscalls": [rule], **more}


def call(bundle, *args, number=KCMP):
    """Result and errno of one system call in a new container."""
    done = oci_bundle.python(bundle, CALL.format(number=number, args=list(args)))
    assert done.returncode == 0, done
    return tuple(map(int, done.stdout.split()))


def test_errno(able):
    able.linux["seccomp"] = profile("SCMP_ACT_ERRNO")
    assert call(able) == (-1, errno.EPERM)
    able.linux["seccomp"] = profile("SCMP_ACT_ERRNO", errnoRet=errno.EXDEV)
    assert call(able) == (-1, errno.EXDEV)


def test_default_errno(able):
    able.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    assert call(able) != (-1, errno.EXDEV)
    names = [name for rule in oci_bundle.seccomp_profile(oci_bundle.DOCKER_CAPS)["syscalls"]
             if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"] if name != "kcmp"]
    able.linux["seccomp"] = profile("SCMP_ACT_ALLOW", names, default="SCMP_ACT_ERRNO",
                                    defaultErrnoRet=errno.ENOSYS)
    assert call(able) == (-1, errno.ENOSYS)
    del able.linux["seccomp"]["defaultErrnoRet"]
    assert call(able) == (-1, errno.EPERM)


def test_allow_and_log(able):
    for action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
        able.linux["seccomp"] = profile(action, default="SCMP_ACT_LOG"
                                        if action == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW")
        assert call(able, 1, 1, 0, 0, 0) == (0, 0)


@pytest.mark.parametrize("action,died", [
    ("SCMP_ACT_KILL", signal.SIGSYS), ("SCMP_ACT_KILL_THREAD", signal.SIGSYS),
    ("SCMP_ACT_KILL_PROCESS", signal.SIGSYS), ("SCMP_ACT_TRAP", signal.SIGSYS)])
def test_killing(able, action, died):
    able.linux["seccomp"] = profile(action)
    done = oci_bundle.python(able, CALL.format(number=KCMP, args=[]))
    # Init of a pid namespace cannot be trapped by its own signal's default action.
    if action == "SCMP_ACT_TRAP":
        done = able.run("sh", "-c", "/usr/bin/python3 -I -S -c \"$0\"; echo $?",
                        CALL.format(number=KCMP, args=[]))
        assert done.stdout == f"{128 + died}\n", done
    else:
        assert done.returncode == 128 + died and done.stdout == "", done


def test_kill_thread_leaves_the_other_threads(able):
    script = ("import ctypes, threading, os\n"
              "t = threading.Thread(target=lambda: ctypes.CDLL(None).syscall(312), daemon=True)\n"
              "t.start()\n"
              "import time\n"
              "while len(os.listdir('/proc/self/task')) > 1: time.sleep(0.001)\n"
              "print('alive', flush=True)\n"
              "os._exit(0)")
    able.linux["seccomp"] = profile("SCMP_ACT_KILL_THREAD")
    assert oci_bundle.python(able, script).stdout == "alive\n"
    able.linux["seccomp"] = profile("SCMP_ACT_KILL_PROCESS")
    done = oci_bundle.python(able, script)
    assert done.stdout == "" and done.returncode == 128 + signal.SIGSYS


def test_trace_without_a_tracer(able):
    """The kernel says ENOSYS where nobody traces."""
    able.linux["seccomp"] = profile("SCMP_ACT_TRACE", errnoRet=7)
    assert call(able) == (-1, errno.ENOSYS)


def test_trace_with_a_tracer(able):
    """The number reaches the tracer."""
    able.process["capabilities"]["bounding"].append("CAP_SYS_PTRACE")
    able.linux["seccomp"] = profile("SCMP_ACT_TRACE", errnoRet=42)
    script = ("import ctypes, os\n"
              "libc = ctypes.CDLL(None)\n"
              "pid = os.fork()\n"
              "if pid == 0:\n"
              "    libc.ptrace(0, 0, 0, 0)\n"
              "    os.kill(os.getpid(), 19)\n"
              "    libc.syscall(312)\n"
              "    os._exit(0)\n"
              "os.waitpid(pid, 0)\n"
              "libc.ptrace(0x4200, pid, 0, ctypes.c_void_p(0x80))\n"
              "libc.ptrace(7, pid, 0, 0)\n"
              "_, status = os.waitpid(pid, 0)\n"
              "number = ctypes.c_ulong()\n"
              "libc.ptrace(0x4201, pid, 0, ctypes.byref(number))\n"
              "print(status >> 16, number.value)\n")
    assert oci_bundle.python(able, script).stdout == "7 42\n"


BIG = 1 << 40
OPERATORS = [("SCMP_CMP_NE", 5, 0, [(5, False), (6, True)]),
             ("SCMP_CMP_LT", 5, 0, [(4, True), (5, False), (BIG, False)]),
             ("SCMP_CMP_LE", 5, 0, [(5, True), (6, False)]),
             ("SCMP_CMP_EQ", BIG + 5, 0, [(BIG + 5, True), (5, False)]),
             ("SCMP_CMP_GE", BIG, 0, [(BIG, True), (BIG - 1, False)]),
             ("SCMP_CMP_GT", BIG, 0, [(BIG + 1, True), (BIG, False)]),
             ("SCMP_CMP_MASKED_EQ", 0xf0, 0x50, [(0x1005f, True), (0x6f, False)])]


@pytest.mark.parametrize("operator,value,second,cases", OPERATORS,
                         ids=[one[0] for one in OPERATORS])
def test_operators(able, operator, value, second, cases):
    able.linux["seccomp"] = profile(
        "SCMP_ACT_ERRNO", errnoRet=errno.EXDEV,
        args=[{"index": 3, "value": value, "valueTwo": second, "op": operator}])
    for argument, matches in cases:
        # Type 99 does not exist: EINVAL when the call gets through.
        seen = call(able, 1, 1, 99, argument)[1]
        assert seen == (errno.EXDEV if matches else errno.EINVAL), (operator, argument)


def test_all_six_arguments(able):
    able.linux["seccomp"] = profile("SCMP_ACT_ERRNO", errnoRet=errno.EXDEV, args=[
        {"index": index, "value": index + 1, "op": "SCMP_CMP_EQ"} for index in range(6)])
    assert call(able, 1, 2, 3, 4, 5, 6)[1] == errno.EXDEV
    assert call(able, 1, 2, 3, 4, 5, 7)[1] != errno.EXDEV


def test_a_repeated_argument_means_alternatives(able):
    able.linux["seccomp"] = profile("SCMP_ACT_ERRNO", errnoRet=errno.EXDEV, args=[
        {"index": 3, "value": value, "op": "SCMP_CMP_EQ"} for value in (7, 8)])
    assert [call(able, 1, 1, 99, value)[1] for value in (7, 8, 9)] == [
        errno.EXDEV, errno.EXDEV, errno.EINVAL]


@pytest.mark.parametrize("flags", [[], ["SECCOMP_FILTER_FLAG_LOG"],
                                   ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
                                   ["SECCOMP_FILTER_FLAG_TSYNC"],
                                   ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]])
def test_flags(able, flags):
    able.linux["seccomp"] = profile("SCMP_ACT_ERRNO", flags=flags)
    assert call(able) == (-1, errno.EPERM)
    line = able.sh("grep Speculation_Store_Bypass /proc/self/status")
    # Without the flag a filter switches speculation off, where the processor can.
    if "SPEC_ALLOW" in "".join(flags):
        assert "force mitigated" not in line


def test_other_architectures(able):
    """i386 calls are filtered when they are named, and kill the process when they are not."""
    able.linux["seccomp"] = profile("SCMP_ACT_ERRNO", ["mkdir", "mkdirat"], errnoRet=28,
                                    architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86",
                                                   "SCMP_ARCH_X32"])
    done = able.run("mkdir", "/x")
    assert "No space left" in done.stderr
    # int 0x80 with mkdir's number there, 39.
    script = ("import ctypes, mmap\n"
              "m = mmap.mmap(-1, 4096, flags=0x62, prot=7)\n"
              "m.write(bytes([0x53, 0xb8, 39, 0, 0, 0, 0x31, 0xdb, 0x31, 0xc9, 0xcd, 0x80, 0x5b,"
              " 0xc3]))\n"
              "at = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
              "print(ctypes.CFUNCTYPE(ctypes.c_int)(at)())")
    done = oci_bundle.python(able, script)
    assert done.stdout == "-28\n", done
    able.linux["seccomp"]["architectures"] = ["SCMP_ARCH_X86_64"]
    done = oci_bundle.python(able, script)
    assert done.stdout != "-28\n"


class Agent(threading.Thread):
    """Answers for a filter: takes one message, then answers every call with -errno."""

    def __init__(self, path, answer=-5, count=1):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()
        self.answer, self.count, self.message, self.calls = answer, count, None, []
        self.start()

    def run(self):
        connection, _ = self.listener.accept()
        text, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        self.message = json.loads(text)
        self.rest = connection.recv(100)
        for _ in range(self.count):
            request = bytearray(80)
            fcntl.ioctl(fds[0], RECEIVE, request)
            ident, _, _, number = struct.unpack_from("QIIi", request)
            self.calls.append(number)
            flags = 1 if self.answer is None else 0  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
            fcntl.ioctl(fds[0], SEND, struct.pack("QqiI", ident, 0, self.answer or 0, flags))
        os.close(fds[0])


def test_the_listener_hears_all_about_the_container(able):
    agent = Agent(able.folder / "agent")
    able.config["annotations"] = {"a.b": "c"}
    able.linux["seccomp"] = profile("SCMP_ACT_NOTIFY", listenerPath=str(able.folder / "agent"),
                                    listenerMetadata="meta data")
    assert call(able) == (-1, 5)
    agent.join(20)
    message, state = agent.message, agent.message["state"]
    assert message["ociVersion"] == state["ociVersion"] == "1.2.1"
    assert message["fds"] == ["seccompFd"] and message["metadata"] == "meta data"
    assert message["pid"] == state["pid"] > 0 and state["status"] == "creating"
    assert state["id"] == able.id and state["bundle"] == str(able.folder / "bundle")
    assert state["annotations"] == {"a.b": "c"} and agent.calls == [KCMP] and agent.rest == b""


def test_the_listener_hears_of_exec(able):
    path = able.folder / "agent"
    able.linux["seccomp"] = profile("SCMP_ACT_NOTIFY", listenerPath=str(path),
                                    flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
    first = Agent(path, count=0)
    able.start("sleep", "1000")
    first.join(20)
    path.unlink()
    second = Agent(path)
    done = able.exec(able.id, "/usr/bin/python3", "-I", "-S", "-c", CALL.format(number=KCMP,
                                                                               args=[]))
    second.join(20)
    assert done.stdout == "-1 5\n", done
    assert second.message["state"]["status"] == "running"
    assert second.message["state"]["pid"] == first.message["pid"] != second.message["pid"]


def test_what_the_runtime_needs_itself_may_ask_the_listener(able):
    """execve and memory: the listener must be told before the first such call waits for it."""
    agent = Agent(able.folder / "agent", answer=None, count=12)
    able.linux["seccomp"] = profile(
        "SCMP_ACT_NOTIFY", ["execve", "brk", "mmap", "capset"],
        listenerPath=str(able.folder / "agent"))
    able.start("sh", "-c", "echo ran; exec sleep 1000")
    agent.join(20)
    assert 59 in agent.calls


def test_no_listener_no_container(able):
    able.linux["seccomp"] = profile("SCMP_ACT_NOTIFY", listenerPath="/nonexistent/socket")
    done = able.run("true")
    assert done.returncode == 1 and "linux.seccomp.listenerPath" in done.stderr
    assert able.leftovers() == []


def test_listener_path_is_ignored_without_notify(able):
    able.linux["seccomp"] = profile("SCMP_ACT_ERRNO", listenerPath="/nonexistent/socket")
    assert call(able) == (-1, errno.EPERM)


@pytest.mark.parametrize("seccomp,said", [
    (profile("SCMP_ACT_ALLOW", errnoRet=1, default="SCMP_ACT_ERRNO"), "syscalls[0].errnoRet"),
    (profile("SCMP_ACT_ERRNO", defaultErrnoRet=1), "linux.seccomp.defaultErrnoRet"),
    (profile("SCMP_ACT_ERRNO", errnoRet=70000), "errnoRet"),
    (profile("SCMP_ACT_ERRNO", names=[]), "names"),
    (profile("SCMP_ACT_NOTIFY", default="SCMP_ACT_NOTIFY"), "SCMP_ACT_NOTIFY"),
    (profile("SCMP_ACT_NOTIFY", ["sendmsg"], listenerPath="/x"), "sendmsg"),
    (profile("SCMP_ACT_ERRNO", listenerMetadata="x"), "listenerPath"),
    (profile("SCMP_ACT_ERRNO", flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]), "flag"),
    (profile("SCMP_ACT_ERRNO", args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]), "index"),
    (profile("SCMP_ACT_ERRNO", args=[{"index": 1, "value": 1, "op": "SCMP_CMP_XX"}]),
     "SCMP_CMP_XX"),
])
def test_refused(bundle, seccomp, said):
    bundle.linux["seccomp"] = seccomp
    done = bundle.run("true")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 1 and said in lines[0], done.stderr
    assert bundle.leftovers() == []
