#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that use signals in every way there is, bare, with jumps and with breakpoints: what they see is the same."""
import resource
import struct

from kit import *

WAYS = {"jump": [], "int3": ["--tactic", "int3"]}
ENTRIES = ["-e", "EXE!*", "-e", "r EXE:*"]
TRAPS = ["blocked 100", "all 50", "ignored 20", "own 5", "flags", "waited 6", "suspended 5", "storm 20", "die"]
FAULTS = ["repair 10", "leave 10", "null 10", "kinds 6", "stacks 4", "sent 4", "segv", "ill", "fpe", "trap"]
STARTS = ["plain", "ignoring", "blocking", "handling", "asking", "failing"]


def bare(name, command):
    done = subprocess.run([target(name), *command.split()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          timeout=PATIENCE)
    return done.stdout, done.returncode if done.returncode >= 0 else 128 - done.returncode


def same(name, commands, *specs, ways=WAYS, verb="count"):
    """Each command has the same output and end with `specs` probed as without, in each of the ways."""
    wrong = []
    for command in commands:
        expected = bare(name, command)
        for way in ways:
            done = run_with_file(verb, "-q", "--json", *WAYS[way], *specs, "--", target(name), *command.split())
            hits = done.summary()["hits"] if done.out else 0
            tactics = {line["how"] for line in done.lines() if line["type"] == "count" and line["hits"]}
            if (done.program, done.status) != expected or done.err or not hits or (way == "int3" and tactics != {"int3"}):
                wrong.append(f"{command}, {way}: {expected} became {(done.program, done.status)}, {hits} hits by {tactics}: "
                             f"{done.err}")
    assert not wrong, "\n".join(wrong)


def test_sigtrap_as_a_signal_of_the_programs_own():
    same("traps", TRAPS, *ENTRIES)


def test_sigtrap_with_each_instruction_probed():
    same("traps", TRAPS, "--every-instruction", "-e", "EXE!*")


def test_faults_with_functions_probed():
    same("faults", FAULTS, *ENTRIES)


def test_faults_with_each_instruction_probed():
    same("faults", FAULTS, "--every-instruction", "-e", "EXE!*")


DEEP = ["deep 12", "deep 200"]


def test_a_stack_that_comes_to_its_end():
    for specs in (["-e", "EXE!deep_at"], ["--every-instruction", "-e", "EXE!deep_at"]):
        same("faults", DEEP, *specs)


def test_what_children_find():
    same("starts", STARTS, *ENTRIES, "-e", "libc!*spawn*", "-e", "libc!system", "-e", "libc!*sig*")


def test_a_program_that_steps_itself():
    same("starts", ["steps 5"], "-e", "EXE!work", "-e", "r EXE:work")
    same("starts", ["steps 5"], "--every-instruction", "-e", "EXE!work")


def test_every_function_of_the_c_library():
    same("traps", TRAPS, "-e", "EXE!*", "-e", "libc!*")
    same("faults", FAULTS[:6], "-e", "EXE!*", "-e", "libc!*")


def notes(core):
    """The notes of a core file: (type, content)."""
    headers, count = struct.unpack_from("<Q", core, 32)[0], struct.unpack_from("<H", core, 56)[0]
    for i in range(count):
        kind, _, at, _, _, size = struct.unpack_from("<IIQQQQ", core, headers + 56 * i)
        end = at + size
        while kind == 4 and at < end:  # PT_NOTE
            name_size, length, note = struct.unpack_from("<III", core, at)
            at += 12 + (name_size + 3 & ~3)
            yield note, core[at:at + length]
            at += length + 3 & ~3


def dumped(command, *before):
    """Where the instruction pointer is in the program, by the core that `command` of faults leaves."""
    directory = tempfile.mkdtemp(dir=WORK)
    env = {**os.environ, "ASAN_OPTIONS": "disable_coredump=0"}  # a sanitized tool would forbid its children to leave one
    subprocess.run([*before, target("faults"), command], cwd=directory, stdin=subprocess.DEVNULL, env=env,
                   stdout=subprocess.DEVNULL, timeout=PATIENCE,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30)))
    cores = os.listdir(directory)
    assert len(cores) == 1, cores
    with open(f"{directory}/{cores[0]}", "rb") as file:
        core = file.read()
    status = next(content for note, content in notes(core) if note == 1)  # of the thread that died; registers at 112
    files = next(content for note, content in notes(core) if note == 0x46494c45)
    count = struct.unpack_from("<Q", files)[0]
    names = files[16 + 24 * count:].split(b"\0")
    bases = [struct.unpack_from("<Q", files, 16 + 24 * i)[0] for i in range(count) if names[i].endswith(b"target-faults")]
    return struct.unpack_from("<Q", status, 112 + 8 * 16)[0] - min(bases)


def test_the_core_shows_the_instruction_that_faulted():
    with open("/proc/sys/kernel/core_pattern") as file:
        pattern = file.read().strip()
    if "/" in pattern or pattern.startswith("|"):
        raise Skip(f"cores go to {pattern}")
    for command in ("segv", "ill", "fpe", "trap"):
        expected = dumped(command)
        for way in WAYS.values():
            for specs in (ENTRIES, ["--every-instruction", "-e", "EXE!*"]):
                got = dumped(command, TRAPLINE, "count", "-q", *way, *specs, "--")
                assert got == expected, f"{command}, {way}: {expected:#x} became {got:#x}"


GO = r"""package main
import ("fmt"; "runtime/debug")
type pair struct { a, b int }
//go:noinline
func field(p *pair) int { return p.b }
//go:noinline
func element(s []int, i int) int { return s[i] / (i - 3) }
//go:noinline
func try(f func() int) (result string) {
  defer func() { if e := recover(); e != nil { result = fmt.Sprint(e) } }()
  return fmt.Sprint(f())
}
func main() {
  debug.SetPanicOnFault(true)
  last := ""
  for i := 0; i < 50; i++ {
    var none *pair
    if i % 2 == 0 { none = &pair{1, i} }
    text := try(func() int { return field(none) }) + try(func() int { return element([]int{1, 2, 3, 4, 5}, i % 6) })
    if i % 10 == 0 { done := make(chan string); go func() { done <- try(func() int { return field(nil) }) }(); text += <-done }
    last = text + "/" + last
  }
  fmt.Println(last)
}
"""


def test_a_go_program_that_recovers():
    if not shutil.which("go"):
        raise Skip("go is not installed")
    with open(f"{WORK}/main.go", "w") as file:
        file.write(GO)
    subprocess.run(["go", "build", "-o", f"{WORK}/recovers", f"{WORK}/main.go"], check=True,
                   env=dict(os.environ, GOCACHE=f"{WORK}/cache", GO111MODULE="off", CGO_ENABLED="0"))
    expected = subprocess.run([f"{WORK}/recovers"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for way in WAYS.values():
        for specs in (["--every-instruction", "-e", "EXE!main.*"], ["-e", "EXE!runtime.*", "-e", "EXE!main.*"]):
            done = run_with_file("count", "-q", "--json", *way, *specs, "--", f"{WORK}/recovers").expect(0, "^$")
            assert done.program == expected, (way, specs, done.program)
            assert done.summary()["hits"] > 1000


main(globals())
