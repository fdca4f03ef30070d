#!/usr/bin/env python3
"""Fails when the documents name what is not there: a file, a page that is linked, a test.

Checked in *.md: relative links and their anchors; names `test_*.py` and `test_*.c`; names of test
functions, where a trailing * stands for several; paths that begin with a folder of the project.
"""
import pathlib, re, sys

root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
errors = []
pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("tests/**/*.md")]
sources = [*root.glob("tests/**/*.py"), *root.glob("tests/**/*.c")]
names = {path.name for path in sources}
functions = set(re.findall(r"^(?:def |static void |\s+def )(test_\w+)\(", "\n".join(
    path.read_text() for path in sources), re.M))
folders = "src|tests|tools|docs|ui"
of_others = {"test_multiple_containers_delete", "test_simple_delete"}  # crun's


def anchors(path):
    """As pages of Markdown number their headings: lower case, words joined by '-'."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ +(.*)$", path.read_text(), re.M)}


def check_test(where, name):
    if name.endswith((".py", ".c")):
        if not any(pathlib.PurePath(found).match(name) for found in names):
            errors.append(f"{where}: no file is called {name}")
    elif name in of_others:
        return
    elif not any(re.fullmatch(name.replace("*", r"\w*"), found) for found in functions):
        if f"{name}.py" not in names and f"{name}.c" not in names:
            errors.append(f"{where}: no test is called {name}")


for page in sorted(pages):
    fenced = False
    for number, line in enumerate(page.read_text().split("\n"), 1):
        where = f"{page.relative_to(root)}:{number}"
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if not fenced:
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                target, _, anchor = target.partition("#")
                if re.match(r"[a-z]+:", target):
                    continue
                found = (page.parent / target).resolve() if target else page
                if not found.exists():
                    errors.append(f"{where}: the link leads to {target}, which is not there")
                elif anchor and found.suffix == ".md" and anchor not in anchors(found):
                    errors.append(f"{where}: {found.name} has no heading #{anchor}")
        for code in re.findall(r"`([^`]+)`", line):
            for name in re.findall(r"(?<![\w./-])test_[\w*]+(?:\.py|\.c)?(?![\w(])", code):
                check_test(where, name)
            for path in re.findall(rf"(?<![\w./-])((?:{folders})/[\w./*-]+)", code):
                # test_<name>, cases/NAME.sh: a pattern for people
                if not re.search(r"_$|[A-Z]{4}", path) and not any(root.glob(path.rstrip("./"))):
                    errors.append(f"{where}: {path} is not there")
print("\n".join(errors))
sys.exit(bool(errors))
