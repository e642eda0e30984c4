#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mutation testing: does a test see it when a line of the code is wrong?

tests/mutate/defects/NAME is one plausible defect: what it is, where, the text and what replaces it, and the test
that is known to see it. Each is applied alone to a copy of the tree (build-mutate/), which is built as far as the
test needs; a test that fails there and passes without the defect has caught it. What no test catches has lived: then
a test is missing, or the defect is none (say so, with a reason: "equivalent: ...").

The form of such a file:

    What is wrong, in a sentence or a few.
    in: block/qcow2/cow.c            (a file, or a folder: the text is in one of its files)
    test: tests/unit/test-qcow2-cow -p /qcow2/cow/tail
    test: script 190 extended_l2=on  (a second one, if need be: tried in this order)
    --- old
    text as it is in the tree, once; blanks and line ends do not matter
    --- new
    text that replaces it

More pairs of old and new may follow.
"""
import argparse
import fcntl
import glob
import os
import random
import re
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEFECTS = "tests/mutate/defects"
TREE = os.path.join(TOP, "build-mutate/tree")
BUILD = os.path.join(TOP, "build-mutate/build")
TOOLS = ["tools/img/cowlet-img", "tools/io/cowlet-io"]
# What is tried on a defect that its own tests do not see, in this order.
REST = ["tests/race/race --tap", "tests/fault/fault-sweep", "tests/crash/explore --states 20000", "scripts",
        "scripts extended_l2=on,cluster_size=16k", "tests/stress/stress --seconds 15"]


class Broken(Exception):
    """A defect's file is wrong, or what it speaks of is not in the tree."""


class Defect:
    """One of @root, which is the tree, or the copy of it (that does not change while we run)."""

    def __init__(self, root, name):
        self.root, self.name = root, name
        self.tests, self.edits, self.equivalent, self.where = [], [], None, None
        with open(os.path.join(root, DEFECTS, name), encoding="utf-8") as f:
            self._parse(f.read())

    def _parse(self, text):
        head, *parts = re.split(r"^--- (old|new)\n", text, flags=re.M)
        said = []
        for line in head.splitlines():
            key, _, value = line.partition(": ")
            if key == "test":
                self.tests.append(value.strip())
            elif key == "in":
                self.where = value.strip()
            elif key == "equivalent":
                self.equivalent = value.strip()
            else:
                said.append(line.strip())
        self.what = " ".join(said).strip()
        if parts[0::2] != ["old", "new"] * (len(parts) // 4) or not parts:
            raise Broken("old and new do not come in pairs")
        self.edits = list(zip(parts[1::4], parts[3::4]))
        if not self.what or not self.where or not (self.tests or self.equivalent):
            raise Broken("wants a sentence, 'in:' and 'test:'")

    def files(self):
        """Relative name -> text after the change."""
        path = os.path.join(self.root, self.where)
        names = sorted(glob.glob(path + "/**/*.[ch]", recursive=True)) if os.path.isdir(path) else [path]
        texts, changed = {}, {}
        for n in names:
            try:
                with open(n, encoding="utf-8") as f:
                    texts[os.path.relpath(n, self.root)] = f.read()
            except OSError as e:
                raise Broken(str(e)) from e
        for old, new in self.edits:
            pattern = re.compile(r"\s+".join(re.escape(w) for w in old.split()))
            hits = [(n, m) for n, t in texts.items() for m in pattern.finditer(t)]
            if len(hits) != 1:
                raise Broken(f"the old text is {len(hits)} times in {self.where}, not once: {old.strip()!r}")
            n, m = hits[0]
            texts[n] = changed[n] = texts[n][:m.start()] + new.strip() + texts[n][m.end():]
        return changed


def write_if_changed(path, data):
    try:
        with open(path, "rb") as f:
            if f.read() == data:
                return
    except OSError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


class Tree:
    """The copy that defects go into, and its build."""

    def __init__(self):
        self.changed = {}   # what a defect has changed: name -> original text
        self.clean = {}     # command -> (passes without a defect, seconds)

    def sync(self):
        """The tree as it is, uncommitted changes too; only what differs, so that a build does little."""
        out = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=TOP, check=True,
                             stdout=subprocess.PIPE).stdout
        names = [n for n in out.decode().split("\0") if n and os.path.isfile(os.path.join(TOP, n))]
        for n in names:
            with open(os.path.join(TOP, n), "rb") as f:
                write_if_changed(os.path.join(TREE, n), f.read())
            os.chmod(os.path.join(TREE, n), os.stat(os.path.join(TOP, n)).st_mode)
        known = set(names)
        for root, _, files in os.walk(TREE):
            for n in files:
                if os.path.relpath(os.path.join(root, n), TREE) not in known:
                    os.unlink(os.path.join(root, n))

    def setup(self):
        self.sync()
        if not os.path.exists(os.path.join(BUILD, "build.ninja")):
            subprocess.run(["meson", "setup", "-Doptimization=1", BUILD, TREE], check=True,
                           stdout=subprocess.DEVNULL)

    def apply(self, files):
        for n, text in files.items():
            with open(os.path.join(TREE, n), "rb") as f:
                self.changed[n] = f.read()
            write_if_changed(os.path.join(TREE, n), text.encode())

    def revert(self):
        for n, text in self.changed.items():
            write_if_changed(os.path.join(TREE, n), text)
        self.changed = {}

    def build(self, command):
        targets = TOOLS if command.startswith("script") else [command.split()[0]]
        p = subprocess.run(["ninja", "-C", BUILD] + targets, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode:
            raise Broken("does not build:\n" + "\n".join(p.stdout.splitlines()[-20:]))

    def run(self, command, limit):
        """Seconds, or None where it fails or takes longer than @limit."""
        words, start = command.split(), time.monotonic()
        if words[0] == "script":
            words = [TREE + "/qemu-iotests-like/run", "-b", BUILD] + (["-o", words[2]] if len(words) > 2 else []) + [words[1]]
        elif words[0] == "scripts":
            words = [TREE + "/qemu-iotests-like/run", "-b", BUILD] + (["-o", words[1]] if len(words) > 1 else [])
        else:
            words[0] = os.path.join(BUILD, words[0])
        p = subprocess.Popen(words, cwd=TREE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             start_new_session=True)
        try:
            out = p.communicate(timeout=limit)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, 9)
            p.communicate()
            return None
        ok = re.findall(r"^ok .*$", out, flags=re.M)
        bad = p.returncode or re.search(r"^not ok", out, flags=re.M) or all("# SKIP" in line for line in ok)
        return None if bad else time.monotonic() - start

    def passes_clean(self, command):
        """(passes, seconds) without a defect; the tree is clean."""
        if command not in self.clean:
            self.build(command)
            seconds = self.run(command, 300)
            self.clean[command] = (seconds is not None, seconds or 0)
        return self.clean[command]


