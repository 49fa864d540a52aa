#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Running programs of every kind: attached to while they compute and sleep, they notice nothing, and nothing stays."""
from kit import *

KINDS = ("sleeper", "sleeper-nopie", "sleeper-static", "sleeper-static-pie", "sleeper-musl", "sleeper-go")


def quiet_areas(program):
    """Wait until the program has mapped what it maps at its start."""
    program.ask("check")


def probe(program, *specs, seconds=0.3):
    words = [word for spec in specs for word in ("-e", spec)]
    tool = Tool("count", "--json", *words, "-p", program.pid)
    assert tracer(program.pid) == 0, "the tool does not let go"
    assert changed_text(program.pid), "nothing has been placed"
    time.sleep(seconds)
    assert program.ask("check") == "0 wrong"
    return tool.stop().expect(0)


def attach_to(kind, *specs):
    program = Program(kind)
    quiet_areas(program)
    names = {"sleeper-go": "main.work"}
    with Untouched(program.pid) if kind != "sleeper-go" else TextUntouched(program.pid):
        for _ in range(2):
            counts = probe(program, *specs).counts()
            assert counts[names.get(kind, "work")] > 1000, counts
    assert program.ask("check") == "0 wrong"
    program.quit()


class TextUntouched(Untouched):
    """For programs that map memory as they please."""

    def __exit__(self, kind, *rest):
        if kind is None:
            assert not changed_text(self.pid) and tracer(self.pid) == 0
            assert not [area for area in areas(self.pid) if "trapline" in area[3]]


def test_one_function():
    for kind in KINDS:
        name = "main.work" if kind == "sleeper-go" else "work"
        attach_to_or_skip(kind, f"EXE!{name}")


def test_every_function_of_the_program():
    for kind in KINDS:
        attach_to_or_skip(kind, "EXE!*")


def attach_to_or_skip(kind, *specs):
    try:
        attach_to(kind, *specs)
    except Skip as reason:
        print(f"    {kind}: {reason}")
    except AssertionError as error:
        raise AssertionError(f"{kind}: {error}") from error


def test_every_function_of_every_library():
    attach_to("sleeper", "*")


def test_every_exit_of_every_function():
    attach_to("sleeper", "work", "r EXE:*", "r libc:*")


def test_a_command_of_every_kind():
    for kind in KINDS:
        try:
            path = target(kind)
        except Skip as reason:
            print(f"    {kind}: {reason}")
            continue
        name = "main.work" if kind == "sleeper-go" else "work"
        done = run_with_file("count", "--json", "-e", f"EXE!{name}", "--", path)
        assert done.expect(0).program.startswith("ready"), (kind, done.program)
        assert name in done.counts(), kind


def test_a_stripped_program_by_offset_and_by_unwind_tables():
    path = os.path.join(WORK, "stripped")
    subprocess.run(["strip", "-o", path, target("sleeper")], check=True)
    line = json.loads(run("list", "--json", target("sleeper"), "work").expect(0).out)
    everything = run("list", path).expect(0).out
    assert len(everything.splitlines()) > 5 and run("list", path, "*").expect(0).out == everything
    headers = subprocess.run(["readelf", "-lW", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    loads = [[int(word, 16) for word in row.split()[1:6]] for row in headers.splitlines() if row.split()[:1] == ["LOAD"]]
    addr = int(line["addr"], 16)
    offset = next(addr - virtual + start for start, virtual, _, size, _ in loads if virtual <= addr < virtual + size)
    program = Program(path)
    quiet_areas(program)
    with Untouched(program.pid):
        done = probe(program, f"p:work {path}:{offset:#x}", "EXE!*")
        assert done.counts()["work"] > 1000
        assert len(done.counts()) > 5, "the unwind tables know more functions"
        run("count", "-e", "EXE!work", "-p", program.pid).expect(1, "work")
    program.quit()


def test_a_program_whose_file_is_gone_or_replaced():
    path = os.path.join(WORK, "gone")
    shutil.copy(target("sleeper"), path)
    program = Program(path)
    quiet_areas(program)
    before = areas(program.pid)
    os.unlink(path)
    tool = Tool("count", "--json", "-e", "EXE!work", "-p", program.pid)
    program.ask("check")
    assert tool.stop().expect(0).counts()["work"] > 0
    with open(path, "w") as file:
        file.write("something else")
    tool = Tool("count", "--json", "-e", "EXE!work", "-p", program.pid)
    assert program.ask("check") == "0 wrong"
    assert tool.stop().expect(0).counts()["work"] > 0
    assert len(areas(program.pid)) == len(before)


def test_a_program_in_a_directory_of_its_own():
    root = os.path.join(WORK, "root")
    os.mkdir(root)
    shutil.copy(target("sleeper-static"), root)
    if os.geteuid():
        raise Skip("needs root")
    program = Program(shutil.which("chroot"), root, "/target-sleeper-static")
    quiet_areas(program)
    with Untouched(program.pid):
        assert probe(program, "EXE!work").counts()["work"] > 0
    program.quit()


def test_a_program_in_a_pid_name_space_of_its_own():
    if os.geteuid():
        raise Skip("needs root")
    program = Program(shutil.which("unshare"), "--pid", "--fork", "--kill-child", target("calls"))
    child = int(subprocess.run(["pgrep", "-P", str(program.pid)], stdout=subprocess.PIPE, text=True).stdout)
    with Untouched(child):
        tool = Tool("trace", "--json", "-e", "EXE!f00 n=+0($stack):u64", "-p", child)
        program.ask("single 3")
        hits = tool.stop().expect(0).hits()
        assert [(hit["pid"], hit["tid"]) for hit in hits] == [(child, child)] * 3, hits
        assert all(hit["args"]["n"] for hit in hits)


main(globals())
