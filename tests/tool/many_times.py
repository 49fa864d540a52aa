#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Attach and detach 200 times to a busy program: its memory map and its text end as they began."""
from kit import *

RUNS = (["count", "-e", "EXE!work"], ["count", "-e", "EXE!*"], ["count", "-e", "libc!*"], ["count", "-e", "*"],
        ["trace", "-n", "100", "-e", "EXE!work x=$arg1", "-e", "r EXE:work"])


def test_200_times():
    program = Program("sleeper")
    program.ask("check")
    hits = 0
    with Untouched(program.pid):
        before = os.listdir(f"/proc/{program.pid}/fd")
        for i in range(200):
            command, *rest = RUNS[i % len(RUNS)]
            done = run(command, "--json", *rest, "-q", "-t", "0.01", "-p", program.pid).expect(0)
            hits += done.summary()["hits"]
            if i % 20 == 0:
                assert program.ask("check") == "0 wrong", i
                assert not changed_text(program.pid), i
        assert sorted(os.listdir(f"/proc/{program.pid}/fd")) == sorted(before)
    assert hits > 1000, hits
    assert program.ask("check") == "0 wrong"
    program.quit()


main(globals())
