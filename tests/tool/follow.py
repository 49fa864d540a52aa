#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""-f: what the children do is counted and shown as well, however they came to be, and nobody is left harmed."""
from collections import Counter

from kit import *

SELF = target("family")


def steps(*command, extra=(), **options):
    done = run_with_file("count", "--json", "-f", *extra, "-e", "EXE!step", "--", *command, **options).expect(0)
    return done.counts().get("step")


def test_fork_children_and_grandchildren_are_counted_exactly():
    assert steps(SELF, "forks", 5, 1000) == 5 * 2 * 1000 + 7


def test_a_child_that_is_not_followed_is_silent():
    done = run_with_file("count", "--json", "-e", "EXE!step", "--", SELF, "forks", 5, 1000).expect(0)
    assert done.counts() == {"step": 7}


def test_vfork_spawn_and_system_lead_to_programs_that_are_probed():
    assert steps(SELF, "vfork", SELF, 500) == 500 + 7 + 7
    assert steps(SELF, "spawn", SELF, 500) == 500 + 7 + 7
    assert steps(SELF, "system", SELF, 500) == 2 * (500 + 7) + 7


def test_a_fork_from_a_thread_is_followed():
    assert steps(SELF, "thread", 4, 300) == 4 * 2 * 300 + 300 + 7


def test_a_child_that_outlives_its_parent_is_counted_to_its_end():
    path = tempfile.mktemp(dir=WORK)
    assert steps(SELF, "orphan", path, 2000) == 2000
    assert os.path.exists(path)


def test_a_child_whose_parent_ended_at_once_is_not_missed():
    path = tempfile.mktemp(dir=WORK)
    assert steps(SELF, "chain", path, 60, 100) == 60 * 100
    assert os.path.exists(path)


def test_exec_in_the_process_itself_goes_on_with_the_new_program():
    assert steps("bash", "-c", f"exec {SELF} steps 30") == 37


def test_a_script_with_subshells_and_pipes():
    script = f"for i in 1 2 3; do ({SELF} steps 10 | cat | cat); done; x=$({SELF} steps 20); {SELF} steps 1 & wait"
    done = run_with_file("count", "--json", "-f", "-e", "EXE!step", "-e", "libc!fork", "--", "bash", "-c", script)
    counts = done.expect(0).counts()
    assert counts["step"] == 3 * 17 + 27 + 8, counts
    assert counts["fork"] >= 3 * 3 + 2, counts


def test_each_program_that_is_run_has_one_main():
    source = tempfile.mktemp(dir=WORK, suffix=".c")
    with open(source, "w") as file:
        file.write("int f(int x)\n{\n    return x + 1;\n}\n")
    command = f"gcc -c {source} -o {source}.o && {SELF} steps 1 && {SELF} steps 1 && gcc -c {source} -o {source}.o"
    done = run_with_file("count", "--json", "-f", "-e", "EXE!main", "--", "sh", "-c", command).expect(0)
    # The compiler itself may be one of those programs that no jump can be placed in.
    refused = sum(line["type"] == "refused" for line in done.lines())
    assert done.counts()["main"] + refused == 2 + 2 * mains_of_gcc(source), (done.out, done.err)
    assert os.path.exists(source + ".o")


def mains_of_gcc(source):
    """How many of the programs that gcc runs for one file have a main that is known by name."""
    programs = [shutil.which("gcc")]
    said = subprocess.run(["gcc", "-###", "-c", source], capture_output=True, text=True).stderr
    for line in said.splitlines():
        if line.startswith(' "') or line.startswith(" /"):
            word = line.split()[0].strip('"')
            programs.append(word if "/" in word else shutil.which(word))
    return sum(run("list", program, "main").status == 0 for program in programs)


def test_events_carry_the_pid_of_who_did_it_and_come_in_order_of_time():
    done = run_with_file("trace", "--json", "-f", "-e", "EXE!step x=$arg1", "--", SELF, "forks", 3, 50).expect(0)
    hits = done.hits()
    calls = Counter(hit["pid"] for hit in hits)
    assert sorted(calls.values()) == [7] + [50] * 6, calls
    assert all(hit["tid"] == hit["pid"] for hit in hits)
    times = [hit["time_ns"] for hit in hits]
    assert times == sorted(times)
    for pid in calls:
        assert [hit["args"]["x"] for hit in hits if hit["pid"] == pid] == list(range(calls[pid]))
    assert done.summary()["hits"] == 307


def test_no_more_events_than_asked_for_and_the_program_goes_on():
    busy = Busy("-n", 10, command="trace")
    done = busy.tool.end().expect(0)
    assert len(done.hits()) == 10
    busy.end()


def test_the_exit_status_is_that_of_the_first():
    script = f"{SELF} steps 1; (exit 4); exit 9"
    run_with_file("count", "--json", "-f", "-e", "EXE!step", "--", "bash", "-c", script).expect(9)
    run_with_file("count", "--json", "-f", "-e", "EXE!step", "--", "bash", "-c", f"{SELF} steps 1; kill -TERM $$").expect(143)


def test_a_name_that_is_nowhere_is_said():
    run_with_file("count", "--json", "-f", "-e", "EXE!nosuchname", "--", SELF, "forks", 1, 1).expect(1, "nosuchname")


def test_job_control_and_signals_work():
    # A stopped process that is traced shows as t.
    script = ("sleep 100 & p=$!; state() { cut -d' ' -f3 /proc/$p/stat; }; "
              "kill -STOP $p; until [[ $(state) == [tT] ]]; do :; done; echo stopped; "
              "kill -CONT $p; while [[ $(state) == [tT] ]]; do :; done; echo runs; "
              "trap 'echo got' USR1; kill -USR1 $$; kill -TERM $p; wait $p; echo $?")
    done = run_with_file("count", "--json", "-f", "-e", "libc!malloc", "--", "bash", "-c", script).expect(0)
    assert done.program == "stopped\nruns\ngot\n143\n", done.program


class Busy:
    """Four children of a program that call, and make children that call, until they are told to end."""

    def __init__(self, *options, command="count"):
        self.path = tempfile.mktemp(dir=WORK)
        self.program = Program("family")
        self.before = areas(self.program.pid)
        self.tool = Tool(command, "-f", "--json", "-e", "EXE!step", *options, "-p", self.program.pid)
        self.program.tell(f"busy {self.path} 4 2000")
        wait_until(lambda: len(self.children()) == 4, "there are four children")
        # Each had a child at once, and was held until that one had its probes: it is in the midst of it.
        seen = {child: set() for child in self.children()}
        wait_until(lambda: all(self.see(seen, child) for child in seen), "each has had children")

    def children(self):
        return children(self.program.pid)

    def see(self, seen, child):
        seen[child].update(children(child))
        return len(seen[child]) > 2

    def end(self):
        """All go on to their right end."""
        open(self.path + ".end", "w").close()
        assert self.program.answer() == ""
        with open(self.path) as file:
            assert file.read() == "xxxx"
        self.program.quit()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def test_killed_the_tool_leaves_all_of_them_running_to_their_right_end():
    busy = Busy()
    busy.tool.process.kill()
    busy.tool.process.wait()
    busy.end()


def test_interrupted_everything_is_taken_out_and_goes_on():
    busy = Busy()
    done = busy.tool.stop().expect(0)
    assert done.counts()["step"] > 0
    for pid in [busy.program.pid, *busy.children()]:
        check_clean(pid, busy.before)
    busy.end()


main(globals())
