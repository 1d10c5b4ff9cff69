#!/usr/bin/env python3
"""Are the views of a tensor set what was saved? Asked with numpy and safetensors, and, where that is said, with PyTorch.

    client_views_check.py numpy|torch|dcp EXPECT.json CONTROL [EXPECT.json CONTROL]…

CONTROL holds tensors/ and safetensors/: a control folder in a mount, or a copy of one. "torch": safetensors' own loaders
for PyTorch read them, too. "dcp": where PyTorch's .metadata lies beside CONTROL, dcp_to_torch_save turns the shards into
one file, and each tensor must be the same in there.
EXPECT.json: {FQN: {"dtype", "shape", "sha256" of the row-major bytes}}, or {"tensors": that, "groups": {GROUP: {KEY: FQN}},
"hf": {KEY: FQN} or absent}. In the first form groups are what stands before the first dot of the FQN.
"""

import hashlib
import json
import pathlib
import re
import sys
import tempfile

import numpy
import safetensors
import safetensors.numpy

# PyTorch's name: safetensors' name, the .npy's descr, what its name ends in
DTYPES = {
    "float64": ("F64", "<f8"), "float32": ("F32", "<f4"), "float16": ("F16", "<f2"),
    "int64": ("I64", "<i8"), "int32": ("I32", "<i4"), "int16": ("I16", "<i2"), "int8": ("I8", "|i1"),
    "uint64": ("U64", "<u8"), "uint32": ("U32", "<u4"), "uint16": ("U16", "<u2"), "uint8": ("U8", "|u1"),
    "bool": ("BOOL", "|b1"), "complex64": (None, "<c8"), "complex128": (None, "<c16"),
    "bfloat16": ("BF16", "<u2", ".bf16-as-u16"),
    "float8_e4m3fn": ("F8_E4M3", "|u1", ".f8-as-u8"), "float8_e5m2": ("F8_E5M2", "|u1", ".f8-as-u8"),
    "float8_e4m3fnuz": ("F8_E4M3FNUZ", "|u1", ".f8-as-u8"), "float8_e5m2fnuz": ("F8_E5M2FNUZ", "|u1", ".f8-as-u8"),
    "float8_e8m0fnu": ("F8_E8M0", "|u1", ".f8-as-u8"),
}


def same(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: is {found}, should be {wanted}")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def escaped(fqn):
    """The FQN as a file name; what is longer than 200 bytes is cut, with a digest that is not compared here."""
    text = fqn.encode()
    hidden = b"%2E" if text.startswith(b".") else b""
    text = hidden + b"".join(b"%%%02X" % c if c < 0x21 or c in b"/%\x7f" else bytes([c]) for c in text[bool(hidden):])
    return text.decode() if len(text) <= 200 else text[:160].decode(errors="ignore")


def npy_name(fqn, wanted):
    return escaped(fqn) + "".join(DTYPES[wanted["dtype"]][2:]) + ".npy"


def is_mapped(path):
    return any(line.rstrip().endswith(str(path.resolve())) for line in open("/proc/self/maps"))


def check_npy(path, wanted):
    """Loaded and mapped: type, shape, order and bytes."""
    view = numpy.load(path, mmap_mode="r" if wanted["shape"] and 0 not in wanted["shape"] else None)
    if isinstance(view, numpy.memmap) and not is_mapped(path):
        sys.exit(f"{path}: numpy does not map it")
    for array in (view, numpy.load(path)):
        same(f"{path}: dtype", numpy.lib.format.dtype_to_descr(array.dtype), DTYPES[wanted["dtype"]][1])
        same(f"{path}: shape", list(array.shape), wanted["shape"])
        same(f"{path}: row-major", array.flags.c_contiguous, True)
        same(f"{path}: bytes", digest(array.tobytes()), wanted["sha256"])
    same(f"{path}: size", path.stat().st_size, len(path.read_bytes()))


def check_tensors(control, tensors):
    found = {re.sub("~[0-9a-f]{16}", "", path.name): path for path in (control / "tensors").iterdir()}
    wanted = {npy_name(fqn, entry): entry for fqn, entry in tensors.items()}
    same(f"{control}/tensors: names", sorted(found), sorted(wanted))
    for name, entry in wanted.items():
        check_npy(found[name], entry)


def held(keys, tensors):
    """What of @keys a safetensors view holds: no complex tensors."""
    return {key: tensors[fqn] for key, fqn in keys.items() if DTYPES[tensors[fqn]["dtype"]][0]}


def check_layout(path, data):
    """The header that every tool can rely on: data on a page, large elements first, then by name, no gap."""
    length = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:length])
    same(f"{path}: metadata", header.pop("__metadata__"), {"format": "pt"})
    same(f"{path}: data begins on a page", length % 4096, 0)
    same(f"{path}: size", path.stat().st_size, len(data))
    sizes = {names[0]: numpy.dtype(names[1]).itemsize for names in DTYPES.values() if names[0]}
    same(f"{path}: order", list(header), sorted(header, key=lambda fqn: (-sizes[header[fqn]["dtype"]], fqn.encode())))
    end = 0
    for fqn, entry in header.items():
        same(f"{path}: '{fqn}' begins", entry["data_offsets"][0], end)
        end = entry["data_offsets"][1]


