#!/usr/bin/env python3
"""Cut a slice along dimension 0 out of a safetensors file, knowing nothing of any store.

    slice_safetensors.py FILE list                     FQN, dtype and shape of every tensor, tab-separated
    slice_safetensors.py FILE cut FQN RANK WORLD       the bytes of RANK's part of WORLD, to stdout
    slice_safetensors.py FILE compare OTHER            same tensors, same bytes, whatever their order; complex ones
                                                       may be missing in OTHER
    slice_safetensors.py FILE shards FOLDER WORLD      every file rank-NNNNN/FQN@START in FOLDER is the part of
                                                       FILE that it must be, and none is missing or too many

A part is what torch.chunk gives: ceil(extent / world) rows a rank, the last ones fewer or none.
"""

import json
import math
import os
import sys

WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


def open_file(path):
    data = open(path, "rb")
    length = int.from_bytes(data.read(8), "little")
    header = json.loads(data.read(length))
    header.pop("__metadata__", None)
    return data, 8 + length, header


def read(data, base, entry, begin=0, end=None):
    first, last = entry["data_offsets"]
    end = last - first if end is None else end
    data.seek(base + first + begin)
    return data.read(end - begin)


def rows_of(shape, rank, world):
    rows = -(-shape[0] // world)
    return min(rank * rows, shape[0]), min((rank + 1) * rows, shape[0])


def part(data, base, entry, rank, world):
    shape = entry["shape"]
    row = math.prod(shape[1:]) * WIDTHS.get(entry["dtype"], 1)
    begin, end = rows_of(shape, rank, world)
    return read(data, base, entry, begin * row, end * row)


def cut(path, fqn, rank, world):
    data, base, header = open_file(path)
    sys.stdout.buffer.write(part(data, base, header[fqn], rank, world))


def escape(fqn):
    """As ckptfs-format(5) has it; a name that is cut ends in '~*', for the sum that this script does not compute."""
    plain = "".join(c if c > " " and c not in "/%\x7f" else f"%{ord(c):02X}" for c in fqn)
    plain = "%2E" + plain[1:] if plain.startswith(".") else plain
    return plain[:160] + "~*" if len(plain.encode()) > 200 else plain


def resolve(found, name):
    """The name in @found that @name stands for, with its '*' filled in."""
    head, star, tail = name.partition("~*")
    if not star:
        return name
    return next((n for n in found if n.startswith(head + "~") and n[len(head) + 17:] == tail), name)


def shards(path, folder, world):
    """Tensors without a dimension 0 to cut are replicated: on one rank, whichever."""
    data, base, header = open_file(path)
    found = {os.path.join(os.path.basename(where), name) for where, _, names in os.walk(folder) for name in names}
    compared = 0
    for fqn, entry in header.items():
        shape = entry["shape"]
        expected = {}
        for rank in range(world):
            if not shape:
                name, want = f"{escape(fqn)}@0", read(data, base, entry)
                if not os.path.exists(f"{folder}/rank-{rank:05}/{name}"):
                    continue
            else:
                begin, end = rows_of(shape, rank, world)
                name = f"{escape(fqn)}@{'_'.join([str(begin)] + ['0'] * (len(shape) - 1))}"
                want = part(data, base, entry, rank, world)
                if begin == end:
                    continue
            expected[f"rank-{rank:05}/{name}"] = want
        if not expected and (not shape or math.prod(shape)):
            sys.exit(f"no shard of {fqn}")
        for pattern, want in expected.items():
            name = resolve(found, pattern)
            if name not in found and not want:
                continue
            if name not in found:
                sys.exit(f"{name} is missing")
            found.remove(name)
            with open(os.path.join(folder, name), "rb") as shard:
                if shard.read() != want:
                    sys.exit(f"{name} is not its slice of the input")
            compared += 1
    if found:
        sys.exit(f"too many: {sorted(found)[:5]}")
    print(f"{compared} shards of {len(header)} tensors, each the very slice of the input file")


def compare(left, right):
    a, a_base, a_header = open_file(left)
    b, b_base, b_header = open_file(right)
    left_out = {fqn for fqn, entry in a_header.items() if entry["dtype"].startswith("C") and fqn not in b_header}
    if a_header.keys() - left_out != b_header.keys():
        sys.exit(f"other tensors: {sorted(a_header.keys() ^ b_header.keys())[:5]}")
    for fqn, other in b_header.items():
        entry = a_header[fqn]
        if (entry["dtype"], entry["shape"]) != (other["dtype"], other["shape"]):
            sys.exit(f"{fqn}: {entry['dtype']} {entry['shape']} is not {other['dtype']} {other['shape']}")
        if read(a, a_base, entry) != read(b, b_base, other):
            sys.exit(f"{fqn}: other bytes")
    print(f"{len(b_header)} tensors, every byte the same" + (f"; {len(left_out)} complex ones left out" if left_out else ""))


def main(argv):
    if len(argv) == 3 and argv[2] == "list":
        for fqn, entry in open_file(argv[1])[2].items():
            print(fqn, entry["dtype"], json.dumps(entry["shape"]), sep="\t")
    elif len(argv) == 6 and argv[2] == "cut":
        cut(argv[1], argv[3], int(argv[4]), int(argv[5]))
    elif len(argv) == 4 and argv[2] == "compare":
        compare(argv[1], argv[3])
    elif len(argv) == 5 and argv[2] == "shards":
        shards(argv[1], argv[3], int(argv[4]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv)
