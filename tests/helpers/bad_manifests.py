#!/usr/bin/env python3
"""Write checkpoints whose manifests break one rule each.

    bad_manifests.py FOLDER          FOLDER/CASE for each case
    bad_manifests.py --good FOLDER   the good checkpoint that they are made from

FOLDER/CASE is a checkpoint's folder that must be refused; its file "expect"
holds the text that must occur in the error. Every manifest but those of the
cases about end line and sum ends with an end line that is right, so that it is
the rule that is broken and not the sum. The shards are there and whole.

Only the standard library is used; XXH3 comes from xxhsum(1).
"""

import copy
import json
import os
import re
import subprocess
import sys

MIB = 1 << 20
TIME = "2026-11-22T20:41:07.123456789Z"


def xxh(data, bits):
    """Hex digest of data; xxhsum calls XXH3-64 and XXH3-128 -H3 and -H2."""
    flag = {64: "-H3", 128: "-H2"}[bits]
    out = subprocess.run(["xxhsum", flag, "-"], input=data, stdout=subprocess.PIPE, check=True)
    # "SUM  stdin", "XXH3_SUM  stdin" or "XXH3 (stdin) = SUM", as version and sum have it.
    return re.search(rf"(?<![0-9a-f])[0-9a-f]{{{bits // 4}}}(?![0-9a-f])", out.stdout.decode())[0]


def line(obj):
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def end_line(body, shards, tensors):
    return b'{"end":true,"shards":%d,"tensors":%d,"xxh128":"%s"}\n' % (
        shards, tensors, xxh(body, 128).encode())


def shard(path, data, **more):
    block = {"block": MIB}
    sums = [xxh(data[at:at + MIB], 64) for at in range(0, len(data), MIB)]
    head = {"shard": path, "size": len(data), "mode": "0644", "mtime_ns": 1763845123456789012}
    place = {"at": more.pop("at")} if "at" in more else {}
    head.update(more)
    return {**head, "xxh128": xxh(data, 128), **block, "xxh3": "".join(sums), **place}


class Checkpoint:
    """Lines of a good manifest, and the files that go with them."""

    def __init__(self):
        self.files = {
            "rank-00000/w@0_0": bytes(range(256)) * 4100,
            "rank-00000/notes.txt": "grüße\n".encode(),
            "rank-00001/w@4_0": bytes(reversed(range(256))) * 16,
            "empty": b"",
        }
        packed = {"rank-00001/a": b"a" * 10, "rank-00001/b": b"b" * 20}
        self.files[".ckptfs/pack-00000"] = packed["rank-00001/a"] + packed["rank-00001/b"]
        pack = ".ckptfs/pack-00000"
        self.head = {
            "ckptfs": 1, "id": "0189d2c4-7a61-4b52-9d0e-5b1f6c3a2e10", "name": "run1/step-100",
            "seq": 17, "step": 100, "world_size": 2, "created": TIME, "committed": TIME,
            "writer": "bad_manifests.py", "meta": {"loss": 0.1, "note": "x", "ok": True, "no": None},
        }
        self.dirs = [{"dir": "rank-00000", "mode": "0755"}, {"dir": "rank-00001", "mode": "0755"}]
        self.shards = [
            shard("empty", b""),
            shard("rank-00000/notes.txt", self.files["rank-00000/notes.txt"], rank=0),
            shard("rank-00000/w@0_0", self.files["rank-00000/w@0_0"], rank=0),
            shard("rank-00001/a", packed["rank-00001/a"], rank=1, at={"file": pack, "offset": 0}),
            shard("rank-00001/b", packed["rank-00001/b"], rank=1, at={"file": pack, "offset": 10}),
            shard("rank-00001/w@4_0", self.files["rank-00001/w@4_0"], rank=1),
        ]
        self.symlinks = [{"symlink": "best.txt", "target": "rank-00000/notes.txt"}]
        self.tensors = [{
            "tensor": "model.w", "set": "", "group": "model", "dtype": "BF16", "shape": [8, 16],
            "chunks": [
                {"start": [0, 0], "size": [4, 16], "shard": "rank-00000/w@0_0", "offset": 0},
                {"start": [4, 0], "size": [4, 16], "shard": "rank-00001/w@4_0", "offset": 0,
                 "stride": [1, 4]},
            ],
        }]
        self.bytes = [{"bytes": "step", "set": "", "group": "optim",
                       "shard": "rank-00000/notes.txt", "offset": 0, "size": 4}]

    def find(self, path):
        return next(s for s in self.shards if s["shard"] == path)

    def lines(self):
        return ([self.head] + self.dirs + self.shards + self.symlinks + self.tensors + self.bytes)

    def counts(self):
        return len(self.shards), len(self.tensors) + len(self.bytes)

    def body(self):
        return b"".join(line(obj) for obj in self.lines())

    def text(self):
        body = self.body()
        return body + end_line(body, *self.counts())


