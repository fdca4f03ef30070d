"""The project's disk: the built programs, the tests and the tools, read-only at /lab in the server.

`/lab/build` is a build folder as the tests want it; `/lab/install` is what `meson install` would put
on a machine.  It is made anew for every run, in less time than it takes to see whether it changed.
"""
import contextlib
import os
import pathlib
import shutil
import tempfile
import time

from labkit import cache
from labkit.tool import Broken, make_disk, megabytes, run

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOLDERS = ("tests", "tools", "dist", "docs")
STALE_S = 3600


def _programs(build):
    """The executables of a build folder that something in the server may run."""
    for path in [*build.glob("brume*"), *(build / "tests").glob("*-driver"),
                 *(build / "tests").glob("floor-*"), build / "tests/hostile", build / "tests/frames"]:
        if path.is_file() and os.access(path, os.X_OK):
            yield path


def _sweep(place):
    """Removes what a killed run left; other runs may be making theirs now."""
    for path in place.glob("project-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path, ignore_errors=True)


def get(build):
    """The descriptor of a disk with the project, of which no name is left."""
    programs = list(_programs(build))
    if not any(path.name == "brume-oci" for path in programs):
        raise Broken(f"{build} holds no programs: meson setup {build} && ninja -C {build}")
    place = cache.folder()
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    with tempfile.TemporaryDirectory(prefix="project-", dir=place) as work:
        tree = pathlib.Path(work) / "tree"
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, tree / folder, symlinks=True,
                            ignore=shutil.ignore_patterns("__pycache__", "corpus", "unit", "*.pyc"))
        for path in programs:
            target = tree / "build" / path.relative_to(build)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        run("meson", "install", "--no-rebuild", "--quiet", "-C", build, "--destdir", tree / "install")
        image = pathlib.Path(work) / "project.img"
        make_disk(tree, image, megabytes(tree) * 5 // 4 + 16, "-O", "^has_journal")
        return os.open(image, os.O_RDONLY | os.O_CLOEXEC)
