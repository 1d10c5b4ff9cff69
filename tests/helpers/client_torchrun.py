#!/usr/bin/env python3
"""Saves or loads through scripts/ckptfs_dcp.py, in as many processes as there are.

client_torchrun.py save PATH [async]         a sharded model and a step
client_torchrun.py load PATH                 what was saved is there
client_torchrun.py die PATH                  as save, but the last rank is killed while it writes
"""

import os
import signal
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ckptfs_dcp import StoreReader, StoreWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor


class DyingWriter(StoreWriter):
    """The last rank writes its shards and is gone before it has said so."""

    def write_data(self, plan, planner):
        written = super().write_data(plan, planner)
        if dist.get_rank() == dist.get_world_size() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return written


def main():
    word, path, *how = sys.argv[1:]
    dist.init_process_group("cpu:gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    torch.manual_seed(1)
    full = {f"layer{i}.weight": torch.randn(257 + i, 640) for i in range(4)}
    state = {"model": {name: distribute_tensor(tensor, mesh, [Shard(0)]) for name, tensor in full.items()}, "step": 7}
    if word == "load":
        got = {"model": {name: torch.zeros_like(tensor) for name, tensor in state["model"].items()}, "step": 0}
        dcp.load(got, storage_reader=StoreReader(path))
        assert got["step"] == 7, got["step"]
        for name, tensor in full.items():
            assert torch.equal(got["model"][name].full_tensor(), tensor), name
    elif how:
        dcp.async_save(state, storage_writer=StoreWriter(path)).result()
    else:
        writer = DyingWriter if word == "die" else StoreWriter
        dcp.save(state, storage_writer=writer(path, step=7, meta={"loss": 1.5}))
    dist.barrier()
    if dist.get_rank() == 0:
        print(f"{word}: done on {dist.get_world_size()} ranks")
    dist.destroy_process_group()
    # PyTorch 2.13's own threads now and then abort the interpreter while it ends ("terminate called without an
    # active exception"), long after everything above was checked.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
