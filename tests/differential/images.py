# SPDX-License-Identifier: MIT
"""The two images, and what the tools do to them and say of them."""
import json
import os
import re
import subprocess

from cases import OURS, batches, command, img_command, io_command
from model import base_content


class Tools:
    def __init__(self, name, img, io, ours):
        self.name, self.img, self.io, self.ours = name, img, io, ours


class Mismatch(Exception):
    """Ours is wrong, or both differ and the model does not tell."""


class ReferenceWrong(Exception):
    """The reference is not what the model says, and ours is."""


def run(argv, **kw):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, **kw)
    return p.returncode, p.stdout.decode(errors="replace")


def plain(text, dirs):
    for d in dirs:
        text = text.replace(d, "DIR")
    text = re.sub(r"(cowlet|qemu)-(img|io)", r"\2", text)
    text = re.sub(r"[\d.]+ \w+, \d+ ops?; .*", "OPS", text)
    return text


class Side:
    def __init__(self, name, folder):
        self.name, self.dir = name, folder
        os.makedirs(folder)
        self.image = os.path.join(folder, "t.qcow2")
        self.raw = os.path.join(folder, "content.raw")


def create(side, tools, o):
    base = base_content(o)
    args, opts = [], []
    if base is not None:
        with open(os.path.join(side.dir, "base.raw"), "wb") as f:
            f.write(base)
        name, fmt = "base.raw", "raw"
        if o["backing"] == "qcow2":
            rc, out = run([tools.img, "convert", "-f", "raw", "-O", "qcow2", "base.raw", "base.qcow2"], cwd=side.dir)
            if rc:
                return rc, out
            name, fmt = "base.qcow2", "qcow2"
        args = ["-b", name, "-F", fmt]
    for k in ("cluster_size", "extended_l2", "compat", "refcount_bits", "lazy_refcounts", "compression_type",
              "data_file_raw", "preallocation"):
        if k in o:
            opts.append("%s=%s" % (k, o[k]))
    if "data_file" in o:
        opts.append("data_file=t.data")
    return run([tools.img, "create", "-f", "qcow2", "-o", ",".join(opts)] + args + ["t.qcow2", str(o["size"])],
               cwd=side.dir)


def operate_io(side, tools, ops):
    return run([tools.io, "-f", "qcow2", "-d", "unmap", "t.qcow2"], cwd=side.dir,
               input=("\n".join(io_command(op) for op in ops) + "\n").encode())


def operate_img(side, tools, op, size):
    if op[0] in OURS and not tools.ours:
        return 0, ""
    rc, out = run([tools.img] + img_command(op, size), cwd=side.dir)
    if op[0] in OURS and rc:
        raise Mismatch("%s fails, exit %d: %s" % (command(op), rc, out))
    return rc, "" if op[0] in OURS + ("repair",) else out


def operate(side, tools, ops, model):
    """What it answered, a line for each batch; @model learns of what went well."""
    answers = []
    for batch in batches(ops):
        if isinstance(batch, list):
            rc, out = operate_io(side, tools, batch)
            done = batch
        else:
            rc, out = operate_img(side, tools, batch, model.size)
            done = [batch] if rc == 0 else []
        answers.append((rc, out))
        for op in done:
            model.apply(op)
    return answers


def content(side, tools, snapshot=None):
    which = ["-l", "snapshot.name=" + snapshot] if snapshot else []
    rc, out = run([tools.img, "convert", "-f", "qcow2", "-O", "raw"] + which + ["t.qcow2", side.raw], cwd=side.dir)
    if rc:
        raise Mismatch("%s cannot read %s's image: %s" % (tools.name, side.name, out))
    with open(side.raw, "rb") as f:
        return f.read()


def the_map(side, tools):
    rc, out = run([tools.img, "map", "-f", "qcow2", "--output=json", "t.qcow2"], cwd=side.dir)
    if rc:
        raise Mismatch("%s cannot map %s's image: %s" % (tools.name, side.name, out))
    runs = []
    for e in json.loads(out):
        # "data" with "zero": holes of the file below, which the reference looks for only now and then
        zero = e["zero"] and not e["data"]
        k = (e["depth"], e["present"], zero, e["data"], e.get("compressed", False))
        if runs and runs[-1][2] == k:
            runs[-1][1] += e["length"]
        else:
            runs.append([e["start"], e["length"], k])
    return runs


def info(side, tools):
    rc, out = run([tools.img, "info", "-f", "qcow2", "--output=json", "t.qcow2"], cwd=side.dir)
    if rc:
        raise Mismatch("%s has no info of %s's image: %s" % (tools.name, side.name, out))
    d = json.loads(out)

    def strip(x):
        if isinstance(x, dict):
            return {k: strip(v) for k, v in x.items()
                    if k not in ("actual-size", "filename", "full-backing-filename", "children")}
        return [strip(v) for v in x] if isinstance(x, list) else x
    return strip(d)


