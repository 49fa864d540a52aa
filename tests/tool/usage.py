#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Exit statuses, options, and what stands on which stream."""
import os
import signal
import subprocess

from kit import *

CALLS = "EXE!f00"


def test_the_status_is_the_commands_own():
    for status in (0, 1, 2, 3, 77, 255):
        run("count", "-e", "EXE!main", "-o", os.devnull, "--", "bash", "-c", f"exit {status}").expect(status, "^$")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT):
        done = run("count", "-e", "EXE!main", "-o", os.devnull, "--", "bash", "-c", f"kill -{int(number)} $$")
        done.expect(128 + number)


def test_the_status_is_0_with_a_pid_whatever_the_program_does():
    program = Program("calls")
    run("count", "-e", CALLS, "-t", "0.05", "-p", program.pid).expect(0)
    tool = Tool("count", "-e", CALLS, "-p", program.pid)
    program.process.kill()
    tool.end().expect(0)


def test_the_status_is_1_where_a_named_probe_cannot_be_placed():
    program = Program("calls")
    with Untouched(program.pid):
        run("count", "-e", "EXE!nonesuch", "-p", program.pid).expect(1, "nonesuch")
        run("count", "-e", "EXE!f00", "-e", "nofile!f00", "-p", program.pid).expect(1, "nofile")
        done = run("count", "-e", "EXE!f01", "-e", "uprobe:EXE:f00+1", "-p", program.pid)
        done.expect(1, r"refused: f00\+0x1: not an instruction boundary \(EILSEQ\)")
        run("count", "-e", "EXE!nonesuch*", "-p", program.pid).expect(1, "no function like")
    run("count", "-e", "EXE!nonesuch", "--", target("calls"), "single", "1").expect(1, "nonesuch")
    assert program.ask("single 3") == "0"


def test_a_command_whose_probes_fail_never_runs():
    mark = os.path.join(WORK, "ran")
    run("count", "-e", "EXE!nonesuch", "--", "touch", mark).expect(1)
    run("count", "-e", "p:::", "--", "touch", mark).expect(2)
    assert not os.path.exists(mark)


def test_the_status_is_1_where_nothing_can_be_attached_to():
    run("count", "-e", "malloc", "--", "/nonexistent/program").expect(1, r"^trapline: /nonexistent/program: No such file")
    run("count", "-e", "malloc", "--", "/etc/passwd").expect(1, r"^trapline: /etc/passwd: Permission denied")
    run("count", "-e", "malloc", "-p", "2147483647").expect(1, r"^trapline: no process 2147483647\n$")


def test_the_status_is_2_for_usage_and_spec_errors():
    some = ["-e", "malloc", "--", "true"]
    for wrong in (
        [], ["frobnicate"], ["count"], ["count", "-e", "malloc"], ["count", "-p", "1"], ["count", "--", "true"],
        ["count", "--nonesuch", *some], ["count", "-p", "0", "-e", "malloc"], ["count", "-p", "1x", "-e", "malloc"],
        ["count", "-p", "-1", "-e", "malloc"], ["count", "-t", "0", *some], ["count", "-t", "x", *some],
        ["count", "-t", "nan", *some], ["trace", "-n", "0", *some], ["trace", "-n", "-1", *some], ["trace", "-n", "1k", *some],
        ["trace", "-n", "", *some], ["count", "-e", "malloc", "-p", "1", "--", "true"], ["count", "-e"],
        ["trace", "--every-instruction", *some], ["count", "--block", *some], ["count", "--tactic", "magic", *some],
        ["count", "--tactic", "", *some], ["count", "--tactic", "jump-window", *some], ["count", "-n", "3", *some],
        ["list"], ["list", "a", "b", "c"], ["list", "-p", "1", "a", "b"], ["doctor", "x"],
        ["count", "-e", "", "--", "true"], ["count", "-e", "malloc:", "--", "true"], ["count", "-a", *some],
        ["trace", "--all-writes", *some], ["count", "--multiplex", *some], ["trace", "malloc", *some],
    ):
        done = run(*wrong)
        assert done.status == 2 and done.err and not done.out, (wrong, done.status, done.err, done.out)


def test_help_is_no_error():
    for words in (["--help"], ["-h"], ["list", "-h"], ["trace", "--help"], ["count", "-h"], ["watch", "-h"], ["doctor", "-h"]):
        done = run(*words).expect(0, "^$")
        assert done.out.startswith("usage: trapline"), done.out
    assert run("--version").expect(0).out.startswith("trapline ")


