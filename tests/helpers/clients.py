#!/usr/bin/env python3
"""What people read checkpoints with, on a file in a mount; each must give the stored file's bytes.

    clients.py make FOLDER              files for the others: model.safetensors, array.npy, with torch also state.pt
    clients.py memmap FILE PLAIN        numpy.memmap of any file
    clients.py npy FILE PLAIN           numpy.load(mmap_mode="r")
    clients.py safetensors FILE PLAIN   safe_open, tensors and slices of them, and load_file
    clients.py torch FILE PLAIN         torch.load, with and without mmap=True
    clients.py storage FILE PLAIN       torch.UntypedStorage.from_file of any file
    clients.py torch_safetensors FILE PLAIN
"""

import pathlib
import sys

import numpy
import safetensors
import safetensors.numpy


def check(what, good):
    if not good:
        sys.exit(f"{what}: not the stored file's")
    print(f"{what}: the same")


def mapped(path, word):
    """Is the file mapped into this process by now? Else a client that only reads would pass for one that maps."""
    check(f"{word} maps the file", any(line.rstrip().endswith(str(pathlib.Path(path).resolve()))
                                       for line in open("/proc/self/maps")))


def make(folder):
    folder, random = pathlib.Path(folder), numpy.random.default_rng(5)
    tensors = {f"layers.{i}.weight": random.standard_normal((512, 700 + i), dtype=numpy.float32) for i in range(4)}
    tensors["bias"] = numpy.arange(1021, dtype=numpy.int16)
    tensors["scalar"] = numpy.array(2.5)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    numpy.save(folder / "array.npy", random.integers(0, 1 << 60, (700, 300)))
    try:
        import torch
    except ImportError:
        return
    state = {"model": {name: torch.from_numpy(value) for name, value in tensors.items() if value.shape},
             "half": torch.arange(300000).to(torch.bfloat16), "step": 7}
    torch.save(state, folder / "state.pt")


def memmap(path, plain):
    view, want = numpy.memmap(path, mode="r"), numpy.memmap(plain, mode="r")
    mapped(path, "numpy.memmap")
    check("all of it", numpy.array_equal(view, want))
    check("every 4099th byte, backwards", numpy.array_equal(view[::-4099], want[::-4099]))


def npy(path, plain):
    view = numpy.load(path, mmap_mode="r")
    mapped(path, "numpy.load")
    check("array", numpy.array_equal(view, numpy.load(plain)))
    check("columns", numpy.array_equal(view[:, 7::50], numpy.load(plain)[:, 7::50]))


def compare_slices(view, whole, name):
    if whole.ndim != 2:
        return
    check(f"{name}[100:130]", (view[100:130] == whole[100:130]).all())
    check(f"{name}[:, 600:]", (view[:, 600:] == whole[:, 600:]).all())


def open_both(path, plain, framework):
    # The copy is read, not mapped by the library under test.
    with safetensors.safe_open(path, framework=framework) as file:
        mapped(path, "safe_open")
        want = safetensors.numpy.load(pathlib.Path(plain).read_bytes())
        check("names", set(file.keys()) == set(want))
        for name in file.keys():
            whole = file.get_tensor(name)
            check(name, (numpy.asarray(whole) == want[name]).all())
            compare_slices(file.get_slice(name), want[name], name)


def with_safetensors(path, plain):
    open_both(path, plain, "np")
    loaded, want = safetensors.numpy.load_file(path), safetensors.numpy.load(pathlib.Path(plain).read_bytes())
    check("load_file", all((loaded[name] == want[name]).all() for name in want))


def with_torch(path, plain):
    import torch
    want = torch.load(plain)
    for mapping in (False, True):
        state = torch.load(path, mmap=mapping)
        if mapping:
            mapped(path, "torch.load(mmap=True)")
        check(f"tensors with mmap={mapping}", all(torch.equal(state["model"][name], want["model"][name])
                                                  for name in want["model"]) and torch.equal(state["half"], want["half"]))


def with_storage(path, plain):
    import torch
    want = pathlib.Path(plain).read_bytes()
    storage = torch.UntypedStorage.from_file(path, shared=False, nbytes=len(want))
    mapped(path, "UntypedStorage.from_file")
    check("bytes", bytes(torch.tensor([], dtype=torch.uint8).set_(storage).numpy()) == want)


def torch_safetensors(path, plain):
    open_both(path, plain, "pt")


COMMANDS = {"memmap": memmap, "npy": npy, "safetensors": with_safetensors, "torch": with_torch,
            "storage": with_storage, "torch_safetensors": torch_safetensors}

if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "make":
        make(sys.argv[2])
    elif len(sys.argv) == 4 and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)
