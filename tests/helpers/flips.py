#!/usr/bin/env python3
"""Flip single bits of a store behind its mount, one at a time, and see what readers are told.

    flips.py STORE MNT LOG PLAIN COUNT SEED [OPTIONS]

MNT is a mount of STORE whose log is LOG; PLAIN holds the same checkpoints with every shard as a file. Every flip
leaves size and mtime as they were, as a failing disk does. Kinds, in turn:

    shard      anywhere in a shard that is its own file
    last       in the last block of one
    pack       in a shard that lies in a pack
    manifest   anywhere in a manifest

A flipped shard is EIO, and the log gains a line that names the shard and the very block. (What verify=read has
verified before may be kept, and be right: there, pages are dropped first.) A flipped manifest is no news to the mount
that has read it: there the bytes stay right, or are EIO. A second mount with an empty index, made with OPTIONS, must
answer EIO for that checkpoint. Each time all other shards read well, and the bit is put back, after which the shard
reads well again.
Prints a line a flip, then the numbers of each kind, then `N flips, all well`.
"""

import collections
import errno
import json
import os
import pathlib
import random
import subprocess
import sys
import time

KINDS = ("shard", "last", "pack", "shard", "manifest")


class Shard:
    def __init__(self, checkpoint, line):
        self.checkpoint, self.path, self.size = checkpoint, line["shard"], line["size"]
        self.block, at = line.get("block", 1 << 20), line.get("at")
        self.file, self.offset = (at["file"], at["offset"]) if at else (self.path, 0)
        self.packed = at is not None

    @property
    def name(self):
        return f"{self.checkpoint}/{self.path}"


class Store:
    def __init__(self, root, plain):
        self.root = pathlib.Path(root)
        self.manifests = sorted(self.root.glob("**/.ckptfs/manifest.jsonl"))
        self.shards, self.flipped = [], set()
        for manifest in self.manifests:
            checkpoint = str(manifest.parent.parent.relative_to(self.root))
            for text in manifest.read_bytes().splitlines():
                line = json.loads(text)
                if line.get("size"):
                    self.shards.append(Shard(checkpoint, line))
        self.right = {shard.name: (pathlib.Path(plain) / shard.name).read_bytes() for shard in self.shards}

    def stored(self, shard):
        return self.root / shard.checkpoint / shard.file


def flip(path, offset, bit):
    times = os.stat(path)
    with open(path, "r+b", buffering=0) as file:
        byte = os.pread(file.fileno(), 1, offset)[0]
        os.pwrite(file.fileno(), bytes([byte ^ (1 << bit)]), offset)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def read(path, cold=False):
    """The bytes, or the name of the errno. Cold: not out of pages that the kernel keeps of earlier reads."""
    try:
        with open(path, "rb", buffering=0) as file:
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            parts = []
            while part := file.read(1 << 20):
                parts.append(part)
            return b"".join(parts)
    except OSError as error:
        return errno.errorcode[error.errno]


def wrong(*words):
    sys.exit("WRONG: " + " ".join(str(word) for word in words))


def rest_is_well(store, mnt, but):
    for shard in store.shards:
        if but(shard):
            continue
        got = read(mnt / shard.name)
        if got != store.right[shard.name]:
            wrong(shard.name, "was not touched, but reads as", got if isinstance(got, str) else "other bytes")


def choose(store, dice, kind):
    """A bit that was not flipped before: the same line is logged once only."""
    while True:
        shard = dice.choice([shard for shard in store.shards if shard.packed == (kind == "pack")])
        first = (shard.size - 1) // shard.block * shard.block if kind == "last" else 0
        chosen = shard, dice.randrange(first, shard.size), dice.randrange(8)
        if chosen not in store.flipped:
            store.flipped.add(chosen)
            return chosen


