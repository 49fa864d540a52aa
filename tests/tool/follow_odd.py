#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""-f where processes and programs come in unusual ways, are of an unusual kind, or are many; and with other options."""
import struct

from kit import *

SELF = target("family")
COUNT = ("count", "--json", "-f", "-e", "EXE!step")


def steps(*command, **options):
    return run_with_file(*COUNT, "--", *command, **options).expect(0).counts().get("step")


def shell(script, **options):
    return run_with_file(*COUNT, "--", "bash", "-c", script, **options)


def test_a_process_that_shares_the_memory_counts_with_its_maker():
    assert steps(SELF, "clone", 300) == 300 + 7


def test_forks_from_many_threads_at_a_time():
    assert steps(SELF, "threads", 8, 5, 100) == 8 * 5 * 2 * 100 + 7
    program = Program("family")
    tool = Tool(*COUNT, "-p", program.pid)
    program.ask_nothing("threads 8 5 100")
    assert tool.stop().expect(0).counts()["step"] == 8 * 5 * 2 * 100 + 7
    assert tracer(program.pid) == 0 and not changed_text(program.pid)
    program.quit()


def test_forks_of_a_program_whose_first_thread_has_ended():
    assert steps(SELF, "headless", 5, 100) == 5 * 2 * 100


def test_an_exec_from_another_thread():
    assert steps(SELF, "exec-thread", SELF, 100) == 100 + 7
    assert steps(SELF, "exec-thread", "/no/such/program", 100) == 7


def elf32():
    """A 32-bit program that ends with the status 42."""
    code = b"\xbb\x2a\0\0\0\xb8\x01\0\0\0\xcd\x80"
    base, start = 0x08048000, 52 + 32
    size = start + len(code)
    return (struct.pack("<4s5B7x2H5I6H", b"\x7fELF", 1, 1, 1, 0, 0, 2, 3, 1, base + start, 52, 0, 0, 52, 32, 1, 0, 0, 0)
            + struct.pack("<8I", 1, 0, base, base, size, size, 5, 4096) + code)


def test_a_program_for_32_bits_goes_on_without_probes():
    path = tempfile.mktemp(dir=WORK)
    with open(path, "wb") as file:
        file.write(elf32())
    os.chmod(path, 0o755)
    try:
        assert subprocess.run([path]).returncode == 42
    except OSError:
        raise Skip("no 32-bit programs here")
    done = shell(f"{SELF} steps 1; {path}; echo $?; {SELF} steps 1; exec {path}").expect(42, "not a 64-bit x86 program")
    assert done.program.split() == ["42"] and done.counts()["step"] == 16


def test_a_program_with_the_rights_of_its_owner():
    before = as_nobody()
    path, tool, table = public(SELF), public(TRAPLINE), os.path.join(WORK, "table")
    os.chown(path, 1, 1)
    os.chmod(path, 0o4755)
    done = run_with_file(*COUNT, "--", "bash", "-p", "-c", f"{SELF} user {path}; {path} user").expect(0)
    assert done.program.split() == ["1", "1"], "root may trace and leave them their rights"
    assert done.counts()["step"] == 14
    with open(table, "w"):
        os.chmod(table, 0o666)
    done = subprocess.run([*before, tool, *COUNT, "-o", table, "--", "bash", "-c", f"{path} user; {path} user {path}"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.remove(path)
    assert done.returncode == 0 and done.stdout.split() == [str(NOBODY)] * 2, (done.stdout, done.stderr)
    counts = {line["probe"]: line["hits"] for line in map(json.loads, open(table)) if line["type"] == "count"}
    assert counts["step"] == 14, counts


def test_breakpoints():
    for command, expected in ((("forks", 3, 100), 3 * 2 * 100 + 7), (("vfork", SELF, 100), 100 + 7 + 7),
                              (("threads", 4, 3, 100), 4 * 3 * 2 * 100 + 7), (("clone", 100), 100 + 7),
                              (("exec-thread", SELF, 100), 100 + 7)):
        done = run_with_file(*COUNT, "--tactic", "int3", "-v", "--", SELF, *command)
        if done.status and "cannot be watched" in done.err:
            raise Skip("breakpoints are refused here")
        assert done.expect(0, "each of their hits waits").counts()["step"] == expected, (command, done.err)


def test_children_that_are_killed_are_no_trouble():
    done = run_with_file(*COUNT, "--", SELF, "kill", 150, 10).expect(0)
    assert done.err == "", done.err
    assert done.counts()["step"] >= 7


def test_name_spaces():
    command = ["unshare", "-p", "-f"] if os.geteuid() == 0 else ["unshare", "-U", "-r", "-p", "-f"]
    if subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode:
        raise Skip("no name spaces here")
    done = run_with_file("trace", "--json", "-f", "-e", "EXE!step", "--", *command, SELF, "forks", 2, 10).expect(0)
    assert len(done.hits()) == 2 * 2 * 10 + 7
    assert all(hit["pid"] != 1 and hit["tid"] == hit["pid"] for hit in done.hits()), "numbers are of our name space"


def test_programs_that_confine_themselves():
    command = ("count", "--json", "-f", "-e", "EXE!called")
    script = f"printf 'filter\\ncall 10\\n' | {target('confined')}; echo $?"
    done = run_with_file(*command, "--", "bash", "-c", script).expect(0)
    assert done.program.split() == ["ready", "0", "970", "0"] and done.counts()["called"] == 10
    program = Program("confined")
    with Untouched(program.pid):
        tool = Tool(*command, "-p", program.pid)
        assert program.ask("filter") == "0" and program.ask("call 10") == "970"
        if os.geteuid():
            tool.process.kill()
            raise Skip("needs root to take probes out again")
        assert tool.stop().expect(0).counts()["called"] == 10
    assert program.ask("call 10") == "970"
    program.quit()


def test_more_programs_than_descriptors():
    script = f"ulimit -n; for i in $(seq 50); do {SELF} steps 1 & done; wait"
    done = shell(script, before=["bash", "-c", 'ulimit -S -n 80 && exec "$@"', "-"]).expect(0)
    assert done.counts()["step"] == 50 * 8, done.err
    assert done.program.split()[0] == "80"


def test_no_event_is_lost_where_the_program_waits():
    done = run_with_file("trace", "--json", "-f", "--block", "-e", "EXE!step", "--", SELF, "forks", 4, 30000).expect(0)
    assert len(done.hits()) == 4 * 2 * 30000 + 7
    assert done.summary()["lost"] == 0


def test_call_stacks_of_children():
    script = f"{SELF} forks 1 1; ({SELF} vfork {SELF} 1)"
    done = run_with_file("trace", "--json", "-f", "-k", "-e", "EXE!step", "--", "bash", "-c", script).expect(0)
    hits = done.hits()
    assert len(hits) == 2 + 7 + 1 + 7 + 7
    for hit in hits:
        assert hit["stack"][0].startswith("step") and hit["stack"][-1].startswith("_start+"), hit


def test_children_made_in_every_way_with_thousands_of_probes():
    for way in ("fork", "vfork", "spawn", "system", "popen", "clone", "thread-fork"):
        done = run_with_file("count", "--json", "-f", "-e", "EXE!*", "-e", "libc!*", "--", target("children"), way).expect(0)
        assert done.program == "exit 42\n", (way, done.program)
        expected = 1005 if way in ("fork", "clone", "thread-fork") else 0
        assert done.counts().get("called", 0) == expected, way


main(globals())