# --- cases: a function changes the checkpoint, or returns the whole text --------

CASES = {}


def case(expect):
    def add(function):
        CASES[function.__name__.replace("_", "-")] = (expect, function)
        return function
    return add


def sealed(good, body):
    """Body with an end line that is right for it."""
    return body + end_line(body, *good.counts())


@case("it is truncated")
def truncated(c):
    return c.text()[:-len(c.text()) // 3]


@case("it is truncated")
def truncated_last_newline(c):
    return c.text()[:-1]


@case("it is truncated")
def no_end_line(c):
    return c.body()


@case("it is empty")
def empty(_):
    return b""


@case("its sum is wrong: xxh128 is ")
def wrong_sum(c):
    return c.text().replace(b'"seq":17', b'"seq":18')


@case("end line is not spelled as a writer does")
def end_line_spacing(c):
    return c.text().replace(b'{"end":true,"shards"', b'{"end":true, "shards"')


@case("end line is not spelled as a writer does")
def end_line_false(c):
    return c.text().replace(b'"end":true', b'"end":false')


@case("end line is not spelled as a writer does")
def end_line_inner_space(c):
    return c.text().replace(b'"shards":6,', b'"shards":6 ,')


@case("an end line before the last line")
def two_end_lines(c):
    return sealed(c, c.text())


@case("the end line counts 7 shards, there are 6")
def wrong_shard_count(c):
    body = c.body()
    return body + end_line(body, 7, 2)


@case("the end line counts 1 tensors and bytes entries, there are 2")
def wrong_tensor_count(c):
    body = c.body()
    return body + end_line(body, 6, 1)


@case("written by a newer ckptfs (format 2")
def newer_version(c):
    c.head["ckptfs"] = 2


@case("there is no format 0")
def version_zero(c):
    c.head["ckptfs"] = 0


@case("key 'seq' is missing")
def missing_head_key(c):
    del c.head["seq"]


@case("key 'seq' must be 1 to 1073741823")
def seq_zero(c):
    c.head["seq"] = 0


@case("key 'meta' must hold strings, numbers, booleans and null")
def nested_meta(c):
    c.head["meta"] = {"a": [1]}


@case("is no UUID")
def bad_id(c):
    c.head["id"] = c.head["id"].upper()


@case("line 4: key 'mode' is missing")
def missing_key(c):
    del c.shards[0]["mode"]


@case("line 4: unknown key 'colour'")
def unknown_key(c):
    c.shards[0]["colour"] = "red"


@case("a line of an unknown kind")
def unknown_kind(c):
    c.symlinks.append({"socket": "s"})


@case("duplicate")
def repeated_key(c):
    return sealed(c, c.body().replace(b'"mode":"0644"', b'"mode":"0644","mode":"0644"', 1))


@case("key 'size' must be an integer of 0 or more")
def negative_size(c):
    c.shards[0]["size"] = -1


@case("key 'size' must be an integer of 0 or more")
def size_is_text(c):
    c.shards[0]["size"] = "0"


@case("makes the sizes of all shards overflow")
def size_overflow(c):
    # Together they exceed 2^63; the block of 2^62 bytes is 2^46.
    for path in ("huge1", "huge2", "huge3"):
        c.shards.append({"shard": path, "size": 1 << 62, "mode": "0644", "mtime_ns": 0,
                         "block": 1 << 46, "xxh3": "0" * 16 * 65536})
    c.shards.sort(key=lambda s: s["shard"])


@case("bad JSON")
def size_beyond_63_bits(c):
    c.shards[0]["size"] = 1 << 64


@case("its place in the pack overflows")
def pack_offset_overflow(c):
    c.find("rank-00001/b")["at"]["offset"] = (1 << 63) - 1


@case("'rank-00000/notes.txt' is listed twice")
def shard_twice(c):
    c.shards.insert(1, copy.deepcopy(c.shards[1]))


@case("is listed twice, as shard and as symbolic link")
def symlink_named_like_a_shard(c):
    c.symlinks[0]["symlink"] = "empty"


@case("is listed twice, as folder and as shard")
def shard_named_like_a_folder(c):
    c.dirs.insert(0, {"dir": "empty", "mode": "0755"})


@case("is listed twice, as folder and as symbolic link")
def symlink_named_like_a_folder(c):
    c.symlinks[0]["symlink"] = "rank-00001"


@case("'empty' is not in ascending order")
def wrong_order(c):
    c.shards[0], c.shards[1] = c.shards[1], c.shards[0]


@case("'rank-00001' stands behind a line of a later kind")
def wrong_order_of_kinds(c):
    moved = c.dirs.pop()
    c.symlinks.append(moved)
    for entry in list(c.shards):
        if entry["shard"].startswith("rank-00001/"):
            c.shards.remove(entry)


@case("lies in a folder that has no line")
def parent_folder_missing(c):
    del c.dirs[0]


@case("lies in a folder that has no line")
def parent_is_a_shard(c):
    c.symlinks[0]["symlink"] = "empty/inside"


@case("'.' and '..' are not allowed")
def path_outside_dotdot(c):
    c.shards.append(shard("../x", b"x"))
    c.shards.sort(key=lambda s: s["shard"])


@case("it has an empty component")
def path_outside_absolute(c):
    c.shards.insert(0, shard("/etc/passwd", b"x"))


@case("'.ckptfs' is reserved")
def path_in_control_folder(c):
    c.shards.insert(0, shard(".ckptfs/x", b"x"))


@case("'.ckptfs' is reserved")
def control_folder_as_symlink(c):
    c.symlinks.insert(0, {"symlink": ".ckptfs", "target": "/tmp"})


@case("it is not UTF-8, or holds control characters")
def control_character(c):
    c.symlinks[0]["symlink"] = "a\x1b[2Jb"


@case("a pack is called '.ckptfs/pack-NNNNN'")
def pack_outside(c):
    c.find("rank-00001/a")["at"]["file"] = "../../secret"


@case("a pack is called '.ckptfs/pack-NNNNN'")
def pack_is_the_manifest(c):
    c.find("rank-00001/a")["at"]["file"] = ".ckptfs/manifest.jsonl"


@case("the shards of lines 7 and 8 overlap in their pack")
def overlapping_packed_shards(c):
    c.find("rank-00001/b")["at"]["offset"] = 9


@case("key 'block' must be 1048576")
def block_wrong(c):
    c.find("rank-00000/w@0_0")["block"] = 2 * MIB


@case("key 'block' must be 1048576")
def block_zero(c):
    c.find("rank-00000/w@0_0")["block"] = 0


@case("key 'xxh3' must hold 2 sums of 16 hex digits")
def too_few_sums(c):
    entry = c.find("rank-00000/w@0_0")
    entry["xxh3"] = entry["xxh3"][:16]


@case("key 'xxh3' must hold 0 sums of 16 hex digits")
def sums_of_nothing(c):
    c.shards[0]["xxh3"] = "0" * 16


@case("key 'xxh3' must be hex digits in lower case")
def sums_not_hex(c):
    entry = c.find("rank-00000/w@0_0")
    entry["xxh3"] = "G" + entry["xxh3"][1:]


@case("key 'xxh128' must be 32 hex digits")
def digest_too_short(c):
    c.shards[0]["xxh128"] = c.shards[0]["xxh128"][:-1]


@case("key 'mode' must be four octal digits")
def bad_mode(c):
    c.dirs[0]["mode"] = "0789"


@case("key 'rank' must be below 2^31")
def rank_too_large(c):
    c.shards[1]["rank"] = 1 << 31


@case("key 'target' must be 1 to 4095 bytes")
def empty_target(c):
    c.symlinks[0]["target"] = ""


@case("unknown dtype 'F3'")
def unknown_dtype(c):
    c.tensors[0]["dtype"] = "F3"


@case("key 'shape' has more than 64 dimensions")
def too_many_dimensions(c):
    c.tensors[0]["shape"] = [1] * 65
    c.tensors[0]["chunks"] = []


@case("chunk 1: it leaves the tensor's shape in dimension 0")
def chunk_out_of_bounds(c):
    c.tensors[0]["chunks"][1]["size"] = [5, 16]


@case("chunk 1: it leaves the tensor's shape in dimension 0")
def chunk_overflow(c):
    c.tensors[0]["chunks"][1]["size"] = [(1 << 63) - 1, 16]


@case("chunk 1: it is not in ascending order of 'start'")
def chunks_out_of_order(c):
    c.tensors[0]["chunks"].reverse()


@case("'rank-00000/missing' is named by an entry, but is no shard")
def chunk_of_an_unknown_shard(c):
    c.tensors[0]["chunks"][0]["shard"] = "rank-00000/missing"


@case("'rank-00001/w@4_0' is too short")
def chunk_behind_the_shard(c):
    c.tensors[0]["chunks"][1]["offset"] = 4096 - 127


@case("'rank-00001/w@4_0' is too short")
def chunk_strides_leave_the_shard(c):
    c.tensors[0]["chunks"][1]["stride"] = [1000, 4]


@case("the size of chunk 1 overflows")
def chunk_stride_overflow(c):
    c.tensors[0]["chunks"][1]["stride"] = [(1 << 63) - 1, (1 << 63) - 1]


@case("is called a tensor set, but is no folder")
def unknown_set(c):
    c.tensors[0]["set"] = "elsewhere"


@case("'rank-00000/notes.txt' is too short")
def bytes_behind_the_shard(c):
    c.bytes[0]["size"] = 100


@case("'rank-00000/missing' is named by an entry, but is no shard")
def bytes_of_an_unknown_shard(c):
    c.bytes[0]["shard"] = "rank-00000/missing"


@case("line 2: the line is empty")
def empty_line(c):
    head = line(c.head)
    return sealed(c, head + b"\n" + c.body()[len(head):])


@case("the line ends with CR LF")
def crlf(c):
    return sealed(c, c.body().replace(b"\n", b"\r\n"))


@case("the line is not one JSON object")
def trailing_space(c):
    return sealed(c, c.body().replace(b'"mode":"0755"}\n', b'"mode":"0755"} \n', 1))


@case("line 2: bad JSON")
def nul_byte(c):
    return sealed(c, c.body().replace(b'"dir":"rank-00000"', b'"dir":"rank-0000\0"'))


@case("line 2: bad JSON")
def escaped_nul(c):
    return sealed(c, c.body().replace(b'"dir":"rank-00000"', b'"dir":"rank-0000\\u0000"'))


@case("line 2: bad JSON")
def bad_utf8(c):
    return sealed(c, c.body().replace(b'"dir":"rank-00000"', b'"dir":"rank-0000\xff"'))


@case("it does not end with an end line")
def text_behind_the_end(c):
    return c.text() + b"{}\n"


@case("line 1: the line is not one JSON object")
def no_json(c):
    return sealed(c, b"hello\n")


# --- writing ---------------------------------------------------------------------


def write_file(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data)


def write_checkpoint(folder, checkpoint, text):
    """The stored files of the good checkpoint, under a manifest that may be bad."""
    for path, data in checkpoint.files.items():
        write_file(os.path.join(folder, path), data)
    os.symlink("rank-00000/notes.txt", os.path.join(folder, "best.txt"))
    write_file(os.path.join(folder, ".ckptfs/manifest.jsonl"), text)


def write_cases(top):
    good = Checkpoint()
    for name, (expect, change) in CASES.items():
        checkpoint = copy.deepcopy(good)
        text = change(checkpoint)
        folder = os.path.join(top, name)
        write_checkpoint(folder, good, checkpoint.text() if text is None else text)
        write_file(os.path.join(folder, "expect"), expect.encode() + b"\n")
    print(f"{len(CASES)} cases")


def main(argv):
    if len(argv) == 3 and argv[1] == "--good":
        good = Checkpoint()
        write_checkpoint(argv[2], good, good.text())
        return 0
    if len(argv) != 2 or argv[1].startswith("-"):
        print("usage: bad_manifests.py [--good] FOLDER", file=sys.stderr)
        return 2
    write_cases(argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
