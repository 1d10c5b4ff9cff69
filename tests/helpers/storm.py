#!/usr/bin/env python3
"""Open every file of a folder at the same time, and see whether the rest of the mount still answers.

    storm.py FOLDER MNT LIMIT_SECONDS

While the files are opened for the first time, `ls` and `df` of the mount run again and again. Prints how many
opens were waiting when one of them ended, the longest time, and how the opens fared; fails when one took longer
than the limit, or when no open was waiting by then, which would prove nothing.
"""

import os
import pathlib
import subprocess
import sys
import threading
import time

COMMANDS = (["ls", "-l"], ["df"], ["stat"])


class Openers:
    def __init__(self, paths):
        self.left, self.failed, self.mu, self.go = len(paths), [], threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.open, args=(path,)) for path in paths]
        for thread in self.threads:
            thread.start()
        # All at once: threads start slowly while the first of them keep the processors busy.
        self.go.set()

    def open(self, path):
        self.go.wait()
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError as error:
            with self.mu:
                self.failed.append(f"{path}: {error}")
        with self.mu:
            self.left -= 1


def timed(command):
    begin = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin


def main(folder, mnt, limit):
    openers = Openers(sorted(pathlib.Path(folder).iterdir()))
    waiting, rounds, slowest = 0, 0, (0.0, "")
    while openers.left > 0 or rounds == 0:
        for command in COMMANDS:
            slowest = max(slowest, (timed([*command, folder if command[0] == "ls" else mnt]), command[0]))
            waiting = max(waiting, openers.left)
        rounds += 1
    for thread in openers.threads:
        thread.join()
    print(f"{waiting} of {len(openers.threads)} opens waiting when a command had ended; "
          f"{rounds} rounds, slowest: {slowest[1]} {slowest[0]:.2f} s; {len(openers.failed)} opens failed")
    if openers.failed or not waiting or slowest[0] > float(limit):
        sys.exit("\n".join(["not as it should be", *openers.failed]))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
