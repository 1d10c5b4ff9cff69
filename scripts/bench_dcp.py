#!/usr/bin/env python3
"""What torch.distributed.checkpoint needs for the work of `ckptfs-mpi bench`: a peer of bench.py.

    torchrun --nproc-per-node N bench_dcp.py FOLDER MIB ROUNDS

The ranks hold MIB MiB of float32 together, in 16 tensors cut along dimension 0. Each round saves them, with fsync,
into a new folder and loads them again, warm. Rank 0 prints one JSON object: the seconds of each save and load,
the slowest rank's.
"""

import json
import pathlib
import shutil
import sys
import time

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

TENSORS = 16


def slowest(begin):
    taken = torch.tensor(time.perf_counter() - begin)
    dist.all_reduce(taken, dist.ReduceOp.MAX)
    return taken.item()


def timed(work):
    dist.barrier()
    begin = time.perf_counter()
    work()
    return slowest(begin)


def main(folder, mib, rounds):
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    rows = mib * (1 << 20) // 4 // TENSORS // 1024
    state = {f"t{i}": distribute_tensor(torch.full((rows, 1024), float(i)), mesh, [Shard(0)]) for i in range(TENSORS)}
    saves, loads = [], []
    for number in range(rounds):
        target = pathlib.Path(folder) / f"dcp-{number}"
        writer = dcp.FileSystemWriter(target, sync_files=True)
        saves.append(timed(lambda: dcp.save(state, storage_writer=writer)))
        loads.append(timed(lambda: dcp.load(state, checkpoint_id=target)))
        if dist.get_rank() == 0:
            shutil.rmtree(target)
    if dist.get_rank() == 0:
        print(json.dumps({"save_seconds": saves, "load_seconds": loads}))
    dist.destroy_process_group()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