def test_n_gives_exactly_n_events():
    for n in (1, 2, 100, 4096):
        done = run_with_file("trace", "--json", "-n", n, "-e", CALLS, "--", target("calls"), "single", 100000)
        done.expect(0, "^$")
        assert len(done.hits()) == n and done.summary()["hits"] >= n, done.summary()
        assert done.program == "0\n", done.program
    program = Program("calls")
    with Untouched(program.pid):
        tool = Tool("trace", "--json", "-n", 7, "-e", CALLS, "-p", program.pid)
        assert program.ask("single 5000") == "0"
        done = tool.end().expect(0)
        assert len(done.hits()) == 7
    text = run_with_file("trace", "-n", 3, "-e", CALLS, "--", target("calls"), "single", 10)
    assert len(text.out.splitlines()) == 4, text.out


def test_n_more_than_there_are_ends_with_the_command():
    done = run_with_file("trace", "--json", "-n", 50, "-e", CALLS, "--", target("calls"), "single", 20).expect(0)
    assert len(done.hits()) == 20 and done.summary() == {"type": "summary", "hits": 20, "missed": 0, "lost": 0,
                                                         "refused": 0}


def test_t_ends_the_run_and_not_the_command():
    program = Program("calls")
    with Untouched(program.pid):
        done = run("trace", "--json", "-t", "0.2", "-e", CALLS, "-p", program.pid).expect(0)
        assert done.summary()["hits"] == 0
    assert program.ask("single 1") == "0"
    done = run_with_file("count", "-t", "0.1", "-e", "EXE!main", "--", "bash", "-c", "sleep 0.5; echo on; exit 9")
    assert done.expect(9).program == "on\n"


def test_o_takes_the_events_and_leaves_stdout_to_the_command():
    done = run_with_file("trace", "-e", CALLS, "--", target("calls"), "single", 2).expect(0, "^$")
    lines = done.out.splitlines()
    assert done.program == "0\n" and len(lines) == 3 and lines[2] == "2 hits, 0 missed, 0 lost; 0 probes refused"
    run("trace", "-e", CALLS, "-o", "/nonexistent/file", "--", target("calls"), "single", 2).expect(
        1, r"^trapline: /nonexistent/file: No such file")


def test_what_cannot_be_written_is_said_once():
    for command, *arguments in (("trace", "-e", CALLS), ("count", "-e", CALLS), ("watch", "--all-writes", "mem:f00:x")):
        for where in ([], ["--json"]):
            run(command, *where, *arguments, "-o", "/dev/full", "--", target("calls"), "single", 2).expect(
                1, r"^trapline: /dev/full: No space left on device\n$")
    with open("/dev/full", "w") as full:
        for arguments in (["list", target("calls")], ["list", "--json", target("calls")], ["doctor"], ["doctor", "--json"],
                          ["--help"], ["--version"], ["list", "--help"], ["trace", "-e", CALLS, "--", target("calls")]):
            done = subprocess.run([TRAPLINE, *arguments], stdout=full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                  text=True)
            assert done.returncode == 1, (arguments, done.returncode)
            assert done.stderr == "trapline: standard output: No space left on device\n", (arguments, done.stderr)
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["list", target("calls")], ["trace", "-e", CALLS, "--", "true"]):
        done = subprocess.run([TRAPLINE, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True)
        assert "Broken" not in done.stderr, done.stderr
    os.close(writer)


def test_refused_members_of_a_glob_are_counted_in_a_notice():
    glob = ["-e", "EXE!f*", "--tactic", "jump", "--", target("calls"), "single", 1]
    plain = run_with_file("count", *glob).expect(0, r"^trapline: \d+ of \d+ probes refused \(-v says why\)\n$")
    refused = int(plain.err.split()[1])
    assert refused and f"; {refused} probes refused" in plain.out, plain.out
    assert run_with_file("count", "-q", *glob).expect(0).err == ""
    verbose = run_with_file("count", "-v", *glob).expect(0)
    assert verbose.err.count("\nrefused: ") + verbose.err.startswith("refused: ") == refused, verbose.err
    done = run_with_file("count", "--json", *glob).expect(0)
    lines = [line for line in done.lines() if line["type"] == "refused"]
    assert len(lines) == refused == done.summary()["refused"], lines


def test_what_names_stand_for_is_said():
    command = ["--", target("calls"), "single", 1]
    notice = "trapline: __libc_malloc is another name of malloc\n"
    assert notice in run_with_file("count", "-v", "-e", "libc!*malloc", *command).expect(0).err
    assert run_with_file("count", "-e", "libc!*malloc", *command).expect(0).err == ""
    both = run_with_file("count", "--json", "-e", "malloc", "-e", "__libc_malloc", *command).expect(0).counts()
    assert both["malloc"] == both["__libc_malloc"] > 0, both
    runs = "trapline: strlen is an indirect function of libc.so.6; here it runs "
    assert runs in run_with_file("count", "-e", "strlen", *command).expect(0).err
    assert runs in run_with_file("count", "-v", "-e", "libc!strle*", *command).expect(0).err
    assert run_with_file("count", "-q", "-e", "strlen", *command).expect(0).err == ""


main(globals())
