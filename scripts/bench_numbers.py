"""Rows of bench.py about the numbers in tensors: statistics, against reading the file and against numpy and PyTorch, and diff.

Run by itself with a word, this file is the client whose time is taken; it prints the seconds of the work alone:

    bench_numbers.py numpy|torch FILE    minimum, maximum, mean, deviation, NaN and Inf of every tensor
"""

import json
import os
import shutil
import sys
import time

from bench_views import client_of, has_torch, run, write_source


def rows(table, programs, scratch, mib):
    """@mib: of each of the two checkpoints"""
    gib = f"{mib / 1024:g} GiB"
    store, source = scratch / "numbers-store", scratch / "numbers.safetensors"
    first, second = store / "run/step-1", store / "run/step-2"
    write_source(source, mib)
    run([programs["ckptfs"], "init", store])
    for step in (first, second):
        step.mkdir(parents=True)
        shutil.copy(source, step / "model.safetensors")
    # One block of the second is another.
    with open(second / "model.safetensors", "r+b") as file:
        file.seek(100 << 20 if mib > 128 else 1 << 20)
        file.write(os.urandom(4096))
    run([programs["ckptfs"], "commit", first, second])
    file = first / "model.safetensors"
    show = f"{programs['ckptfs']} show --stats {first}"
    table.pair(f"numbers: show --stats of {gib}, against dd bs=1M of it", ">= 0.67", f"dd if={file} of=/dev/null bs=1M", show)
    for peer in ("numpy", "torch"):
        name = f"numbers: show --stats of {gib}, against {peer} doing the same"
        if peer == "torch" and not has_torch(programs):
            table.missing(name, "PyTorch is not installed; run 'make test CLIENTS=all' first")
            continue

        def theirs(word=peer):
            return client_of(__file__, programs, word, file)[0]

        def ours():
            begun = time.monotonic()
            run(show.split())
            return time.monotonic() - begun

        table.measured(name, "faster", theirs, ours, commands={"native": f"bench_numbers.py {peer} {file}", "ours": show})
    table.single(f"numbers: diff of two {gib} whose shards are equal", "sums only", f"{programs['ckptfs']} diff {first} {first}")
    # The tensors of the one shard that differs are read on both sides; a shard a tensor reads one.
    table.single(f"numbers: diff of two {gib} in one shard each, one block of which differs", "-",
                 f"sh -c '{programs['ckptfs']} diff {first} {second} || true'")
    source.unlink()
    shutil.rmtree(store)


# --- clients: what is timed -------------------------------------------------------


def by_numpy(path):
    import numpy
    from safetensors.numpy import load_file

    for array in load_file(path).values():
        wide = array.astype(numpy.float64)
        finite = wide[numpy.isfinite(wide)]
        _ = finite.min(), finite.max(), finite.mean(), finite.std(), numpy.isnan(wide).sum(), numpy.isinf(wide).sum(), (wide == 0).sum()


def by_torch(path):
    import torch
    from safetensors.torch import load_file

    for tensor in load_file(path).values():
        wide = tensor.double()
        finite = wide[torch.isfinite(wide)]
        _ = finite.min(), finite.max(), finite.mean(), finite.std(), wide.isnan().sum(), wide.isinf().sum(), (wide == 0).sum()


if __name__ == "__main__":
    begun = time.monotonic()
    {"numpy": by_numpy, "torch": by_torch}[sys.argv[1]](sys.argv[2])
    print(json.dumps([time.monotonic() - begun]))