def check_safetensors(path, wanted):
    """Every tensor, as safetensors itself reads it."""
    data = path.read_bytes()
    check_layout(path, data)
    found = {name: (entry["dtype"], list(entry["shape"]), digest(entry["data"])) for name, entry in safetensors.deserialize(data)}
    same(f"{path}: names", sorted(found), sorted(wanted))
    for key, entry in wanted.items():
        same(f"{path}: '{key}'", found[key], (DTYPES[entry["dtype"]][0], entry["shape"], entry["sha256"]))
    known = {key: entry for key, entry in wanted.items() if len(DTYPES[entry["dtype"]]) == 2}  # numpy has no others
    with safetensors.safe_open(path, framework="np") as file:
        same(f"{path}: keys", set(file.keys()), set(wanted))
        for key, entry in known.items():
            same(f"{path}: '{key}', by safe_open", digest(numpy.ascontiguousarray(file.get_tensor(key)).tobytes()), entry["sha256"])
    if len(known) == len(wanted):
        for key, array in safetensors.numpy.load_file(path).items():
            same(f"{path}: '{key}', loaded", digest(array.tobytes()), wanted[key]["sha256"])


def torch_bytes(tensor):
    import torch
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def check_torch(path, wanted):
    """The same with safetensors' loaders for PyTorch, slices of matrices included."""
    import safetensors.torch
    loaded = safetensors.torch.load_file(path)
    same(f"{path}: keys", set(loaded), set(wanted))
    with safetensors.safe_open(path, framework="pt") as file:
        for key, entry in wanted.items():
            whole = file.get_tensor(key)
            for tensor in (whole, loaded[key]):
                same(f"{path}: '{key}' in PyTorch", (str(tensor.dtype), list(tensor.shape), digest(torch_bytes(tensor))),
                     (f"torch.{entry['dtype']}", entry["shape"], entry["sha256"]))
            if len(entry["shape"]) == 2 and min(entry["shape"]) > 2:
                part = file.get_slice(key)[1:, 1:-1]
                same(f"{path}: '{key}'[1:, 1:-1]", torch_bytes(part), torch_bytes(whole[1:, 1:-1]))


def flattened(value, path=()):
    """FQN and tensor, for every tensor in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, child in items:
        yield from flattened(child, (*path, str(key)))
    if hasattr(value, "numel"):
        yield ".".join(path), value


def check_dcp(tensors, folder):
    """PyTorch's own consolidation of the shards agrees."""
    import torch
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    with tempfile.NamedTemporaryFile(suffix=".pt") as out:
        dcp_to_torch_save(folder, out.name)
        found = {fqn: digest(torch_bytes(tensor)) for fqn, tensor in flattened(torch.load(out.name, weights_only=False))}
    same(f"{folder}: what PyTorch finds", sorted(found), sorted(tensors))
    for fqn, entry in tensors.items():
        same(f"{folder}: '{fqn}', by PyTorch", found[fqn], entry["sha256"])


def expected(path):
    text = json.loads(pathlib.Path(path).read_text())
    if "tensors" in text:
        return text["tensors"], text["groups"], text.get("hf")
    groups = {}
    for fqn in text:
        group, _, key = fqn.partition(".")
        groups.setdefault(group, {})[key] = fqn
    return text, groups, groups["model"]


def check_set(how, expect, control):
    tensors, groups, model = expected(expect)
    files = {"safetensors/all": {fqn: fqn for fqn in tensors}, **{f"safetensors/{escaped(name)}": keys for name, keys in groups.items()}}
    check_tensors(control, tensors)
    same(f"{control}/safetensors: names", sorted(path.name for path in (control / "safetensors").iterdir()),
         sorted(f"{pathlib.Path(name).name}.safetensors" for name in files))
    same(f"{control}/hf is there", (control / "hf").exists(), model is not None)
    if model is not None:
        files["hf/model"] = model
    for name, keys in files.items():
        path = control / f"{name}.safetensors"
        check_safetensors(path, held(keys, tensors))
        if how == "torch":
            check_torch(path, held(keys, tensors))
    agrees = how == "dcp" and (control.parent / ".metadata").exists()
    if agrees:
        check_dcp(tensors, control.parent)
    print(f"{control}: {len(tensors)} tensors, {len(files)} safetensors files as they were saved{', PyTorch agrees' * agrees}")


if __name__ == "__main__":
    if len(sys.argv) < 4 or len(sys.argv) % 2 or sys.argv[1] not in ("numpy", "torch", "dcp"):
        sys.exit(__doc__)
    for pair in zip(sys.argv[2::2], sys.argv[3::2]):
        check_set(sys.argv[1], pair[0], pathlib.Path(pair[1]))
