#!/usr/bin/env python3
"""Ratios of ckptfs against the native file system and against peers, in one run.

Every work is a pair of commands, the native one and ours. The two are run in
turn, N, O, N, O, …, so that a machine that becomes slower slows both; the ratio
is the median over the rounds of (native time / our time): 1.0 is native speed,
more is faster. The table goes to stdout; the JSON file holds every sample, the
versions and the command lines. A speed is printed here and asserted nowhere.

Usage: bench.py [--rounds N] [--size MIB] [--write MIB] [--files N] [--shards N] [--many N] [--view MIB] [--sharded MIB]
                [--tensors N] [--views-only] [--only WORD] [--json FILE]
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench_mpi
import bench_numbers
import bench_views

TOP = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("CKPTFS_BUILD", TOP / "build")).resolve()
CKPTFS = str(BUILD / "ckptfs")
HELPER = str(BUILD / "ckpt-test")


def run(command, **more):
    """Run a set-up command; its output shows only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stdout.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def seconds(command):
    """Wall-clock seconds of one shell command, output thrown away."""
    begin = time.perf_counter()
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    taken = time.perf_counter() - begin
    if done.returncode != 0:
        raise RuntimeError(f"{command}: exit {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return taken


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")


class Table:
    """Rows measured so far, printed as they come and kept whole for the JSON."""

    def __init__(self, rounds, only):
        self.rounds, self.only, self.rows = rounds, only, []

    def wanted(self, name):
        return self.only is None or self.only in name

    def missing(self, name, why):
        if self.wanted(name):
            self.rows.append({"work": name, "missing": why})
            print(f"{name:<58} not measured: {why}", flush=True)

    def pair(self, name, goal, native, ours, before_native=None, before_ours=None):
        """Measure one pair; before_* are calls that are not timed (drop caches, mount anew)."""

        def timed(command, before):
            if before:
                before()
            return seconds(command)

        self.measured(name, goal, lambda: timed(native, before_native), lambda: timed(ours, before_ours),
                      commands={"native": native, "ours": ours})

    def measured(self, name, goal, native, ours, rounds=None, ours_first=False, commands=None):
        """The same of two calls that return the seconds of their work."""
        if not self.wanted(name):
            return
        samples = {"native": [], "ours": []}
        sides = [("native", native), ("ours", ours)]
        try:
            for counted in range(-1, rounds or self.rounds):  # round -1 warms up and is not counted
                for side, work in reversed(sides) if ours_first else sides:
                    taken = work()
                    if counted >= 0:
                        samples[side].append(taken)
        except (RuntimeError, OSError) as error:
            self.missing(name, str(error))
            return
        ratios = [a / b for a, b in zip(samples["native"], samples["ours"])]
        row = {"work": name, "goal": goal, "ratio": statistics.median(ratios), "ratios": ratios,
               "seconds": samples, "commands": commands}
        self.rows.append(row)
        print(f"{name:<58} {row['ratio']:6.2f}  goal {goal:<8} native {statistics.median(samples['native']):8.4f} s"
              f"  ours {statistics.median(samples['ours']):8.4f} s", flush=True)

    def single(self, name, goal, command, before=None):
        """Measure one command by itself, in seconds."""
        if not self.wanted(name):
            return
        taken = []
        try:
            for _ in range(self.rounds):
                if before:
                    before()
                taken.append(seconds(command))
        except RuntimeError as error:
            self.missing(name, str(error))
            return
        self.rows.append({"work": name, "goal": goal, "seconds": taken, "commands": {"ours": command}})
        print(f"{name:<58} {statistics.median(taken) * 1000:6.1f} ms  goal {goal}", flush=True)

    def note(self, name, goal, samples, text):
        """A row of its own kind: @samples is what goes into the JSON, @text what is printed."""
        self.rows.append({"work": name, "goal": goal, "samples": samples})
        print(f"{name:<58} {text}  goal {goal}", flush=True)


class Mount:
    """A mount of the store that can be made anew between samples; @user: words before its commands."""

    def __init__(self, store, point, user=()):
        self.store, self.point, self.user = str(store), str(point), list(user)

    def up(self):
        run([*self.user, CKPTFS, "mount", self.store, self.point])

    def daemon(self):
        """Its process id."""
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = entry.read_bytes().split(b"\0")
                if words[0].endswith(b"mount.ckptfs") and self.point.encode() in words:
                    return int(entry.parent.name)
        raise RuntimeError(f"no daemon serves {self.point}")

    def down(self):
        if f" {self.point} fuse.ckptfs " in pathlib.Path("/proc/self/mounts").read_text():
            run([*self.user, CKPTFS, "umount", self.point])

    def anew(self):
        self.down()
        self.up()

    def anew_cold(self):
        self.anew()
        drop_caches()

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()


def random_file(path, mib):
    with open(path, "wb") as out:
        for _ in range(mib):
            out.write(os.urandom(1 << 20))


def make_packed_source(path, mib):
    """A safetensors file of tensors of 512 KiB, all of which ckptfs-mpi packs."""
    count, size = mib * 2, 512 << 10
    header = {f"t{i:05}": {"dtype": "U8", "shape": [size], "data_offsets": [i * size, (i + 1) * size]} for i in range(count)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _ in range(count):
            out.write(os.urandom(size))


def make_shards(folder, count):
    """COUNT empty-ish shards in one folder."""
    folder.mkdir(parents=True)
    for i in range(count):
        with open(folder / f"shard-{i:07}.bin", "wb") as out:
            out.write(b"%d" % i)


def make_small_files(folder, count):
    """COUNT files of 2 KiB, a hundred in a folder."""
    for i in range(count):
        if i % 100 == 0:
            (folder / f"part-{i // 100:04}").mkdir(parents=True)
        (folder / f"part-{i // 100:04}" / f"file-{i:06}").write_bytes(os.urandom(2048))


def set_up(scratch, args):
    """The store that everything is measured on, made by the programs themselves."""
    store = scratch / "store"
    run([CKPTFS, "init", str(store)])
    big = store / "run" / "step-1"
    big.mkdir(parents=True)
    for name in ("a.bin", "b.bin"):
        random_file(big / name, args.size)
    run([CKPTFS, "commit", str(big)])
    many = store / "run" / "step-2"
    make_shards(many, args.shards)
    run([CKPTFS, "commit", str(many)])
    source = scratch / "packed.safetensors"
    make_packed_source(source, 256)
    root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    run(["mpirun", *root, "--oversubscribe", "-n", "2", str(BUILD / "ckptfs-mpi"), "save", str(store / "run" / "step-3"),
         "--from", str(source)])
    plain = scratch / "plain"
    run([CKPTFS, "cp", str(store / "run" / "step-3"), str(plain)])
    run([CKPTFS, "reindex", str(store)])
    return store


def reading(table, who, native, mounted, user=""):
    """Whole-file shards, warm and verified once, native against mounted; @user: what goes before each command."""
    one, two = f"{native}/a.bin", f"{native}/b.bin"
    mine, other = f"{mounted}/a.bin", f"{mounted}/b.bin"
    for work, goal, command in (
        ("dd bs=1M", ">= 0.95", "dd if={0} of=/dev/null bs=1M"),
        ("cat", ">= 0.95", "cat {0} | cat >/dev/null"),
        ("two readers", ">= 0.95", "cat {0} >/dev/null & cat {1} >/dev/null; wait"),
        ("mmap", ">= 0.95", HELPER + " map-sum {0}"),
        ("4 KiB random", ">= 0.9", HELPER + " read-random {0} 200000"),
    ):
        native_command, our_command = command.format(one, two), command.format(mine, other)
        if user:
            native_command, our_command = (f"{user} bash -c '{c}'" for c in (native_command, our_command))
        table.pair(f"{who}: {work}", "" if user else goal, native_command, our_command)


def names(table, who, native, mounted, mount):
    """Listing and stat of many shards."""
    scan = "import os,sys\nfor e in os.scandir(sys.argv[1]): e.stat()"
    one_by_one = "import os,sys\nfor i in range(0, int(sys.argv[2])): os.stat('%s/shard-%07d.bin' % (sys.argv[1], i))"
    count = sum(name.startswith("shard-") for name in os.listdir(native))
    table.pair(f"{who}: find -size", ">= 1.0", f"find {native} -size +1M", f"find {mounted} -size +1M")
    table.pair(f"{who}: ls", ">= 1.0", f"ls {native}", f"ls {mounted}")
    table.pair(f"{who}: ls -l", ">= 0.25", f"ls -l {native}", f"ls -l {mounted}")
    table.pair(f"{who}: scandir + stat", ">= 1.0", f'python3 -c "{scan}" {native}', f'python3 -c "{scan}" {mounted}')
    table.pair(f"{who}: stat one by one, cold", ">= 0.3", f'python3 -c "{one_by_one}" {native} {count}',
               f'python3 -c "{one_by_one}" {mounted} {count}', before_native=drop_caches, before_ours=mount.anew_cold)


def as_root(table, scratch, store):
    native, point = store / "run", scratch / "mnt"
    point.mkdir()
    with Mount(store, point) as mount:
        reading(table, "root", native / "step-1", point / "run/step-1")
        table.pair("root: packed shards, verified", ">= 0.4", f"cat {scratch}/plain/*/* >/dev/null",
                   f"cat {point}/run/step-3/*/* >/dev/null")
        names(table, "root", native / "step-2", point / "run/step-2", mount)
        table.pair("root: first read with verification, cold", ">= 0.8", f"cat {native}/step-1/a.bin >/dev/null",
                   f"cat {point}/run/step-1/a.bin >/dev/null", before_native=drop_caches, before_ours=mount.anew_cold)
    table.single("root: mount until ls answers", "< 100 ms", f"{CKPTFS} mount {store} {point} && ls {point}/run",
                 before=Mount(store, point).down)
    Mount(store, point).down()


def as_user(table, scratch, store):
    """The same as an ordinary user, through fusermount3."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"XDG_CACHE_HOME={scratch}/cache-user"]
    point = scratch / "mnt-user"
    for folder in (point, scratch / "cache-user"):
        folder.mkdir()
        os.chown(folder, 65534, 65534)
    try:
        with Mount(store, point, user):
            reading(table, "user", store / "run/step-1", point / "run/step-1", " ".join(user))
    except (RuntimeError, OSError) as error:
        table.missing("user: whole-file shards", str(error))


def verifying(table, store):
    path = store / "run/step-1"
    table.pair("ckptfs verify, against xxhsum -H2", ">= 1.8", f"xxhsum -H2 {path}/a.bin {path}/b.bin", f"{CKPTFS} verify {path}")


def many_shards(table, scratch, count):
    """Mounting must not depend on how much there is."""
    store, point = scratch / "many", scratch / "mnt-many"
    point.mkdir()
    run([CKPTFS, "init", str(store)])
    make_shards(store / "run/step-1", count)
    run([CKPTFS, "commit", str(store / "run/step-1")])
    table.single(f"root: mount until ls answers, {count} shards", "< 100 ms", f"{CKPTFS} mount {store} {point} && ls {point}/run",
                 before=Mount(store, point).down)
    Mount(store, point).down()


def bytes_read(pid):
    """What the process asked the system to read, and what came from the disk for it: of mappings only that is known."""
    found = dict(line.split(": ") for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines())
    return {"asked": int(found["rchar"]), "disk": int(found["read_bytes"])}


class Lister(threading.Thread):
    """Lists a folder again and again; how long did the slowest take?"""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.slowest, self.count, self.over = folder, 0.0, 0, threading.Event()

    def run(self):
        while not self.over.is_set():
            begin = time.perf_counter()
            os.listdir(self.folder)
            self.slowest, self.count = max(self.slowest, time.perf_counter() - begin), self.count + 1
            time.sleep(0.001)

    def stop(self):
        self.over.set()
        self.join()
        return self.slowest


def commit_soon(table, mount, source, run, again):
    """mv of what was closed a few seconds ago: how long it takes, what is read for it, who waits for it."""
    name = "root: mv that commits, closed 5 s ago"
    if not table.wanted(name):
        return
    samples = []
    for _ in range(table.rounds):
        again()
        run_seconds = seconds(f"mkdir {run}/w.tmp && cp {source} {run}/w.tmp/f && sync {run}/w.tmp/f")
        time.sleep(5)
        drop_caches()
        os.listdir(run)
        beside, inside = Lister(run.parent / "other"), Lister(run)
        before = bytes_read(mount.daemon())
        beside.start()
        inside.start()
        taken = seconds(f"mv -T {run}/w.tmp {run}/w")
        slow = {"ls of another folder": beside.stop(), "ls of its folder": inside.stop()}
        after = bytes_read(mount.daemon())
        samples.append({"write": run_seconds, "mv": taken, **slow, **{f"read, {k}": after[k] - before[k] for k in after}})
    middle = {key: statistics.median(sample[key] for sample in samples) for key in samples[0]}
    table.note(name, "nothing read, ls at once", samples,
               f"{middle['mv'] * 1000:.0f} ms, {middle['read, disk']:.0f} B of the disk read ({middle['read, asked']:.0f} B asked for); "
               f"slowest ls beside it {middle['ls of another folder'] * 1000:.1f} ms, of its folder {middle['ls of its folder'] * 1000:.1f} ms")


def writing(table, scratch, args):
    """Saves: what is written, made durable and committed through a mount, against cp or dd and fsync."""
    store, point, native, source = (scratch / name for name in ("write-store", "mnt-write", "write-native", "write-source"))
    for folder in (point, native):
        folder.mkdir()
    run([CKPTFS, "init", str(store)])
    (store / "run").mkdir()
    (store / "other").mkdir()
    random_file(source, args.write)
    group = point / "run"

    def again():
        """What the last sample wrote is gone, and the disk is idle."""
        for folder in (store / "run", native):  # not through the mount: it would go to the trash
            for child in folder.iterdir():
                shutil.rmtree(child) if child.is_dir() else child.unlink()
        os.sync()
        time.sleep(1)

    gib = f"{args.write / 1024:g} GiB"
    ours = f"mkdir {group}/w.tmp && {{0}} && mv -T {group}/w.tmp {group}/w"
    with Mount(store, point) as mount:
        for work, command in (("cp + fsync", "cp {0} {1}/f && sync {1}/f"), ("dd conv=fsync", "dd if={0} of={1}/f bs=1M conv=fsync")):
            table.pair(f"root: {work} of {gib}, committed, with sums", ">= 0.9", command.format(source, native),
                       ours.format(command.format(source, f"{group}/w.tmp")), before_native=again, before_ours=again)
        commit_soon(table, mount, source, group, again)


def unpacking(table, scratch, count):
    """
    Many small files. Each sample in a new folder, and none is removed: ext4 looks long for inodes where many were freed
    in the last minutes, which would be all that is measured. (So do not run it right after removing something large.)
    """
    store, point, native, archive = (scratch / name for name in ("small-store", "mnt-small", "small-native", "small.tar"))
    make_small_files(scratch / "small", count)
    run(["tar", "-C", str(scratch / "small"), "-cf", str(archive), "."])
    for folder in (point, native):
        folder.mkdir()
    run([CKPTFS, "init", str(store)])
    (store / "run").mkdir()
    ours, theirs = f"d=$(mktemp -d --suffix=.tmp {point}/run/u-XXXXXX)", f"d=$(mktemp -d {native}/u-XXXXXX)"
    with Mount(store, point):
        table.pair(f"root: untar {count} small files", ">= 0.4", f"{theirs} && tar -C $d -xf {archive}",
                   f"{ours} && tar -C $d -xf {archive}", before_native=os.sync, before_ours=os.sync)
        table.pair(f"root: untar {count} small files, durable; ours committed", "", f"{theirs} && tar -C $d -xf {archive} && sync -f $d",
                   f"{ours} && tar -C $d -xf {archive} && mv -T $d ${{d%.tmp}}", before_native=os.sync, before_ours=os.sync)


def peers(table, scratch, store):
    """Other read-only FUSE file systems on the same bytes, where they are installed."""
    source = store / "run/step-1"
    native = f"dd if={source}/a.bin of=/dev/null bs=1M"
    if shutil.which("squashfuse") and shutil.which("mksquashfs"):
        image, point = scratch / "peer.sqfs", scratch / "mnt-squash"
        point.mkdir()
        run(["mksquashfs", str(source / "a.bin"), str(image), "-noD", "-noF", "-quiet", "-no-progress"])
        run(["squashfuse", str(image), str(point)])
        table.pair("peer squashfuse: dd bs=1M", "", native, f"dd if={point}/a.bin of=/dev/null bs=1M")
        run(["umount", str(point)])
    else:
        table.missing("peer squashfuse: dd bs=1M", "squashfuse and squashfs-tools are not installed")
    if shutil.which("ratarmount"):
        image, point = scratch / "peer.tar", scratch / "mnt-ratar"
        point.mkdir()
        run(["tar", "-C", str(source), "-cf", str(image), "a.bin"])
        run(["ratarmount", str(image), str(point)])
        table.pair("peer ratarmount: dd bs=1M", "", native, f"dd if={point}/a.bin of=/dev/null bs=1M")
        run(["umount", str(point)])
    else:
        table.missing("peer ratarmount: dd bs=1M", "ratarmount is not installed")
    example = shutil.which("passthrough_hp") or shutil.which("passthrough_ll")
    if example:
        point = scratch / "mnt-example"
        point.mkdir()
        run([example, "-o", f"source={source}", str(point)])
        table.pair("peer libfuse passthrough_ll: dd bs=1M", "", native, f"dd if={point}/a.bin of=/dev/null bs=1M")
        run(["umount", str(point)])
    else:
        table.missing("peer libfuse passthrough_ll: dd bs=1M", "libfuse's examples are not installed (Debian ships none)")


def versions():
    tools = {"ckptfs": [CKPTFS, "--version"], "xxhsum": ["xxhsum", "--version"], "fusermount3": ["fusermount3", "--version"],
             "mpirun": ["mpirun", "--version"]}
    found = {"kernel": platform.release(), "cpus": os.cpu_count()}
    for name, command in tools.items():
        with contextlib.suppress(OSError):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            found[name] = done.stdout.decode(errors="replace").splitlines()[0] if done.stdout else ""
    return found


def everything_else(table, programs, scratch, args):
    """The rows that are not about views and the tensors in them."""
    store = set_up(scratch, args)
    as_root(table, scratch, store)
    as_user(table, scratch, store)
    verifying(table, store)
    unpacking(table, scratch, args.files)
    writing(table, scratch, args)
    bench_mpi.saving(table, programs, scratch, args.write)
    bench_mpi.stopping(table, programs, scratch, args.write)
    if args.many:
        bench_mpi.small_shards(table, programs, scratch, args.many)
    peers(table, scratch, store)
    if args.many:
        many_shards(table, scratch, args.many)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each pair (5)")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="size of a whole-file shard (1024)")
    parser.add_argument("--write", type=int, default=4096, metavar="MIB", help="size of a file that is written and committed (4096)")
    parser.add_argument("--files", type=int, default=20_000, help="small files that are unpacked (20000)")
    parser.add_argument("--shards", type=int, default=100_000, help="shards of the checkpoint that is listed (100000)")
    parser.add_argument("--many", type=int, default=1_000_000, help="shards of the checkpoint that is mounted (1000000; 0: not)")
    parser.add_argument("--view", type=int, default=1024, metavar="MIB", help="size of a view that is read (1024)")
    parser.add_argument("--sharded", type=int, default=4096, metavar="MIB", help="size of a sharded model that is loaded (4096)")
    parser.add_argument("--tensors", type=int, default=100_000, help="tensors that are catalogued (100000)")
    parser.add_argument("--views-only", action="store_true", help="only the rows about views and tensors")
    parser.add_argument("--only", metavar="WORD", help="only rows whose name holds WORD")
    parser.add_argument("--json", type=pathlib.Path, default=BUILD / "bench.json", help="where every sample goes")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: run it as root: it drops the page cache and mounts with passthrough")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    scratch.chmod(0o755)
    table = Table(args.rounds, args.only)
    programs = {"ckptfs": CKPTFS, "ckptfs-mpi": str(BUILD / "ckptfs-mpi"), "top": TOP,
                "python": TOP / "build/venv/bin/python3"}
    try:
        if not args.views_only:
            everything_else(table, programs, scratch, args)
        bench_views.rows(table, programs, scratch, {"mib": args.view, "sharded_mib": args.sharded, "tensors": args.tensors}, Mount)
        bench_numbers.rows(table, programs, scratch, args.sharded)
    finally:
        for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
            if str(scratch) in line:
                subprocess.run(["umount", "-l", line.split()[1]])
        shutil.rmtree(scratch, ignore_errors=True)
    args.json.write_text(json.dumps({"versions": versions(), "argv": sys.argv, "rows": table.rows}, indent=1) + "\n")
    print(f"every sample: {args.json}")


if __name__ == "__main__":
    main()
