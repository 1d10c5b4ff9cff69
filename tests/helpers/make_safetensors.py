#!/usr/bin/env python3
"""Write a safetensors file with the standard library alone; the same arguments give the same bytes.

    make_safetensors.py FILE small            every dtype, 0-d, empty, uneven, odd names; some 200 KiB
    make_safetensors.py FILE model MIB        a generated model of about MIB mebibytes, large and small tensors
    make_safetensors.py FILE many COUNT ROWS  COUNT small tensors of ROWS rows of 4 numbers
"""

import json
import math
import random
import sys

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "U16": 2, "U32": 4,
          "U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}


def small():
    for dtype in WIDTHS:
        yield f"dtype.{dtype.lower()}", dtype, [13, 5]
    yield "scalar", "F32", []
    yield "empty", "F32", [0, 4]
    yield "empty.rows", "I64", [7, 0]
    yield "one.row", "F32", [1, 9]
    yield "three.rows", "BF16", [3, 1000]
    yield "d3", "F16", [9, 4, 5]
    yield ".leading/slash%and space α", "U8", [11]
    yield "long." + "x" * 240, "F32", [6, 2]


def model(mib):
    yield "embed.weight", "F32", [max(mib * 1024 // 4, 1), 256]
    layers = max(mib // 8, 1)
    for i in range(layers):
        yield f"layers.{i}.attn.weight", "F32", [1024, 1024]
        yield f"layers.{i}.norm.weight", "F32", [1024]
        yield f"layers.{i}.bias", "BF16", [1021]
    yield "step", "I64", []


def many(count, rows):
    for i in range(count):
        yield f"t.{i:07}", "F32", [rows, 4]


def write(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for fqn, dtype, shape in tensors:
        size = math.prod(shape) * WIDTHS[dtype]
        header[fqn] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    source = random.Random(20)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        while offset > 0:
            part = min(offset, 1 << 20)
            out.write(source.randbytes(part))
            offset -= part


def main(argv):
    if len(argv) == 3 and argv[2] == "small":
        write(argv[1], list(small()))
    elif len(argv) == 4 and argv[2] == "model":
        write(argv[1], list(model(int(argv[3]))))
    elif len(argv) == 5 and argv[2] == "many":
        write(argv[1], list(many(int(argv[3]), int(argv[4]))))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv)
