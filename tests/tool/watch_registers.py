#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Watches where perf events are forbidden to the tool: by debug registers that ptrace sets. What is told is the same, but for the
count of accesses, and threads that come later."""
from kit import *

PERF_EVENT_OPEN = "298"


def attached(program, *arguments):
    tool = Tool("watch", "--json", *arguments, "-p", program.pid, ready="by debug registers",
                before=[target("forbid"), PERF_EVENT_OPEN])
    return tool


def warmed(*arguments):
    program = Program("watched")
    for warm in ("many 3", "many 0", "threads 2 1", "fields"):
        program.ask(warm)
    return program, int(program.ask("bump 0"))


def test_each_change_is_seen():
    program, begun = warmed()
    with Untouched(program.pid):
        tool = attached(program, "counter", "hidden")
        program.ask("bump 200")
        program.ask("same 20")
        done = tool.stop().expect(0, "not by perf events")
        hits = done.watches("counter")
        assert [(hit["old"], hit["new"]) for hit in hits] == [(begun + n, begun + n + 1) for n in range(200)], hits[:3]
        assert {hit["symbol"].split("+")[0] for hit in hits} == {"bump"}
        assert [hit["new"] for hit in done.watches("hidden")] == [1]
        assert "accesses" not in done.watched()["counter"] and done.watched()["counter"]["how"] == "debug register"
    program.quit()


def test_threads_that_are_there():
    program, begun = warmed()
    program.ask("many 5")
    tool = attached(program, "counter")
    program.ask("many 0")
    hits = tool.stop().expect(0).watches()
    assert hits[0]["old"] == begun and max(hit["new"] for hit in hits) == begun + 5, hits
    program.quit()


def test_a_tool_that_is_killed_leaves_registers_to_the_next():
    program, begun = warmed()
    for _ in range(3):
        tool = attached(program, "counter")
        program.ask("bump 3")
        tool.process.kill()
        tool.process.wait()
        assert program.ask("handler 2").startswith("2 traps")
    begun = int(program.ask("bump 0"))
    tool = attached(program, "counter")
    program.ask("bump 5")
    assert [hit["new"] for hit in tool.stop().expect(0).watches()] == [begun + n + 1 for n in range(5)]
    assert program.ask("handler 2").startswith("2 traps") and not changed_text(program.pid)
    program.quit()


def test_registers_that_were_once_set_so_are_set_so_again():
    program, begun = warmed()
    attached(program, *(f"table[{i}]" for i in range(4))).stop().expect(0)
    tool = Tool("watch", "--json", "-v", "counter", "-p", program.pid, ready="by debug registers")
    program.ask("bump 5")
    hits = tool.stop().expect(0, "a debugger has once set").watches()
    assert [hit["new"] for hit in hits] == [begun + n + 1 for n in range(5)], hits
    program.quit()


def test_accesses_and_what_is_executed():
    program, _ = warmed()
    for spec, command, expected in (("mem:bytes+8/4:rw", "access read", 1), ("mem:bump:x", "bump 7", 7),
                                    ("mem:bytes+8/4:w", "access string", 4)):
        tool = attached(program, spec)
        program.ask(command)
        done = tool.stop().expect(0)
        assert len(done.watches()) == expected, (spec, done.watches())
    program.quit()


main(globals())
