#!/usr/bin/env python3
"""A trainer that may be killed at any moment.

trainer.py RUN LAST ACKNOWLEDGED     resumes RUN's latest checkpoint, saves every step up to LAST by a rename, and notes in
                                     the file ACKNOWLEDGED each step whose rename has returned. Exit 3: the run was not found
                                     as it has to be.
"""

import errno
import hashlib
import os
import pathlib
import shutil
import sys
import time


def shards(step):
    """The state after @step, as three files; anybody can tell whether it is that."""
    for rank in range(3):
        block = hashlib.sha256(f"{step} {rank}".encode()).digest()
        yield f"rank-{rank}.bin", block * (3000 + 1000 * rank)


def wrong(message):
    print(message, flush=True)
    sys.exit(3)


def resume(run, acknowledged):
    """The step of the latest checkpoint, which is whole, and no older than what was acknowledged."""
    noted = [int(line) for line in acknowledged.read_text().split()] if acknowledged.exists() else []
    latest = run / ".ckptfs/latest"
    folder = os.open(run, os.O_RDONLY)  # not there: the mount was taken away this moment, which says nothing of the run
    try:
        step = int(os.readlink(".ckptfs/latest", dir_fd=folder).rpartition("-")[2])
    except FileNotFoundError:  # and not the error of a mount whose daemon was killed this moment
        if noted:
            wrong(f"nothing is committed, but step {noted[-1]} was acknowledged")
        return 0
    for name, data in shards(step):
        if (latest / name).read_bytes() != data:
            wrong(f"{name} of step {step} is not what was saved")
    if noted and step < noted[-1]:
        wrong(f"the latest is step {step}, but step {noted[-1]} was acknowledged")
    return step


def clean_up(folder):
    """What a killed one left. Its commit may be under way still: the mount gives it up, and says EBUSY until then."""
    for _ in range(50):
        try:
            return shutil.rmtree(folder)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        time.sleep(0.1)
    wrong(f"{folder} is busy though nobody writes there")


def main():
    run, last, acknowledged = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
    step = resume(run, acknowledged)
    print(f"resumed at {step}", flush=True)
    for left in run.glob("*.tmp"):
        clean_up(left)
    while step < last:
        step += 1
        folder = run / f"step-{step}.tmp"
        folder.mkdir()
        for name, data in shards(step):
            (folder / name).write_bytes(data)
        folder.rename(run / f"step-{step}")
        with open(acknowledged, "a") as file:
            file.write(f"{step}\n")
        # Retention, as trainers have it.
        old = run / f"step-{step - 3}"
        if old.exists():
            shutil.rmtree(old)


if __name__ == "__main__":
    main()
