# SPDX-License-Identifier: MIT
"""What the tests on running servers and restless programs share, beside the kit of tests/tool."""
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tool"))
from kit import *  # noqa: E402


def background(*command, **options):
    """A program of somebody else's, ended with the test."""
    options.setdefault("stdout", subprocess.DEVNULL)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    started.append(process)
    return process


def need(*names):
    for name in names:
        if not shutil.which(name):
            raise Skip(f"{name} is not installed")


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def check_gone(pid):
    """Nothing of ours is left in a program that goes on mapping memory by itself. It stands still for the look."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) == "T", "the program stands still")
    left = [area for area in areas(pid) if "memfd:trapline" in area[3]]
    changed = changed_text(pid)
    descriptors = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    os.kill(pid, signal.SIGCONT)
    assert not left, left
    assert not changed, changed
    assert tracer(pid) == 0
    assert not any("memfd:trapline" in name for name in descriptors), descriptors
