#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Call stacks of trace -k: of known programs (tests/symbol/fixtures/stacks.c), and of Debian's against gdb's."""
import json
import os
import re
import shutil
import struct
import subprocess

from kit import *

FIXTURES = os.environ["FIXTURES"]
HERE = os.path.dirname(os.path.abspath(__file__))
SECCOMP = r"""
import ctypes, os, sys, struct
libc = ctypes.CDLL(None, use_errno=True)
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow)))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
print("ready", flush=True)
for line in sys.stdin:
    print(os.getppid(), flush=True)
"""


def names(stack):
    """"f+0x12" as "f"."""
    return [frame.rsplit("+0x", 1)[0] for frame in stack]


def stacks_of(program, *specs):
    """The stacks of each event of a program that is told to go on as often as it stops, always at the same place."""
    specs = [word for spec in specs for word in ("-e", spec)]
    path = os.path.join(WORK, "go-on")
    with open(path, "wb") as file:
        file.write(bytes(99))
    with open(path, "rb") as file:
        done = run_with_file("trace", "-k", "--json", *specs, "--", os.path.join(FIXTURES, program), stdin=file,
                             before=["setarch", "-R"])
    assert done.summary()["lost"] == 0
    return [hit["stack"] for hit in done.hits()]


def expect(stack, expected):
    """As "inner * main": any number of frames for *."""
    pattern = " ".join(names(stack)) + " "
    wanted = "".join(".*" if word == "*" else re.escape(word) + " " for word in expected.split())
    assert re.fullmatch(wanted, pattern), f"{pattern!r} is not {expected!r}"


DIRECT = "middle outer main "
KNOWN = [DIRECT, "recurse " * 13 + "main ", "compare * sort main ", "skip * interrupted interrupt main ",
         "middle outer in_thread "]


def check_known(program, place):
    stacks = stacks_of(program, place)
    assert len(stacks) == len(KNOWN), stacks
    for stack, known in zip(stacks, KNOWN):
        expect(stack, "inner " + known + ("*" if "thread" in known else "* _start"))


def test_known_stacks_at_entries_and_returns():
    check_known("stacks", "EXE!inner")
    check_known("stacks", "r EXE:inner")
    check_known("stacks-static", "EXE!inner")


def test_stacks_of_a_program_whose_c_library_has_no_tables():
    stacks = stacks_of("stacks-musl", "EXE!inner", "r EXE:bare_ret")
    expect(stacks[0], "inner " + DIRECT + "*")
    expect(stacks[2], "bare_ret through_bare main *")
    expect(stacks[3], "inner compare *")
    expect(stacks[4], "inner skip __restore_rt interrupted interrupt main *")
    # The C library's own functions, at their first instruction.
    expect(stacks_of("stacks-musl", "EXE!qsort")[0], "qsort sort main *")


def test_every_instruction_of_a_function_has_the_same_callers():
    path = os.path.join(FIXTURES, "stacks")
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "--disassemble=middle", path], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    start = int(re.search(r"^([0-9a-f]+) <middle>:", text, re.M).group(1), 16)
    offsets = [int(found, 16) - start for found in re.findall(r"^\s+([0-9a-f]+):\t", text, re.M)]
    seen = 0
    for offset in offsets:
        for stack in stacks_of("stacks", f"p EXE:middle+{offset:#x}"):
            assert stack[0] == f"middle+{offset:#x}", stack
            expect(stack, "middle outer main * _start" if "main" in names(stack) else "middle outer in_thread *")
            seen += 1
    assert seen >= 2 * len(offsets) - 6, f"{seen} hits at {len(offsets)} instructions"


def test_a_stripped_program_shows_places_in_its_file():
    path = os.path.join(FIXTURES, "stacks-stripped")
    symbols = subprocess.run(["nm", os.path.join(FIXTURES, "stacks")], check=True, stdout=subprocess.PIPE, text=True)
    inner = int(re.search(r"^([0-9a-f]+) [Tt] inner$", symbols.stdout, re.M).group(1), 16)
    stack = stacks_of("stacks-stripped", f"{path}!{inner:#x}")[0]
    assert stack[0] == f"[stacks-stripped]+{inner:#x}", stack
    expect(stack, "[stacks-stripped] " * 4 + "* [stacks-stripped]")


def test_a_go_program_shows_its_callers():
    hits = run_with_file("trace", "-k", "--json", "-e", "main.main", "--", os.path.join(FIXTURES, "go")).hits()
    expect(hits[0]["stack"], "main.main runtime.main *")


def test_the_stack_of_a_program_that_is_gone():
    done = run_with_file("trace", "-k", "--json", "-e", "libc!kill", "--", "/bin/bash", "-c", "kill -KILL $$")
    assert done.status == 128 + signal.SIGKILL, done.status
    stack = done.hits()[0]["stack"]
    assert names(stack)[0] == "kill" and names(stack)[-1] == "_start" and len(stack) > 8, stack


