#!/usr/bin/env python3
"""Handles of one file in ways that a shell cannot: side by side, unbuffered, mapped, all at once.

    handles.py mixed FILE PLAIN        plain and O_DIRECT handles, opened and closed in turn, all read PLAIN's bytes
    handles.py outlive FILE PLAIN      a mapping whose descriptor is closed still holds PLAIN's bytes
    handles.py unaligned FILE PLAIN    reads through O_DIRECT that no disk would take
    handles.py blocks FILE PLAIN [FLIP]  read block by block through one handle; FLIP is a block whose stored byte is
                                       changed once the first block has been read. Prints a line for each block.
    handles.py touch FILE OFFSET       maps the file and reads one byte of the mapping: SIGBUS where there is none
    handles.py each FOLDER             open, read and close every file below
    handles.py together COUNT FILE...  COUNT threads open each FILE at the same time; prints how they fared
"""

import collections
import errno
import mmap
import os
import pathlib
import subprocess
import sys
import threading

MIB = 1 << 20


def aligned(fd, at, size):
    """One unbuffered read, whose memory, offset and length suit any disk."""
    with mmap.mmap(-1, size) as room:
        got = os.preadv(fd, [room], at)
        return room[:got]


def check(what, got, want):
    if got != want:
        sys.exit(f"{what}: {len(got)} bytes that are not the stored ones")


def mixed(path, plain):
    want = pathlib.Path(plain).read_bytes()
    one = os.open(path, os.O_RDONLY)
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    two = os.open(path, os.O_RDONLY)
    with mmap.mmap(one, 0, prot=mmap.PROT_READ) as view:
        for at in range(0, len(want), MIB):
            part = want[at:at + MIB]
            check(f"first handle at {at}", os.pread(one, MIB, at), part)
            check(f"O_DIRECT handle at {at}", aligned(direct, at, MIB), part)
            check(f"second handle at {at}", os.pread(two, MIB, at), part)
            check(f"mapping at {at}", view[at:at + MIB], part)
    os.close(one)
    check("O_DIRECT handle when another is closed", aligned(direct, 0, MIB), want[:MIB])
    os.close(direct)
    check("second handle when the others are closed", os.pread(two, len(want), 0), want)
    with mmap.mmap(two, 0, prot=mmap.PROT_READ) as view:
        check("mapping beside nothing else", view[:], want)
    os.close(two)
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    check("O_DIRECT handle alone", aligned(direct, 0, MIB), want[:MIB])
    with mmap.mmap(direct, 0, prot=mmap.PROT_READ) as view:
        check("mapping of an O_DIRECT handle", view[:], want)
    os.close(direct)


def outlive(path, plain):
    want = pathlib.Path(plain).read_bytes()
    fd = os.open(path, os.O_RDONLY)
    view = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    os.close(fd)
    # Python keeps a duplicate: closed as well, so that only the mapping is left.
    for name in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{name}") == os.path.realpath(path):
            os.close(int(name))
    for at in range(len(want) - MIB, -1, -MIB):
        check(f"mapping at {at}", view[at:at + MIB], want[at:at + MIB])


def unaligned(path, plain):
    want = pathlib.Path(plain).read_bytes()
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    for at, size in ((1, 10), (4095, 2), (513, 70001), (len(want) - 3, 100), (len(want), 10)):
        try:
            got = os.pread(fd, size, at)
        except OSError as error:
            # As the disk below would say; but never other bytes.
            if error.errno != errno.EINVAL:
                raise
            continue
        check(f"{size} bytes at {at}", got, want[at:at + size])


def blocks(path, plain, flip=None):
    want = pathlib.Path(plain).read_bytes()
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for idx, at in enumerate(range(0, len(want), MIB)):
        if flip is not None and idx == 1:
            subprocess.run(["ckpt-test", "flip", plain, str(int(flip) * MIB + 77)], check=True)
        try:
            said = "right" if os.pread(fd, MIB, at) == want[at:at + MIB] else "other bytes"
        except OSError as error:
            said = errno.errorcode[error.errno]
        print(idx, said, flush=True)


def touch(path, offset):
    fd = os.open(path, os.O_RDONLY)
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as view:
        print(view[int(offset)])


def each(folder):
    count = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as shard:
                shard.read(1)
            count += 1
    print(count)


def together(count, *paths):
    said, lock, start = collections.Counter(), threading.Lock(), threading.Barrier(int(count) * len(paths))

    def one(path):
        start.wait()
        try:
            os.close(os.open(path, os.O_RDONLY))
            result = "OK"
        except OSError as error:
            result = errno.errorcode[error.errno]
        with lock:
            said[result] += 1

    threads = [threading.Thread(target=one, args=(path,)) for path in paths for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(" ".join(f"{result} {number}" for result, number in sorted(said.items())))


COMMANDS = {"mixed": mixed, "outlive": outlive, "unaligned": unaligned, "blocks": blocks, "touch": touch,
            "each": each, "together": together}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](*sys.argv[2:])
