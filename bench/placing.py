# SPDX-License-Identifier: MIT
"""Placing and removing many probes in a running process; see crowd.c."""
import re
import signal
import subprocess
import tempfile
import time

import elf
from measure import Unavailable, quartile, run

GLOBS = {1: "f00000", 10: "f0000?", 100: "f000??", 1000: "f00???", 10000: "f0????", 20000: "f?????"}


class Crowd:
    """The process with 20,000 functions and 16 threads."""

    def __init__(self, program):
        self.program = program
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
        self.missing()

    def missing(self):
        """(longest, total) milliseconds without running, since it was asked last."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return [float(word) for word in self.process.stdout.readline().split()]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        self.process.wait()


def place_and_remove(trapline, crowd, count):
    """Milliseconds: to place, missing meanwhile, to remove, missing meanwhile. Removing ends with the tool's exit."""
    crowd.missing()
    start = time.monotonic()
    tool = subprocess.Popen([trapline, "count", "-v", "-q", "-o", "/dev/null", "-e", f"EXE!{GLOBS[count]}", "-p",
                             str(crowd.process.pid)], stderr=subprocess.PIPE, text=True)
    placed = None
    for line in tool.stderr:
        found = re.search(r"(\d+) probes at \d+ places in place", line)
        if found:
            placed = int(found.group(1))
            break
    if placed is None:
        raise Unavailable("the probes were not placed")
    in_place = time.monotonic()
    time.sleep(0.05)
    stopped = crowd.missing()
    time.sleep(0.05)
    crowd.missing()
    removing = time.monotonic()
    tool.send_signal(signal.SIGINT)
    tool.stderr.read()
    tool.wait()
    removed = time.monotonic()
    return placed, (in_place - start) * 1e3, stopped, (removed - removing) * 1e3, crowd.missing()


def curve(trapline, crowd, turns):
    """{count: figures}: lower quartiles. Where there is more than one probe, what that takes beyond one."""
    measured = {count: [] for count in GLOBS}
    for _ in range(turns):
        for count in GLOBS:
            measured[count].append(place_and_remove(trapline, crowd, count))
    rows = {}
    for count, turns_of in measured.items():
        placed, place, stopped_placing, remove, stopped_removing = zip(*turns_of)
        rows[count] = {"placed": min(placed), "place": quartile(place), "remove": quartile(remove),
                       "stopped placing": quartile([longest for longest, _ in stopped_placing]),
                       "stopped removing": quartile([longest for longest, _ in stopped_removing])}
    for count in list(GLOBS)[1:]:
        for what in ("place", "remove"):
            rows[count][what] -= rows[1][what]
    return rows


def uprobe_multi(build, crowd, count):
    """(attach, detach) by the kernel, milliseconds."""
    loaded = elf.segments(crowd.program)
    names = re.compile(GLOBS[count].replace("?", r"\d") + "$")
    lines = [line.split() for line in run(["nm", crowd.program]).splitlines()]
    with tempfile.NamedTemporaryFile("w") as offsets:
        offsets.writelines(f"{elf.to_offset(loaded, int(words[0], 16)):#x}\n"
                           for words in lines if len(words) == 3 and names.match(words[2]))
        offsets.flush()
        done = run([f"{build}/bench/uprobe_place", crowd.process.pid, crowd.program, offsets.name])
    return [float(word) for word in done.split()]
