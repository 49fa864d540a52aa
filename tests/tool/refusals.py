#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whatever is wrong is said in one line, with the right status, and nothing is left in the program."""
import resource

from kit import *

PTRACE, PROCESS_VM_READV = "101", "310"


def one_line(done, status, pattern):
    assert done.status == status, (done.status, done.err)
    assert len(done.err.splitlines()) == 1 and done.err.startswith("trapline: "), done.err
    assert re.search(pattern, done.err), done.err
    return done


def elf_with(**fields):
    """The program calls with some fields of its header changed."""
    with open(target("calls"), "rb") as file:
        image = bytearray(file.read())
    if "machine" in fields:
        image[18:20] = fields["machine"].to_bytes(2, "little")
    if "kind" in fields:
        image[4] = fields["kind"]
    path = tempfile.mktemp(dir=WORK)
    with open(path, "wb") as file:
        file.write(image[:fields.get("size", len(image))])
    os.chmod(path, 0o755)
    return path


def test_files_that_are_no_programs():
    empty = tempfile.mktemp(dir=WORK)
    open(empty, "w").close()
    one_line(run("list", "/nonexistent"), 1, "/nonexistent: No such file or directory$")
    one_line(run("list", WORK), 1, "(?i)directory|regular file|not an ELF")
    one_line(run("list", empty), 1, "(?i)ELF")
    one_line(run("list", "/etc/passwd"), 1, "(?i)ELF")
    one_line(run("list", "/dev/null"), 1, ".")
    one_line(run("list", elf_with(machine=183)), 1, "(?i)aarch64|arm")
    one_line(run("list", elf_with(kind=1)), 1, "x32 program")
    one_line(run("list", elf_with(machine=3, kind=1)), 1, "(?i)32.bit|386")
    one_line(run("list", target("calls"), "nonesuch*"), 1, "nonesuch")


