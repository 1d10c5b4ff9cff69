"""Rows of bench.py about views: whole files out of shards, against native files and against PyTorch's consolidation.

What PyTorch does is measured in the tests' virtual environment (`make test CLIENTS=all`); where it is missing, rows say so.
Run by itself with a word, this file is the client whose time is taken; it prints the seconds of the work alone:

    bench_views.py copy FILE                   safetensors' load_file, then a copy of each tensor
    bench_views.py make RANKS DIR KIND MIB     (PyTorch) a sharded checkpoint: KIND is dcp or hf
    bench_views.py many DIR COUNT              (PyTorch) a DCP checkpoint of COUNT small tensors
    bench_views.py view|torch_save|consolidate DIR SCRATCH CKPTFS
        mount DIR and read its model | dcp_to_torch_save and torch.load | consolidate_safetensors_files and safe_open;
        prints the seconds until the first tensor was in memory, and until all were
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

RANKS = 4


def run(command, **more):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-400:].strip()}")
    return done.stdout.decode()


# --- rows: what is measured -----------------------------------------------------


def client_of(file, programs, *words):
    """That file in the clients' environment; its last line is a list of seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    return json.loads(run([programs["python"], "-W", "ignore", file, *words], env=environment).splitlines()[-1])


def client(programs, *words):
    return client_of(__file__, programs, *words)


def write_source(path, mib):
    """A model of matrices that four ranks can cut into rows, or into columns of 4 KiB."""
    rows, columns = 4096, 1024 * RANKS
    size = rows * columns * 4
    count = max(1, mib * (1 << 20) // size)
    header = {f"layers.{i}.weight": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [i * size, (i + 1) * size]}
              for i in range(count)}
    text = json.dumps(header).encode()
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _ in range(count * size >> 20):
            out.write(os.urandom(1 << 20))


def sequential(table, programs, scratch, mib, mount):
    """Warm: one stream through the whole file, and safetensors' loader, for shards of rows and of columns."""
    store, point, source = scratch / "view-store", scratch / "mnt-view", scratch / "view-source.safetensors"
    point.mkdir()
    write_source(source, mib)
    run([programs["ckptfs"], "init", store])
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    for axis, shape in enumerate(("rows", "columns of 4 KiB")):
        name = f"run/step-{axis}"
        run(["mpirun", *root, "--oversubscribe", "-n", RANKS, programs["ckptfs-mpi"], "save", store / name, "--from", source,
             "--shard", axis])
        ours, native = point / name / ".ckptfs/safetensors/all.safetensors", scratch / f"whole-{axis}.safetensors"
        run([programs["ckptfs"], "cp", store / name / ".ckptfs/safetensors/all.safetensors", native])
        with mount(store, point) as mounted:
            run(["cmp", native, ours])
            table.pair(f"view: dd bs=1M of all.safetensors, {shape}", ">= 0.4", f"dd if={native} of=/dev/null bs=1M",
                       f"dd if={ours} of=/dev/null bs=1M")
            loading(table, programs, shape, native, ours, mounted)
        native.unlink()
    source.unlink()
    shutil.rmtree(store)


def loading(table, programs, shape, native, ours, mounted):
    if not pathlib.Path(programs["python"]).exists():
        table.missing(f"view: safetensors load_file + copy, {shape}", "no clients; run 'make test' first")
        return
    command = "bench_views.py copy {}"
    commands = {"native": command.format(native), "ours": command.format(ours)}

    def anew():
        mounted.anew()
        return client(programs, "copy", ours)[0]

    table.measured(f"view: load_file + copy, first read, {shape}", ">= 0.15", lambda: client(programs, "copy", native)[0], anew,
                   commands={**commands, "before ours": "mounted anew"})
    table.measured(f"view: load_file + copy, second read, {shape}", ">= 0.7", lambda: client(programs, "copy", native)[0],
                   lambda: client(programs, "copy", ours)[0], commands=commands)


def has_torch(programs):
    words = [str(programs["python"]), "-c", "import torch, safetensors"]
    return os.access(words[0], os.X_OK) and subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 0


def until_loaded(table, programs, scratch, mib):
    """From the sharded checkpoint to tensors in memory: a mount and a view, against PyTorch's consolidation and a load."""
    gib = f"{mib / 1024:g} GiB"
    names = [f"view: {what} of a {gib} sharded model, against {peer}" for peer in ("dcp_to_torch_save", "consolidate_safetensors_files")
             for what in ("first tensor", "all")]
    if not any(map(table.wanted, names)):
        return
    if not has_torch(programs):
        for name in names:
            table.missing(name, "PyTorch is not installed; run 'make test CLIENTS=all' first")
        return
    for kind, word, peer in (("dcp", "torch_save", "dcp_to_torch_save"), ("hf", "consolidate", "consolidate_safetensors_files")):
        folder = scratch / f"sharded-{kind}"
        run([programs["python"], "-W", "ignore", __file__, "make", RANKS, folder / "step-1", kind, mib])
        samples = {"view": [], word: []}
        try:
            for counted in range(-1, min(3, table.rounds)):
                for each in (word, "view"):
                    taken = client(programs, each, folder, scratch, programs["ckptfs"])
                    if counted >= 0:
                        samples[each].append(taken)
        except RuntimeError as error:
            for what in ("first tensor", "all"):
                table.missing(f"view: {what} of a {gib} sharded model, against {peer}", str(error))
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for i, what in enumerate(("first tensor", "all")):
            ours, theirs = ([sample[i] for sample in samples[each]] for each in ("view", word))
            middle = [statistics.median(ours), statistics.median(theirs)]
            commands = {"ours": f"bench_views.py view {folder}", "theirs": f"bench_views.py {word} {folder}"}
            table.note(f"view: {what} of a {gib} sharded model, against {peer}", "faster",
                       {"ours": ours, "theirs": theirs, "commands": commands},
                       f"{middle[1] / middle[0]:6.1f} times as fast: {middle[0]:.3f} s, theirs {middle[1]:.3f} s")


