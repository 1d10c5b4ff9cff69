#!/usr/bin/env python3
"""Pickles that must be refused, or read without harm, and `.metadata` files of other versions.

    bad_pickles.py opcodes DIR    DIR/op-NNN.pkl: each opcode after a valid beginning
    bad_pickles.py hostile DIR    DIR/NAME.pkl: bombs, cycles, lies; NAME says what is wrong
    bad_pickles.py metadata DIR   DIR/NAME.metadata: shapes of `.metadata` that PyTorch never wrote
    bad_pickles.py old DIR        DIR/NAME.metadata: as PyTorch wrote them before 2.3, and custom planners
    bad_pickles.py many COUNT FILE [torch]   a `.metadata` (or a data.pkl) of COUNT tensors

Only the standard library: classes of PyTorch are stubs in modules of the right names.
"""

import pickle
import pickletools
import struct
import sys
import types
from pathlib import Path

META = "torch.distributed.checkpoint.metadata"
FILES = "torch.distributed.checkpoint.filesystem"
OLD = "torch.distributed._shard.sharded_tensor.metadata"


def stub_module(name):
    parts = name.split(".")
    for i in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
    return sys.modules[name]


def stub_class(module, name, base=object, **members):
    made = type(name, (base,), {"__module__": module, **members})
    setattr(stub_module(module), name, made)
    return made


def named(module, name):
    """Something that pickles as the global module.name."""
    value = type("Named", (), {"__module__": module, "__reduce__": lambda self: name})()
    setattr(stub_module(module), name, value)
    return value


class Fields:
    def __init__(self, **fields):
        self.__dict__.update(fields)


stub_module("torch.serialization")
Size = stub_class("torch", "Size", tuple, __reduce__=lambda self: (Size, (tuple(self),)))
Metadata = stub_class(META, "Metadata", Fields)
TensorStorage = stub_class(META, "TensorStorageMetadata", Fields)
BytesStorage = stub_class(META, "BytesStorageMetadata", Fields)
Chunk = stub_class(META, "ChunkStorageMetadata", Fields)
Index = stub_class(META, "MetadataIndex", Fields)
Info = stub_class(FILES, "_StorageInfo", Fields)
state_tuple = {"__getstate__": lambda self: self.state}
Properties = stub_class(META, "TensorProperties", Fields, **state_tuple)
OldProperties = stub_class(OLD, "TensorProperties", Fields, **state_tuple)
Encoding = stub_class(META, "_MEM_FORMAT_ENCODING", __reduce__=lambda self: (Encoding, (0,)))
OldEncoding = stub_class(OLD, "MEM_FORMAT_ENCODING", __reduce__=lambda self: (OldEncoding, (0,)))
Plugin = stub_class("someones.plugin", "Thing", Fields)
FLOAT32 = named("torch", "float32")
INT4 = named("torch", "int4")


def _get_layout(name):
    return name


_get_layout.__module__ = "torch.serialization"
sys.modules["torch.serialization"]._get_layout = _get_layout


class Layout:
    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return _get_layout, (self.name,)


def properties(kind=Properties, dtype=FLOAT32, layout="torch.strided"):
    encoding = OldEncoding() if kind is OldProperties else Encoding()
    return kind(state=(dtype, Layout(layout), False, encoding, False))


def tensor(shape, boxes, props=None):
    chunks = [Chunk(offsets=Size(start), sizes=Size(size)) for start, size in boxes]
    return TensorStorage(properties=props or properties(), size=Size(shape), chunks=chunks)


def stored(tensors, **more):
    """storage_data of {fqn: TensorStorage}: 100 bytes an entry, all in one file."""
    table, at = {}, 0
    for fqn, value in tensors.items():
        starts = [c.offsets for c in value.chunks] if isinstance(value, TensorStorage) else [None]
        for start in starts:
            info = {"relative_path": "__0_0.distcp", "offset": at, "length": 100, **more}
            table[Index(fqn=fqn, offset=start, index=None)] = Info(**info)
            at += 100
    return table


def metadata(tensors, **more):
    fields = {"state_dict_metadata": tensors, "planner_data": None, "storage_data": stored(tensors)}
    return Metadata(**{**fields, **more})


HALVES = [((0, 0), (2, 4)), ((2, 0), (2, 4))]


