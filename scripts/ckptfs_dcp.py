"""torch.distributed.checkpoint straight into a ckptfs store: for torchrun jobs without a mount and without MPI.

    dcp.save(state, storage_writer=StoreWriter("/data/store/run1/step-100"))
    dcp.load(state, storage_reader=StoreReader("/data/store/run1/latest"))

Every rank writes into the open checkpoint NAME.partial and leaves the sums of its shards in a session file there
(ckptfs-format(5) "Sessions"); then the coordinator runs `ckptfs commit`. Without the Python package xxhash the commit
sums the shards itself.
"""

import json
import os
import socket
import subprocess
from pathlib import Path

from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter

try:
    import xxhash
except ImportError:
    xxhash = None

def _run(*command):
    """One of the ckptfs commands; what it says on stderr becomes the message of the failed save or load."""
    done = subprocess.run([os.environ.get("CKPTFS", "ckptfs"), *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"'ckptfs {' '.join(command)}' failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()

def _owner():
    """Who this process is, so that a session whose process has died is told from a living one."""
    start_ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    return {"host": socket.gethostname(), "pid": os.getpid(),
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "start_ticks": int(start_ticks), "pid_ns": os.stat("/proc/self/ns/pid").st_ino}

def _summed(folder, path):
    """The session's line for one file, in the state it has now: synced first, then read and summed."""
    with open(path, "rb") as file:
        os.fdatasync(file.fileno())
        at = os.fstat(file.fileno())
        block, whole, sums = 1 << 20, xxhash.xxh3_128(), []
        while block * 65536 < at.st_size:
            block *= 2
        while data := file.read(block):
            whole.update(data)
            sums.append(xxhash.xxh3_64_hexdigest(data))
    return {"file": str(path.relative_to(folder)), "ino": at.st_ino, "size": at.st_size, "mtime_ns": at.st_mtime_ns,
            "ctime_ns": at.st_ctime_ns, "block": block, "xxh3": "".join(sums), "xxh128": whole.hexdigest()}

class StoreWriter(FileSystemWriter):
    """Saves STORE/…/NAME. `options` are FileSystemWriter's; `step` and `meta` (a dict) go into the manifest."""

    def __init__(self, path, step=None, meta=None, **options):
        super().__init__(f"{path}.partial", **options)
        self.final, self.step, self.meta = Path(path), step, meta or {}

    def reset(self, checkpoint_id=None):
        self.final = Path(checkpoint_id or self.final)
        super().reset(f"{self.final}.partial")

    def prepare_global_plan(self, plans):
        """On the coordinator, before anybody writes: the name is free, and nothing of an earlier try is left."""
        if not self.use_collectives:
            raise ValueError("StoreWriter needs use_collectives=True: the coordinator commits for all ranks")
        if (self.final / ".ckptfs/manifest.jsonl").exists():
            raise FileExistsError(f"{self.final} is committed, and that never changes; take another name")
        _run("abort", str(self.path))  # refuses where another job is writing
        (self.path / ".ckptfs").mkdir(parents=True)
        return super().prepare_global_plan(plans)

    def write_data(self, plan, planner):
        session = self.path / ".ckptfs" / f"session-{socket.gethostname()}-{os.getpid()}"
        session.write_text(f'{json.dumps(_owner())}\n{{"doing":"writing"}}\n')
        written = super().write_data(plan, planner)
        names = {result.storage_data.relative_path for result in written.value()}
        lines = [_summed(self.path, self.path / name) for name in sorted(names)] if xxhash else []
        with open(session, "a") as file:
            file.writelines(json.dumps(line) + "\n" for line in [*lines, {"doing": "idle"}])
        return written

    def finish(self, metadata, results):
        super().finish(metadata, results)
        step = [] if self.step is None else ["--step", str(self.step)]
        meta = [word for key, value in self.meta.items() for word in ("--meta", f"{key}={value}")]
        _run("commit", *step, *meta, str(self.path))

class StoreReader(FileSystemReader):
    """Loads STORE/…/NAME, or STORE/…/latest; the coordinator has it verified first unless verify=False."""

    def __init__(self, path, verify=True, **options):
        path = Path(path)
        super().__init__(_run("latest", str(path.parent)) if path.name == "latest" else path, **options)
        self.verify = verify

    def prepare_global_plan(self, plans):
        if self.verify:
            _run("verify", str(self.path))
        return super().prepare_global_plan(plans)
