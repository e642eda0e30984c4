# SPDX-License-Identifier: MIT
"""One case: both tools do the same to twin images, which are compared after each round."""
import copy
import os
import re
import shutil

import bitmaps
from images import Mismatch, ReferenceWrong, Side, content, create, info, operate, plain, run, the_map
from model import Model


def checks(side, both):
    """What each one's check says of a side's image where it is not clean."""
    said = []
    for tools in both:
        rc, out = run([tools.img, "check", "-f", "qcow2", "t.qcow2"], cwd=side.dir)
        if rc:
            said.append("%s's check of %s's image: exit %d\n%s" % (tools.name, side.name, rc, out[:1500]))
    return said


class Round:
    """What both had before it, and did in it."""

    def __init__(self, both, sides, order, model, ops):
        self.both, self.sides, self.order, self.model, self.ops = both, sides, order, model, ops
        self.before = copy.deepcopy(model)
        self.codes = None  # how each batch of operations ended, the same for both

    def ours_first(self):
        """What ours did wrong counts, whatever the reference did."""
        return sorted(zip(self.sides, self.order), key=lambda x: x[1] is self.both[1])

    def again_by_ours(self, side):
        """The same operations by ours, on the image as it was before them, and its model; None if it fails."""
        again = Side(side.name, side.dir + ".again")
        shutil.copytree(side.dir + ".before", again.dir, dirs_exist_ok=True)
        model = copy.deepcopy(self.before[side.name])
        answers = operate(again, self.both[0], self.ops, model)
        return (again, model) if [rc for rc, _ in answers] == self.codes else None  # what is refused may leak


def check_images(rd):
    for side, tools in rd.ours_first():
        said = checks(side, rd.both)
        if not said:
            continue
        # The reference wrote last, its own check says so too, and ours does not do it.
        again = rd.again_by_ours(side) if not tools.ours and rd.ops is not None else None
        if len(said) == len(rd.both) and again and not checks(again[0], rd.both):
            raise ReferenceWrong(said[1])
        raise Mismatch(said[0])


def read_by_both(side, both, snapshot=None):
    a, b = (content(side, tools, snapshot) for tools in both)
    if snapshot:  # the reference gives it the disk's length, we its own
        n = min(len(a), len(b))
        both_have = a[:n], b[:n]
    else:
        both_have = a, b
    if both_have[0] != both_have[1]:
        at = next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        what = "snapshot %s of " % snapshot if snapshot else ""
        raise Mismatch("%s%s's image reads otherwise by the two, at %d" % (what, side.name, at))
    return a


def check_content(rd, i):
    reads = {s.name: read_by_both(s, rd.both) for s in rd.sides}
    for side, tools in rd.ours_first():
        wrong = rd.model[side.name].disk.check(reads[side.name])
        if wrong is not None:
            text = "%s's image is not what was written, at %d (round %d, by %s)" % (side.name, wrong, i, tools.name)
            # Each round began with what the model says: who had the image in this one did it, unless ours
            # goes wrong on the same image, too (it may have left there what showed only now).
            again = rd.again_by_ours(side) if not tools.ours and rd.ops is not None else None
            if not tools.ours and (rd.ops is None or
                                   again and again[1].disk.check(content(again[0], rd.both[0])) is None):
                raise ReferenceWrong(text)
            raise Mismatch(text)
        rd.model[side.name].disk.learn(reads[side.name])
    return reads


def check_snapshots(rd):
    for side in rd.sides:
        for name, kept in rd.model[side.name].snapshots.items():
            read = read_by_both(side, rd.both, name)
            wrong = kept.check(read)
            if wrong is not None:
                raise Mismatch("snapshot %s of %s's image is not what was written, at %d" % (name, side.name, wrong))
            kept.learn(read)


