#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How -f ends, by itself or by force: the whole family goes on, unharmed and untraced."""
import random

from kit import *

WAYS = ("fork", "vfork", "spawn", "system", "popen", "clone", "thread-fork")
NANOSLEEP = 230


class Busy:
    """Four children of a program that call, and make children that call, until they are told to end."""

    def __init__(self, *options, command="count"):
        self.path = tempfile.mktemp(dir=WORK)
        self.program = Program("family")
        self.before = areas(self.program.pid)
        self.tool = Tool(command, "-f", "--json", "-e", "EXE!step", *options, "-p", self.program.pid)
        self.program.tell(f"busy {self.path} 4 2000")
        wait_until(lambda: len(self.children()) == 4, "there are four children")
        # Each had a child at once, and was held until that one had its probes: it is in the midst of it.
        seen = {child: set() for child in self.children()}
        wait_until(lambda: all(self.see(seen, child) for child in seen), "each has had children")

    def children(self):
        return children(self.program.pid)

    def see(self, seen, child):
        seen[child].update(children(child))
        return len(seen[child]) > 2

    def check(self):
        for pid in [self.program.pid, *self.children()]:
            check_clean(pid, self.before)

    def end(self):
        """All go on to their right end."""
        open(self.path + ".end", "w").close()
        assert self.program.answer() == ""
        with open(self.path) as file:
            verdicts = file.read()
        assert verdicts == "xxxx", (verdicts, self.tool.err)
        self.program.quit()


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def call_of(pid):
    """The number of the system call that it waits in; None: in none."""
    with open(f"/proc/{pid}/syscall") as file:
        number = file.read().split()[0]
    return int(number) if number.isdigit() else None


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def test_killed_the_tool_leaves_all_of_them_running_to_their_right_end():
    busy = Busy()
    busy.tool.process.kill()
    busy.tool.process.wait()
    busy.end()


def test_interrupted_everything_is_taken_out_and_goes_on():
    busy = Busy()
    assert busy.tool.stop().expect(0).counts()["step"] > 0
    busy.check()
    busy.end()


def test_no_more_events_than_asked_for():
    busy = Busy("-n", 10, command="trace")
    assert len(busy.tool.end().expect(0).hits()) == 10
    busy.check()
    busy.end()


def test_the_time_is_over():
    busy = Busy("-t", "0.3")
    busy.tool.end().expect(0)
    busy.check()
    busy.end()


def test_who_was_stopped_stays_stopped():
    for sig in signal.SIGINT, signal.SIGKILL:
        busy = Busy()
        stopped = busy.children()[0]
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda: state(stopped) in "tT", "it is stopped")
        busy.tool.stop(sig)
        wait_until(lambda: state(stopped) == "T", "it is stopped without a tracer")
        assert tracer(stopped) == 0
        if sig == signal.SIGINT:
            assert not changed_text(stopped)
            if "still inside a probe" not in busy.tool.err:  # it was stopped there, and cannot come out of it
                check_clean(stopped, busy.before)
        os.kill(stopped, signal.SIGCONT)
        busy.end()


def test_programs_without_any_probe_are_left_clean():
    program = Program("/bin/sh", "-c", "echo ready; read line; sleep 1000 & p=$!; echo made; read line; kill $p; wait; echo end")
    tool = Tool("count", "-f", "-e", "EXE!nosuchname", "-p", program.pid)
    assert program.ask("") == "made"
    child, = children(program.pid)
    wait_until(lambda: call_of(child) == NANOSLEEP, "it sleeps")
    assert not any("trapline" in path for *_, path in areas(child)), "what it took to come to its entry"
    tool.stop().expect(1, "nothing of this name")
    assert tracer(child) == 0
    assert program.ask("") == "end"
    program.quit()


def ask_all(program):
    for way in WAYS:
        assert program.ask(way) == "exit 42", way


def test_ended_at_any_moment():
    """While children come in every way: by a signal, after which all is clean, or by force."""
    program = Program("children")
    ask_all(program)
    for turn in range(16):
        sig = random.choice((signal.SIGINT, signal.SIGKILL))
        before = areas(program.pid)
        tool = Tool("count", "-f", "-q", "-e", "EXE!called", "-e", "libc!*alloc", "-e", "libc!*fork*", "-p", program.pid)
        end = threading.Timer(random.random() * 0.15, tool.process.send_signal, [sig])
        end.start()
        while tool.process.poll() is None:
            ask_all(program)
        end.join()
        done = tool.end()
        if sig == signal.SIGINT:
            done.expect(0)
        else:
            run("count", "-q", "-t", "0.001", "-e", "EXE!called", "-p", program.pid).expect(0)
        check_clean(program.pid, before)
        ask_all(program)
    program.quit()


main(globals())
