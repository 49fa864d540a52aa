#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Others who write breakpoints into the same program: gdb and the kernel's uprobes, before us and after us."""
import ctypes
import struct

from kit import *

PERF_EVENT_OPEN = 298


class Gdb:
    """gdb in a script's hands: it attaches, runs the commands, and lets go or waits to be told."""

    def __init__(self, pid, *commands):
        if not shutil.which("gdb"):
            raise Skip("there is no gdb")
        self.mark = tempfile.mktemp(dir=WORK)
        script = tempfile.mktemp(dir=WORK)
        with open(script, "w") as file:
            file.write("\n".join(["set pagination off", "set confirm off", "set debuginfod enabled off",
                                  f"attach {pid}", *commands]).replace("READY", f"shell touch {self.mark}") + "\n")
        self.process = subprocess.Popen(["gdb", "-q", "-nx", "-batch", "-x", script], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(self.process)

    def ready(self):
        wait_until(lambda: os.path.exists(self.mark) or self.process.poll() is not None, "gdb is ready")
        os.unlink(self.mark)
        return self

    def end(self):
        out = self.process.communicate(timeout=PATIENCE)[0]
        assert "SIGSEGV" not in out and "SIGILL" not in out and "SIGTRAP" not in out, out
        return out


def probed(pid, *specs):
    """Without breakpoints, which gdb would stop at: whether one is needed depends on what lies near the program."""
    return Tool("count", "--json", "--tactic", "jump,jump-punned", *[word for spec in specs for word in ("-e", spec)], "-p", pid)


def test_gdb_after_us_on_the_same_function():
    for place in ("f00", "*f00", "*f01", "f70"):
        program = Program("calls")
        program.ask("run 1 1")
        with Untouched(program.pid):
            tool = probed(program.pid, "EXE!f*", "r EXE:f*")
            gdb = Gdb(program.pid, f"break {place}", "READY", "continue", "bt", "continue", "stepi 40",
                      "delete", "detach")
            gdb.ready()
            program.tell("run 1 3")
            out = gdb.end()
            assert out.count("Breakpoint 1, ") == 2, out
            assert program.answer() == subprocess.run([target("calls"), "run", "1", "3"], stdout=subprocess.PIPE,
                                                      text=True).stdout.strip()
            counts = tool.stop().expect(0).counts()
            assert counts["f00"] == 3 and counts["f70"] == 3 * 57, counts
        program.quit()


def test_gdb_after_us_that_passes_traps_on():
    program = Program("calls")
    expected = program.ask("run 1 3")
    with Untouched(program.pid):
        tool = Tool("count", "--json", "--tactic", "int3", "-e", "EXE!f*", "-e", "r EXE:f*", "-p", program.pid)
        gdb = Gdb(program.pid, "handle SIGTRAP nostop noprint pass", "READY", "continue", "detach").ready()
        assert program.ask("run 1 3") == expected
        os.kill(program.pid, signal.SIGINT)  # which gdb keeps
        assert "received signal SIGINT" in gdb.process.communicate(timeout=PATIENCE)[0]
        assert program.ask("run 1 3") == expected
        counts = tool.stop().expect(0).counts()
        assert counts["f00"] == 6 and counts["f70"] == 6 * 57, counts
    program.quit()


def second_instructions():
    """f00 ... f77 and how far behind its beginning the second instruction of each is."""
    found = {}
    for i in range(64):
        offsets = instructions(f"f{i:02o}")
        found[f"f{i:02o}"] = offsets[1] - offsets[0]
    return found


def test_gdb_after_us_on_the_second_instruction_of_every_function():
    places = second_instructions()
    program = Program("calls")
    program.ask("run 1 1")
    with Untouched(program.pid):
        tool = probed(program.pid, "EXE!f[0-7][0-7]")
        gdb = Gdb(program.pid, *(f"break *((char *)f{i:02o} + {distance})" for i, distance in enumerate(places.values())),
                  "READY", *["continue"] * 2080, "delete", "detach").ready()
        program.tell("run 1 1")
        out = gdb.end()
        assert len(re.findall(r"Breakpoint \d+, ", out)) == 2080, out[-3000:]
        assert program.answer()
        counts = tool.stop().expect(0).counts()
        assert counts == {f"f{i:02o}": i + 1 for i in range(64) if f"f{i:02o}" in counts} and len(counts) > 40, counts
    program.quit()


def test_breakpoints_left_on_second_instructions():
    places = second_instructions()
    program = Program("calls")
    gdb = Gdb(program.pid, "set breakpoint always-inserted on",
              *(f"break *((char *)f{i:02o} + {places[f'f{i:02o}']})" for i in range(32)), "READY", "shell sleep 60")
    gdb.ready().process.kill()
    gdb.process.wait()
    wait_until(lambda: not tracer(program.pid), "gdb is gone")
    before = changed_text(program.pid)
    for spec in [f"EXE!f{i:02o}" for i in range(0, 32, 4)] + ["EXE!f[0-7][0-7]"]:
        done = run("count", "-v", "-e", spec, "-t", "0.01", "-p", program.pid)
        assert done.status == 0 or "(EBUSY)" in done.err or "(ENOSPC)" in done.err, done.err
    tool = probed(program.pid, "EXE!f[4-7][0-7]", "EXE!f01")
    assert program.ask("single 0") == "0"
    tool.stop().expect(0)
    assert changed_text(program.pid) == before


def test_we_leave_while_gdb_is_there():
    for place in ("f00", "*f00"):
        program = Program("calls")
        with Untouched(program.pid):
            tool = probed(program.pid, "EXE!f00")
            release = tempfile.mktemp(dir=WORK)
            gdb = Gdb(program.pid, f"break {place}", "READY", "continue", "READY",
                      f"shell for i in $(seq 600); do [ -e {release} ] && break; sleep 0.05; done", "continue", "delete", "detach")
            gdb.ready()
            program.tell("single 5")
            gdb.ready()
            done = tool.stop()
            assert re.search(rf"trapline: [^\n]*traced by process {gdb.process.pid}\b", done.err), done.err
            assert done.summary()["hits"] <= 1, done.out
            open(release, "w").close()
            gdb.end()
            assert program.answer() == "0"
            tool = probed(program.pid, "EXE!f00")  # cleans up what we had to leave
            assert program.ask("single 4") == "0"
            assert tool.stop().expect(0).counts() == {"f00": 4}
        program.quit()


def test_gdb_before_us_keeps_us_out():
    program = Program("calls")
    gdb = Gdb(program.pid, "break f00", "READY", "continue", "delete", "detach").ready()
    wait_until(lambda: tracer(program.pid), "gdb traces")
    done = run("count", "-e", "EXE!f00", "-p", program.pid)
    done.expect(1, rf"^trapline: process {program.pid} is already traced by process {gdb.process.pid} \(gdb\)\n$")
    program.tell("single 1")
    gdb.end()
    assert program.answer() == "0"
    with Untouched(program.pid):
        tool = probed(program.pid, "EXE!f00")
        program.ask("single 2")
        assert tool.stop().expect(0).counts() == {"f00": 2}
    program.quit()


def test_a_breakpoint_that_a_dead_gdb_left_is_kept_out_of():
    program = Program("calls")
    gdb = Gdb(program.pid, "set breakpoint always-inserted on", "break *f00", "READY", "shell sleep 60").ready()
    gdb.process.kill()
    gdb.process.wait()
    wait_until(lambda: not tracer(program.pid), "gdb is gone")
    assert changed_text(program.pid), "gdb has left no breakpoint"
    run("count", "-e", "EXE!f00", "-p", program.pid).expect(1, r"refused: f00: [^\n]*breakpoint[^\n]*\(EBUSY\)")
    tool = probed(program.pid, "EXE!f01", "EXE!factorial")
    assert program.ask("factorial 5") == "120"
    assert tool.stop().expect(0).counts() == {"f01": 0, "factorial": 5}
    assert target("calls") in changed_text(program.pid), "gdb's breakpoint is not ours to remove"


def uprobe(path, offset, pid):
    """A kernel uprobe's descriptor: its count can be read from it."""
    try:
        with open("/sys/bus/event_source/devices/uprobe/type") as file:
            kind = int(file.read())
    except OSError:
        raise Skip("there are no uprobes here")
    name = ctypes.create_string_buffer(path.encode())
    attr = bytearray(128)
    struct.pack_into("<II", attr, 0, kind, len(attr))
    struct.pack_into("<QQ", attr, 56, ctypes.addressof(name), offset)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(PERF_EVENT_OPEN, (ctypes.c_char * len(attr)).from_buffer(attr), pid, -1, -1, 8)
    if fd < 0:
        raise Skip(f"no uprobe: {os.strerror(ctypes.get_errno())}")
    return fd


def hits(fd):
    return struct.unpack("<Q", os.read(fd, 8))[0]


def instructions(name):
    """Offsets in the file of a function's instructions."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", f"--disassemble={name}", target("calls")],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    return [int(match, 16) for match in re.findall(r"^\s+([0-9a-f]+):\t", text, re.M)]


def test_a_uprobe_before_us_on_the_same_instruction_is_kept_out_of():
    program = Program("calls")
    fd = uprobe(target("calls"), instructions("factorial")[0], program.pid)
    run("count", "-e", "EXE!factorial", "-p", program.pid).expect(1, r"refused: factorial: [^\n]*\(EBUSY\)")
    assert program.ask("factorial 6") == "720"
    assert hits(fd) == 6
    os.close(fd)
    with Untouched(program.pid):
        tool = probed(program.pid, "EXE!factorial")
        assert program.ask("factorial 6") == "720"
        assert tool.stop().expect(0).counts() == {"factorial": 6}
    program.quit()


def test_uprobes_before_us_on_the_other_instructions():
    program = Program("calls")
    fds = [uprobe(target("calls"), offset, program.pid) for offset in instructions("factorial")[2:]]
    tool = probed(program.pid, "EXE!factorial", "EXE!f*")
    assert program.ask("factorial 6") == "720"
    assert tool.stop().expect(0).counts()["factorial"] == 6
    assert program.ask("factorial 6") == "720"
    assert hits(fds[0]) == 12
    for fd in fds:
        os.close(fd)
    assert not changed_text(program.pid)
    program.quit()


def test_uprobes_after_us_on_the_other_instructions():
    program = Program("calls")
    with Untouched(program.pid):
        tool = probed(program.pid, "EXE!factorial", "EXE!f*")
        fds = [uprobe(target("calls"), offset, program.pid) for offset in instructions("factorial")[1:]]
        assert program.ask("factorial 6") == "720"
        assert hits(fds[0]) == 6
        for fd in fds[:4]:
            os.close(fd)
        assert program.ask("factorial 6") == "720"
        assert tool.stop().expect(0).counts()["factorial"] == 12
        assert program.ask("factorial 6") == "720"
        for fd in fds[4:]:
            os.close(fd)
        assert program.ask("factorial 6") == "720"
    program.quit()


def test_a_uprobe_after_us_on_the_same_instruction_survives_us():
    program = Program("calls")
    with Untouched(program.pid):
        tool = probed(program.pid, "EXE!factorial", "EXE!f*")
        fd = uprobe(target("calls"), instructions("factorial")[0], program.pid)
        assert program.ask("factorial 6") == "720"
        tool.stop().expect(0)
        assert program.ask("factorial 6") == "720"
        assert hits(fd) == 12
        os.close(fd)
        assert program.ask("factorial 6") == "720"
    program.quit()


main(globals())
