#!/usr/bin/env python3
"""Read and map a file of a mount, let something happen to what is stored behind it, read and map again.

    behind.py FILE GOOD ACTION      GOOD holds the right bytes, at least 10 MiB; ACTION is a shell command

Prints a line for each later read and each later access of the mapping: right, short (of right bytes), cut (right, then
zeros, as in the last page of a file), other bytes, the errno, or the signal.
"""

import errno
import mmap
import os
import pathlib
import signal
import subprocess
import sys


def outcome(what, get, want):
    try:
        got = get()
    except OSError as error:
        print(what, errno.errorcode[error.errno], flush=True)
        return
    if got == want:
        said = "right"
    elif want.startswith(got):
        said = "short"
    elif want.startswith(got.rstrip(b"\0")):
        said = "cut"
    else:
        said = "other bytes"
    print(what, said, flush=True)


def access(view, at, want):
    """In a child: it may be its end."""
    child = os.fork()
    if child == 0:
        outcome("map", lambda: view[at:at + 4096], want)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        print("map", signal.Signals(os.WTERMSIG(status)).name, flush=True)


def main(path, good, action):
    want = pathlib.Path(good).read_bytes()
    fd = os.open(path, os.O_RDONLY)
    view = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    if os.pread(fd, 5000, 3000) != want[3000:8000] or view[:5000] != want[:5000]:
        sys.exit("not right to begin with")
    subprocess.run(["bash", "-euc", action], check=True)
    for at in (0, 9 << 20, len(want) - 4096):
        outcome("read", lambda: os.pread(fd, 4096, at), want[at:at + 4096])
        access(view, at, want[at:at + 4096])


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
