"""Files that are expensive to make, kept under a name that says all they were made from.

One lock guards the folder: of two runs one makes the file and the other waits.  What is open stays
usable when it is removed here, so callers open at once and never care about the name again.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import tempfile

KEPT = 3  # of each kind: what other branches of the source use


def folder():
    """Where the cache lies; BRUME_LAB_CACHE chooses another place."""
    chosen = os.environ.get("BRUME_LAB_CACHE")
    if chosen:
        return pathlib.Path(chosen)
    if os.geteuid() == 0:
        return pathlib.Path("/var/cache/brume-lab")
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "brume-lab"


def digest(parts):
    """A short name for everything that a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _locked(place):
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(kind, parts, make):
    """Opens the files of an entry, {name: descriptor}; make(folder) fills a missing one."""
    place = folder()
    with _locked(place):
        target = place / f"{kind}-{digest(parts)}"
        if not target.is_dir():
            for path in place.glob("making-*"):  # of a run that was killed
                shutil.rmtree(path, ignore_errors=True)
            work = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=place))
            work.chmod(0o755)
            try:
                make(work)
                work.rename(target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        os.utime(target)
        _evict(place, kind)
        return {path.name: os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                for path in target.iterdir() if path.is_file()}


def _evict(place, kind):
    entries = sorted(place.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime)
    for path in entries[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
