#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints how large the code is and how it hangs together: lines by folder and file, the longest functions,
the share of comments, callers that test drivers' callbacks for NULL, circles of calls among files.

Usage: scripts/sizes [--check] BUILD-DIR
--check: fails when files of block/ call each other, or include, in a circle, when callers test callbacks for NULL in 5
places or more, a function of the tools is longer than 60 lines, or one of block/qcow2 is not named after its module.
"""
import collections
import os
import re
import subprocess
import sys

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
BELOW = ("block/qcow2/", "block/protocol/", "block/filter/", "block/format/")
FOLDERS = ("util", "block", "tools", "include")
# Functions begin and end in the first column: clang-format sees to it.
FUNCTION = re.compile(r"^(?![ \t}#/])[^;\n]*?\b(\w+)\([^;{}]*\)\n\{\n(.*?)^\}", re.S | re.M)
COMMENT = re.compile(r"/\*.*?\*/", re.S)


def files():
    out = subprocess.check_output(["git", "ls-files", *FOLDERS], cwd=TOP, text=True)
    return [f for f in out.split("\n") if f.endswith((".c", ".h"))]


def functions(text):
    for m in FUNCTION.finditer(text):
        yield m.group(1), m.group(2).count("\n") + 3


def comment_lines(text):
    return sum(m.group(0).count("\n") + 1 for m in COMMENT.finditer(text))


def callbacks():
    with open(TOP + "/include/block/driver.h", encoding="utf-8") as f:
        return set(re.findall(r"\(\*(\w+)\)\(", f.read()))


def null_tests(name, text, names):
    for n, line in enumerate(text.split("\n"), 1):
        for m in re.finditer(r"drv->(\w+)\b(?!\()", line):
            if m.group(1) in names:
                yield f"{name}:{n}"


def calls(build):
    """File -> file -> the names used."""
    folder = os.path.join(build, "libcowlet-internal.a.p")
    home, used = {}, collections.defaultdict(set)
    for obj in sorted(os.listdir(folder)):
        if not obj.endswith(".c.o"):
            continue
        name = obj[: -len(".c.o")].replace("_", "/") + ".c"
        for line in subprocess.check_output(["nm", os.path.join(folder, obj)], text=True).split("\n"):
            f = line.split()
            if len(f) == 3 and f[1] in "TW":
                home[f[2]] = name
            elif len(f) == 2 and f[0] == "U":
                used[name].add(f[1])
    graph = collections.defaultdict(lambda: collections.defaultdict(set))
    for name, symbols in used.items():
        for s in symbols:
            if home.get(s, name) != name:
                graph[name][home[s]].add(s)
    return graph


def misnamed(build):
    """What block/qcow2 shows the linker is qcow2_MODULE_..., or a callback of the driver's table."""
    folder = os.path.join(build, "libcowlet-internal.a.p")
    with open(TOP + "/block/qcow2/callbacks.h", encoding="utf-8") as f:
        table = set(re.findall(r"\b(qcow2_\w+)\(", f.read()))
    for obj in sorted(os.listdir(folder)):
        m = re.fullmatch(r"block_qcow2_(.*)\.c\.o", obj)
        if not m:
            continue
        stem = m.group(1).split("-")
        modules = tuple("qcow2_" + "_".join(stem[: i + 1]) + "_" for i in range(len(stem)))
        for line in subprocess.check_output(["nm", os.path.join(folder, obj)], text=True).split("\n"):
            f = line.split()
            if len(f) == 3 and f[1] == "T" and f[2] not in table and not f[2].startswith(modules):
                yield f"block/qcow2/{m.group(1)}.c: {f[2]}()"


def includes(texts):
    """Header -> header that it includes."""
    graph = {}
    for name, text in texts.items():
        near = [os.path.dirname(name) + "/", "", "include/"]
        graph[name] = {p + i: 1 for i in re.findall(r'^#include "([^"]+)"', text, re.M) for p in near if p + i in texts}
    return graph


def reachable(graph, start):
    seen, todo = set(), [start]
    while todo:
        for n in graph.get(todo.pop(), {}):
            if n not in seen:
                seen.add(n)
                todo.append(n)
    return seen


def circles(graph):
    reach = {n: reachable(graph, n) for n in list(graph)}
    left = {n for n in reach if n in reach[n]}
    while left:
        n = min(left)
        circle = {m for m in left if m in reach[n] and n in reach[m]}
        yield sorted(circle)
        left -= circle


def main(argv):
    check = "--check" in argv
    argv = [a for a in argv if a != "--check"]
    if len(argv) != 1:
        sys.exit(__doc__)
    names, bad = callbacks(), 0
    folders, longest, per_file, tests = collections.Counter(), [], [], []
    comments = total = 0
    texts = {}
    for f in files():
        with open(os.path.join(TOP, f), encoding="utf-8") as h:
            text = h.read()
        texts[f] = text
        lines = text.count("\n")
        folders[os.path.dirname(f)] += lines
        total += lines
        comments += comment_lines(text)
        longest += [(n, f, fn) for fn, n in functions(text)]
        per_file.append((lines, f))
        if f.startswith(("block/", "tools/")):
            tests += null_tests(f, text, names)
    print(f"# {total} lines in {len(per_file)} files, {100 * comments / total:.0f} % of them comments; "
          f"{len(longest)} functions, {sum(n for n, _, _ in longest) / len(longest):.1f} lines each")
    for f, n in sorted(folders.items()):
        print(f"{n:7} {f}/")
    print("# the largest files")
    for n, f in sorted(per_file, reverse=True)[:12]:
        print(f"{n:7} {f}")
    print("# the longest functions")
    for n, f, fn in sorted(longest, reverse=True)[:12]:
        print(f"{n:7} {f} {fn}()")
    below = [t for f, t in texts.items() if f.startswith(BELOW)]
    asserts, code = sum(t.count("g_assert") for t in below), sum(t.count("\n") for t in below)
    print(f"# assertions below the gate: {asserts}, {1000 * asserts / code:.1f} for 1000 lines")
    print(f"# tests of drivers' callbacks for NULL: {len(tests)} {' '.join(tests)}")
    print(f"# circles of includes: {len(list(circles(includes(texts))))}")
    graph = calls(argv[0])
    for c in circles(graph):
        print(f"# circle of calls: {' '.join(c)}")
        if all(n.startswith("block/") for n in c):
            print("not ok: files of block/ call each other in a circle")
            bad = 1
    for name in misnamed(argv[0]):
        print(f"not ok: {name} does not begin with its module's name")
        bad = 1
    for c in circles(includes(texts)):
        print(f"not ok: includes go in a circle: {' '.join(c)}")
        bad = 1
    if len(tests) >= 5:
        print("not ok: callers test callbacks for NULL; block/driver/defaults.c has what to call instead")
        bad = 1
    for n, f, fn in longest:
        if f.startswith("tools/") and n > 60:
            print(f"not ok: {f}: {fn}() has {n} lines")
            bad = 1
    return bad if check else 0


sys.exit(main(sys.argv[1:]))
