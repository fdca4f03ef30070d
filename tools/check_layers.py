#!/usr/bin/env python3
"""Fails when src/ leaves the architecture in meson.build or the size rules of CONTRIBUTING.md.

Checked: every include is a path below src/ that the including folder is granted; nobody includes
another folder's *_internal.h; headers have no cycles and compile alone; no file is over 1000 lines,
no function over 100; every header says what it is.
"""
import ast, concurrent.futures, pathlib, re, subprocess, sys

MAX_FILE_LINES, MAX_FUNCTION_LINES = 1000, 100
root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
table = re.search(r"^layers = (\{.*?^\})", (root / "meson.build").read_text(), re.S | re.M)[1]
layers = ast.literal_eval(table)
layers["cmd"] = list(layers)
errors, graph = [], {}


def check_functions(rel, lines):
    """A function body is what stands between a '{' and a '}' in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start:
            if number - start - 1 > MAX_FUNCTION_LINES and not line.startswith("};"):
                errors.append(f"src/{rel}:{start}: function of {number - start - 1} lines, "
                              f"{MAX_FUNCTION_LINES} are allowed")
            start = None


for path in sorted(root.glob("src/**/*.[ch]")):
    rel = path.relative_to(root / "src")
    text = path.read_text()
    lines = text.split("\n")
    home, graph[str(rel)] = rel.parts[0], []
    if home not in layers:
        errors.append(f"src/{rel}: folder {home}/ has no row in meson.build")
        continue
    if len(lines) > MAX_FILE_LINES:
        errors.append(f"src/{rel}: {len(lines)} lines, {MAX_FILE_LINES} are allowed")
    if path.suffix == ".h" and not re.match(r"#pragma once\n/\*", text):
        errors.append(f"src/{rel}: must open with '#pragma once' and a comment that says what it is")
    check_functions(rel, lines)
    for line in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
        folder = line.split("/")[0]
        if not (root / "src" / line).exists():
            errors.append(f"src/{rel}: \"{line}\" is not a path below src/")
        elif folder != home and folder not in layers[home]:
            errors.append(f"src/{rel}: {home}/ may not use {folder}/ (\"{line}\")")
        elif folder != home and line.endswith("_internal.h"):
            errors.append(f"src/{rel}: \"{line}\" is private to {folder}/")
        graph[str(rel)].append(line)

done = set()


def visit(node, trail):
    if node in trail:
        errors.append("header cycle: " + " -> ".join(trail[trail.index(node):] + [node]))
        return
    if node in done:
        return
    for nxt in graph.get(node, []):
        if nxt.endswith(".h"):
            visit(nxt, trail + [node])
    done.add(node)


def compiles_alone(header):
    result = subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-fsyntax-only", "-x", "c",
                             "-I", root / "src", "-"],
                            input=f'#include "{header}"\n', text=True, capture_output=True)
    return f"src/{header} does not compile alone:\n{result.stderr}" if result.returncode else None


headers = [f for f in graph if f.endswith(".h")]
for header in headers:
    visit(header, [])
with concurrent.futures.ThreadPoolExecutor() as pool:
    errors += [e for e in pool.map(compiles_alone, headers) if e]
print("\n".join(errors) or f"{len(graph)} files, {len(layers)} folders: ok")
sys.exit(bool(errors))
