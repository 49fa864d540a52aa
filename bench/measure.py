# SPDX-License-Identifier: MIT
"""Running subjects and keeping figures."""
import os
import re
import statistics
import subprocess
import time

RUNS, BARE_CALLS = 5, 1000000


class Unavailable(Exception):
    """Why a peer cannot run here."""


def run(command, timeout=120, errors=subprocess.PIPE, **options):
    """Standard output of a command that has to succeed."""
    try:
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=errors, text=True, timeout=timeout, **options)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took more than {timeout} s") from None
    if done.returncode:
        last = ((done.stderr or "").strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Unavailable(f"{os.path.basename(str(command[0]))}: {last} (status {done.returncode})")
    return done.stdout


def figure(text, clock="cpu"):
    """What a loop printed, among what its tracer printed: nanoseconds a call, by the thread's processor time or by
    time on the wall."""
    found = re.search(r"wall ([\d.]+) cpu ([\d.]+)", text)
    if not found:
        raise Unavailable("the loop printed no figure")
    return float(found.group(1 if clock == "wall" else 2))


def milliseconds(function):
    start = time.monotonic()
    function()
    return (time.monotonic() - start) * 1e3


class Table:
    """Rows of a name, a figure and what is to be said beside it; printed as they come."""

    def section(self, title, note):
        print(f"\n{title:<58}{note:>12}", flush=True)

    def row(self, name, value, beside=""):
        if isinstance(value, Unavailable):
            print(f"  {name:<56}{'-':>12}  {value}", flush=True)
            return
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
        print(f"  {name:<56}{value:>12,.{digits}f}  {beside}".rstrip(), flush=True)

    def attempt(self, name, measure, beside=lambda value: ""):
        """Measure and show one figure; None where that is not possible."""
        try:
            value = measure()
        except Unavailable as reason:
            self.row(name, reason)
            return None
        self.row(name, value, beside(value))
        return value


def target(text, value, good):
    return f"{text}: {value} {'ok' if good else 'MISSED'}"


class Loop:
    """The program that calls a tiny function; see loop.c."""

    def __init__(self, program):
        self.program = program

    def once(self, site, calls, before=(), threads=1, clock="cpu"):
        return figure(run([*before, self.program, site, calls, threads]), clock)

    def per_call(self, site, calls, before, runs=RUNS, **options):
        """(bare, probed): medians of runs, taken in turns."""
        bare, probed = [], []
        for _ in range(runs):
            bare.append(self.once(site, BARE_CALLS, **options))
            probed.append(self.once(site, calls, before, **options))
        return statistics.median(bare), statistics.median(probed)

    def per_hit(self, *arguments, **options):
        bare, probed = self.per_call(*arguments, **options)
        return probed - bare