def catalogue(table, programs, scratch, count):
    name = f"view: ckptfs show of a DCP folder of {count} tensors"
    if not table.wanted(name):
        return
    if not has_torch(programs):
        table.missing(name, "PyTorch is not installed; run 'make test CLIENTS=all' first")
        return
    folder = scratch / "many-tensors"
    run([programs["python"], "-W", "ignore", __file__, "many", folder / "step-1", count])
    table.single(name, "< 2 s", f"{programs['ckptfs']} show {folder}/step-1")
    shutil.rmtree(folder)


def rows(table, programs, scratch, sizes, mount):
    """@sizes: mib of the files that are read, sharded_mib of the checkpoint that is loaded, tensors that are catalogued"""
    sequential(table, programs, scratch, sizes["mib"], mount)
    until_loaded(table, programs, scratch, sizes["sharded_mib"])
    catalogue(table, programs, scratch, sizes["tensors"])


# --- clients: what is timed -------------------------------------------------------


def copy(path):
    import safetensors.numpy
    begin = time.perf_counter()
    for tensor in safetensors.numpy.load_file(path).values():
        tensor.copy()
    return [time.perf_counter() - begin]


def sharded_rank(rank, ranks, folder, kind, mib):
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE=str(ranks))
    dist.init_process_group("gloo", store=dist.FileStore(f"{folder}.store", ranks), rank=rank, world_size=ranks)
    mesh = init_device_mesh("cpu", (ranks,))
    count = max(1, mib * (1 << 20) // (4096 * 4096 * 2))
    state = {f"model.layers.{i}.weight": DTensor.from_local(torch.randn(4096 // ranks, 4096).to(torch.bfloat16), mesh, [Shard(0)])
             for i in range(count)}
    if kind == "hf":
        dcp.save(state, storage_writer=dcp.HuggingFaceStorageWriter(folder, save_distributed=True))
    else:
        dcp.save(state, checkpoint_id=folder)
    dist.barrier()
    os._exit(0)


def make(ranks, folder, kind, mib):
    import torch.multiprocessing as processes
    pathlib.Path(folder).parent.mkdir(parents=True, exist_ok=True)
    processes.spawn(sharded_rank, args=(int(ranks), folder, kind, int(mib)), nprocs=int(ranks))
    pathlib.Path(f"{folder}.store").unlink(missing_ok=True)
    return []


def many(folder, count):
    import torch
    import torch.distributed.checkpoint as dcp
    dcp.save({"model": {f"layers.{i}.weight": torch.full((4, 4), float(i)) for i in range(int(count))}}, checkpoint_id=folder, no_dist=True)
    return []


def read_all(path, begin):
    """Seconds until the first tensor is in memory of our own, and until all of them are."""
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        keys = list(file.keys())
        kept = [file.get_tensor(keys[0]).clone()]
        first = time.perf_counter() - begin
        kept += [file.get_tensor(key).clone() for key in keys[1:]]
    return [first, time.perf_counter() - begin]


def view(folder, scratch, ckptfs):
    import safetensors.torch  # not timed: who loads a model has it already
    point = pathlib.Path(scratch) / "mnt-loaded"
    point.mkdir(exist_ok=True)
    begin = time.perf_counter()
    run([ckptfs, "mount", folder, point])
    try:
        return read_all(point / "step-1/.ckptfs/hf/model.safetensors", begin)
    finally:
        run([ckptfs, "umount", point])


def torch_save(folder, scratch, _):
    import torch
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
    out = pathlib.Path(scratch) / "consolidated.pt"
    begin = time.perf_counter()
    dcp_to_torch_save(f"{folder}/step-1", out)
    state = torch.load(out, mmap=True)
    tensors = iter(state.values())
    kept = [next(tensors).clone()]
    first = time.perf_counter() - begin
    kept += [tensor.clone() for tensor in tensors]
    taken = [first, time.perf_counter() - begin]
    out.unlink()
    return taken


def consolidate(folder, scratch, _):
    from safetensors import safe_open
    from torch.distributed.checkpoint._consolidate_hf_safetensors import consolidate_safetensors_files
    source, out = pathlib.Path(folder) / "step-1", pathlib.Path(scratch) / "consolidated"
    with safe_open(next(source.glob("*.safetensors")), "pt") as file:
        where = {key: 1 for key in file.keys()}
    out.mkdir()
    begin = time.perf_counter()
    consolidate_safetensors_files(str(source), str(out), where)
    taken = read_all(next(out.glob("*.safetensors")), begin)
    shutil.rmtree(out)
    return taken


if __name__ == "__main__":
    clients = {"copy": copy, "make": make, "many": many, "view": view, "torch_save": torch_save, "consolidate": consolidate}
    if len(sys.argv) < 2 or sys.argv[1] not in clients:
        sys.exit(__doc__)
    print(json.dumps(clients[sys.argv[1]](*sys.argv[2:])))