def test_text_has_a_frame_a_line_below_the_hit():
    done = run_with_file("trace", "-k", "-n", "1", "-e", "libc!write", "--", "/bin/bash", "-c", "echo hi")
    lines = done.out.splitlines()
    assert re.fullmatch(r"\d+\.\d{9} bash-\d+/\d+ write", lines[0]), lines[0]
    assert lines[1] == "    write+0x0" and all(re.fullmatch(r"    \S+\+0x[0-9a-f]+", line) for line in lines[1:-1])
    assert len(lines) > 10 and lines[-1].startswith("1 hit, ")


def test_a_stack_that_is_deeper_than_what_is_taken_is_marked():
    deep = "sub f { my $n = shift; if ($n) { my @s = sort { f($n - 1); 0 } 1, 2 } else { kill 0, $$; exit 0 } } f(300)"
    done = run_with_file("trace", "-k", "-n", "1", "-e", "libc!kill", "--", "perl", "-e", deep).expect(0)
    lines = done.out.splitlines()
    assert lines[1] == "    kill+0x0" and lines[-2] == "    ..." and len(lines) > 5, done.out
    assert lines.count("    ...") == 1, done.out


def test_where_no_system_call_may_be_made_there_is_one_frame():
    python = os.path.realpath(shutil.which("python3.11") or "/usr/bin/python3")
    program = Program(python, "-IS", "-c", SECCOMP)
    tool = Tool("trace", "-k", "--json", "-p", program.pid, "-e", "libc!getppid")
    assert int(program.ask("go")) == os.getpid()
    done = tool.stop()
    assert [hit["stack"] for hit in done.hits()] == [["getppid+0x0"]], done.out
    program.quit()


def test_counting_takes_no_stack():
    run("count", "-k", "-e", "malloc", "--", "true").expect(2, "-k is for trace")


def load_bias(path, base):
    with open(path, "rb") as file:
        return 0 if struct.unpack_from("<H", file.read(18), 16)[0] == 2 else base


class Addresses:
    """From "f+0x12" and "[file]+0x34" to the addresses that they may mean."""

    def __init__(self, bases):
        self.biases, self.functions = {}, {}
        for base, path in bases:
            listed = subprocess.run([TRAPLINE, "list", "--json", path], stdout=subprocess.PIPE, text=True,
                                    stderr=subprocess.DEVNULL, check=False)
            if listed.returncode:
                continue
            bias = self.biases[os.path.basename(path)] = load_bias(path, base)
            for function in map(json.loads, listed.stdout.splitlines()):
                if function.get("name"):
                    self.functions.setdefault(function["name"], set()).add(bias + int(function["addr"], 16))

    def of(self, frame):
        name, offset = frame.rsplit("+", 1)
        if name.startswith("["):
            return {self.biases[name[1:-1]] + int(offset, 16)}
        return {address + int(offset, 16) for address in self.functions[name]}


def check_against_gdb(function, *command):
    if not shutil.which("gdb"):
        raise Skip("no gdb")
    script = ["-ex", f'set $function = "{function}"', "-x", os.path.join(HERE, "frames_of_gdb.py")]
    gdb = subprocess.run(["gdb", "-nx", "-batch", *script, "--args", *command], stdout=subprocess.PIPE, text=True,
                         stdin=subprocess.DEVNULL, env=dict(os.environ, SHELL="/bin/sh"), timeout=PATIENCE, check=True)
    frames = [int(found, 16) for found in re.findall(r"^frame (\S+)$", gdb.stdout, re.M)]
    addresses = Addresses([(int(base, 16), path) for base, path in re.findall(r"^base (\S+) (\S+)$", gdb.stdout, re.M)])
    ours = run_with_file("trace", "-k", "--json", "-n", "1", "-e", f"libc!{function}", "--", *command,
                         before=["setarch", "-R"]).hits()[0]["stack"]
    assert len(frames) > 8 and len(ours) == len(frames), f"{len(ours)} frames, gdb has {len(frames)}: {ours}"
    for ours_is, gdb_is in zip(ours, frames):
        assert gdb_is in addresses.of(ours_is), f"{ours_is} is not gdb's {gdb_is:#x}: {ours}"


def test_bash_as_gdb_sees_it():
    check_against_gdb("write", "/bin/bash", "-c", "f() { echo hi; }; f")


def test_python_as_gdb_sees_it():
    check_against_gdb("clock_nanosleep", "/usr/bin/python3.11", "-ISc",
                      "import time\ndef f(n): return f(n - 1) if n else time.sleep(1e-6)\nlist(map(f, [5]))")


main(globals())
