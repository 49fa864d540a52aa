#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Signals, faults, jumps, exceptions and coroutines through probed functions, with their exits probed too."""
from kit import *

ALL = ["-e", "EXE!*", "-e", "r EXE:*", "-e", "libc!*"]
OWN = ["-e", "EXE!*", "-e", "r EXE:*"]
COMMANDS = {"storm": 300, "faults": 400, "jumps": 2000, "coroutines": 2000}


def probed(name, command, times, *specs):
    for how in (["count"], ["trace", "--json"]):
        done = run_with_file(*how, "-q", *specs, "--", target(name), command, times)
        done.expect(0)
        assert done.program == "ok\n", (how, command, done.program)
    return done


def test_signal_storms():
    probed("signals", "storm", COMMANDS["storm"], *ALL)
    done = probed("signals", "storm", 50, "-e", "EXE!in_handler n=$arg1")
    assert {hit["args"]["n"] for hit in done.hits()} >= {signal.SIGALRM, signal.SIGTRAP, signal.SIGUSR1, signal.SIGCHLD}


def test_handlers_of_faults_that_jump():
    done = probed("signals", "faults", COMMANDS["faults"], *OWN)
    assert len(done.hits("touch")) == COMMANDS["faults"] // 2
    assert len(done.hits("touch%return")) == 0


def test_longjmp_out_of_frames():
    done = probed("signals", "jumps", COMMANDS["jumps"], *ALL)
    entries, exits = len(done.hits("deep")), len(done.hits("deep%return"))
    lost = done.summary()["lost"]
    assert lost or entries == sum(i % 50 + 1 for i in range(COMMANDS["jumps"])) and exits == 0, (entries, exits)


def test_coroutines():
    done = probed("signals", "coroutines", COMMANDS["coroutines"], *OWN, "-e", "libc!swapcontext")
    assert len(done.hits("swapcontext")) >= 2 * COMMANDS["coroutines"] - 1 or done.summary()["lost"]
    assert len(done.hits("leaf")) == 2 * COMMANDS["coroutines"] or done.summary()["lost"]


def test_exceptions():
    done = probed("throws", "throw", 300, *OWN)
    found = {name: len(done.hits(name)) for name in ("catcher", "between", "thrower", "leaf")}
    assert found == {"catcher": 300, "between": 300, "thrower": sum(i % 30 + 1 for i in range(300)), "leaf": 0} or (
        done.summary()["lost"]), found
    assert not done.hits("thrower%return"), "no call of thrower returns"
    probed("throws", "throw", 300, *ALL)


def test_attaching_and_detaching_meanwhile():
    for name, commands in (("signals", COMMANDS), ("throws", {"throw": 300})):
        for command, times in commands.items():
            program, answers, enough = Program(name), [], threading.Event()
            program.ask(f"{command} 20")

            def go_on():
                while not enough.is_set():
                    answers.append(program.ask(f"{command} {times}"))

            with Untouched(program.pid):
                asker = threading.Thread(target=go_on)
                asker.start()
                for i in range(12):
                    specs = (OWN, ["-e", "*"], ["-e", "EXE!leaf", "-e", "r EXE:leaf"])[i % 3]
                    run("count", "-q", *specs, "-t", "0.02", "-p", program.pid).expect(0)
                enough.set()
                asker.join()
            assert set(answers) == {"ok"}, (command, answers)
            program.quit()


main(globals())
