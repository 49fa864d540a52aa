#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Attaching to programs that use SIGTRAP, in the middle of that, and leaving them: they go on as if nothing had been."""
from kit import *

WAYS = {"jump": [], "int3": ["--tactic", "int3"]}


def signals(pid):
    """What the kernel says of the signals of each thread."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status") as file:
            found[tid] = re.findall(r"^(?:Sig|Shd)(?:Pnd|Blk|Ign|Cgt):\s*(\w+)", file.read(), re.MULTILINE)
    return found


def state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def attach(program, way):
    return Tool("count", *WAYS[way], "-e", "EXE!*", "-p", program.pid)


def converse(commands, way=None):
    """The answers to `commands`; what begins with a + attaches before, with a - lets go before."""
    program, answers, tool = Program("traps"), [], None
    for command in commands:
        if way and command[0] == "+":
            tool = attach(program, way)
        elif way and command[0] == "-":
            tool.stop().expect(0)
            assert not changed_text(program.pid)
        answers.append(program.ask(command.lstrip("+-")))
    if tool and tool.process.poll() is None:
        tool.stop().expect(0)
    after = signals(program.pid)
    program.quit()
    return answers, [value for _, value in sorted(after.items())]


def same(*commands):
    expected = converse(commands)
    for way in WAYS:
        got = converse(commands, way)
        assert got == expected, f"{way}: {expected} became {got}"


def test_a_handler_set_before():
    same("install", "send", "+send", "send", "-send", "own 3")


def test_a_handler_set_after():
    same("blocked 10", "+install", "send", "blocked 10", "-send", "install", "send")


def test_blocked_before_and_opened_after():
    same("install", "block", "+send", "unblock", "send", "-send")


def test_blocked_and_pending_when_the_tool_comes():
    same("install", "block", "send", "+blocked 5", "unblock", "-send")


def test_blocked_and_pending_when_the_tool_goes():
    same("install", "+block", "send", "-send", "unblock", "send")


def test_opened_only_after_the_tool_has_gone():
    same("install", "block", "+send", "-blocked 3", "unblock")


def test_ignored_all_along():
    same("ignored 3", "+ignored 3", "own 2", "-ignored 3")


def test_inside_a_handler_when_the_tool_comes():
    same("hold", "+go on", "install", "send", "-send")
    same("block", "hold", "+go on", "install", "send", "unblock", "-send")


def test_inside_a_handler_when_the_tool_goes():
    same("install", "+hold", "-go on", "send")
    same("block", "+hold", "-go on", "install", "send", "unblock")


def test_a_signal_on_its_way_when_the_tool_comes():
    """It was sent while the program stood still: nothing blocks it, but no handler has had it yet."""
    for way in WAYS:
        for others in (False, True):
            program = Program("traps")
            program.ask("install")
            assert not others or program.ask("keep") == "0"
            program.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: state(program.pid) == "T", "it has stopped")
            program.process.send_signal(signal.SIGTRAP)
            tool = attach(program, way)
            program.process.send_signal(signal.SIGCONT)
            assert program.ask("send").split()[0] == "2", (way, others)
            assert not others or program.ask("give") == "3", way
            tool.stop().expect(0)
            program.quit()


def held_twice(way=None):
    """Inside a handler of SIGTRAP another one comes; then the tool goes."""
    program = Program("traps")
    tool = attach(program, way) if way else None
    answers = [program.ask(f"hold {int(signal.SIGTRAP)}")]
    program.process.send_signal(signal.SIGTRAP)
    if tool:
        trap = 1 << signal.SIGTRAP - 1
        wait_until(lambda: not any(int(of[k], 16) & trap for of in signals(program.pid).values() for k in (0, 1)),
                   "the broker has it")
        tool.stop().expect(0)
    answers += [program.ask("go on"), program.ask("go on"), program.ask("blocked 5")]
    program.quit()
    return answers


def test_a_signal_that_waits_for_a_handler_when_the_tool_goes():
    expected = held_twice()
    for way in WAYS:
        assert held_twice(way) == expected, way


def test_a_tool_that_is_killed():
    for way in WAYS:
        program = Program("traps")
        program.ask("install")
        expected = program.ask("own 3")
        blocked = program.ask("block") and program.ask("blocked 20")
        before, memory = signals(program.pid), areas(program.pid)
        for _ in range(5):
            tool = attach(program, way)
            tool.process.kill()
            tool.process.wait()
            assert program.ask("blocked 20") == blocked
        tool = attach(program, way)
        tool.stop().expect(0)
        check_clean(program.pid, memory)
        assert signals(program.pid) == before
        program.ask("unblock")
        assert program.ask("own 3") == expected
        program.quit()


def test_many_threads_that_come_and_go_meanwhile():
    for way in WAYS:
        program = Program("traps")
        answers = []
        expected = program.ask("storm 40")
        for _ in range(6):
            asker = threading.Thread(target=lambda: answers.append(program.ask("storm 40")))
            asker.start()
            while asker.is_alive():
                run("count", "-q", *WAYS[way], "-e", "EXE!*", "-t", "0.01", "-p", program.pid).expect(0)
            asker.join()
        assert not changed_text(program.pid) and not any("trapline" in area[3] for area in areas(program.pid))
        assert set(answers) == {expected}, (way, answers)
        program.quit()


main(globals())
