#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a probed program does with its life: children, other programs, libraries, its end. And the tool's own end."""
from kit import *

WAYS = ("fork", "vfork", "spawn", "system", "popen", "clone", "thread-fork")
ALL = ["-e", "EXE!*", "-e", "libc!*"]


def test_children_run_and_do_not_count():
    program = Program("children")
    for way in WAYS:
        program.ask(way)
    with Untouched(program.pid):
        tool = Tool("count", "--json", *ALL, "-p", program.pid)
        for way in WAYS:
            assert program.ask(way) == "exit 42", way
        assert program.ask("call 7") == "7"
        counts = tool.stop().expect(0).counts()
        assert counts["called"] == 7, "children were counted"
    program.quit()


def test_children_of_a_command_run_and_do_not_count():
    for way in WAYS:
        done = run_with_file("count", "--json", *ALL, "--", target("children"), way).expect(0)
        assert done.program == "exit 42\n", (way, done.program)
        assert done.counts().get("called", 0) == 0, way


def test_children_are_traced_silently():
    program = Program("children")
    for way in WAYS:
        program.ask(way)
    with Untouched(program.pid):
        tool = Tool("trace", "--json", "-e", "EXE!called x=$arg1 s=+0($stack):u64", "-p", program.pid)
        for way in WAYS:
            assert program.ask(way) == "exit 42", way
        program.ask("call 3")
        done = tool.stop().expect(0)
        assert [hit["args"]["x"] for hit in done.hits()] == [0, 1, 2]
        assert all(hit["pid"] == program.pid for hit in done.hits())


def test_a_child_outlives_the_probes():
    program = Program("children")
    tool = Tool("count", "--json", *ALL, "-p", program.pid)
    child = int(program.ask("fork-late"))
    assert tool.stop().expect(0).counts().get("called", 0) == 0
    assert not changed_text(program.pid)
    assert changed_text(child), "a child has the text of its parent"
    assert program.ask("release") == "exit 42"
    program.quit()


def test_a_child_that_outlives_the_probes_can_be_probed():
    program = Program("children")
    before = areas(program.pid)
    tool = Tool("count", *ALL, "-p", program.pid)
    child = int(program.ask("fork-late"))
    tool.stop().expect(0)
    own = Tool("count", "--json", "-e", "EXE!called", "-p", child)
    changed = {path: count for path, count in changed_text(child).items() if "target" not in path}
    assert sum(changed.values()) < 500, f"of the parent's probes there is more left than guards would be: {changed}"
    own.stop().expect(0)
    check_clean(child, before)
    assert program.ask("release") == "exit 42"
    program.quit()


def test_a_child_can_be_probed_in_its_turn():
    program = Program("children")
    tool = Tool("count", "--json", *ALL, "-p", program.pid)
    child = int(program.ask("fork-late"))
    own = Tool("count", "--json", "-e", "EXE!called", "-p", child)
    assert program.ask("call 3") == "3"
    assert program.ask("release") == "exit 42"
    assert own.end().expect(0).counts() == {"called": 1000}
    assert program.ask("call 3") == "3"
    assert tool.stop().expect(0).counts()["called"] == 6
    child = int(program.ask("fork-late"))
    with Untouched(child):
        run("count", "-t", "0.01", *ALL, "-p", child).expect(0)
    program.ask("release")
    program.quit()


def test_exec_ends_the_run_cleanly():
    for how in ("exec", "exec-thread"):
        for command in ("count", "trace"):
            program = Program("children")
            tool = Tool(command, "--json", "-e", "EXE!called", "-p", program.pid)
            program.ask("call 5")
            program.tell(f"{how} {target('calls')}")
            assert program.answer() == "ready"
            done = tool.end().expect(0, "another program")
            assert done.summary()["hits"] == 5, done.out
            assert not changed_text(program.pid) and tracer(program.pid) == 0
            assert not [area for area in areas(program.pid) if "trapline" in area[3]]
            assert program.ask("single 9") == "0"
            program.quit()


def test_a_command_that_execs_is_waited_for():
    go = os.path.join(WORK, "go")
    tool = Tool("count", "--json", "-e", "EXE!main", "--", "bash", "-c",
                f"exec bash -c 'until [ -e {go} ]; do sleep 0.01; done; exit 9'")
    wait_until(lambda: "another program" in tool.err, "the exec is told")
    open(go, "w").close()
    assert tool.end().expect(9).summary()["hits"] == 1, "hits before the exec are told"
    run_with_file("count", "-e", "EXE!main", "--", "bash", "-c", f"exec {target('children')} crash").expect(128 + 11)


def test_a_program_that_ends_while_probed():
    for end, status in (("exit 7", 7), ("crash", -11)):
        program = Program("children")
        tool = Tool("count", "--json", *ALL, "-p", program.pid)
        program.ask("call 6")
        program.tell(end)
        done = tool.end().expect(0)
        assert done.counts()["called"] == 6, done.err
        assert program.process.wait() == status
    program = Program("children")
    tool = Tool("trace", "--json", *ALL, "-p", program.pid)
    program.ask("call 6")
    program.process.kill()
    assert len(tool.end().expect(0).hits("called")) == 6


