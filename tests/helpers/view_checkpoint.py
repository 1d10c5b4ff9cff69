#!/usr/bin/env python3
"""Write a committed checkpoint of the tensors that are asked for.

    view_checkpoint.py DIR [SPEC…]

A SPEC is words with commas between: fqn=NAME group=NAME dtype=BF16 shape=2x3 set=FOLDER, each with a default, and
chunks=START+SIZE/START+SIZE… (0.0+2.3) where the tensor is not in one piece. Each tensor lies in a shard of its own, bytes
counting up, or, with file=NAME, in that file of DIR. Files that are in DIR already become shards, too.
Prints nothing. Only the standard library is used.
"""

import math
import os
import sys

from bad_manifests import TIME, end_line, line, shard

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U16": 2, "U8": 1, "F8_E4M3": 1, "C64": 8, "C128": 16}


def numbers(text):
    return [int(word) for word in text.replace(".", "x").split("x") if word]


def parse(spec):
    words = {"fqn": "w", "group": "", "dtype": "F32", "shape": "2x3", "set": "", "chunks": "", "file": ""}
    for word in spec.split(","):
        key, value = word.split("=", 1)
        assert key in words, key
        words[key] = value
    shape = numbers(words["shape"])
    chunks = [[numbers(part) for part in chunk.split("+")] for chunk in words["chunks"].split("/") if chunk]
    words["shape"] = shape
    words["chunks"] = chunks or [[[0] * len(shape), shape]]
    return words


def tensor_line(words, name, files):
    """The tensor's line; its bytes go into files."""
    width, chunks, data = WIDTHS[words["dtype"]], [], b""
    if words["file"]:
        name = words["file"]
        chunks = [{"start": start, "size": size, "shard": name, "offset": 0} for start, size in words["chunks"]]
        words["chunks"] = []
    for start, size in words["chunks"]:
        chunks.append({"start": start, "size": size, "shard": name, "offset": len(data)})
        data += bytes(i % 251 for i in range(math.prod(size) * width))
    files.setdefault(name, data)
    group = {"group": words["group"]} if words["group"] else {}
    return line({"tensor": words["fqn"], "set": words["set"], **group, "dtype": words["dtype"], "shape": words["shape"],
                 "chunks": chunks})


def found_files(folder):
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if not os.path.islink(path):
                found[os.path.relpath(path, folder)] = open(path, "rb").read()
    return found


def main(folder, specs):
    files = found_files(folder) if os.path.isdir(folder) else {}
    tensors = sorted((parse(spec) for spec in specs), key=lambda words: (words["set"].encode(), words["fqn"].encode()))
    lines = [tensor_line(words, f"data-{i}", files) for i, words in enumerate(tensors)]
    folders = sorted({os.path.dirname(name) for name in files} - {""} | {words["set"] for words in tensors} - {""})
    os.makedirs(os.path.join(folder, ".ckptfs"))
    body = line({"ckptfs": 1, "id": "0189a1c2-0000-4000-8000-000000000001", "name": "made", "seq": 1, "created": TIME,
                 "committed": TIME, "writer": "test", "meta": {}})
    for name in folders:
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        body += line({"dir": name, "mode": "0755"})
    for name, data in sorted(files.items(), key=lambda item: item[0].encode()):
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)
        body += line(shard(name, data))
    body += b"".join(lines)
    with open(os.path.join(folder, ".ckptfs/manifest.jsonl"), "wb") as out:
        out.write(body + end_line(body, len(files), len(tensors)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
