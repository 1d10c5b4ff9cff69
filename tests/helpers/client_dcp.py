#!/usr/bin/env python3
"""Saves and loads with torch.distributed.checkpoint, in as many processes as there are.

client_dcp.py save DIR KIND…    DIR/step-KIND each; KIND is one of KINDS
client_dcp.py load DIR KIND…    what was saved is there, in whatever number of processes
"""

import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

KINDS = ("sync", "thread", "process", "single", "hf", "consolidated")


def full_state():
    torch.manual_seed(1)
    return {f"layer{i}.weight": torch.randn(257 + i, 64) for i in range(4)}


def sharded(tensors, mesh):
    return {name: distribute_tensor(tensor, mesh, [Shard(0)]) for name, tensor in tensors.items()}


def save(kind, path, state):
    if kind == "sync":
        dcp.save(state, checkpoint_id=path)
    elif kind == "single":
        dcp.save(state, storage_writer=dcp.FileSystemWriter(path), use_collectives=False)
    elif kind in ("thread", "process"):
        how = state_dict_saver.AsyncCheckpointerType(kind)
        dcp.async_save(state, checkpoint_id=path, async_checkpointer_type=how).result()
    else:
        writer = dcp.HuggingFaceStorageWriter(path, save_distributed=True, enable_consolidation=kind == "consolidated")
        dcp.save(state["model"], storage_writer=writer)


def load(kind, path, mesh, full):
    got = {"model": sharded({name: torch.zeros_like(tensor) for name, tensor in full.items()}, mesh), "step": 0}
    if kind in ("hf", "consolidated"):
        dcp.load(got["model"], storage_reader=dcp.HuggingFaceStorageReader(path))
    else:
        dcp.load(got, checkpoint_id=path)
        assert got["step"] == 7, got["step"]
    for name, tensor in full.items():
        assert torch.equal(got["model"][name].full_tensor(), tensor), (path, name)


def main():
    word, folder, *kinds = sys.argv[1:]
    dist.init_process_group("cpu:gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    full = full_state()
    for kind in kinds:
        path = f"{folder}/step-{KINDS.index(kind)}"
        if word == "save":
            save(kind, path, {"model": sharded(full, mesh), "step": 7})
        else:
            load(kind, path, mesh, full)
        dist.barrier()
    if dist.get_rank() == 0:
        print(f"{word}: {' '.join(kinds)}")
    dist.destroy_process_group()
    if word == "load":
        # A thread of torch's sometimes aborts an interpreter that takes itself down ("terminate called without an
        # active exception"). Not after a save: the process of an asynchronous one is ended on the way out.
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":  # the process of an asynchronous save imports this, too
    main()
