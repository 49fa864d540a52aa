# SPDX-License-Identifier: MIT
"""A watch's hit, by the tool and by others; see watched.c."""
import os
import re
import tempfile

from measure import Unavailable, quartile, run

TURNS, ROUNDS, WRITES = 9, 10, 2000
FEW = 50  # writes where every instruction is a step
IDLE_WRITES = 5000000


def rounds(text, clock):
    """Nanoseconds a write, of each round; the first one has still everything to warm up."""
    found = re.findall(r"^watched ([\d.]+) ([\d.]+)$", text, re.MULTILINE)
    if len(found) < 2:
        raise Unavailable("the loop printed no figures")
    return [float(pair[clock == "wall"]) for pair in found[1:]]


class Watching:
    def __init__(self, trapline, program):
        self.trapline, self.program = trapline, program

    def watch(self, events, spec, *options):
        return [self.trapline, "watch", "-q", "-o", events, *options, spec, "--"]

    def loop(self, mode, count=WRITES, before=(), turns=ROUNDS, clock="cpu"):
        return rounds(run([*before, self.program, mode, turns, count]), clock)

    def in_turns(self, *measures):
        """The lower quartile of each, all measured again and again one after the other."""
        kept = [[] for _ in measures]
        for _ in range(TURNS):
            for values, measure in zip(kept, measures):
                values += measure()
        return [quartile(values) for values in kept]

    def hits(self):
        """Bare; by the tool with a filter that nothing passes; with each event recorded; with stacks."""
        with tempfile.TemporaryDirectory() as folder:
            events = os.path.join(folder, "events")
            return self.in_turns(lambda: self.loop("bare"),
                                 lambda: self.loop("plain", before=self.watch(events, "cell if new == 0")),
                                 lambda: self.loop("plain", before=self.watch(events, "cell")),
                                 lambda: self.loop("plain", before=self.watch(events, "cell", "-k")))

    def idle(self):
        """A write beside what is watched, over one in a program that nobody watches."""
        ratios = []
        for _ in range(TURNS):
            plain = self.loop("beside", IDLE_WRITES)
            watched = self.loop("beside", IDLE_WRITES, self.watch("/dev/null", "cell"))
            ratios.append(min(watched) / min(plain))
        return sorted(ratios)[len(ratios) // 2]

    def gdb(self, hardware):
        """gdb's watchpoint with a condition that is never true, by the wall: most of it is gdb's own work."""
        count = WRITES // 10 if hardware else FEW
        gdb = ["gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off", "-ex", f"set can-use-hw-watchpoints {int(hardware)}",
               "-ex", "break write_often", "-ex", "run", "-ex", "watch cell if cell == 0", "-ex", "delete 1", "-ex",
               "continue", "--args"]
        return quartile(self.loop("plain", count, gdb, turns=3, clock="wall"))

    def by_the_wall(self):
        """The tool's, with a filter, for comparison with gdb's."""
        return quartile(self.loop("plain", before=self.watch("/dev/null", "cell if new == 0"), clock="wall"))