def test_truncated_files():
    size = os.path.getsize(target("calls"))
    for part in [0, 1, 4, 16, 63, 64, 65, 100, 200, 1000, 4096, 4097] + [size * i // 20 for i in range(20)] + [size - 1]:
        done = run("list", elf_with(size=part))
        assert done.status in (0, 1), (part, done.status, done.err)
        assert done.status == 0 or len(done.err.splitlines()) == 1, (part, done.err)


def test_commands_of_other_machines():
    for path, why in ((elf_with(machine=183), r"for another machine \(aarch64\); only x86-64 is supported"),
                      (elf_with(size=100), "truncated"), (elf_with(size=5000), "truncated")):
        one_line(run("count", "-e", "EXE!main", "--", path), 1, f"^trapline: {path}: {why}")
    script = os.path.join(WORK, "script")
    with open(script, "w") as file:
        file.write("echo\n")
    os.chmod(script, 0o755)
    one_line(run("count", "-e", "EXE!main", "--", script), 1, f"^trapline: {script}: not an ELF file$")


def test_files_that_specs_name():
    one_line(run("count", "-e", "p /nonexistent:main", "--", target("calls")), 1, "/nonexistent: No such file")
    one_line(run("count", "-e", "p /usr/bin/env:main", "--", target("calls")), 1, 'no file like "/usr/bin/env"')
    # The kernel looks at the machine only, and executes what calls itself an x32 program.
    one_line(run("count", "-e", "main", "--", elf_with(kind=1)), 1, "an x32 program; only 64-bit x86-64 is supported")


def test_a_32_bit_program():
    source, path = os.path.join(WORK, "pause.s"), os.path.join(WORK, "pause")
    with open(source, "w") as file:
        file.write(".globl _start\n_start: mov $29, %eax\n int $0x80\n jmp _start\n")
    subprocess.run(["as", "--32", "-o", source + ".o", source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-o", path, source + ".o"], check=True)
    try:
        program = subprocess.Popen([path])
    except OSError:
        raise Skip("no 32-bit programs here")
    started.append(program)
    one_line(run("count", "-e", "EXE!_start", "-p", program.pid), 1, "not a 64-bit x86 program")
    one_line(run("count", "-e", "EXE!_start", "--", path), 1, "not a 64-bit x86 program|32.bit")
    assert program.poll() is None and tracer(program.pid) == 0


def test_processes_that_cannot_be_attached_to():
    one_line(run("count", "-e", "x", "-p", 2147483647), 1, "no process 2147483647")
    if os.path.exists("/proc/2/comm") and "kthreadd" in open("/proc/2/comm").read():
        one_line(run("count", "-e", "x", "-p", 2), 1, "kernel thread|process 2 belongs to")
    zombie = subprocess.Popen(["true"])
    wait_until(lambda: " Z " in open(f"/proc/{zombie.pid}/stat").read(), "it has ended")
    one_line(run("count", "-e", "x", "-p", zombie.pid), 1, "zombie")
    zombie.wait()
    one_line(run("list", "-p", 2147483647), 1, "2147483647")


def test_a_process_of_another_user():
    before = as_nobody()
    program = Program("calls")
    with Untouched(program.pid):
        done = run("count", "-e", "EXE!f00", "-p", program.pid, before=before)
        one_line(done, 1, f"process {program.pid} belongs to user 0: run trapline as that user or as root")


def test_without_being_root():
    before = as_nobody()
    tool, calls = public(TRAPLINE), public(target("calls"))
    program = Program(calls, before=before)
    with Untouched(program.pid):
        table = os.path.join(WORK, "shared")
        open(table, "w").close()
        os.chmod(table, 0o666)
        for _ in range(2):
            process = subprocess.Popen([*before, tool, "trace", "--json", "-n", "4", "-e", "EXE!f00 s=+0(+0($stack)):u64",
                                        "-p", str(program.pid), "-o", table], stderr=subprocess.PIPE, text=True)
            started.append(process)
            while process.poll() is None:
                program.ask("single 10")
            with open(table) as file:
                lines = [json.loads(line) for line in file]
            assert process.returncode == 0 and len(lines) == 5, process.stderr.read()
            assert all(line["args"]["s"] for line in lines[:4])
    done = subprocess.run([*before, tool, "count", "--json", "-e", "EXE!f*", "-e", "libc!*", "-o", table, "--", calls, "run", "4",
                           "10"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    counts = {line["probe"]: line["hits"] for line in map(json.loads, open(table)) if line["type"] == "count"}
    assert counts["f77"] == 4 * 10 * 64, counts


def test_a_target_that_confines_itself():
    for mode in ("filter", "strict"):
        program = Program(public(target("confined")), before=as_nobody())
        assert program.ask("call 1") == "97" and program.ask(mode) == "0"
        with Untouched(program.pid):
            one_line(run("count", "-e", "EXE!called", "-p", program.pid, before=as_nobody()), 1,
                     "seccomp: run trapline as root")
            for command in ("count", "trace"):
                tool = Tool(command, "--json", "-e", "EXE!called x=$arg1 s=+0($arg1):string", "-p", program.pid)
                assert program.ask("call 10") == "970", mode
                done = tool.stop().expect(0)
                assert done.summary()["hits"] == 10, done.out
                assert all(hit["args"]["x"] and hit["args"]["s"] is None for hit in done.hits())
        program.process.kill()


def test_a_target_that_confines_itself_while_it_is_probed():
    program = Program(public(target("confined")), before=as_nobody())
    with Untouched(program.pid):
        tool = Tool("count", "--json", "-e", "EXE!called", "-p", program.pid)
        assert program.ask("filter") == "0" and program.ask("call 10") == "970"
        assert tool.stop().expect(0).counts() == {"called": 10}
    assert program.ask("call 10") == "970"
    program.quit()
    tool = public(TRAPLINE)
    program = Program(public(target("confined")), before=as_nobody())
    process = subprocess.Popen([*as_nobody(), tool, "count", "-v", "-e", "EXE!called", "-p", str(program.pid)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(process)
    assert "in place" in process.stderr.readline()
    assert program.ask("filter") == "0" and program.ask("call 10") == "970"
    process.send_signal(signal.SIGINT)
    assert "could not be taken out" in process.communicate(timeout=PATIENCE)[1]
    assert program.ask("call 10") == "970" and not changed_text(program.pid)
    program.quit()


def test_ptrace_forbidden_to_the_tool():
    program = Program("calls")
    where = {"before": [target("forbid"), PTRACE], "env": {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}}
    with Untouched(program.pid):
        one_line(run("count", "-e", "EXE!f00", "-p", program.pid, **where), 1,
                 "ptrace is forbidden to trapline itself")
    one_line(run("count", "-e", "EXE!main", "--", "true", **where), 1, "ptrace is forbidden to trapline itself")
    done = run("doctor", **where).expect(0)
    assert re.search(r"^attach +no +ptrace", done.out, re.M), done.out


def test_fetches_where_reading_memory_is_forbidden():
    done = run_with_file("trace", "--json", "-e", "EXE!f00 x=$arg1 s=+0(+0($stack)):u64", "--", target("calls"), "single",
                         3, before=[target("forbid"), PROCESS_VM_READV])
    assert done.status in (0, 1), done.err
    if done.status == 0:
        assert len(done.hits()) == 3 and all(hit["args"]["s"] is None for hit in done.hits()), done.out


def limited(name, limit, pattern, fails=True):
    program = Program("calls")
    program.ask("single 1")
    with Untouched(program.pid):
        before = resource.prlimit(program.pid, limit[0])
        resource.prlimit(program.pid, limit[0], (limit[1], before[1]))
        done = run("count", "-e", "EXE!*", "-e", "libc!*", "-t", "0.01", "-q", "-p", program.pid)
        if done.status or fails:
            one_line(done, 1, pattern)
        assert program.ask("single 3") == "0", name
        resource.prlimit(program.pid, limit[0], before)
    with Untouched(program.pid):
        run("count", "-e", "EXE!f00", "-t", "0.01", "-p", program.pid).expect(0)
    program.quit()


def test_targets_that_may_not_have_more():
    pages = 4096
    program = Program("calls")
    with open(f"/proc/{program.pid}/statm") as file:
        size = int(file.read().split()[0]) * pages
    limited("address space", (resource.RLIMIT_AS, size), "RLIMIT_AS is")
    limited("a little more address space", (resource.RLIMIT_AS, size + 64 * pages), "RLIMIT_AS is")
    limited("descriptors", (resource.RLIMIT_NOFILE, 3), "RLIMIT_NOFILE")
    limited("file size", (resource.RLIMIT_FSIZE, 0), "RLIMIT_FSIZE", fails=False)
    limited("data", (resource.RLIMIT_DATA, 4096), "RLIMIT_DATA is", fails=False)
    limited("processor", (resource.RLIMIT_STACK, 65536), "stack", fails=False)


def test_a_tool_with_few_descriptors():
    program = Program("calls")
    program.ask("single 1")
    attach = ["-t", "0.01", "-p", program.pid]
    for limit in (*range(4, 40, 3), 64):
        for arguments in (["count", "-e", "EXE!f*", *attach], ["count", "-e", "*", *attach],
                          ["trace", "-k", "-e", "EXE!f00", *attach], ["count", "-e", "EXE!f00", "--", target("calls"), "single", 1],
                          ["list", "-p", program.pid, "f*"], ["list", target("calls"), "f*"]):
            with Untouched(program.pid):
                done = run(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
            assert done.status == (1 if limit < 16 else 0 if limit == 64 else done.status), (limit, arguments, done.err)
            if done.status:
                one_line(done, 1, r"out of file descriptors: raise the limit \(ulimit -n\)$")
            else:
                assert not re.search("descriptor|open files|AT_ENTRY", done.err), (limit, arguments, done.err)
    assert program.ask("single 3") == "0"
    program.quit()


def test_targets_out_of_mappings():
    for spare in (0, 1, 3, 20, 300):
        program = Program("confined")
        program.ask("call 1")
        program.ask(f"map {spare}")
        before = len(areas(program.pid))
        done = run("count", "-e", "EXE!*", "-e", "libc!*", "-t", "0.01", "-q", "-p", program.pid)
        if done.status:
            one_line(done, 1, "vm.max_map_count")
        assert len(areas(program.pid)) == before and not changed_text(program.pid), spare
        assert program.ask("call 2") == "194"
        program.quit()


def test_a_target_that_locks_its_memory():
    program = Program("confined")
    program.ask("call 1")
    if program.ask("lock") != "0":
        raise Skip("memory cannot be locked")
    with Untouched(program.pid):
        if os.geteuid():
            one_line(run("count", "-e", "EXE!called", "-p", program.pid), 1, "RLIMIT_MEMLOCK is exhausted")
            return
        tool = Tool("count", "--json", "-e", "EXE!called", "-e", "libc!*", "-p", program.pid)
        program.ask("call 5")
        assert tool.stop().expect(0).counts()["called"] == 5
    program.quit()


def test_a_stopped_target_stays_stopped():
    def state():
        with open(f"/proc/{program.pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]

    program = Program("calls")
    program.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: state() == "T", "it is stopped")
    with Untouched(program.pid):
        tool = Tool("count", "--json", "-e", "EXE!f00", "-p", program.pid)
        # A task that was let go of looks by itself whether it has to stop.
        wait_until(lambda: state() == "T", "it is as it was")
        program.process.send_signal(signal.SIGCONT)
        assert program.ask("single 3") == "0"
        program.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state() == "T", "it is stopped again")
        assert tool.stop().expect(0).counts() == {"f00": 3}
        wait_until(lambda: state() == "T", "it is as it was")
        program.process.send_signal(signal.SIGCONT)
        assert program.ask("single 3") == "0"
    program.quit()


def test_a_thread_id_means_its_process():
    program = Program("sleeper")
    tid = max(map(int, os.listdir(f"/proc/{program.pid}/task")))
    with Untouched(program.pid):
        tool = Tool("count", "--json", "-e", "EXE!work", "-p", tid)
        program.ask("check")
        assert tool.stop().expect(0).counts()["work"] > 0
    program.quit()


def test_specs_that_are_wrong_show_where():
    for spec, column in (("p:name", 6), ("EXE!f00 x=%zz", 11), ("EXE!f00 x=$retval", 10), ("EXE!f00 x=+0(%di", 16),
                         ("EXE!f00 x=%di:u7", 14), ("EXE!f00 if", 10), ("EXE!f00 if y > 1", 11),
                         ("EXE!f00 x=$arg1 if x >", 22)):
        done = run("count", "-e", spec, "--", target("calls"), "single", 1).expect(2)
        lines = done.err.splitlines()
        assert lines[0] == spec and lines[1].index("^") == column and "expected" in lines[1], done.err


main(globals())
