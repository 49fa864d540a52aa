#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Watches in programs that use SIGTRAP themselves, have children, end; more watches than registers; what is refused."""
from kit import *


def watch(*arguments, status=0, **options):
    return run_with_file("watch", "--json", *arguments, **options).expect(status)


def watched(*words):
    return ["--", target("watched"), *words]


def attached(program, *arguments):
    return Tool("watch", "--json", *arguments, "-p", program.pid, ready="in place")


def test_a_handler_of_the_programs_own_has_its_signals():
    bare = subprocess.run([target("watched"), "handler", "30"], stdout=subprocess.PIPE, text=True).stdout
    done = watch("counter", *watched("handler", "30"))
    assert done.program == bare == "30 traps, 30\n"
    assert [hit["new"] for hit in done.watches()] == list(range(1, 31))


def test_a_thread_that_blocks_the_signal_is_counted_exactly():
    done = watch("counter", *watched("blocked", "200"))
    assert done.program == "200\n"
    row = done.watched()["counter"]
    assert row["accesses"] == 200 and done.watches()[-1]["new"] == 200, row
    assert sum(hit["new"] - hit["old"] for hit in done.watches()) == 200
    assert all(hit.get("late") for hit in done.watches()) or row["late"] == 0, row


def test_children_are_silent_and_run():
    for way in ("fork", "exec"):
        done = watch("counter", *watched(way, "50"))
        assert [hit["new"] for hit in done.watches()] == list(range(1, 51)), (way, done.watches()[:3])
        assert done.program.endswith("50\n") and len({hit["pid"] for hit in done.watches()}) == 1


def test_children_are_followed():
    for way in ("fork", "exec"):
        done = watch("-f", "counter", *watched(way, "50"))
        by_pid = {}
        for hit in done.watches():
            by_pid.setdefault(hit["pid"], []).append(hit["new"])
        assert list(by_pid.values()) == [list(range(1, 51))] * 2, (way, done.err)
        assert done.watched()["counter"]["accesses"] == 100


def test_programs_that_have_no_such_variable_are_passed_by():
    path = target("watched")
    done = watch("-f", "counter", "--", "sh", "-c", f"{path} bump 2; {path} bump 3; exit 5", status=5)
    assert [hit["new"] for hit in done.watches()] == [1, 2, 1, 2, 3]
    watch("-f", "countr", "--", "sh", "-c", f"{path} bump 2", status=1).expect(1, "countr: nothing of this name")
    watch("-f", "bump", "--", path, "bump", "2", status=1).expect(1, "^trapline: bump: .*function")


def test_a_slow_reader_loses_hits_and_is_told_how_many():
    read, write = os.pipe()
    program = Program("watched")
    tool = Tool("watch", "--json", "counter", "-p", program.pid, ready="in place", stdout=write)
    os.close(write)
    program.ask("bump 100000")  # nobody reads meanwhile
    reader, lines = read_lines(read)
    tool.stop().expect(0)
    reader.join()
    hits, summary = [line for line in lines if line["type"] == "watch"], lines[-1]
    (row,) = [line for line in lines if line["type"] == "watched"]
    assert row["accesses"] == 100000 and row["reported"] == len(hits)
    assert summary["hits"] == 100000 == len(hits) + summary["lost"] + summary["missed"] and summary["lost"], summary
    program.quit()


def test_a_program_that_ends_at_once():
    for _ in range(20):
        done = watch("counter", *watched("end"), status=7)
        assert [hit["new"] for hit in done.watches()] == [1]
    program = Program("watched")
    tool = attached(program, "counter")
    program.process.kill()
    tool.end().expect(0)


def test_a_tool_that_is_killed_leaves_a_program_that_goes_on():
    program = Program("watched")
    before = areas(program.pid)
    for _ in range(3):
        tool = attached(program, "counter")
        program.ask("bump 10")
        tool.process.kill()
        tool.process.wait()
        program.ask("bump 10")
    tool = attached(program, "counter")
    assert program.ask("bump 5") == "65"
    hits = tool.stop().expect(0).watches()
    assert [hit["new"] for hit in hits] == list(range(61, 66))
    check_clean(program.pid, before)
    assert program.ask("handler 3") == "3 traps, 68"
    program.quit()


def test_too_many_watches_are_refused_and_take_turns_when_asked():
    five = [f"table[{i}]" for i in range(4)] + ["counter"]
    program = Program("watched")
    with Untouched(program.pid):
        run("watch", *five, "-p", program.pid).expect(1, r"^trapline: 5 debug registers are needed.* 4 .*--multiplex.*\n$")
        run("watch", "table", "-p", program.pid).expect(1, r"^trapline: 8 debug registers are needed.*--multiplex.*\n$")
        tool = attached(program, "--multiplex=1", *five)
        wait_until(lambda: program.ask("bump 100") and counted(tool), "the counter had its turn")
        done = tool.stop().expect(0)
    rows = done.watched()
    assert 0 < rows["counter"]["armed"] < 1 and rows["counter"]["accesses"] <= int(program.ask("bump 0")), rows
    assert sum(row["armed"] for row in rows.values()) < 4.05, rows
    assert all(0 <= hit["armed"] <= 1 for hit in done.watches("counter"))
    program.quit()


def counted(tool):
    with open(tool.out.name) as file:
        return '"watch":"counter"' in file.read()


