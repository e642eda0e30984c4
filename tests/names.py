#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Names that comments and documents use: invariants (INV-...) are defined once, in the header of the module that
keeps them ("INV-CACHE-1  A slice ..."), and cited by a test that shows them; what is cited is defined; files and
functions that comments and documents name exist.

Usage: tests/names.py   (says what is wrong, one line each; exit 1)
"""
import collections
import os
import re
import subprocess
import sys

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
CODE = ("util", "block", "tools", "include")
COMMENT = re.compile(r"/\*.*?\*/", re.S)
INV = re.compile(r"INV-(?:[A-Z]+[0-9]*-)+\d+")
FILE = re.compile(r"(?<![\w./-])((?:block|util|tools|include|tests|scripts|docs|qemu-iotests-like)/[\w./-]*\w)")
FUNCTION = re.compile(r"(?<![\w.>-])([a-z_][a-z0-9_]{2,})\(\)")
# Of the system and of libraries, by their prefixes or names.
FOREIGN = re.compile(r"^(g_|json_|pthread_|io_uring_|libdeflate_|z_|ZSTD_|str|mem(cpy|set|cmp)|f?printf)")
SYSTEM = set("""main fork exec open close read write pread pwrite preadv preadv2 pwritev fsync fdatasync fstat stat
ftruncate fallocate posix_fallocate ppoll poll exit abort atexit dlopen dlclose malloc calloc free getopt getenv
inflate deflate realpath rename unlink mmap munmap ioctl fcntl lseek setjmp longjmp makecontext swapcontext
assert errno signal copy_file_range syscall epoll_wait sched_yield deflateInit2 clock_gettime sysconf""".split())


def listed(*folders):
    out = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", *folders], cwd=TOP, text=True)
    return [f for f in out.split("\n") if f and not f.startswith("tests/fuzz/corpus") and os.path.isfile(os.path.join(TOP, f))]


def read(name):
    try:
        with open(os.path.join(TOP, name), encoding="utf-8") as f:
            return f.read()
    except UnicodeDecodeError:
        return ""


def invariants(texts):
    defined, cited, shown = collections.defaultdict(list), collections.defaultdict(list), set()
    for name, text in texts.items():
        for n, line in enumerate(text.split("\n"), 1):
            for m in INV.finditer(line):
                where = f"{name}:{n}"
                if line[m.end():m.end() + 2] == "  " and not line[:m.start()].strip(" *"):
                    defined[m.group(0)].append(where)
                else:
                    cited[m.group(0)].append(where)
                    if name.startswith(("tests/", "qemu-iotests-like/")):
                        shown.add(m.group(0))
    for inv, where in sorted(defined.items()):
        if len(where) > 1:
            yield f"{inv} is defined more than once: {' '.join(where)}"
        if inv not in shown and not where[0].startswith("tests/"):
            yield f"{where[0]}: no test says that it shows {inv}"
    for inv, where in sorted(cited.items()):
        if inv not in defined:
            yield f"{where[0]}: {inv} is defined nowhere"


def paths(texts):
    known = set(listed(*CODE, "tests", "scripts", "docs", "qemu-iotests-like"))
    folders = {os.path.dirname(f) for f in known}
    folders |= {os.path.dirname(f) for f in folders}
    # What a build makes: programs of a folder with sources.
    known |= {"tests/crash/explore", "tests/crash/explore-rules", "tests/fuzz/replay", "tests/unit/test"}
    for name, text in texts.items():
        for comment in COMMENT.findall(text) if name.endswith((".c", ".h")) else [text]:
            for path in FILE.findall(comment):
                path = path.rstrip("./")
                near = [path, path + ".c", path + ".h", path + ".md", "include/" + path]
                if not any(p in known or p in folders for p in near) and not re.search(r"NNN|build", path):
                    yield f"{name}: there is no {path}"


def parameters(texts):
    """@name in the comment of a function's body is one of its parameters."""
    definition = re.compile(r"(/\*(?:(?!\*/).)*?\*/)\n((?:(?!/\*)[^;{}#])*?\b(\w+)\([^;{}]*?\)[^;{}]*?)\n\{\n", re.S)
    for name, text in texts.items():
        if name.endswith(".c") and name.startswith(CODE):
            for m in definition.finditer(text):
                for word in sorted(set(re.findall(r"(?<![\w.])@(\w+)", m.group(1)))):
                    if not re.search(rf"\b{word}\b", m.group(2)):
                        yield f"{name}: {m.group(3)}() has no parameter {word}"


def topics():
    """Each end-to-end script is in a topic, and each topic's scripts are there."""
    folder = os.path.join(TOP, "qemu-iotests-like")
    there = {n for n in os.listdir(folder) if re.fullmatch(r"[0-9]{3}", n)}
    listed_there = set()
    for line in read("qemu-iotests-like/groups").split("\n"):
        if line and not line.startswith("#"):
            for n in line.split()[1:]:
                listed_there.add(n)
                if n not in there:
                    yield f"qemu-iotests-like/groups: there is no {n}"
    for n in sorted(there - listed_there):
        yield f"qemu-iotests-like/groups: {n} is in no topic"


def functions(texts):
    code = "\n".join(t for n, t in texts.items() if n.endswith((".c", ".h", ".S", ".inc", ".pml")))
    code = COMMENT.sub(" ", code)
    known = set(re.findall(r"\b([a-z_][a-z0-9_]*)\b", code))
    for name, text in texts.items():
        if not name.endswith((".c", ".h")) or not name.startswith(CODE):
            continue
        for comment in COMMENT.findall(text):
            for fn in FUNCTION.findall(comment):
                if fn not in known and fn not in SYSTEM and not FOREIGN.match(fn):
                    yield f"{name}: there is no {fn}()"


def main():
    names = listed(*CODE, "tests", "scripts", "docs", "qemu-iotests-like", "README.md", "CONTRIBUTING.md")
    texts = {n: read(n) for n in names if not n.endswith((".png", ".svg", ".out"))}
    prose = {n: t for n, t in texts.items() if n.endswith(".md") or n.startswith(CODE)}
    bad = list(invariants(texts)) + list(paths(prose)) + list(functions(texts)) + list(parameters(texts)) + list(topics())
    for line in bad:
        print(line)
    return 1 if bad else 0


sys.exit(main())
