# SPDX-License-Identifier: MIT
"""The persistent bitmaps of an image, read from the file by hand: neither tool's word."""
import struct

EXTENSION, IN_USE, AUTO = 0x23852875, 1, 2


def extension(f, header):
    version, = struct.unpack_from(">I", header, 4)
    if version < 3:
        return None
    at, = struct.unpack_from(">I", header, 100)
    while at + 8 <= len(header):
        kind, length = struct.unpack_from(">II", header, at)
        if kind == 0:
            return None
        if kind == EXTENSION:
            return struct.unpack_from(">IIQQ", header, at + 8)
        at += 8 + (length + 7) // 8 * 8
    return None


def read_bits(f, cluster, table_offset, entries, granularity, size):
    f.seek(table_offset)
    table = struct.unpack(">%dQ" % entries, f.read(entries * 8))
    bits = b""
    for e in table:
        offset = e & 0x00fffffffffffe00
        if offset:
            f.seek(offset)
            bits += f.read(cluster).ljust(cluster, b"\0")
        else:
            bits += bytes([255 if e & 1 else 0]) * cluster
    return [g for g in range((size + granularity - 1) // granularity) if bits[g // 8] >> (g % 8) & 1]


def read(path):
    """{name: (flags, granularity, [granules that are set])}"""
    found = {}
    with open(path, "rb") as f:
        header = f.read(1 << 16)
        cluster = 1 << struct.unpack_from(">I", header, 20)[0]
        size, = struct.unpack_from(">Q", header, 24)
        ext = extension(f, header[:cluster])
        if not ext or not struct.unpack_from(">Q", header, 88)[0] & 1:
            return found
        f.seek(ext[3])
        directory, at = f.read(ext[2]), 0
        while at < len(directory):
            table, entries, flags, _, bits, name_len, extra = struct.unpack_from(">QIIBBHI", directory, at)
            name = directory[at + 24 + extra:at + 24 + extra + name_len].decode()
            found[name] = (flags, 1 << bits, read_bits(f, cluster, table, entries, 1 << bits, size))
            at += (24 + extra + name_len + 7) // 8 * 8
    return found
