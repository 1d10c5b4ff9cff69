#!/usr/bin/env python3
"""A model of transformers, sharded, and loaded from the view of it.

    client_views_model.py save DIR REFERENCE      (ranks) a small Llama, whose own names begin with "model.", under FSDP:
                                                  DIR/nested and DIR/flat; whole, by transformers itself: REFERENCE
    client_views_model.py load FOLDER REFERENCE [FOLDER REFERENCE]…
                                                  from_pretrained of both: the same keys, weights and logits
    client_views_model.py shard FILE DIR HOW      (ranks) a .safetensors file cut into a DCP checkpoint, by rows or columns
"""

import os
import pathlib
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh


def leave():
    dist.barrier()
    dist.destroy_process_group()
    # A thread of torch's sometimes aborts an interpreter that takes itself down.
    sys.stdout.flush()
    os._exit(0)


def small_llama(tied):
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(3)
    return LlamaForCausalLM(LlamaConfig(vocab_size=131, hidden_size=32, intermediate_size=70, num_hidden_layers=2, num_attention_heads=4,
                                        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied))


def save(folder, reference):
    from torch.distributed.checkpoint.state_dict import get_model_state_dict
    from torch.distributed.fsdp import fully_shard
    dist.init_process_group("cpu:gloo")
    for name, tied in (("nested", False), ("flat", True)):
        path = pathlib.Path(folder) / name
        model = small_llama(tied)
        if dist.get_rank() == 0:
            model.save_pretrained(pathlib.Path(reference) / name)
            path.mkdir()
            model.config.save_pretrained(path)
        dist.barrier()
        for layer in model.model.layers:
            fully_shard(layer)
        state = get_model_state_dict(fully_shard(model))
        optim = {"optim": {"state": {key: {"exp_avg": torch.zeros(3)} for key in list(state)[:2]}}}
        dcp.save({"model": state, **optim} if name == "nested" else state, checkpoint_id=path)
    if dist.get_rank() == 0:
        print("saved")
    leave()


def load(folder, reference):
    from safetensors import safe_open
    from transformers import AutoModel, AutoModelForCausalLM
    kinds = [AutoModel]
    if "CausalLM" in (pathlib.Path(reference) / "config.json").read_text():
        kinds.append(AutoModelForCausalLM)
    with safe_open(f"{folder}/model.safetensors", "pt") as view, safe_open(f"{reference}/model.safetensors", "pt") as whole:
        # transformers leaves out what is tied to another; a checkpoint of the model itself has both.
        more = set(view.keys()) - set(whole.keys())
        assert set(whole.keys()) <= set(view.keys()) and more <= {"lm_head.weight"}, (more, set(whole.keys()) - set(view.keys()))
        for key in whole.keys():
            assert torch.equal(view.get_tensor(key), whole.get_tensor(key)), key
        count = len(list(whole.keys()))
    for kind in kinds:
        ours, theirs = (kind.from_pretrained(path).eval() for path in (folder, reference))
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        words = torch.arange(20).reshape(2, 10)
        with torch.no_grad():
            a, b = ours(words)[0], theirs(words)[0]
        assert torch.equal(a, b) and a.std() > 0, "other logits"
    print(f"{folder}: {count} tensors and what the model says are the same")


def shard(file, folder, how):
    from safetensors import safe_open
    from torch.distributed.tensor import Shard, distribute_tensor
    dist.init_process_group("cpu:gloo")
    mesh, axis = init_device_mesh("cpu", (dist.get_world_size(),)), {"rows": 0, "columns": 1}[how]
    state = {}
    with safe_open(file, "pt") as source:
        for key in source.keys():
            tensor = source.get_tensor(key)
            # PyTorch makes 0 or 1 of every bool that it copies; not every file holds only those.
            is_cut = tensor.dim() > axis and tensor.dtype != torch.bool
            state[key] = distribute_tensor(tensor, mesh, [Shard(axis)], src_data_rank=None) if is_cut else tensor
    dcp.save({"model": state}, checkpoint_id=folder)
    if dist.get_rank() == 0:
        print(f"{len(state)} tensors on {dist.get_world_size()} ranks")
    leave()


if __name__ == "__main__":
    word, *arguments = sys.argv[1:] or [""]
    if word == "load" and len(arguments) % 2 == 0:
        for pair in zip(arguments[::2], arguments[1::2]):
            load(*pair)
    elif word == "save" and len(arguments) == 2:
        save(*arguments)
    elif word == "shard" and len(arguments) == 3:
        shard(*arguments)
    else:
        sys.exit(__doc__)
