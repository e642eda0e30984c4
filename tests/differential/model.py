# SPDX-License-Identifier: MIT
"""The model: what the bytes must be, of the disk and of each snapshot; unknown where a discard may leave what it
likes, until it is looked at."""
import random


class Content:
    def __init__(self, data):
        self.data = bytearray(data)
        self.unknown = bytearray(len(data))  # 1: may be old or zero, not looked at yet
        self.discarded = bytearray(len(data))  # 1: discarded and not written since

    def copy(self):
        c = Content(self.data)
        c.unknown, c.discarded = bytearray(self.unknown), bytearray(self.discarded)
        return c

    def set(self, start, length, value):
        length = max(min(length, len(self.data) - start), 0)
        self.data[start:start + length] = bytes([value]) * length
        self.unknown[start:start + length] = bytes(length)
        self.discarded[start:start + length] = bytes(length)

    def discard(self, start, length):
        length = max(min(length, len(self.data) - start), 0)
        self.unknown[start:start + length] = b"\1" * length
        self.discarded[start:start + length] = b"\1" * length

    def resize(self, size):
        for a in (self.data, self.unknown, self.discarded):
            a += bytes(max(size - len(a), 0))
            del a[size:]

    def check(self, content):
        """None, or the first offset that is wrong. What a discard left is learnt."""
        if len(content) != len(self.data):
            return min(len(content), len(self.data))
        if content == self.data:
            return None
        for at in range(0, len(self.data), 512):
            a, b = content[at:at + 512], self.data[at:at + 512]
            if a != b and (not any(self.unknown[at:at + 512]) or any(a)):
                return at
        return None

    def learn(self, content):
        self.data = bytearray(content)
        self.unknown = bytearray(len(content))


class Bitmap:
    def __init__(self, granularity):
        self.granularity, self.enabled, self.must = granularity, True, set()

    def merge(self, other, size):
        a, b = self.granularity, other.granularity
        for g in other.must:
            self.must.update(range(g * b // a, (min((g + 1) * b, size) - 1) // a + 1))


class Model:
    def __init__(self, o):
        self.disk = Content(bytes(o["size"]))
        self.snapshots, self.bitmaps = {}, {}
        self.exact = True  # so far both tools must have set the same bits
        base = base_content(o)
        if base is not None:
            n = min(len(base), o["size"])
            self.disk.data[:n] = base[:n]

    @property
    def size(self):
        return len(self.disk.data)

    def track(self, start, length):
        """A change of the disk: every enabled bitmap must tell of it."""
        for b in self.bitmaps.values():
            if b.enabled and length > 0:
                b.must.update(range(start // b.granularity, (start + length - 1) // b.granularity + 1))

    def apply_bitmap(self, op):
        action, name = op[1], op[-1]
        if action == "--add":
            self.bitmaps[name] = Bitmap(int(op[3]))
        elif action == "--remove":
            del self.bitmaps[name]
        elif action == "--clear":
            self.bitmaps[name].must.clear()
        elif action == "--merge":
            self.bitmaps[name].merge(self.bitmaps[op[2]], self.size)
        else:
            self.bitmaps[name].enabled = action == "--enable"

    def apply(self, op):
        kind = op[0]
        if kind in ("write", "compress", "zero"):
            self.track(op[1], min(op[2], self.size - op[1]))
        elif kind in ("discard", "truncate", "resize", "snap-apply"):
            self.exact = False  # what of those is a change is each one's own
        if kind == "bitmap":
            self.apply_bitmap(op)
        if kind in ("write", "compress"):
            self.disk.set(op[1], op[2], op[3])
        elif kind == "zero":
            self.disk.set(op[1], op[2], 0)
        elif kind == "discard":
            self.disk.discard(op[1], op[2])
        elif kind in ("truncate", "resize"):
            self.disk.resize(op[1])
            for b in self.bitmaps.values():
                b.must = {g for g in b.must if g * b.granularity < op[1]}
        elif kind == "snap-create":
            self.snapshots[op[1]] = self.disk.copy()
        elif kind == "snap-apply":
            self.disk = self.snapshots[op[1]].copy()
        elif kind == "snap-delete":
            del self.snapshots[op[1]]


def base_content(o):
    if "backing" not in o:
        return None
    r = random.Random(o["backing_size"])
    chunk = bytes(r.randrange(1, 256) for _ in range(509))
    n = o["backing_size"]
    return (chunk * (n // 509 + 1))[:n]
