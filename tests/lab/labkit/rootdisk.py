"""The root disk: a small Debian with systemd and what the cases need, made by mmdebstrap.

It is made from this machine's own apt sources.  What is installed here and there alike takes part in
the name under which it is kept, so an upgrade of a library makes a new disk.
"""
import pathlib
import shlex
import shutil

from labkit import cache, cases
from labkit.tool import make_disk, run

LAB = pathlib.Path(__file__).resolve().parents[1]
GUEST = LAB / "guest"
SIZE_MIB = 8192  # sparse


def _listed():
    """packages_lab_guest of tools/packages.sh."""
    script = LAB.parents[1] / "tools/packages.sh"
    text = run("sh", "-c", f'. {shlex.quote(str(script))}; echo $packages_lab_guest')
    return text.split()


def _sources():
    apt = pathlib.Path("/etc/apt")
    return [path for path in [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list")),
                              *sorted(apt.glob("sources.list.d/*.sources"))] if path.is_file()]


def _codename():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    return "stable"


def _installed_here(names):
    text = run("sh", "-c", 'dpkg-query -W -f "\\${Package} \\${Version}\\n" "$@" 2>/dev/null; true',
               "sh", *names)
    return sorted(line for line in text.splitlines() if len(line.split()) == 2)


def _make(work, names):
    tree = work / "tree"
    # A process namespace of its own: what the packages' scripts start cannot outlive us.
    run("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--include=" + ",".join(names),
        "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*", f"--customize-hook={GUEST}/customize \"$1\"",
        _codename(), tree, *_sources())
    make_disk(tree, work / "root.img", SIZE_MIB)
    shutil.rmtree(tree)


def get():
    """The descriptor of the root disk, made when it is missing."""
    names = sorted({*_listed(), *cases.packages()})
    parts = [names, _codename(), _installed_here(names), pathlib.Path(__file__).read_text(),
             *(path.read_text() for path in sorted(GUEST.iterdir()) if path.is_file() and
               path.name in ("customize", "lab.service", "lab-shell.service"))]

    def make(work):
        print(f"lab: making the root disk of {len(names)} packages and what they need", flush=True)
        _make(work, names)
    return cache.entry("root", parts, make)["root.img"]
