#!/usr/bin/env python3
"""What ckptfs says of the numbers in tensors, against numpy.

    tensor_numbers.py make DIR SEED     DIR/model.safetensors: every dtype, NaN, Inf, empty, 0-d, odd sizes
    tensor_numbers.py change DIR FROM   DIR/model.safetensors: FROM's, changed in every way there is
    tensor_numbers.py stats FILE JSON   JSON, of `ckptfs show --stats --json` or --tensor, holds for FILE
    tensor_numbers.py diff A B JSON     JSON, of `ckptfs diff --json`, holds for the two files

Elements are decoded here by themselves, with numpy's float16 and integers alone.
"""

import json
import math
import sys
import warnings

import numpy as np

# Signalling NaNs among the random bits.
warnings.simplefilter("ignore", RuntimeWarning)

PLAIN = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8",
         "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|u1", "C64": "<c8", "C128": "<c16"}
FLOAT8 = {"F8_E4M3": (4, 3, 7), "F8_E5M2": (5, 2, 15), "F8_E4M3FNUZ": (4, 3, 8), "F8_E5M2FNUZ": (5, 2, 16)}
WIDTHS = {**{name: np.dtype(kind).itemsize for name, kind in PLAIN.items()}, "BF16": 2, "F8_E8M0": 1,
          **{name: 1 for name in FLOAT8}}
# safetensors has no complex128.
DTYPES = [name for name in WIDTHS if name != "C128"]


def float8(dtype, byte):
    if dtype == "F8_E8M0":
        return math.nan if byte == 255 else 2.0 ** (byte - 127)
    exponent_bits, mantissa_bits, bias = FLOAT8[dtype]
    sign, exponent, mantissa = byte >> 7, byte >> mantissa_bits & (1 << exponent_bits) - 1, byte & (1 << mantissa_bits) - 1
    if dtype.endswith("FNUZ"):
        if byte == 0x80:
            return math.nan
    elif dtype == "F8_E5M2" and exponent == 31:
        return math.nan if mantissa else -math.inf if sign else math.inf
    elif dtype == "F8_E4M3" and exponent == 15 and mantissa == 7:
        return math.nan
    value = math.ldexp(mantissa, 1 - bias - mantissa_bits) if exponent == 0 \
        else math.ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits)
    return -value if sign else value


def numbers(dtype, raw):
    """As doubles, or as complex numbers or integers where they are."""
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype.startswith("F8"):
        table = np.array([float8(dtype, byte) for byte in range(256)])
        return table[np.frombuffer(raw, np.uint8)]
    if dtype == "BOOL":
        return (np.frombuffer(raw, np.uint8) != 0).astype(np.float64)
    array = np.frombuffer(raw, PLAIN[dtype])
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def read(path):
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    return {fqn: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])]) for fqn, entry in header.items()}


def write(path, tensors):
    header, data = {}, b""
    for fqn, (dtype, shape, raw) in tensors.items():
        header[fqn] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


def make(directory, seed):
    rng = np.random.default_rng(int(seed))
    tensors = {}
    for dtype in DTYPES:
        width = WIDTHS[dtype]
        # Every bit pattern is a number of most types: that is NaN, Inf and subnormals among them.
        tensors[f"bits.{dtype}"] = (dtype, [37, 61], rng.bytes(37 * 61 * width))
        tensors[f"empty.{dtype}"] = (dtype, [0, 3], b"")
        tensors[f"one.{dtype}"] = (dtype, [], rng.bytes(width))
    normal = rng.standard_normal(300_000).astype("<f4")
    tensors["normal"] = ("F32", [300, 1000], normal.tobytes())
    tensors["shifted"] = ("F64", [100_003], (rng.standard_normal(100_003) + 1e9).tobytes())
    tensors["large"] = ("I64", [4], np.array([2**62 + 1, 2**62 + 3, -5, 0], "<i8").tobytes())
    tensors["ends"] = ("F32", [5], np.array([np.nan, np.inf, -np.inf, 0, -1.5], "<f4").tobytes())
    tensors["nothing"] = ("F32", [3], np.array([np.nan, np.inf, np.nan], "<f4").tobytes())
    tensors["sparse"] = ("BF16", [1000], bytes(1998) + b"\x80\x3f")
    write(f"{directory}/model.safetensors", tensors)


def change(directory, source):
    tensors = read(source)

    def edit(fqn, at, value):
        dtype, shape, raw = tensors[fqn]
        array = np.frombuffer(raw, PLAIN[dtype]).copy()
        array[at] = value
        tensors[fqn] = (dtype, shape, array.tobytes())

    edit("normal", 77, 3.25)
    edit("normal", 299_999, -2)
    edit("shifted", 5, 2e9)
    edit("large", 0, 2**62 + 2)
    edit("ends", 3, -0.0)
    edit("ends", 0, 4)
    edit("bits.C64", 9, 1 - 2j)
    edit("bits.U8", 0, tensors["bits.U8"][2][0] ^ 1)
    dtype, shape, raw = tensors["bits.F16"]
    tensors["bits.F16"] = ("F32", shape, numbers(dtype, raw).astype("<f4").tobytes())
    dtype, _, raw = tensors["bits.I16"]
    tensors["bits.I16"] = (dtype, [61, 37], raw)
    del tensors["sparse"]
    tensors["new"] = ("U8", [2], b"\1\2")
    write(f"{directory}/model.safetensors", tensors)