def check_bitmaps(rd):
    found = {}
    for side in rd.sides:
        want = rd.model[side.name].bitmaps
        found[side.name] = have = bitmaps.read(side.image)
        if sorted(have) != sorted(want):
            raise Mismatch("bitmaps of %s's image: %s, not %s" % (side.name, sorted(have), sorted(want)))
        for name, (flags, granularity, bits) in have.items():
            w = want[name]
            if flags & bitmaps.IN_USE or bool(flags & bitmaps.AUTO) != w.enabled or granularity != w.granularity:
                raise Mismatch("bitmap %s of %s's image: flags %d, granularity %d" %
                               (name, side.name, flags, granularity))
            lost = w.must - set(bits)
            if lost:
                raise Mismatch("bitmap %s of %s's image does not tell of %d" %
                               (name, side.name, min(lost) * granularity))
    a, b = (found[s.name] for s in rd.sides)
    if a != b and all(rd.model[s.name].exact for s in rd.sides):
        raise Mismatch("the two sides' bitmaps differ:\n%s\n%s" % (a, b))


def check_said(rd):
    """Both tell the same of each image."""
    for side in rd.sides:
        a, b = (the_map(side, tools) for tools in rd.both)
        if a != b:
            raise Mismatch("the two map %s's image otherwise:\n%s\n%s" % (side.name, a, b))
        a, b = (info(side, tools) for tools in rd.both)
        if a != b:
            raise Mismatch("the two tell otherwise of %s's image:\n%s\n%s" % (side.name, a, b))


def check_twins(rd, reads):
    a, b = (reads[s.name] for s in rd.sides)
    loose = rd.model[rd.sides[0].name].disk.discarded  # there each may do as it likes
    for at in range(0, max(len(a), len(b)), 512):
        if a[at:at + 512] != b[at:at + 512] and not any(loose[at:at + 512]):
            raise Mismatch("the images differ at %d" % at)


def compare_round(rd, i):
    check_images(rd)
    reads = check_content(rd, i)
    check_snapshots(rd)
    check_bitmaps(rd)
    check_said(rd)
    check_twins(rd, reads)


def run_round(rd, dirs, i):
    """What the tools refused, both in the same words, and cannot go on after; else None."""
    for s, t in zip(rd.sides, rd.order):
        shutil.rmtree(s.dir + ".before", ignore_errors=True)
        if not t.ours:
            shutil.copytree(s.dir, s.dir + ".before")
    answers = [operate(s, t, rd.ops, rd.model[s.name]) for s, t in zip(rd.sides, rd.order)]
    texts = [[(rc, plain(out, dirs)) for rc, out in a] for a in answers]
    for a, b in zip(*texts):
        if "Cannot use preallocation for shrinking files" in a[1] + b[1]:
            return "refused: preallocation by the reference, of a file that is longer already"
        if a != b:
            raise Mismatch("the tools answer otherwise (round %d):\n%s\n%s" % (i, a, b))
        failed = re.findall(r"(?:write|discard|truncate) failed.*", a[1])
        if failed:
            return "refused: " + failed[0]
    rd.codes = [rc for rc, _ in answers[0]]
    return None


def run_case(case, ours, theirs, top):
    both = (ours, theirs)
    shutil.rmtree(top, ignore_errors=True)
    sides = [Side("the first", os.path.join(top, "a")), Side("the second", os.path.join(top, "b"))]
    dirs = [s.dir for s in sides]
    a, b = ((rc, plain(out, dirs)) for rc, out in (create(s, t, case.options) for s, t in zip(sides, both)))
    if a != b:
        raise Mismatch("create answers otherwise:\n%s\n%s" % (a, b))
    if a[0]:
        return "refused: " + a[1].strip().split("\n")[-1]
    model = {s.name: Model(case.options) for s in sides}
    compare_round(Round(both, sides, both, model, None), 0)
    for i, ops in enumerate(case.rounds):
        rd = Round(both, sides, both if i % 2 == 0 else both[::-1], model, ops)  # the images change hands
        refused = run_round(rd, dirs, i + 1)
        if refused:
            return refused
        compare_round(rd, i + 1)
    return "same"