def odd_metadata():
    good = {"w": tensor((4, 4), HALVES)}
    yield "overlap", metadata({"w": tensor((4, 4), [((0, 0), (3, 4)), ((2, 0), (2, 4))])})
    yield "hole", metadata({"w": tensor((4, 4), HALVES[:1])})
    yield "outside", metadata({"w": tensor((4, 4), [((0, 0), (2, 4)), ((2, 0), (3, 4))])})
    yield "wraps", metadata({"w": tensor((4, 4), [((0, 0), (2, 4)), ((2**63 - 1, 0), (2**63 - 1, 4))])})
    yield "dimensions", metadata({"w": tensor((4, 4), [((0,), (4,))])})
    yield "many-dimensions", metadata({"w": tensor((1,) * 65, [((0,) * 65, (1,) * 65)])})
    yield "negative", metadata({"w": tensor((-4, 4), HALVES)})
    yield "overflow", metadata({"w": tensor((2**40, 2**40), [((0, 0), (2**40, 2**40))])})
    yield "big-int", metadata({"w": tensor((2**80, 4), HALVES)})
    yield "float-shape", metadata({"w": tensor((4.0, 4), HALVES)})
    yield "not-stored", metadata(good, storage_data={})
    yield "bytes-not-stored", metadata({"w": BytesStorage()}, storage_data={})
    yield "parent-path", metadata(good, storage_data=stored(good, relative_path="../__0_0.distcp"))
    yield "absolute-path", metadata(good, storage_data=stored(good, relative_path="/etc/passwd"))
    yield "nul-path", metadata(good, storage_data=stored(good, relative_path="a\0b"))
    yield "range", metadata(good, storage_data=stored(good, offset=2**62, length=2**63 - 1))
    yield "negative-offset", metadata(good, storage_data=stored(good, offset=-1))
    twice = stored(good)
    twice.update(stored(good))
    yield "stored-twice", metadata(good, storage_data=twice)
    yield "same-box-twice", metadata({"w": tensor((4, 4), HALVES + HALVES[1:])}, storage_data=stored(good))
    yield "fqn-nul", metadata({"a\0b": tensor((4, 4), HALVES)})
    yield "fqn-empty", metadata({"": tensor((4, 4), HALVES)})
    yield "fqn-number", metadata({5: BytesStorage()}, storage_data=stored(good))
    yield "no-tensors", Metadata(storage_data={})
    yield "no-storage", Metadata(state_dict_metadata={})
    yield "other-class", Plugin(state_dict_metadata={}, storage_data={})
    yield "plain-dict", {"state_dict_metadata": {}, "storage_data": {}}
    shared = [Chunk(offsets=Size((0,)), sizes=Size((0,)))] * 1000
    bomb = {f"w{i}": TensorStorage(properties=properties(), size=Size((0,)), chunks=shared) for i in range(20)}
    yield "shared-chunks", metadata(bomb, storage_data={})


