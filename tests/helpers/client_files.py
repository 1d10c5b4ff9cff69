#!/usr/bin/env python3
"""Libraries that write single files.

client_files.py write DIR      safetensors, torch.save, numpy.memmap, h5py
client_files.py read DIR       what was written is there, by every way to read it
client_files.py h5py           h5py's own test suite, with its temporary files in $TMPDIR
"""

import pathlib
import sys

import h5py
import numpy
import safetensors
import safetensors.numpy
import torch

RANDOM = numpy.random.default_rng(7)
TENSORS = {f"layer{i}": RANDOM.standard_normal((300 + i, 200), dtype=numpy.float32) for i in range(3)}


def write(folder):
    safetensors.numpy.save_file(TENSORS, folder / "model.safetensors")
    torch.save({name: torch.from_numpy(array) for name, array in TENSORS.items()}, folder / "model.pt")
    mapped = numpy.memmap(folder / "array.bin", dtype=numpy.float32, mode="w+", shape=(300, 200))
    mapped[:] = TENSORS["layer0"]
    mapped[17] = 1
    mapped.flush()
    del mapped
    with h5py.File(folder / "state.h5", "w") as file:
        for name, array in TENSORS.items():
            file.create_dataset(name, data=array, chunks=(100, 50), compression="gzip")
    with h5py.File(folder / "state.h5", "r+") as file:
        file["layer0"][17] = 1
    print("written")


def read(folder):
    changed = TENSORS["layer0"].copy()
    changed[17] = 1
    loaded = safetensors.numpy.load_file(folder / "model.safetensors")
    with safetensors.safe_open(folder / "model.safetensors", "numpy") as opened:
        for name, array in TENSORS.items():
            assert numpy.array_equal(loaded[name], array) and numpy.array_equal(opened.get_tensor(name), array), name
            assert numpy.array_equal(opened.get_slice(name)[5:290:7, 3:9], array[5:290:7, 3:9]), name
    for mmap in (False, True):
        for name, tensor in torch.load(folder / "model.pt", mmap=mmap).items():
            assert numpy.array_equal(tensor.numpy(), TENSORS[name]), name
    assert numpy.array_equal(numpy.memmap(folder / "array.bin", dtype=numpy.float32, mode="r", shape=(300, 200)), changed)
    with h5py.File(folder / "state.h5", "r") as file:
        assert numpy.array_equal(file["layer0"][:], changed) and numpy.array_equal(file["layer2"][::7], TENSORS["layer2"][::7])
    print("read")


def own_tests():
    """All of them but those that need h5py built with MPI."""
    import pytest

    return pytest.main(["-q", "-p", "no:cacheprovider", "-W", "ignore", "-m", "not mpi", "--pyargs", "h5py"])


def main():
    word, *rest = sys.argv[1:]
    if word == "h5py":
        sys.exit(own_tests())
    {"write": write, "read": read}[word](pathlib.Path(rest[0]))


if __name__ == "__main__":
    main()
