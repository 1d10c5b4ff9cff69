#!/usr/bin/env python3
"""Saves one small checkpoint of every kind that views are made of, on four ranks (some on fewer of them).

    client_views_save.py DIR EXPECT     DIR/NAME each, and what is in each tensor set: EXPECT/NAME.json, or
                                        EXPECT/NAME+FOLDER.json for the set in FOLDER of it

The lines "NAME" and "NAME FOLDER" on stdout say which sets there are. Format of EXPECT: client_views_check.py
"""

import hashlib
import json
import os
import pathlib
import sys

import numpy
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed._shard import sharded_tensor
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

# One is missing: safetensors packs two elements of float4_e2m1fn_x2 in a byte, and calls that another shape.
DTYPES = [getattr(torch, name) for name in (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool complex64 complex128 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu").split()]


def raw(tensor):
    tensor = tensor.detach().contiguous()
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def made(*shape, dtype=torch.float32):
    """The same values on every rank."""
    if dtype.is_complex or dtype.is_floating_point:
        return torch.randn(shape, dtype=torch.complex128 if dtype.is_complex else torch.float32).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, shape).to(dtype)


def cut(tensor, mesh, ways):
    """Every rank keeps its part of what all have."""
    return distribute_tensor(tensor, mesh, ways, src_data_rank=None)


def whole(tensor):
    """All of it, on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def entries(tensors):
    return {fqn: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape),
                  "sha256": hashlib.sha256(raw(tensor)).hexdigest()} for fqn, tensor in tensors.items()}


class Run:
    """Where the checkpoints and what is expected of them go."""

    def __init__(self, folder, expect):
        self.folder, self.expect = pathlib.Path(folder), pathlib.Path(expect)

    def path(self, name, inner=""):
        """The folder of a set; rank 0 makes it, for files beside the tensors."""
        path = self.folder / name / inner
        if dist.get_rank() == 0:
            path.mkdir(parents=True, exist_ok=True)
        dist.barrier()
        return path

    def expects(self, name, tensors, groups, model=None, inner=""):
        """@tensors: FQN to whole tensor; @groups: GROUP to (KEY to FQN); @model: KEY to FQN of hf/"""
        if dist.get_rank() == 0:
            text = json.dumps({"tensors": entries(tensors), "groups": groups, "hf": model})
            (self.expect / (f"{name}+{inner}" if inner else name)).with_suffix(".json").write_text(text)
            print(name, inner, flush=True)

    def expects_nested(self, name, state, inner=""):
        """@state: {GROUP: {KEY: tensor}}, group "model" among them or not"""
        tensors = {f"{group}.{key}": whole(tensor) for group, part in state.items() for key, tensor in part.items()}
        groups = {group: {key: f"{group}.{key}" for key in part} for group, part in state.items()}
        self.expects(name, tensors, groups, groups.get("model"), inner)

    def expects_flat(self, name, tensors, inner=""):
        self.expects(name, {fqn: whole(tensor) for fqn, tensor in tensors.items()}, {}, {fqn: fqn for fqn in tensors}, inner)


def placements(run, mesh, square):
    """Every way to cut a tensor; the model's own names begin with "model."."""
    model = {}
    for dims, ways in ((mesh, {"rows": [Shard(0)], "columns": [Shard(1)], "copies": [Replicate()]}),
                       (square, {"2d": [Shard(0), Shard(1)], "2d_turned": [Shard(1), Shard(0)], "hsdp": [Replicate(), Shard(0)],
                                 "hsdp_columns": [Shard(1), Replicate()], "twice": [Shard(0), Shard(0)]})):
        for how, placement in ways.items():
            for shape in ((12, 8), (13, 7), (3, 2)):  # even, uneven, and less than there are ranks
                model[f"model.{how}.{shape[0]}"] = cut(made(*shape), dims, placement)
    model["model.3d"] = cut(made(5, 9, 6, dtype=torch.bfloat16), square, [Shard(2), Shard(1)])
    model["model.vector"] = cut(made(3, dtype=torch.float64), mesh, [Shard(0)])
    model["lm_head.weight"] = cut(made(130, 33, dtype=torch.float16), mesh, [Shard(1)])
    model["model.embed"] = model["lm_head.weight"]  # tied
    optim = {f"state.{key}.exp_avg": cut(made(13, 7), mesh, [Shard(0)]) for key in ("model.rows.13", "a/b % α")}
    dcp.save({"model": model, "optim": optim, "step": 7, "name": "α"}, checkpoint_id=run.path("placements"))
    run.expects_nested("placements", {"model": model, "optim": optim})


def odd_ones(run, alone):
    """What is not cut, on one rank: 0-d, empty, transposed, with gaps between its elements, repeated, tied."""
    model = {"scalar": torch.tensor(2.5), "count": torch.tensor(7), "none": made(0, 4), "no.columns": made(5, 0), "one": made(1, 1, 1),
             "transposed": made(6, 40).t(), "permuted": made(3, 4, 5).permute(2, 0, 1), "every.other": made(20, 6)[::2, 1::3],
             "repeated": made(1, 5).expand(4, 5), "part": made(1000)[300:310], "deep": made(*[2] * 12),
             ".hidden/..": made(3), "x" * 300: made(2), "tied": made(4, 4)}
    model["tied.too"] = model["tied"]
    path = run.path("odd")
    if dist.get_rank() == 0:
        dcp.save({"model": model}, checkpoint_id=path, process_group=alone.get_group())
    run.expects_nested("odd", {"model": model})


def every_dtype(run, pair):
    """Flat, on two ranks: no group, and the whole is the model."""
    state = {f"model.{str(dtype).removeprefix('torch.')}": made(9, 5, dtype=dtype) for dtype in DTYPES}
    small = {f"{name}.rows": tensor for name, tensor in state.items() if "float8" not in name and "uint" not in name}
    path = run.path("dtypes")
    if dist.get_rank() < 2:
        parts = {name: cut(tensor, pair, [Shard(0)]) for name, tensor in small.items()}
        dcp.save(state | parts, checkpoint_id=path, process_group=pair.get_group())
    run.expects_flat("dtypes", state | small)


def legacy(run):
    """ShardedTensor, which FSDP wrote before there was DTensor."""
    rank, full, bounds = dist.get_rank(), made(10, 6), [0, 3, 6, 9, 10]
    begin, end = bounds[rank:rank + 2]
    shard = sharded_tensor.Shard.from_tensor_and_offsets(full[begin:end].clone(), [begin, 0], rank)
    dcp.save({"model": {"weight": sharded_tensor.init_from_local_shards([shard], 10, 6)}}, checkpoint_id=run.path("legacy"))
    run.expects_nested("legacy", {"model": {"weight": full}})


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down, self.norm = torch.nn.Linear(10, 22), torch.nn.Linear(22, 10), torch.nn.LayerNorm(10)

    def forward(self, x):
        return self.norm(self.down(torch.relu(self.up(x))))


def trained(run, name, module, optimizer):
    """One step, then model and optimizer as PyTorch's own state_dict functions give them."""
    module(torch.ones(4, 10)).square().sum().backward()
    optimizer.step()
    model, optim = get_state_dict(module, optimizer)
    dcp.save({"model": model, "optim": optim}, checkpoint_id=run.path(name))
    states = {f"state.{fqn}.{key}": value for fqn, part in optim["state"].items() for key, value in part.items()}
    run.expects_nested(name, {"model": model, "optim": states})


def fsdp(run, mesh):
    module = fully_shard(Layers(), mesh=mesh)
    trained(run, "fsdp", module, torch.optim.AdamW(module.parameters()))


def fsdp_over_tp(run, square):
    """Two ways at once: what one axis has cut the other cuts again, in strides."""
    module = parallelize_module(Layers(), square["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    module = fully_shard(module, mesh=square["dp"])
    trained(run, "fsdp_over_tp", module, torch.optim.AdamW(module.parameters(), foreach=False))


def two_sets(run, mesh):
    """As accelerate lays it out: a folder for the model and one for the optimizer."""
    for inner, group in (("pytorch_model_fsdp_0", "model"), ("optimizer_0", "optimizer")):
        state = {group: {"layer.weight": cut(made(9, 4), mesh, [Shard(0)])}}
        dcp.save(state, checkpoint_id=run.path("two_sets", inner))
        run.expects_nested("two_sets", state, inner)


def as_safetensors(run, mesh):
    """DCP's writer of safetensors; with consolidation its shards lie in sharded/."""
    for name in ("hf", "consolidated"):
        state = {"model.embed": cut(made(13, 8), mesh, [Shard(0)]), "model.head": cut(made(6, 12), mesh, [Shard(1)]),
                 "model.norm": cut(made(16, dtype=torch.bfloat16), mesh, [Shard(0)])}
        path, is_whole = str(run.path(name)), name == "consolidated"
        writer = dcp.HuggingFaceStorageWriter(path, save_distributed=True, enable_consolidation=is_whole)
        dcp.save(state, storage_writer=writer)
        run.expects_flat(name, state)


def files(run):
    """What numpy and torch.save write, one kind a folder, and two in one."""
    kinds = {inner: run.path("files", inner) for inner in ("npy", "npz", "pt", "both")}
    arrays = {"a": made(3, 4), "b.weight": made(5, dtype=torch.float64), "c": made(2, 3, dtype=torch.int16)}
    state = {"model": {"w": made(4, 6).t(), "b": made(6, dtype=torch.bfloat16)}, "moments": [made(2), made(3)], "step": 3}
    model = {"w": "model.w", "b": "model.b"}
    loaded = {f"model.{key}": tensor for key, tensor in state["model"].items()}
    loaded |= {f"moments.{i}": tensor for i, tensor in enumerate(state["moments"])}
    if dist.get_rank() == 0:
        for name, tensor in arrays.items():
            numpy.save(kinds["npy"] / f"{name}.npy", numpy.asfortranarray(tensor.numpy()) if name == "a" else tensor.numpy())
        for inner in ("npz", "both"):
            numpy.savez(kinds[inner] / "arrays.npz", **{name: tensor.numpy() for name, tensor in arrays.items()})
        for inner in ("pt", "both"):
            torch.save(state, kinds[inner] / "state.pt")
    groups = {"model": model, "moments": {"0": "moments.0", "1": "moments.1"}}
    run.expects("files", arrays, {}, {name: name for name in arrays}, "npy")
    run.expects("files", arrays, {}, {name: name for name in arrays}, "npz")
    run.expects("files", loaded, groups, model, "pt")
    both = {f"arrays.{name}": tensor for name, tensor in arrays.items()} | {f"state.{fqn}": tensor for fqn, tensor in loaded.items()}
    run.expects("files", both, {"arrays": {name: f"arrays.{name}" for name in arrays}, "state": {fqn: f"state.{fqn}" for fqn in loaded}},
                None, "both")


def main(folder, expect):
    dist.init_process_group("cpu:gloo")
    torch.manual_seed(11)
    mesh, square = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    pair, alone = DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [0])
    run = Run(folder, expect)
    placements(run, mesh, square)
    odd_ones(run, alone)
    every_dtype(run, pair)
    legacy(run)
    fsdp(run, mesh)
    fsdp_over_tp(run, square)
    two_sets(run, mesh)
    as_safetensors(run, mesh)
    files(run)
    dist.barrier()
    dist.destroy_process_group()
    # A thread of torch's sometimes aborts an interpreter that takes itself down.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