def flip_shard(store, mnt, log, dice, kind, cold):
    shard, at, bit = choose(store, dice, kind)
    stored, before = store.stored(shard), log.stat().st_size
    flip(stored, shard.offset + at, bit)
    got = read(mnt / shard.name, cold)
    with open(log, "rb") as file:
        file.seek(before)
        said = [line for line in file.read().decode().splitlines() if "block" in line]
    block = at // shard.block
    end = min((block + 1) * shard.block, shard.size) - 1
    what = f"'{shard.name}': block {block} (bytes {block * shard.block}-{end}): xxh3-64 is "
    print(f"{kind}: {shard.name} byte {at} bit {bit}: {got if isinstance(got, str) else 'bytes'}", flush=True)
    if got != "EIO":
        wrong("not EIO; the log:", said)
    if len(said) != 1 or what not in said[0]:
        wrong("the log should have one line with", what, "and has", said)
    if shard.packed and f" in {shard.file}" not in said[0]:
        wrong("the log does not name the pack", shard.file)
    # Of the same pack, only the shards in other places are asked.
    rest_is_well(store, mnt, lambda other: other is shard)
    flip(stored, shard.offset + at, bit)
    if read(mnt / shard.name) != store.right[shard.name]:
        wrong(shard.name, "does not read well after the bit was put back")


class SecondMount:
    """A daemon that has never seen the store, with an index of its own."""

    def __init__(self, store, mnt, options):
        self.point = mnt.with_name("second")
        self.point.mkdir(exist_ok=True)
        self.index = mnt.with_name(f"second-{time.monotonic_ns()}.db")
        words = ",".join(filter(None, [options, f"index={self.index}"]))
        self.log = open(mnt.with_name("second.log"), "ab")
        self.daemon = subprocess.Popen(["mount.ckptfs", str(store.root), str(self.point), "--foreground", "-o", words],
                                       stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def __enter__(self):
        deadline = time.monotonic() + 20
        while not (os.path.ismount(self.point) and (self.point / ".ckptfs/stats").exists()):
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                wrong("the second mount does not come up:", pathlib.Path(self.log.name).read_text())
            time.sleep(0.02)
        return self.point

    def __exit__(self, *_):
        subprocess.run(["ckptfs", "umount", str(self.point)], check=True, stdout=subprocess.DEVNULL)
        if self.daemon.wait(20) != 0:
            wrong("the second daemon ended with", self.daemon.returncode)
        self.log.close()


def flip_manifest(store, mnt, dice, options):
    manifest = dice.choice(store.manifests)
    checkpoint = str(manifest.parent.parent.relative_to(store.root))
    at, bit = dice.randrange(manifest.stat().st_size), dice.randrange(8)
    flip(manifest, at, bit)
    mine = [shard for shard in store.shards if shard.checkpoint == checkpoint]
    said = collections.Counter()
    with SecondMount(store, mnt, options) as second:
        for where, must in ((mnt, ("EIO", "right")), (second, ("EIO",))):
            for shard in mine:
                got = read(where / shard.name)
                said["right" if got == store.right[shard.name] else got if isinstance(got, str) else "other bytes"] += 1
                if got not in must and not ("right" in must and got == store.right[shard.name]):
                    wrong(f"manifest of {checkpoint}, byte {at} bit {bit}:", shard.name, "through", where, "is",
                          got if isinstance(got, str) else "bytes", "should be", must)
            rest_is_well(store, where, lambda other: other.checkpoint == checkpoint)
    print(f"manifest: {checkpoint} byte {at} bit {bit}: {dict(said)}", flush=True)
    flip(manifest, at, bit)
    rest_is_well(store, mnt, lambda _: False)


def main(root, mnt, log, plain, count, seed, options=""):
    store, mnt, log = Store(root, plain), pathlib.Path(mnt), pathlib.Path(log)
    dice, done = random.Random(int(seed)), collections.Counter()
    rest_is_well(store, mnt, lambda _: False)
    print(f"seed {seed}; {len(store.shards)} shards, {len(store.manifests)} manifests", flush=True)
    for number in range(int(count)):
        kind = KINDS[number % len(KINDS)]
        if kind == "manifest":
            flip_manifest(store, mnt, dice, options)
        else:
            flip_shard(store, mnt, log, dice, kind, "verify=read" in options)
        done[kind] += 1
    print(", ".join(f"{kind} {done[kind]}" for kind in sorted(done)))
    print(f"{sum(done.values())} flips, all well")


if __name__ == "__main__":
    if len(sys.argv) not in (7, 8):
        sys.exit(__doc__)
    main(*sys.argv[1:])
