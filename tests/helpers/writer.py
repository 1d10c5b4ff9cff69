#!/usr/bin/env python3
"""Write files that can be checked, and tell which bytes were synced: for kills of whatever serves the folder.

    writer.py write FOLDER LOG SEED COUNT   COUNT files in FOLDER; LOG, elsewhere, gets a line of "NAME BYTES" after each
                                            fsync or msync that succeeded, "begin" before the first, "end" after the last
    writer.py check FOLDER LOG SEED         every byte that LOG calls synced is there and right, and no file holds others;
                                            prints how many files and bytes
"""

import mmap
import os
import pathlib
import random
import sys

PIECE_MAX = 150_000
PIECES_MAX = 5


class Plan:
    """What file number @number is to hold: the same for one seed."""

    def __init__(self, seed, number):
        rng = random.Random(f"{seed} {number}")
        self.name = f"rank-{number % 4}/shard-{number:05}"
        self.pieces = [rng.randrange(1, PIECE_MAX) for _ in range(rng.randrange(1, PIECES_MAX + 1))]
        self.bytes = rng.randbytes(sum(self.pieces))
        self.synced = [rng.random() < 0.6 for _ in self.pieces]
        self.is_mapped = number % 3 == 2
        # As a framework does it that renames what is complete.
        self.is_renamed = number % 5 == 4


def number_of(name):
    return int(name.rpartition("-")[2])


class Log:
    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def line(self, text):
        os.write(self.fd, f"{text}\n".encode())


def write_pieces(fd, plan, log):
    at = 0
    for size, synced in zip(plan.pieces, plan.synced):
        end = at + size
        while at < end:
            at += os.write(fd, plan.bytes[at:end])
        if synced:
            os.fsync(fd)
            log(at)


def write_mapped(fd, plan, log):
    os.ftruncate(fd, len(plan.bytes))
    with mmap.mmap(fd, len(plan.bytes)) as view:
        at = 0
        for size in plan.pieces:
            view[at:at + size] = plan.bytes[at:at + size]
            at += size
        view.flush()
        log(at)


def write_one(folder, plan, log):
    path = folder / plan.name
    first = path.with_name(path.name + ".new") if plan.is_renamed else path
    path.parent.mkdir(exist_ok=True)
    fd = os.open(first, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    (write_mapped if plan.is_mapped else write_pieces)(
        fd, plan, lambda size: log.line(f"{first.relative_to(folder)} {size}"))
    os.close(fd)
    if plan.is_renamed:
        os.rename(first, path)


def write(folder, log, seed, count):
    log = Log(log)
    log.line("begin")
    for number in range(int(count)):
        write_one(pathlib.Path(folder), Plan(seed, number), log)
    log.line("end")


def synced_of(log):
    synced = {}
    for line in pathlib.Path(log).read_text().splitlines():
        name, _, size = line.partition(" ")
        if size:
            synced[name.removesuffix(".new")] = int(size)
    return synced


def check_one(path, plan, synced):
    got = path.read_bytes()
    if len(got) < synced:
        sys.exit(f"{path}: {len(got)} bytes, and {synced} were synced")
    if len(got) > len(plan.bytes) or got[:synced] != plan.bytes[:synced]:
        sys.exit(f"{path}: bytes that were synced are others now")
    if plan.is_mapped:
        # Pages that nobody had filled yet are zeros.
        if any(have not in (0, want) for have, want in zip(got, plan.bytes)):
            sys.exit(f"{path}: bytes that nobody wrote")
    elif got != plan.bytes[:len(got)]:
        sys.exit(f"{path}: bytes that nobody wrote")


def check(folder, log, seed):
    folder, synced = pathlib.Path(folder), synced_of(log)
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".ckptfs"]
        for name in names:
            path = pathlib.Path(parent, name)
            found[str(path.relative_to(folder)).removesuffix(".new")] = path
    missing = synced.keys() - found.keys()
    if missing:
        sys.exit(f"synced, and not there: {sorted(missing)}")
    for name, path in found.items():
        plan = Plan(seed, number_of(name))
        if name != plan.name:
            sys.exit(f"{path}: a file that nobody made")
        check_one(path, plan, synced.get(name, 0))
    print(f"{len(found)} files, {sum(synced.values())} bytes synced")


COMMANDS = {"write": (write, 4), "check": (check, 3)}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS or len(sys.argv) - 2 != COMMANDS[sys.argv[1]][1]:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]][0](*sys.argv[2:])
