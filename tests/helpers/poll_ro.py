#!/usr/bin/env python3
"""Look at a mount again and again while others write and commit: is anything shown that is not committed, or not whole?

    poll_ro.py MNT SOURCE STOP NAME...

Every checkpoint in MNT/run is a copy of SOURCE. NAME are paths below MNT of what is open, or committed, at some moment;
a '#' in one stands for the numbers from 0 on. Ends when the file STOP is there; prints how often it looked and
what it saw. Nothing that was once seen may go again.
"""

import os
import pathlib
import sys

CONTROL = ".ckptfs"
AHEAD = 3  # names of the next few are asked for before they can be there


def shape(folder):
    """What is in it: path and size."""
    found = {}
    for parent, _, names in os.walk(folder, onerror=fail):
        for name in names:
            path = os.path.join(parent, name)
            found[os.path.relpath(path, folder)] = os.lstat(path).st_size
    return found


def fail(error):
    raise error


class Poll:
    def __init__(self, mnt, source):
        self.mnt, self.source, self.want = pathlib.Path(mnt), pathlib.Path(source), shape(source)
        self.looks, self.seen, self.read = 0, set(), 0

    def judge(self, path):
        """It is there: then it is committed, and whole."""
        name = os.path.relpath(path, self.mnt)
        if name.endswith((".tmp", ".partial")):
            sys.exit(f"{name}: what is open is shown")
        state = os.getxattr(path, "user.ckptfs.state").decode()
        if state != "committed":
            sys.exit(f"{name}: it is shown, and its state is {state}")
        got = shape(path)
        if got != self.want:
            sys.exit(f"{name}: {len(got)} files are shown, {len(self.want)} belong to it: {sorted(got.items() ^ self.want.items())[:5]}")
        os.stat(os.path.join(path, CONTROL, "manifest.jsonl"))
        if name not in self.seen:
            # Its bytes, once.
            for file in self.want:
                if (pathlib.Path(path) / file).read_bytes() != (self.source / file).read_bytes():
                    sys.exit(f"{name}/{file}: other bytes")
                self.read += 1
        self.seen.add(name)

    def ask(self, name):
        path = self.mnt / name
        try:
            os.stat(path)
        except FileNotFoundError:
            return False
        self.judge(os.path.realpath(path))
        return True

    def once(self, patterns):
        listed = set(os.listdir(self.mnt))
        if not listed <= {"run", "latest"}:
            sys.exit(f"the mount shows {listed}")
        if "latest" in listed:
            self.judge(os.path.realpath(self.mnt / "latest"))
        names = os.listdir(self.mnt / "run") if listed else []
        for name in names:
            if name != "latest":
                self.judge(self.mnt / "run" / name)
        gone = {name for name in self.seen if name.startswith("run/")} - {f"run/{name}" for name in names}
        if gone:
            sys.exit(f"was shown, and is not any more: {gone}")
        for pattern in patterns:
            number = missing = 0
            while missing < AHEAD:
                missing = 0 if self.ask(pattern.replace("#", str(number))) else missing + 1
                number += 1
                if "#" not in pattern:
                    break
        self.looks += 1


def main(mnt, source, stop, *patterns):
    poll = Poll(mnt, source)
    while not os.path.exists(stop):
        poll.once(patterns)
    poll.once(patterns)
    print(f"{poll.looks} looks, {len(poll.seen)} checkpoints")


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
