"""The cases: files of tests/lab/cases, what they need, and which of them can share a boot.

A case says what it needs in comment lines that begin with "# lab:", as words KEY=VALUE:

    # lab: kernels=6.1,6.12 memory=2048 time=300 packages=docker.io
    # lab: cmdline="ipv6.disable=1"

The name "integration/oci_life" is a case without a file: tests/integration/test_oci_life.py, run inside.
"""
import dataclasses
import pathlib
import shlex

LAB = pathlib.Path(__file__).resolve().parents[1]
FOLDER = LAB / "cases"
INTEGRATION = LAB.parent / "integration"
KERNELS = ("6.1", "6.12")
LONGEST_S = 3600


class Mistake(Exception):
    """Something a person wrote that cannot be; the text says what would be right."""


@dataclasses.dataclass
class Case:
    name: str
    command: list
    kernels: tuple = KERNELS
    memory: int = 2048
    disk: int = 0
    time: int = 180
    nics: int = 0
    servers: int = 1
    alone: bool = False
    default: tuple = KERNELS
    cmdline: str = ""
    packages: tuple = ()
    summary: str = ""


def _number(low, high):
    def parse(word):
        if not word.isdigit() or not low <= int(word) <= high:
            raise ValueError(f"a number from {low} to {high}")
        return int(word)
    return parse


def _kernels(word):
    chosen = tuple(word.split(","))
    if not set(chosen) <= set(KERNELS):
        raise ValueError("of " + ",".join(KERNELS))
    return chosen


def _default(word):
    if word in ("yes", "no"):
        return KERNELS if word == "yes" else ()
    return _kernels(word)


def _yes(word):
    if word not in ("yes", "no"):
        raise ValueError("yes or no")
    return word == "yes"


KEYS = {
    "kernels": _kernels,
    "memory": _number(256, 16384),
    "disk": _number(0, 65536),
    "time": _number(1, LONGEST_S),
    "nics": _number(0, 4),
    "servers": _number(1, 2),
    "alone": _yes,
    "default": _default,
    "cmdline": str,
    "packages": lambda word: tuple(word.split(",")),
}


def read(path):
    """The case in a file; raises Mistake."""
    case = Case(path.stem, [f"/lab/tests/lab/cases/{path.name}"])
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("#"):
            if not line.strip() or number == 1:
                continue
            break
        text = line.lstrip("# ")
        if not text.startswith("lab:"):
            if not case.summary and not line.startswith("#!"):
                case.summary = text
            continue
        try:
            words = shlex.split(text[len("lab:"):])
        except ValueError as error:
            raise Mistake(f"{path}:{number}: {error}") from None
        for word in words:
            key, _, value = word.partition("=")
            if key not in KEYS:
                raise Mistake(f"{path}:{number}: there is no need \"{key}\"; there are {' '.join(KEYS)}")
            try:
                setattr(case, key, KEYS[key](value))
            except ValueError as error:
                raise Mistake(f"{path}:{number}: {key}={value}: must be {error}") from None
    return case


def all_cases():
    """Every case that has a file, by name."""
    paths = sorted(path for path in FOLDER.iterdir() if path.suffix in (".sh", ".py"))
    return {path.stem: read(path) for path in paths}


def packages():
    """What the root disk must hold so that every case can run from it."""
    return sorted({name for case in all_cases().values() for name in case.packages})


def default_cases():
    """What ./test.sh runs: each case on those of its kernels where it wants to be."""
    chosen = []
    for case in all_cases().values():
        case.kernels = tuple(kernel for kernel in case.kernels if kernel in case.default)
        chosen += [case] if case.kernels else []
    return chosen


def find(name):
    """The case with that name; raises Mistake."""
    if name.startswith("integration/"):
        test = name.partition("/")[2]
        if not (INTEGRATION / f"test_{test}.py").is_file():
            raise Mistake(f"there is no test tests/integration/test_{test}.py")
        return Case(name, ["/lab/tests/lab/guest/bin/lab-pytest", test], time=1800)
    known = all_cases()
    if name not in known:
        raise Mistake(f"there is no case {name}; tests/lab/run --list names them")
    return known[name]


@dataclasses.dataclass
class Boot:
    """Cases that run one after the other in one server, or in one pair of servers."""
    kernel: str
    cases: list

    @property
    def servers(self):
        return self.cases[0].servers

    def most(self, key):
        return max(getattr(case, key) for case in self.cases)

    @property
    def cmdline(self):
        return self.cases[0].cmdline


def batch(chosen, kernels):
    """Divides cases into as few boots as their needs allow."""
    boots = {}
    for kernel in kernels:
        for case in chosen:
            if kernel in case.kernels:
                key = (kernel, case.servers, case.cmdline, case.name if case.alone else "")
                boots.setdefault(key, Boot(kernel, [])).cases.append(case)
    return list(boots.values())
