#!/usr/bin/env python3
"""Writes what DeepSpeed, Megatron and accelerate write, in an order of its own, with a pause in it.

trackers.py deepspeed|megatron|accelerate DIR PAUSE
"""

import json
import os
import pathlib
import sys
import time


def shard(path, size=100000):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def deepspeed(folder, pause):
    """Tracker first: `latest` names a step whose files are still to come."""
    (folder / "latest").write_text("global_step10")
    time.sleep(pause)
    for rank in range(2):
        shard(folder / f"global_step10/bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
    time.sleep(pause)
    shard(folder / "global_step10/mp_rank_00_model_states.pt")


def megatron(folder, pause):
    """Distributed checkpointing: the tracker first, then the ranks' files, then what says how they were written."""
    (folder / "latest_checkpointed_iteration.txt").write_text("20")
    shard(folder / "iter_0000020/common.pt")
    time.sleep(pause)
    for rank in range(2):
        shard(folder / f"iter_0000020/__{rank}_0.distcp")
    time.sleep(pause)
    shard(folder / "iter_0000020/.metadata", 2000)
    (folder / "iter_0000020/metadata.json").write_text(json.dumps({"sharded_backend": "torch_dist", "sharded_backend_version": 1}))


def accelerate(folder, pause):
    """Trainer with FSDP: two DCP folders in one checkpoint, and the trainer's state last."""
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        for rank in range(2):
            shard(folder / f"checkpoint-30/{name}/__{rank}_0.distcp")
        shard(folder / f"checkpoint-30/{name}/.metadata", 2000)
        time.sleep(pause)
    shard(folder / "checkpoint-30/scheduler.pt", 1000)
    (folder / "checkpoint-30/trainer_state.json").write_text(json.dumps({"global_step": 30}))


def main():
    word, folder, pause = sys.argv[1:]
    {"deepspeed": deepspeed, "megatron": megatron, "accelerate": accelerate}[word](pathlib.Path(folder), float(pause))
    print("written")


if __name__ == "__main__":
    main()