def caught_by(tree, d, quick):
    """The command that sees @d, or None."""
    files = d.files()
    tests = [t for t in d.tests if tree.passes_clean(t)[0]]
    if d.tests and not tests:
        raise Broken(f"fails or is skipped without the defect too: {d.tests[0]}")
    try:
        tree.apply(files)
        for t in tests:
            tree.build(t)
            if tree.run(t, max(20, 10 * tree.clean[t][1])) is None:
                return t
        if quick:
            return None
        units = sorted(os.path.relpath(p, BUILD) for p in glob.glob(BUILD + "/tests/unit/test-*") if os.path.isfile(p))
        for t in units + REST:
            if t in tests:
                continue
            tree.build(t)
            if tree.run(t, 300) is not None:
                continue
            tree.revert()
            if tree.passes_clean(t)[0]:
                return t
            tree.apply(files)
    finally:
        tree.revert()
    return None


def judge(tree, d, quick):
    """(fine, what to say)"""
    start = time.monotonic()
    try:
        if d.equivalent and quick:
            d.files()
            return True, f"# SKIP equivalent: {d.equivalent}"
        t = caught_by(tree, d, quick)
    except Broken as e:
        return False, "cannot be tried: " + str(e)
    took = f"({time.monotonic() - start:.0f} s)"
    if d.equivalent:
        return not t, f"marked as equivalent, but caught by {t}" if t else f"equivalent: {d.equivalent}"
    if not t:
        return False, f"LIVED {took}: {d.what}"
    return True, f"caught by {t}" + ("" if t in d.tests else ", not by the test that it names") + f" {took}"


def names_wanted(names):
    have = sorted(n for n in os.listdir(os.path.join(TOP, DEFECTS)) if not n.startswith("."))
    for n in names:
        if n not in have:
            sys.exit(f"mutate: no defect '{n}'; --list shows those there are")
    return names or have


def main():
    p = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--list", action="store_true", help="what there is, and which test sees it")
    p.add_argument("--check", action="store_true", help="only: does each one apply to the tree?")
    p.add_argument("--quick", action="store_true", help="only the tests that a defect names")
    p.add_argument("--seconds", type=int, help="begin no other one after so many seconds")
    p.add_argument("--seed", help="in an order of its own, which the seed (any text) decides")
    p.add_argument("names", nargs="*")
    a = p.parse_args()
    names, bad, start = names_wanted(a.names), 0, time.monotonic()
    if a.seed:
        random.Random(a.seed).shuffle(names)
    os.makedirs(os.path.dirname(TREE), exist_ok=True)
    lock = open(os.path.join(os.path.dirname(TREE), "lock"), "w", encoding="utf-8")
    tree, root, done = None, TOP, 0
    if not (a.list or a.check):
        fcntl.flock(lock, fcntl.LOCK_EX)
        tree, root = Tree(), TREE
        tree.setup()
    for n in names:
        if a.seconds and done and time.monotonic() - start > a.seconds:
            break
        try:
            d = Defect(root, n)
            d.files()
        except Broken as e:
            fine, said = False, str(e)
        else:
            if a.list:
                print(f"{n}: {d.what} [{d.equivalent and 'equivalent' or d.tests[0]}]")
                continue
            fine, said = True, "applies"
            if tree:
                fine, said = judge(tree, d, a.quick)
        done += 1
        bad += not fine
        print(f"{'ok' if fine else 'not ok'} {done} - {n}: " + said.replace("\n", "\n# "), flush=True)
    if not a.list:
        print(f"1..{done}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
