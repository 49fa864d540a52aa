# SPDX-License-Identifier: MIT
"""Programs that confine themselves with seccomp while they are traced or watched: same output and exit status as alone,
and nothing of what is asked for is lost."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from kit import Skip, main, run_with_file, target

CALLED = "p EXE:called text=+0($arg1):string"
WAYS = ("filter", "strict")


def alone(*command, text=""):
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True)
    return (128 - done.returncode if done.returncode < 0 else done.returncode), done.stdout


def same(command, *arguments, program, text=""):
    status, output = alone(*program, text=text)
    done = run_with_file(command, *arguments, "--", *program, input=text, stdin=None)
    assert (done.status, done.program) == (status, output), (done.status, status, done.program, output, done.err)
    return done


def commands(way, before=0):
    return (f"call {before}\n" if before else "") + f"{way}\ncall 5\n"


def test_events_of_confined_programs():
    for way in WAYS:
        for before in (0, 2):
            done = same("trace", "--json", "-e", CALLED, program=[target("confined")], text=commands(way, before))
            assert [hit["args"] for hit in done.hits()] == (5 + before) * [{"text": "a"}], done.out


def test_breakpoints_in_confined_programs():
    for way in WAYS:
        done = same("trace", "--json", "--tactic", "int3", "-k", "-e", CALLED, program=[target("confined")],
                    text=commands(way))
        assert [hit["args"] for hit in done.hits()] == 5 * [{"text": "a"}], done.out
        assert all(hit["stack"][1].startswith("carry+") for hit in done.hits()), done.out


def test_counts_of_all_that_a_confined_program_does():
    for way in WAYS:
        done = same("count", "--json", "-e", "libc!*", "-e", "called", program=[target("confined")], text=commands(way))
        assert done.counts()["called"] == 5


def test_watches_of_confined_programs():
    for way in WAYS:
        done = same("watch", "--json", "mem:called:x", "confinements", "--all-writes", program=[target("confined")],
                    text=commands(way) + "note\nnote\n")
        assert len(done.watches("called")) == 5, done.out
        assert [(hit["old"], hit["new"]) for hit in done.watches("confinements")] == [(0, 1), (1, 2)], done.out


def test_memory_that_is_read_in_a_confined_program():
    done = same("watch", "--json", "mem:confinements:rw", program=[target("confined")],
                text=commands("filter") + "note\n")
    assert done.summary()["hits"] >= 1 and done.watches()[-1]["new"] == 1, done.out


def test_who_cannot_return_from_a_signal():
    """Such a filter ends the program at its first signal: trapline goes before."""
    for command, arguments in (("watch", ["mem:called:x"]), ("trace", ["--tactic", "int3", "-e", CALLED]),
                               ("trace", ["-e", CALLED])):
        for follow in ([], ["-f"]):
            done = same(command, "--json", *follow, *arguments, program=[target("confined")], text="call 2\nnarrow\ncall 3\n")
            assert len(done.hits() + done.watches()) == 2, done.out
            done.expect(0, "confines itself, .*: it was let go")


def test_manual_pages():
    """man reads pages in children that it confines."""
    if not shutil.which("man") or alone("man", "-w", "ls")[0]:
        raise Skip("no manual pages here")
    for command, arguments in (("trace", ["-e", "p libc.so.6:read $arg2:u64", "-e", "open*"]),
                               ("watch", ["libc.so.6:stdout"]), ("count", ["-e", "libc!*"])):
        same(command, "-f", *arguments, program=["man", "-P", "cat", "ls"])


main(globals())
