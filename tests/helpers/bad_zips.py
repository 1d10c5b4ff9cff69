#!/usr/bin/env python3
"""Zip archives that must be refused: bad_zips.py DIR writes DIR/NAME.zip and, what the refusal says, DIR/NAME.why.

Made from a good one of two records by changing bytes; of Python's zipfile nothing is used, for it would not write them.
"""
import struct
import sys
import zlib
from pathlib import Path

MAX16, MAX32 = 0xFFFF, 0xFFFFFFFF


class Record:
    def __init__(self, name, data, **fields):
        self.name, self.data = name, data
        self.local_name = fields.get("local_name", name)
        self.method, self.flags = fields.get("method", 0), fields.get("flags", 0)
        self.size = fields.get("size", len(data))
        self.whole = fields.get("whole", self.size)
        self.at = fields.get("at")  # None: where it is
        self.extra = fields.get("extra", b"")
        self.local_extra = fields.get("local_extra", b"")
        self.disk = fields.get("disk", 0)

    def local(self):
        head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, self.flags, self.method, 0, 0, zlib.crc32(self.data), len(self.data),
                           len(self.data), len(self.local_name), len(self.local_extra))
        return head + self.local_name + self.local_extra + self.data

    def central(self, at):
        return struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, self.flags, self.method, 0, 0, zlib.crc32(self.data), self.size,
                           self.whole, len(self.name), len(self.extra), 0, self.disk, 0, 0,
                           at if self.at is None else self.at) + self.name + self.extra


def end(count, length, at, comment=b"", disk=0):
    return struct.pack("<4s4H2IH", b"PK\5\6", disk, disk, count, count, length, at, len(comment)) + comment


