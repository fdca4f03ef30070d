"""The few system calls that the harness needs and Python 3.11 does not offer."""
import contextlib
import ctypes
import errno
import os
import select
import struct
import time

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
IN_CREATE, IN_MOVED_TO, IN_DELETE, IN_CLOSE_WRITE = 0x100, 0x80, 0x200, 0x8
IN_UNMOUNT = 0x2000
IN_CLOEXEC = 0o2000000

_libc = ctypes.CDLL(None, use_errno=True)


def patient(seconds):
    """How long to wait on this machine; an emulated processor says with BRUME_TEST_PATIENCE that it is slow."""
    return seconds * float(os.environ.get("BRUME_TEST_PATIENCE", 1))



def _check(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def isolate():
    """Gives this process its own network and mount namespace, with nothing propagating out."""
    _check(_libc.unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")


@contextlib.contextmanager
def inside_network_of(pid):
    """Sockets made by this thread in the block belong to the network namespace of pid."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(there, CLONE_NEWNET), "setns")
        yield
    finally:
        _check(_libc.setns(here, CLONE_NEWNET), "setns back")
        os.close(there)
        os.close(here)


def wait_for_path(path, present=True, timeout=20.0, alive=lambda: True):
    """Waits, by inotify, until path exists (or no longer does).  False when time or alive() ends."""
    folder, deadline = os.path.dirname(path), time.monotonic() + patient(timeout)
    fd = _check(_libc.inotify_init1(IN_CLOEXEC), "inotify_init1")
    try:
        _check(_libc.inotify_add_watch(fd, folder.encode(), IN_CREATE | IN_MOVED_TO | IN_DELETE |
                                       IN_CLOSE_WRITE), "inotify_add_watch " + folder)
        while os.path.exists(path) != present:
            left = deadline - time.monotonic()
            if left <= 0 or not alive():
                return False
            if select.select([fd], [], [], min(left, 0.25))[0]:
                os.read(fd, 65536)
        return True
    finally:
        os.close(fd)


@contextlib.contextmanager
def watch_unmount(path, timeout=10.0):
    """Gives a function that waits until the last mount of path's file system is gone: False when it is not."""
    fd = _check(_libc.inotify_init1(IN_CLOEXEC), "inotify_init1")

    def gone():
        while select.select([fd], [], [], patient(timeout))[0]:
            events = os.read(fd, 65536)
            if any(struct.unpack_from("iIII", events, at)[1] & IN_UNMOUNT
                   for at in range(0, len(events), 16)):
                return True
        return False
    try:
        _check(_libc.inotify_add_watch(fd, os.fsencode(path), IN_CLOSE_WRITE),
               f"inotify_add_watch {path}")
        yield gone
    finally:
        os.close(fd)


def wait_for_exit(pid, timeout=20.0):
    """Waits, by pidfd, for the end of any process.  False when it still runs."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError as error:
        # Kernels before 6.15 answer so for one that is being reaped at this moment.
        if error.errno != errno.EINVAL:
            raise
        return True
    try:
        return bool(select.select([fd], [], [], patient(timeout))[0])
    finally:
        os.close(fd)


def set_window_size(fd, width, height):
    import fcntl
    import termios
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
