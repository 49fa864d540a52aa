# SPDX-License-Identifier: MIT
"""Running subjects and keeping figures."""
import contextlib
import os
import re
import subprocess
import time


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


def figures(text, clock="cpu"):
    """What a loop printed, among what its tracer printed: nanoseconds a call by name, by the thread's processor time
    or by time on the wall."""
    found = re.findall(r"loop: (\w+) wall (-?[\d.]+) cpu (-?[\d.]+)", text)
    if not found:
        raise Unavailable("the loop printed no figure")
    return {name: float(wall if clock == "wall" else cpu) for name, wall, cpu in found}


def named(text):
    """Lines of `name value`."""
    return {name: float(value) for name, value in (line.split() for line in text.splitlines())}


def quartile(values):
    """The lower one. What else the machine does can only add to a time; a quarter of all turns are taken to be free of
    it."""
    return sorted(values)[len(values) // 4]


def milliseconds(function):
    start = time.monotonic()
    function()
    return (time.monotonic() - start) * 1e3


@contextlib.contextmanager
def undisturbed():
    """Keep other programs away, if we may: everything that is started in here runs before them."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pass
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


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
    """The program that calls tiny functions, bare, probed and with pads by hand, all in turns; see loop.c."""

    def __init__(self, program):
        self.program = program

    def command(self, site, calls, rounds, *twin):
        return [self.program, site, calls, rounds, *twin]

    def measure(self, site, calls, rounds, before=(), twin=(), clock="cpu"):
        """{line: nanoseconds beyond the bare function}; `twin` is what the kernel is to do with the site's twin."""
        return figures(run([*before, *self.command(site, calls, rounds, *twin)]), clock)
