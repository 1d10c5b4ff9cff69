#!/usr/bin/env python3
"""Orbax CheckpointManager.

client_orbax.py save DIR FROM TO [todelete]     steps FROM to TO-1, two are kept
client_orbax.py load DIR STEP                   the latest is STEP, and is what was saved
client_orbax.py die DIR STEP                    killed between the inner rename and the outer one
"""

import os
import signal
import sys

import numpy
import orbax.checkpoint as ocp


def state(step):
    return {"w": numpy.arange(100000, dtype=numpy.float32) + step, "step": step}


def manager(folder, **options):
    return ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(max_to_keep=2, **options))


def die_before_the_outer_rename():
    """Orbax renames the item's folder first, then the step's: the second rename never comes."""
    rename, seen = os.rename, []

    def dying(old, new, *args, **named):
        if os.path.isdir(old) and seen:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.path.isdir(old):
            seen.append(old)
        return rename(old, new, *args, **named)

    os.rename = os.replace = dying


def main():
    word, folder, *rest = sys.argv[1:]
    if word == "load":
        step = int(rest[0])
        with manager(folder) as kept:
            assert kept.latest_step() == step, kept.all_steps()
            got = kept.restore(step)
        assert numpy.array_equal(got["w"], state(step)["w"]) and got["step"] == step
        print(f"loaded step {step}")
        return
    options = {"todelete_subdir": "todelete"} if "todelete" in rest else {}
    first, last = (int(rest[0]), int(rest[0]) + 1) if word == "die" else map(int, rest[:2])
    with manager(folder, enable_async_checkpointing=word != "die", **options) as kept:
        if word == "die":
            die_before_the_outer_rename()
        for step in range(first, last):
            kept.save(step, args=ocp.args.StandardSave(state(step)))
        kept.wait_until_finished()
        print(f"kept {kept.all_steps()}")


if __name__ == "__main__":
    main()
