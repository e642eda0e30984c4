# SPDX-License-Identifier: MIT
"""A case: the options of an image and rounds of operations, both from a seed.

An operation is a tuple that begins with its kind. Those of IO are commands of the io tool; those of IMG are
command lines of the image tool. OURS are what the reference cannot do: it has nothing to do where its turn is.
"""
import json
import random

KIB, MIB = 1 << 10, 1 << 20

IMG = ("snap-create", "snap-apply", "snap-delete", "bitmap", "resize", "amend", "repair", "compact", "remake")
OURS = ("compact", "remake")


def make_options(r):
    ext = r.random() < 0.5
    o = {"size": r.choice([64 * KIB, MIB, 3 * MIB + 512, 8 * MIB, 20 * MIB + 123 * 512])}
    o["cluster_size"] = r.choice([16, 16, 32, 64, 128, 2048] if ext else [0.5, 1, 4, 16, 64, 64, 256, 2048])
    o["cluster_size"] = int(o["cluster_size"] * KIB)
    if ext:
        o["extended_l2"] = "on"
    elif r.random() < 0.15:
        o["compat"] = "0.10"
    v3 = "compat" not in o
    if v3 and r.random() < 0.4:
        o["refcount_bits"] = r.choice([1, 2, 4, 8, 16, 32, 64])
    if v3 and r.random() < 0.2:
        o["lazy_refcounts"] = "on"
    if v3 and r.random() < 0.3:
        o["compression_type"] = r.choice(["zlib", "zstd"])
    if v3 and r.random() < 0.2:
        o["data_file"] = "@"
        if r.random() < 0.5:
            o["data_file_raw"] = "on"
    if "data_file_raw" not in o and r.random() < 0.4:
        o["backing"] = r.choice(["raw", "qcow2"])
        o["backing_size"] = r.choice([o["size"], o["size"] // 2 // 512 * 512, o["size"] * 2])
    if r.random() < 0.2 and not (ext and "backing" in o):
        # preallocation=metadata over a backing file is refused without extended entries
        if "backing" not in o:
            o["preallocation"] = r.choice(["metadata", "falloc", "full"])
    return o


class Maker:
    """Operations, from what is known of the image so far."""

    def __init__(self, r, o):
        self.r, self.o, self.size, self.cs = r, o, o["size"], o["cluster_size"]
        self.unit = self.cs // 32 if "extended_l2" in o else self.cs
        self.touched = set()  # clusters: the reference refuses to compress over those
        self.snapshots, self.bitmaps, self.count = {}, [], 0
        self.one_size = True  # of clusters, as it was created

    def span(self):
        r, kind = self.r, self.r.random()
        if kind < 0.4:
            step, most = 512, 40 * KIB
        elif kind < 0.7:
            step, most = max(self.unit, 512), 8 * self.unit
        else:
            step, most = max(self.cs, 512), 4 * self.cs
        start = r.randrange(0, max(self.size // step, 1)) * step
        length = r.randrange(1, max(most // step, 1) + 1) * step
        start = min(start, self.size - 512)
        return start, max(512, min(length, self.size - start, MIB))

    def touch(self, start, length):
        self.touched.update(range(start // self.cs, (start + length - 1) // self.cs + 1))

    def io(self):
        r, k = self.r, self.r.random()
        start, length = self.span()
        if k < 0.60:
            self.touch(start, length)
        if k < 0.45:
            return ("write", start, length, r.randrange(1, 256))
        if k < 0.60:
            return ("zero", start, length, r.choice(["", "-u "]))
        if k < 0.75:
            return ("discard", start, length)
        if k < 0.82 and self.one_size and "data_file" not in self.o and self.o.get("refcount_bits") != 1:
            first = start // self.cs * self.cs
            if first + self.cs <= self.size and first // self.cs not in self.touched and \
                    "preallocation" not in self.o:
                self.touched.add(first // self.cs)
                return ("compress", first, self.cs, r.randrange(1, 256))
        if k < 0.88:
            return ("flush",)
        if k < 0.93:
            return ("read", start, length)
        return self.length("truncate") if k < 0.96 else None

    def length(self, kind):
        """A resize by either tool."""
        o, r, cs, size = self.o, self.r, self.cs, self.size
        if "data_file_raw" in o or ("compat" in o and ("backing" in o or self.snapshots)):
            # (version 2 over a long backing file: the reference cannot grow, we write zeroes)
            return None
        new = r.choice([size + cs * r.randrange(1, 9), size + 512 * r.randrange(1, 9),
                        max(size - 512 * r.randrange(1, 300), 4096)])
        if new > 64 * MIB or new == size:
            return None
        mode = r.choice(["off", "off", "metadata", "falloc"]) if new > size else "off"
        self.touched.update(range(new // cs, new // cs + 2))
        if mode != "off":
            self.touched.update(range(size // cs, new // cs + 1))
        self.size = new
        return (kind, new, mode)

    def name(self, kind):
        self.count += 1
        return "%s%d" % (kind, self.count)

    def snapshot(self):
        r, k = self.r, self.r.random()
        if "data_file" in self.o or self.o.get("refcount_bits") == 1:
            return ("snap-create", "refused") if k < 0.1 else None
        if k < 0.45 or not self.snapshots:
            name = self.name("s")
            self.snapshots[name] = self.size
            return ("snap-create", name)
        name = r.choice(sorted(self.snapshots))
        if k < 0.75:
            del self.snapshots[name]
            return ("snap-delete", name)
        if self.bitmaps and self.snapshots[name] != self.size or "compat" in self.o:
            return None
        self.size = self.snapshots[name]
        self.touched.update(range(0, 64 * MIB // self.cs) if self.cs >= 4096 else range(1 << 17))
        return ("snap-apply", name)

    def bitmap(self):
        r, k = self.r, self.r.random()
        if "compat" in self.o:
            return None
        if k < 0.4 or not self.bitmaps:
            self.bitmaps.append(self.name("b"))
            return ("bitmap", "--add", "-g", str(r.choice([512, 4 * KIB, 64 * KIB, MIB])), "", self.bitmaps[-1])
        name = r.choice(self.bitmaps)
        if k < 0.55:
            self.bitmaps.remove(name)
            return ("bitmap", "--remove", "", name)
        if k < 0.75 and len(self.bitmaps) > 1:
            return ("bitmap", "--merge", r.choice([b for b in self.bitmaps if b != name]), "", name)
        return ("bitmap", r.choice(["--clear", "--enable", "--disable"]), "", name)

    def amend(self):
        o, r = self.o, self.r
        if "compat" in o:
            return None
        kinds = ["lazy_refcounts=on", "lazy_refcounts=off", "size"]
        if self.cs <= 64 * KIB:  # (with large ones the reference takes minutes)
            kinds += ["refcount_bits=16", "refcount_bits=64", "refcount_bits=8"]
        kind = r.choice(kinds)
        if kind == "size":
            return None if "data_file" in o else ("amend", "size=%d" % self.size)
        return ("amend", kind)

    def compact(self):
        return ("compact", self.r.choice(["", "--defragment"]))

    def remake(self):
        o, cs = self.o, self.cs
        if "compat" in o:
            return None
        choices = ["extended_l2=on", "extended_l2=off"] if cs >= 16 * KIB else []
        if "data_file" not in o:
            choices += ["compression_type=zlib", "compression_type=zstd"]
            choices += ["cluster_size=%d" % c for c in (cs // 2, cs * 2) if 16 * KIB <= c <= 128 * KIB]
        what = self.r.choice(choices) if choices else None
        # A compressed write is a whole cluster: after this only one side's clusters are known.
        self.one_size = self.one_size and not (what or "").startswith("cluster_size")
        return ("remake", what) if what else None


def make_ops(m, n, kinds):
    """@kinds: the groups of operations of the image tool that this case draws from."""
    ops = []
    for _ in range(n):
        if kinds and m.r.random() < 0.25:
            op = getattr(m, m.r.choice(kinds))()
        else:
            op = m.io()
        if op:
            ops.append(op)
    return ops


def draw_kinds(r, have):
    kinds = [k for k in have if r.random() < 0.4]
    return [k for k in kinds if k != "resize" or "bitmap" not in kinds or r.random() < 0.5]


class ResizeMaker(Maker):
    def resize(self):
        return self.length("resize")

    def repair(self):
        if self.bitmaps and self.snapshots:  # the reference's repair drops the snapshots then
            return None
        return ("repair",)


class Case:
    def __init__(self, seed, have):
        r = random.Random(seed)
        self.seed = seed
        self.options = make_options(r)
        maker = ResizeMaker(r, self.options)
        kinds = draw_kinds(r, have)
        self.rounds = [make_ops(maker, r.randrange(2, 24 if kinds else 14), kinds)
                       for _ in range(r.randrange(1, 4))]

    def text(self):
        lines = ["options: " + json.dumps(self.options)]
        for i, ops in enumerate(self.rounds):
            lines.append("round %d:" % (i + 1))
            lines += ["  " + command(op) for op in ops]
        return "\n".join(lines)


def io_command(op):
    if op[0] == "write":
        return "write -P %d %d %d" % (op[3], op[1], op[2])
    if op[0] == "zero":
        return "write -z %s%d %d" % (op[3], op[1], op[2])
    if op[0] == "compress":
        return "write -c -P %d %d %d" % (op[3], op[1], op[2])
    if op[0] in ("discard", "read"):
        return "%s %d %d" % (op[0], op[1], op[2])
    if op[0] == "truncate":
        return "truncate -m %s %d" % (op[2], op[1])
    return "flush"


def img_command(op, size, image="t.qcow2"):
    """Arguments of the image tool; @size: of the disk now."""
    letter = {"snap-create": "-c", "snap-apply": "-a", "snap-delete": "-d"}
    if op[0] in letter:
        return ["snapshot", letter[op[0]], op[1], image]
    if op[0] == "bitmap":
        return ["bitmap", "-f", "qcow2"] + [image if a == "" else a for a in op[1:]]
    if op[0] == "resize":
        shrink = ["--shrink"] if op[1] < size else []
        mode = ["--preallocation=" + op[2]] if op[1] > size else []
        return ["resize", "-f", "qcow2"] + shrink + mode + [image, str(op[1])]
    if op[0] == "repair":
        return ["check", "-f", "qcow2", "-r", "all", image]
    if op[0] == "compact":
        return ["compact", "-f", "qcow2"] + [a for a in op[1:] if a] + [image]
    return ["amend", "-f", "qcow2", "-o", op[1], image]


def command(op):
    return " ".join(img_command(op, 0)) if op[0] in IMG else io_command(op)


def batches(ops):
    """Runs of commands of the io tool, and commands of the image tool one by one."""
    out = []
    for op in ops:
        if op[0] in IMG:
            out.append(op)
        elif out and isinstance(out[-1], list):
            out[-1].append(op)
        else:
            out.append([op])
    return out