def near(got, want, what):
    if want is None or got is None or not math.isfinite(want):
        assert got is None, f"{what}: {got}, should be null"
    else:
        assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-300), f"{what}: {got}, should be {want}"


def check_stats(file, path):
    want, got = read(file), {row["fqn"]: row for row in json.load(open(path))}
    assert got and set(got) <= set(want), f"{set(got) - set(want)}"
    for fqn, row in got.items():
        dtype, shape, raw = want[fqn]
        values = numbers(dtype, raw)
        if values.dtype.kind == "c":
            values = np.hypot(values.real.astype(np.float64), values.imag.astype(np.float64))
        finite = values[np.isfinite(values)]
        assert (row["dtype"], row["shape"], row["count"]) == (dtype, shape, values.size), fqn
        assert row["nan"] == int(np.isnan(values).sum()) and row["inf"] == int(np.isinf(values).sum()), fqn
        assert row["zeros"] == int((values == 0).sum()), fqn
        near(row["sparsity"], row["zeros"] / values.size if values.size else 0, f"{fqn}: sparsity")
        if finite.size == 0:
            assert row["min"] is row["max"] is row["mean"] is row["std"] is None, fqn
            continue
        if dtype in ("I64", "U64"):
            assert (row["min"], row["max"]) == (int(finite.min()), int(finite.max())), fqn
        near(row["min"], float(finite.min()), f"{fqn}: min")
        near(row["max"], float(finite.max()), f"{fqn}: max")
        wide = finite.astype(np.longdouble)
        near(row["mean"], float(wide.mean()), f"{fqn}: mean")
        near(row["std"], float(wide.std()), f"{fqn}: std")
        near(row["l2"], float(np.sqrt((wide * wide).sum())), f"{fqn}: l2")
        if "histogram" in row:
            assert sum(row["histogram"]["counts"]) == finite.size, fqn
            if dtype in ("F32", "F64") and finite.max() > finite.min() and np.isfinite(finite.max() - finite.min()):
                counts, _ = np.histogram(finite, len(row["histogram"]["counts"]))
                moved = np.abs(np.cumsum(counts) - np.cumsum(row["histogram"]["counts"])).max()
                assert moved <= 2, f"{fqn}: {moved} elements are in another bin"
    print(f"{len(got)} tensors")


def check_diff(a_file, b_file, path):
    a, b = read(a_file), read(b_file)
    got = {row["fqn"]: row for row in json.load(open(path))}
    expected = {}
    for fqn in a.keys() | b.keys():
        if fqn not in a or fqn not in b:
            expected[fqn] = "added" if fqn in b else "removed"
        elif a[fqn][1] != b[fqn][1]:
            expected[fqn] = "reshaped"
        elif a[fqn][0] != b[fqn][0]:
            expected[fqn] = "recast"
        elif a[fqn][2] != b[fqn][2]:
            expected[fqn] = "changed"
    assert {fqn: row["change"] for fqn, row in got.items()} == expected, {fqn: row["change"] for fqn, row in got.items()}
    for fqn, row in got.items():
        if row["change"] not in ("changed", "recast"):
            assert row["rel_l2"] is None and row["max_abs"] is None, fqn
            continue
        left, right = numbers(a[fqn][0], a[fqn][2]), numbers(b[fqn][0], b[fqn][2])
        if a[fqn][0] in ("I64", "U64") and row["change"] == "changed":
            # In Python's integers: doubles would lose the difference.
            pairs = [(int(x), int(y)) for x, y in zip(left, right)]
            near(row["max_abs"], float(max(abs(y - x) for x, y in pairs)), f"{fqn}: max_abs")
            near(row["rel_l2"], math.sqrt(sum((y - x) ** 2 for x, y in pairs) / sum(x * x for x, _ in pairs)), f"{fqn}: rel_l2")
            assert row["changed"] == sum(x != y for x, y in pairs), fqn
            continue
        if left.dtype.kind in "iu":
            left, right = left.astype(np.float64), right.astype(np.float64)
        elif left.dtype.kind == "c":
            left, right = left.astype(np.complex128), right.astype(np.complex128)
        numeric = ~(np.isnan(left) | np.isnan(right))
        apart = np.where(left == right, 0, right - left)[numeric]
        base = left[np.isfinite(left)]
        norm = math.sqrt(float((np.abs(base.astype(np.clongdouble)) ** 2).sum()))
        distance = math.sqrt(float((np.abs(apart.astype(np.clongdouble)) ** 2).sum()))
        near(row["max_abs"], float(np.abs(apart).max(initial=0)), f"{fqn}: max_abs")
        near(row["rel_l2"], distance / norm if norm else math.inf if distance else 0, f"{fqn}: rel_l2")
        if row["change"] == "changed":
            width = WIDTHS[a[fqn][0]]
            bits = [a[fqn][2][i:i + width] != b[fqn][2][i:i + width] for i in range(0, len(a[fqn][2]), width)]
            assert row["changed"] == int((np.array(bits) & ~(np.isnan(left) & np.isnan(right))).sum()), fqn
        only_one = int((np.isnan(left) != np.isnan(right)).sum())
        assert row["nan_changed"] == only_one, fqn
    order = [row["rel_l2"] for row in json.load(open(path)) if row["change"] == "changed"]
    finite = [value for value in order if value is not None]
    assert finite == sorted(finite, reverse=True), order
    print(f"{len(got)} tensors")


if __name__ == "__main__":
    {"make": make, "change": change, "stats": check_stats, "diff": check_diff}[sys.argv[1]](*sys.argv[2:])