def end64(count, length, at, **fields):
    """The ZIP64 end record, its locator and an end record that refers to it."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", fields.get("size", 44), 45, 45, 0, 0, count, count, length, at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, fields.get("record_at", at + length), fields.get("volumes", 1))
    return record + locator + end(fields.get("narrow", MAX16), MAX32, MAX32)


def archive(*records, tail=None, **fields):
    body, directory = b"", b""
    for record in records:
        directory += record.central(len(body))
        body += record.local()
    count, length, at = fields.get("count", len(records)), len(directory) + fields.get("longer", 0), len(body)
    gap = fields.get("gap", b"")
    return body + directory + gap + (tail or end)(count, length, at + fields.get("moved", 0))


def zip64(*sizes):
    return struct.pack(f"<2H{len(sizes)}Q", 1, 8 * len(sizes), *sizes)


def cases():
    a, b = Record(b"a", b"hello"), Record(b"b", b"world!")
    good = archive(a, b)
    yield "empty-file", b"", "does not end with"
    yield "cut", good[:-1], "does not end with"
    yield "bytes-follow", good + b"\0", "does not end with"
    yield "no-zip", b"x" * 70000, "does not end with"
    yield "prefix", b"#!/bin/sh\n" + good, "does not lie before its end record"
    yield "directory-behind", archive(a, b, moved=10**6), "does not lie before its end record"
    yield "directory-moved", archive(a, b, moved=1), "does not lie before its end record"
    yield "directory-longer", archive(a, b, longer=4), "does not lie before its end record"
    yield "gap-before-end", archive(a, b, gap=b"\0" * 8), "does not lie before its end record"
    yield "count-less", archive(a, b, count=1), "more bytes than its records"
    yield "count-more", archive(a, b, count=3), "too short for the records"
    yield "count-huge", archive(a, tail=lambda c, n, at: end64(2**40, n, at)), "more than a million"
    yield "same-name", archive(a, Record(b"a", b"other")), "record 'a': it is there twice"
    yield "same-place", archive(a, Record(b"b", b"world!", at=0)), "overlaps"
    yield "overlap", archive(Record(b"a", b"hello", size=30), b), "record 'a': it overlaps"
    yield "into-directory", archive(a, Record(b"b", b"world!", size=40)), "record 'b': it overlaps"
    yield "size-huge", archive(a, Record(b"b", b"world!", size=MAX32 - 1)), "record 'b': it overlaps"
    yield "size-wraps", archive(Record(b"a", b"", size=MAX32, extra=zip64(2**64 - 1, 2**64 - 1))), "record 'a': it overlaps"
    yield "two-sizes", archive(Record(b"a", b"hello", whole=6)), "two different sizes"
    yield "place-outside", archive(a, Record(b"b", b"world!", at=5000)), "overlaps the next one or the directory"
    yield "place-in-data", archive(a, Record(b"b", b"world!", at=31)), "overlaps"
    yield "other-name", archive(a, Record(b"b", b"world!", local_name=b"c")), "leads to something else"
    yield "longer-name", archive(a, Record(b"b", b"world!", local_name=b"bb")), "leads to something else"
    yield "extra-to-end", archive(Record(b"a", b"", local_extra=b"\0" * 4, size=1)), "overlaps"
    yield "zero-in-name", archive(Record(b"a\0b", b"hello")), "with a zero byte"
    yield "no-name", archive(Record(b"", b"hello")), "has no name"
    yield "control-in-name", archive(Record(b"a\nb", b"hello", flags=1)), "encrypted"
    yield "encrypted", archive(Record(b"a", b"hello", flags=1)), "encrypted"
    yield "encrypted-strongly", archive(Record(b"a", b"hello", flags=0x41)), "encrypted"
    yield "volume", archive(Record(b"a", b"hello", disk=1)), "another volume"
    yield "volumes", archive(a, tail=lambda c, n, at: end(c, n, at, disk=1)), "several volumes"
    yield "volumes-64", archive(a, tail=lambda c, n, at: end64(c, n, at, volumes=2)), "several volumes"
    yield "extra-cut", archive(Record(b"a", b"hello", extra=b"FB\x09\0Z")), "extra fields are damaged"
    yield "extra-crumb", archive(Record(b"a", b"hello", extra=b"FBZ")), "extra fields are damaged"
    yield "zip64-missing", archive(Record(b"a", b"hello", size=MAX32)), "ZIP64 field is missing"
    yield "zip64-short", archive(Record(b"a", b"hello", size=MAX32, extra=zip64(5))), "ZIP64 field is missing or too short"
    yield "zip64-twice", archive(Record(b"a", b"hello", size=MAX32, extra=zip64(5, 5) * 2)), "extra fields are damaged"
    yield "end64-outside", archive(a, tail=lambda c, n, at: end64(c, n, at, record_at=2**63)), "lies outside"
    yield "end64-elsewhere", archive(a, tail=lambda c, n, at: end64(c, n, at, record_at=0)), "damaged"
    yield "end64-size", archive(a, tail=lambda c, n, at: end64(c, n, at, size=2**64 - 1)), "damaged"
    yield "end64-longer", archive(a, tail=lambda c, n, at: end64(c, n, at, size=45)), "damaged"
    yield "end64-other", archive(a, tail=lambda c, n, at: end64(c, n, at, narrow=7)), "contradict"
    # An end record in a comment: the last one counts, and its directory is not where it should be.
    yield "end-in-comment", archive(a, tail=lambda c, n, at: end(c, n, at, comment=end(c, n, at))), "does not lie before"
    flipped = bytearray(good)
    flipped[good.index(b"world")] ^= 1
    yield "flipped", bytes(flipped), "record 'b': crc32 is"


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data, why in cases():
        (folder / f"{name}.zip").write_bytes(data)
        (folder / f"{name}.why").write_text(why)
    a = Record(b"a", b"hello")
    wide = Record(b"b", b"world!", size=MAX32, extra=zip64(6, 6))
    good = {
        "plain": archive(a, Record(b"b", b"world!")),
        "comment": archive(a, tail=lambda c, n, at: end(c, n, at, comment=b"c" * 65535)),
        "zip64": archive(a, wide, tail=end64),
        "padded": archive(Record(b"a", b"hello", local_extra=b"FB\x04\0ZZZZ")),
        "none": archive(),
    }
    (folder / "good").mkdir(exist_ok=True)
    for name, data in good.items():
        (folder / "good" / f"{name}.zip").write_bytes(data)


main()
