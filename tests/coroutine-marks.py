#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fails when a plain function calls a coroutine function, or a name says _co_ and the mark is missing.

Usage: tests/coroutine-marks.py FILE...

A function marked coroutine_fn may yield, so only such a function may call it; what starts a coroutine
names it without a call.  A static function counts in its own file only, since names repeat.  The text is
read without comments and strings; a definition starts in the first column and its body ends with a brace there.
"""
import re
import sys

# Named after what they act on; callable from anywhere.
PLAIN = {"aio_co_wake", "aio_co_schedule"}

NOISE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
MARKED = re.compile(r"^((?:static\b)?[^;{}()\n#]*)\bcoroutine_fn\s+\**\s*(\w+)\s*\(", re.M)
DEFINITION = re.compile(r"^([A-Za-z_][^;{}=#]*?\b(\w+)\s*\([^;{}]*\))\s*\n\{(.*?)^\}", re.S | re.M)
CALL = re.compile(r"(?:(->|\.)\s*)?\b(\w+)\s*\(")


def strip(text):
    return NOISE.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def main(names):
    texts = {n: strip(open(n, encoding="utf-8").read()) for n in names}
    everywhere, here, bad = {"WITH_CO_LOCK"}, {n: set() for n in names}, 0

    for name, text in texts.items():
        for head, fn in MARKED.findall(text):
            local = "static" in head and not name.endswith(".h")
            (here[name] if local else everywhere).add(fn)
    for name, text in texts.items():
        for m in DEFINITION.finditer(text):
            head, fn, body = m.groups()
            if "coroutine_fn" in head:
                continue
            line = text.count("\n", 0, m.start(2)) + 1
            if "_co_" in fn and fn not in PLAIN and fn not in everywhere:
                print(f"{name}:{line}: {fn} has _co_ in its name and no coroutine_fn")
                bad += 1
            for c in CALL.finditer(body):
                member, callee = c.groups()
                if member and callee.startswith("co_") or \
                        not member and (callee in here[name] or callee in everywhere):
                    line = text.count("\n", 0, m.start(3) + c.start(2)) + 1
                    print(f"{name}:{line}: {fn}, a plain function, calls {callee}")
                    bad += 1
    return bad != 0


sys.exit(main(sys.argv[1:]))