def test_a_program_killed_at_any_moment():
    for delay in range(0, 60, 3):
        program = Program("children")
        tool = subprocess.Popen([TRAPLINE, "count", *ALL, "-p", str(program.pid)], stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)
        started.append(tool)
        time.sleep(delay / 1000)
        program.process.kill()
        out, err = tool.communicate(timeout=PATIENCE)
        assert tool.returncode in (0, 1), (tool.returncode, err)
        assert tool.returncode == 0 or len(err.splitlines()) == 1 and err.startswith("trapline: "), err


def test_the_tool_killed_while_probing():
    program = Program("children")
    for way in WAYS:
        program.ask(way)
    with Untouched(program.pid):
        for command in ("count", "trace"):
            tool = Tool(command, "-e", "EXE!called x=$arg1", *ALL, "-p", program.pid)
            program.ask("call 100")
            tool.process.kill()
            tool.process.wait()
            assert changed_text(program.pid), "nobody has taken the probes out yet"
            assert program.ask("call 1000") == "1000"
            for way in WAYS:
                assert program.ask(way) == "exit 42", way
        done = Tool("count", "--json", "-e", "EXE!called", "-p", program.pid)
        program.ask("call 10")
        assert done.stop().expect(0).counts() == {"called": 10}
    program.quit()


def test_the_tool_killed_while_the_program_waits_for_it():
    program = Program("calls")
    program.ask("run 4 1")
    with Untouched(program.pid):
        read, write = os.pipe()
        tool = Tool("trace", "--block", "-e", "EXE!f[0-7][0-7] x=$arg1", "-p", program.pid, stdout=write)
        program.tell("run 4 100")
        time.sleep(0.3)
        tool.process.kill()
        assert program.answer(), "it does not wait for ever"
        os.close(read)
        os.close(write)
        run("count", "-e", "EXE!f00", "-t", "0.01", "-p", program.pid).expect(0)
    program.quit()


def test_the_tool_killed_at_any_moment():
    program = Program("children")
    with Untouched(program.pid):
        for delay in range(0, 90, 3):
            tool = subprocess.Popen([TRAPLINE, "count", "-t", "0.02", *ALL, "-p", str(program.pid)],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append(tool)
            time.sleep(delay / 1000)
            tool.kill()
            tool.wait()
            assert program.ask("call 10") == "10"
            assert program.ask("fork") == "exit 42"
        run("count", "-e", "EXE!called", "-t", "0.01", "-p", program.pid).expect(0)
    program.quit()


def test_a_second_tool_is_told_who_was_first():
    program = Program("children")
    with Untouched(program.pid):
        first = Tool("count", "--json", "-e", "EXE!called", "-p", program.pid)
        second = run("count", "-e", "EXE!called", "-p", program.pid)
        second.expect(1, rf"^trapline: [^\n]*\b{first.process.pid}\b[^\n]*\n$")
        assert program.ask("call 4") == "4"
        assert first.stop().expect(0).counts() == {"called": 4}
        run("count", "-e", "EXE!called", "-t", "0.01", "-p", program.pid).expect(0)
    program.quit()


def test_many_tools_at_once():
    program = Program("children")
    with Untouched(program.pid):
        tools = [subprocess.Popen([TRAPLINE, "count", "-t", "0.05", *ALL, "-p", str(program.pid)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(12)]
        started.extend(tools)
        ends = [(tool.communicate(timeout=PATIENCE)[1], tool.returncode) for tool in tools]
        assert any(status == 0 for _, status in ends), ends
        assert all(status == 0 or status == 1 and len(err.splitlines()) == 1 for err, status in ends), ends
        assert program.ask("call 10") == "10"
    program.quit()


def test_a_library_opened_late_is_noticed_where_it_is_meant():
    library = os.path.join(TARGETS, "libtarget-late.so")
    notice = r"libtarget-late\.so was loaded after the probes were placed: not covered"
    meant = [Program("children"), Program("children")]
    other = [Program("children"), Program("children"), Program("children")]
    specs = ["*", "*l*e*", "EXE!called", "libc!*", "malloc"]
    tools = [Tool("count", "-e", spec, "-p", program.pid) for spec, program in zip(specs, meant + other)]
    for program in meant + other:
        assert program.ask(f"open {library}") == "42"
    for tool in tools[:2]:
        wait_until(lambda: re.search(notice, tool.err), "it was noticed")
    time.sleep(1.2)
    for tool in tools[:2]:
        assert len(re.findall(notice, tool.stop().expect(0).err)) == 1
    for tool in tools[2:]:
        assert "loaded" not in tool.stop().expect(0).err


def test_a_library_that_is_closed_while_probed():
    program = Program("children")
    library = os.path.join(TARGETS, "libtarget-late.so")
    assert program.ask(f"open {library}") == "42"
    with Untouched(program.pid):
        tool = Tool("count", "--json", "-e", "late_function", "-p", program.pid)
        assert program.ask(f"open {library}") == "42"
        assert tool.stop().expect(0).counts() == {"late_function": 1}
    program.quit()


main(globals())
