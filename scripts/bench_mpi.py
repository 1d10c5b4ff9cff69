"""Rows of bench.py about saving and loading from MPI ranks, in the wording of MLPerf Storage: what is saved is synced,
a duration is that of the slowest rank. Every tool reports its own seconds, without the start of its processes."""

import json
import os
import shutil
import subprocess

RANKS = (1, 2, 4)


def output(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.decode(errors='replace').strip()[-400:]}")
    return done.stdout.decode(errors="replace")


def mpirun(ranks, command):
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return ["mpirun", *root, "--oversubscribe", "-n", str(ranks), *command]


class Saver:
    """The ways of saving and loading MIB MiB from some ranks; each returns seconds."""

    def __init__(self, programs, scratch, mib):
        self.programs, self.scratch, self.mib = programs, scratch, mib

    def ours(self, ranks, *more):
        store = self.scratch / "mpi-store"
        if not store.exists():
            output([self.programs["ckptfs"], "init", str(store)])
        command = [self.programs["ckptfs-mpi"], "bench", str(store), "--rounds", "1", "--json", *more]
        return json.loads(output(mpirun(ranks, command)))

    def tensors(self, ranks, *more):
        return self.ours(ranks, "--size", f"{self.mib}MiB", *more)

    def fio(self, ranks):
        folder = self.scratch / "fio"
        folder.mkdir()
        try:
            found = json.loads(output(["fio", "--name=save", f"--directory={folder}", "--rw=write", "--bs=1M", "--ioengine=psync",
                                       f"--size={self.mib // ranks}M", f"--numjobs={ranks}", "--end_fsync=1", "--fallocate=posix",
                                       "--group_reporting", "--output-format=json"]))
        finally:
            shutil.rmtree(folder)
        return found["jobs"][0]["write"]["runtime"] / 1000  # the slowest job's, with its fsync

    def dcp(self, ranks):
        """torch.distributed.checkpoint with fsync: seconds of a save, and of a warm load."""
        script = str(self.programs["top"] / "scripts" / "bench_dcp.py")
        command = [str(self.programs["python"]), "-W", "ignore", "-m", "torch.distributed.run", "--standalone",
                   "--nproc-per-node", str(ranks), script, str(self.scratch), str(self.mib), "1"]
        found = json.loads(output(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).splitlines()[-1])
        return found["save_seconds"][0], found["load_seconds"][0]


def saving(table, programs, scratch, mib):
    """Saves against fio and against PyTorch DCP, loads against PyTorch DCP, on as many ranks."""
    saver = Saver(programs, scratch, mib)
    has_torch = subprocess.run([str(programs["python"]), "-c", "import torch"], stderr=subprocess.DEVNULL).returncode == 0
    gib = f"{mib / 1024:g} GiB"
    for ranks in RANKS:
        who = f"{ranks} rank{'s' if ranks > 1 else ''}"
        table.measured(f"mpi: save of {gib} from {who}, against fio", ">= 0.9",
                       lambda: saver.fio(ranks), lambda: saver.tensors(ranks)["save"]["seconds"][0])
        table.measured(f"mpi: save of {gib} from {who}, layout global, against fio", "",
                       lambda: saver.fio(ranks), lambda: saver.tensors(ranks, "--layout", "global")["save"]["seconds"][0])
        for work, goal, key in (("save", ">= 1.5", 0), ("warm load", ">= 2.0", 1)):
            name = f"mpi: {work} of {gib} from {who}, against PyTorch DCP"
            if has_torch:
                field = work.split()[-1]
                table.measured(name, goal, lambda: saver.dcp(ranks)[key], lambda: saver.tensors(ranks)[field]["seconds"][0])
            else:
                table.missing(name, "PyTorch is not installed (make test CLIENTS=all installs it)")


def stopping(table, programs, scratch, mib):
    """How long an asynchronous save stops the application, against a copy of its state."""
    saver = Saver(programs, scratch, mib)
    for ranks in RANKS[:2]:
        samples = []

        def stopped():
            samples.append(saver.tensors(ranks, "--async")["async"])
            return samples[-1]["stopped_seconds"][-1]

        table.measured(f"mpi: stop for an asynchronous save from {ranks} ranks, against memcpy", ">= 0.83",
                       lambda: samples[-1]["memcpy_seconds"][-1], stopped, ours_first=True)


def small_shards(table, programs, scratch, count):
    """COUNT shards of 256 bytes from 4 ranks: packs and one transaction, against a file a shard."""
    saver = Saver(programs, scratch, 0)
    folder = scratch / "one-by-one"
    script = ("import os,sys,time\nbegin=time.perf_counter()\nfor i in range(int(sys.argv[2])):\n"
              " if i % 1000 == 0: os.makedirs('%s/%05d' % (sys.argv[1], i // 1000))\n"
              " with open('%s/%05d/%07d' % (sys.argv[1], i // 1000, i), 'wb') as out: out.write(b'x' * 256)\n"
              "os.sync()\nprint(time.perf_counter()-begin)")

    def one_by_one():
        try:
            return float(output(["python3", "-c", script, str(folder), str(count)]))
        finally:
            shutil.rmtree(folder)

    table.measured(f"mpi: {count} small shards from 4 ranks, against a file a shard", "",
                   one_by_one, lambda: saver.ours(4, "--shards", str(count // 4))["save"]["seconds"][0], rounds=1)