def test_registers_that_others_hold_are_named():
    program = Program("watched")
    perf = subprocess.Popen([sys.executable, "-c", HOLDER, str(program.pid)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
    started.append(perf)
    if perf.stdout.readline().strip() != "held":
        raise Skip("perf events are not allowed here")
    with Untouched(program.pid):
        run("watch", "counter", "hidden", "conf.limit", "-p", program.pid).expect(
            1, r"3 debug registers are needed, and 2 .* free.*2 held by perf events")
        tool = attached(program, "--multiplex=1", "counter", "hidden", "conf.limit")
        wait_until(lambda: program.ask("bump 100") and counted(tool), "the counter had its turn")
        tool.stop().expect(0)
    perf.stdin.close()
    perf.wait()
    program.quit()


def test_registers_that_a_debugger_has_left_behind_are_used():
    program = Program("watched")
    # With a seccomp filter that refuses perf events, ptrace sets the registers, as debuggers do.
    first = Tool("watch", "counter", "hidden", "-p", program.pid, ready="by debug registers", before=[target("forbid"), "298"])
    first.stop().expect(0)
    with Untouched(program.pid):
        tool = attached(program, "-v", "counter", "hidden", "conf.limit")
        program.ask("bump 3")
        done = tool.stop().expect(0, "a debugger has once set")
        assert len(done.watches("counter")) == 3, done.out
    program.quit()


HOLDER = r"""
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
attr = struct.pack("IIQQQQQIIQQ", 5, 128, 0, 1 << 20, 0, 0, 1 << 5 | 1 << 6, 0, 2, 0x10000, 8)
attr = ctypes.create_string_buffer(attr, 128)
fds = [libc.syscall(298, attr, int(sys.argv[1]), -1, -1, 8) for _ in range(2)]
print("held" if min(fds) >= 0 else "not allowed", flush=True)
sys.stdin.read()
"""


def one_line(status, pattern, *arguments):
    """It is refused in one line, and nothing is left behind."""
    program = Program("watched")
    program.ask("threads 2 1")
    with Untouched(program.pid):
        done = run("watch", *arguments, "-p", program.pid).expect(status, pattern)
        assert not done.out and done.err.count("\n") == 1, done.err
    assert program.ask("bump 1") == "3"
    program.quit()


def test_names_that_are_none():
    one_line(1, "no variable countr; did you mean counter", "countr")
    one_line(1, "nonesuch", "counter", "nonesuch")
    one_line(1, "conf", "conf.limits")
    one_line(1, r"^trapline: /nonexistent:counter: /nonexistent: No such file or directory\n$", "/nonexistent:counter")
    one_line(1, r"^trapline: /etc/passwd:counter: no variable counter: /etc/passwd is not in the program\n$", "/etc/passwd:counter")
    one_line(1, "no variable countr in targets/watched.c", "targets/watched.c:countr")
    one_line(1, "function", "bump")
    one_line(1, "", "table[8]")
    assert run("watch", "countr", "--", "true").status == 1


def test_addresses_that_are_none():
    one_line(1, "mapped", "mem:0x1000/4")
    one_line(1, "kernel address", "mem:0xffffffff81000000/8")
    one_line(1, "kernel address|mapped", "mem:0x7ffffffffffc/8")
    one_line(1, "needed|would take", "mem:bytes/128")
    one_line(1, "needed", "mem:bytes+1/9", "counter")
    one_line(1, "would take 2097152 ", "mem:bytes/16777216")


def test_specs_that_are_none():
    program = Program("watched")
    for spec in ("", "counter if", "counter if frob == 1", "mem:counter/0", "mem:counter/x", "mem:counter:rwx",
                 "watchpoint:counter", "counter[", "conf.", "counter->x", "mem:bump:x if old == 1"):
        with Untouched(program.pid):
            done = run("watch", spec, "-p", program.pid)
            assert done.status == 2 and not done.out and "^" in done.err, (spec, done.status, done.err)
    for arguments in (["counter"], ["-p", "1"], ["counter", "-p", "1", "--", "true"], ["-a", "counter", "-p", "1"],
                      ["--multiplex=0", "counter", "--", "true"], ["--block", "counter", "--", "true"],
                      ["--tactic", "jump", "counter", "--", "true"], ["-e", "counter", "--", "true"]):
        assert run("watch", *arguments).expect(2, "usage").out == ""
    program.quit()


def test_a_program_that_confines_itself():
    program = Program("confined")
    program.ask("filter")
    with Untouched(program.pid):
        run("watch", "stdout", "-p", program.pid).expect(1, r"^trapline: .*signals cannot be taken over.*seccomp\n$")
    assert program.ask("call 3")
    program.quit()


def test_a_process_that_is_none():
    run("watch", "counter", "-p", 2147483647).expect(1, r"^trapline: no process 2147483647\n$")
    run("watch", "counter", "--", "/nonexistent").expect(1, r"^trapline: /nonexistent: No such file.*\n$")


def test_as_nobody():
    before = as_nobody()
    path = public(target("watched"))
    done = run("watch", "--json", "counter", "--", path, "bump", "20", before=before, cwd="/").expect(0)
    assert done.out.count('"type":"watch",') == 20 and "\n20\n" in "\n" + done.out, done.out


main(globals())
