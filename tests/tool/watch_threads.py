#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Thread-local variables: of the only thread they are watched, of several each one's place is told."""
from kit import *

BUILDS = ["locals", "locals-static", "locals-musl", "locals-musl-static"]
AT_START = ["locals", "locals-musl"]  # in a static program nothing has made them when its own code begins


def each(names):
    """Those that could be built here."""
    found = [name for name in names if os.path.exists(os.path.join(TARGETS, "target-" + name))]
    assert found[0] == "locals", found
    return found


def changes(hits, name):
    return [(hit["old"], hit["new"]) for hit in hits if hit["watch"] == name]


def count_up(first, times, step=1):
    return [(n, n + step) for n in range(first, first + times * step, step)]


def test_the_only_thread_of_a_running_process():
    for name in each(BUILDS):
        program = Program(name)
        assert program.ask("add 3") == "8"
        with Untouched(program.pid):
            tool = Tool("watch", "--json", "own", "mine.high", "mem:mine/2", "-p", program.pid, ready="in place")
            assert program.ask("add 50") == "58"
            done = tool.stop().expect(0, f"own: of thread {program.pid}; threads have copies of their own\n")
        assert changes(done.watches(), "own") == count_up(8, 50), (name, done.watches()[:2])
        assert changes(done.watches(), "mine.high") == count_up(-3, 50, -1), name
        assert {hit["symbol"].split("+")[0] for hit in done.watches()} == {"add"}
        assert {hit["tid"] for hit in done.watches()} == {program.pid}
        rows = done.watched()
        assert [rows[key]["accesses"] for key in ("own", "mine.high", "mine")] == [50, 50, 0], (name, rows)
        program.quit()


def test_a_command_from_its_start():
    for name in each(AT_START):
        done = run_with_file("watch", "--json", "own if new > 10", "mine", "--", target(name), "add", 20).expect(0)
        assert done.program == "25\n"
        assert changes(done.watches(), "own") == count_up(10, 15), (name, done.watches()[:2])
        assert done.watched()["own"]["accesses"] == 20
        whole = [hit["new"] for hit in done.watches() if hit["watch"] == "mine"]
        assert whole[0] == {"low": 1, "high": -1, "mood": "GLAD"}, whole[0]
        assert whole[-1] == {"low": 1, "high": -20, "mood": "SAD"} and len(whole) == 21, whole
        assert done.err.count("threads have copies of their own") == 2, done.err
        assert run("watch", "-q", "own", "--", target(name), "add", 0).expect(0).err == ""


def test_a_type_is_shown():
    done = run_with_file("watch", "mine.mood", "--", target("locals"), "add", 2).expect(0)
    assert "mine.mood: GLAD -> SAD  add+0x" in done.out, done.out


def test_a_static_program_that_has_not_begun():
    for name in [name for name in each(BUILDS) if name not in AT_START]:
        run("watch", "own", "--", target(name), "add", 1).expect(
            1, r"^trapline: own: it is thread-local.* has not been set up yet\n$")


def test_a_library_has_some_too():
    for before in ("begun", "launched"):
        specs = ("by_table", "by_offset")
        if before == "launched":
            done = run_with_file("watch", "--json", *specs, "--", target("locals"), "add", 30).expect(0)
        else:
            program = Program("locals")
            program.ask("add 0")
            tool = Tool("watch", "--json", *specs, "-p", program.pid, ready="in place")
            program.ask("add 30")
            done = tool.stop().expect(0)
            program.quit()
        assert changes(done.watches(), "by_table") == count_up(100, 30), (before, done.watches()[:3])
        assert changes(done.watches(), "by_offset") == count_up(200, 30, 2), (before, done.watches()[:3])
        assert all(row["accesses"] == 30 for row in done.watched().values())


def places_of(err):
    return {int(tid): spec for tid, spec in re.findall(r"^  thread (\d+): (\S+)$", err, re.M)}


def test_of_several_threads_each_is_told_and_can_be_watched():
    for name in each(BUILDS):
        program = Program(name)
        words = program.ask("begin 3").split()
        where = {int(tid): addr for tid, addr in zip(words[::2], words[1::2])}
        with Untouched(program.pid):
            refused = run("watch", "own", "-p", program.pid).expect(1, "^trapline: own: it is thread-local.* 4 threads")
            places = places_of(refused.err)
            assert places == {tid: f"mem:{addr}/4:w" for tid, addr in where.items()}, (name, where, refused.err)
            assert refused.err.count("\n") == 5 and not refused.out
            inside = run("watch", "watchpoint:own+1:2:rw", "-p", program.pid).expect(1)
            assert places_of(inside.err)[program.pid] == f"mem:{int(where[program.pid], 16) + 1:#x}/2:rw"
            chosen = int(words[4])
            tool = Tool("watch", "--json", places[chosen], "-p", program.pid, ready="in place")
            assert program.ask("all 40").split() == ["45"] * 3
            done = tool.stop().expect(0)
        assert [(hit["tid"], hit["old"], hit["new"]) for hit in done.watches()] == [
            (chosen, *pair) for pair in count_up(5, 40)], name
        assert [row["accesses"] for row in done.watched().values()] == [40]
        assert program.ask("end") == "ended"
        wait_until(lambda: len(os.listdir(f"/proc/{program.pid}/task")) == 1, "joined threads are gone")
        tool = Tool("watch", "--json", "own", "-p", program.pid, ready="in place")  # only one is left
        assert program.ask("add 2") == "7"
        assert changes(tool.stop().expect(0).watches(), "own") == count_up(5, 2), name
        program.quit()


def test_threads_that_come_later_do_not_count():
    program = Program("locals")
    tool = Tool("watch", "--json", "own", "-p", program.pid, ready="in place")
    program.ask("begin 2")
    program.ask("all 30")
    program.ask("add 4")
    done = tool.stop().expect(0)
    assert [(hit["tid"], hit["old"], hit["new"]) for hit in done.watches()] == [
        (program.pid, *pair) for pair in count_up(5, 4)]
    assert done.watched()["own"]["accesses"] == 4
    program.quit()


def test_followed_programs():
    path = target("locals")
    done = run_with_file("watch", "--json", "-f", "own", "--", "sh", "-c", f"{path} add 2; {path} add 3").expect(0)
    assert changes(done.watches(), "own") == count_up(5, 2) + count_up(5, 3), done.watches()
    assert done.err.count("threads have copies of their own") == 1, done.err
    for name in each(AT_START):
        done = run_with_file("watch", "--json", "-f", "own", "--", target(name), "bear", 7).expect(0)
        assert done.program == "12 5\n", done.program
        assert changes(done.watches(), "own") == count_up(5, 7), (name, done.watches(), done.err)
        assert len({hit["pid"] for hit in done.watches()}) == 1
    program = Program("locals")
    program.ask("begin 2")
    done = run("watch", "-f", "-t", "0.01", "own", "-p", program.pid)
    assert len(places_of(done.err)) == 3 and done.status == 1, (done.status, done.err)
    program.quit()


main(globals())