def old_metadata():
    two = {"model.w": tensor((4, 4), HALVES, properties(OldProperties)), "note": BytesStorage()}
    yield "torch-2.1", metadata(two, planner_data={"model.w": ("model", "w"), "note": ("note",)})
    yield "no-planner", metadata(two)
    yield "int-path", metadata(two, planner_data={"model.w": (3, "w"), "note": (0, 1)})
    yield "custom-planner", metadata(two, planner_data=Plugin(a=1), storage_meta=Plugin(b={1, 2}))
    yield "custom-storage", metadata(two, storage_data={k: Plugin(x=1) for k in stored(two)})
    yield "custom-tensor", metadata({**two, "x": Plugin(a=1)}, storage_data=stored(two))
    yield "transformed", metadata(two, storage_data=stored(two, transform_descriptors=["zstd"]))
    yield "not-transformed", metadata(two, storage_data=stored(two, transform_descriptors=None))
    odd = {"w": tensor((4, 4), HALVES, properties(dtype=INT4)),
           "s": tensor((4, 4), HALVES, properties(layout="torch.sparse_coo"))}
    yield "unknown-dtype", metadata(odd)
    yield "empty-boxes", metadata({"w": tensor((4, 4), HALVES + [((4, 0), (0, 4))])})


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def hostile():
    start = b"\x80\x04"
    yield "empty", b""
    yield "no-proto", b"N."
    yield "proto-0", b"\x80\x00N."
    yield "proto-9", b"\x80\x09N."
    yield "no-stop", start + b"N"
    yield "two-left", start + b"NN."
    yield "nothing-left", start + b"."
    yield "mark-left", start + b"(N."
    yield "trailing", start + b"N.N"
    yield "frame-too-long", start + b"\x95" + struct.pack("<Q", 2**63) + b"N."
    yield "long-string", start + b"X" + struct.pack("<I", 2**32 - 1) + b"abc."
    yield "longer-string", start + b"\x8d" + struct.pack("<Q", 2**64 - 1) + b"abc."
    yield "longer-bytes", start + b"\x8e" + struct.pack("<Q", 2**63) + b"abc."
    yield "long-long", start + b"\x8a\xff\x01."
    yield "memo-gap", start + b"Nr" + struct.pack("<I", 2**32 - 1) + b"."
    yield "memo-missing", start + b"j" + struct.pack("<I", 7) + b"."
    yield "tuple-of-nothing", start + b"\x87."
    yield "tuple-below-mark", start + b"NN(N\x86."
    yield "append-to-none", start + b"NNa."
    yield "append-to-dict", start + b"}Na."
    yield "setitem-on-list", start + b"]NNs."
    yield "odd-setitems", start + b"}(NNNu."
    yield "no-mark", start + b"]NNe."
    yield "build-on-none", start + b"N}b."
    yield "build-on-tuple", start + b")}b."
    yield "reduce-without-tuple", start + b"cos\nsystem\nNR."
    yield "global-without-end", start + b"cos\nsystem"
    yield "global-of-numbers", start + b"K\x01K\x02\x93."
    yield "persid-of-nothing", start + b"Q."
    yield "key-twice", start + b"}(" + text("w") + b"N" + text("w") + b"Nu."
    yield "number-twice", start + b"}(K\x07NK\x07Nu."
    yield "list-in-itself", start + b"]\x94h\x00a."
    yield "dict-in-itself", start + b"}\x94" + text("w") + b"h\x00s."
    yield "deep", start + b"]" * 5000 + b"a" * 4999 + b"."
    # Each list holds the one before ten times: 10^40 ways to the first.
    bomb = b"]\x94"
    for i in range(40):
        bomb += b"](" + (b"h" + bytes([i])) * 10 + b"e\x94"
    yield "memo-bomb", start + b"(" + bomb + b"t."
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06t"

    def rebuild(size, stride=b"K\x03K\x01\x86", offset=b"K\x00", name=b"_rebuild_tensor_v2", at=storage):
        head = start + b"ctorch._utils\n" + name + b"\n("
        return head + at + b"Q" + offset + size + stride + b"\x89}tR."

    yield "tensor-too-long", rebuild(b"K\x03K\x03\x86")
    yield "tensor-too-far", rebuild(b"K\x02K\x03\x86", offset=b"K\x01")
    yield "tensor-overflow", rebuild(b"\x8a\x08" + b"\xff" * 7 + b"\x7fK\x03\x86")
    yield "tensor-negative-size", rebuild(b"J\xff\xff\xff\xffK\x03\x86")
    yield "tensor-negative-stride", rebuild(b"K\x02K\x03\x86", b"K\x03J\xff\xff\xff\xff\x86")
    yield "tensor-dimensions", rebuild(b"K\x02\x85")
    yield "tensor-many-dimensions", rebuild(b"(" + b"K\x01" * 65 + b"t", b"(" + b"K\x01" * 65 + b"t")
    yield "tensor-float-size", rebuild(b"G" + b"\0" * 8 + b"K\x03\x86")
    yield "tensor-of-no-storage", rebuild(b"K\x02K\x03\x86", at=b"N")
    yield "tensor-of-short-storage", rebuild(b"K\x02K\x03\x86", at=b"(" + text("storage") + b"t")
    yield "tensor-of-long-key", rebuild(b"K\x02K\x03\x86", at=storage.replace(text("0"), text("0" * 99)))
    yield "tensor-without-arguments", start + b"ctorch._utils\n_rebuild_tensor_v2\n)R."
    yield "parameter-without-tensor", start + b"ctorch._utils\n_rebuild_parameter\n(N\x89}tR."
    yield "parameter-of-parameters", start + b"ctorch._utils\n_rebuild_parameter\n(" * 9 + b"N" + b"tR" * 9 + b"."


def many(count, path, is_torch):
    if is_torch:
        body = bytearray(b"\x80\x02}(")
        for i in range(count):
            body += text(f"model.layers.{i // 12}.part.{i % 12}.weight")
            body += b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
            body += text(str(i)) + text("cpu") + b"K\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89}tR"
        path.write_bytes(bytes(body + b"u."))
    else:
        tensors = {f"model.layers.{i // 12}.part.{i % 12}.weight": tensor((4, 4), HALVES) for i in range(count)}
        paths = {fqn: ("model", fqn) for fqn in tensors}
        path.write_bytes(pickle.dumps(metadata(tensors, planner_data=paths), 4))


def main():
    command, where = sys.argv[1], Path(sys.argv[2])
    if command == "opcodes":
        for code in range(256):
            (where / f"op-{code:03d}.pkl").write_bytes(b"\x80\x04N" + bytes([code]) + b"\0" * 9)
        known = {ord(op.code): op.name for op in pickletools.opcodes}
        (where / "names").write_text("".join(f"{c} {known.get(c, 'unknown')}\n" for c in range(256)))
    elif command == "hostile":
        for name, data in hostile():
            (where / f"{name}.pkl").write_bytes(data)
    elif command in ("metadata", "old"):
        for name, value in (odd_metadata if command == "metadata" else old_metadata)():
            (where / f"{name}.metadata").write_bytes(pickle.dumps(value, 4))
    elif command == "many":
        many(int(sys.argv[2]), Path(sys.argv[3]), len(sys.argv) > 4)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
