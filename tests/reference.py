# SPDX-License-Identifier: MIT
"""The reference's tools, for programs that compare with them."""
import shutil
import subprocess

LEAST = 10  # the version that texts and behaviour are compared with


def find():
    """Its (image tool, I/O tool), or None where they are not installed or too old."""
    img, io = shutil.which("qemu-img"), shutil.which("qemu-io")
    if not img or not io:
        return None
    words = subprocess.run([img, "--version"], stdout=subprocess.PIPE).stdout.decode().split()
    new = len(words) > 2 and int(words[2].split(".")[0]) >= LEAST
    return (img, io) if new else None
