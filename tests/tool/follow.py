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
    names = ["sleeper", "sleeper-nopie", "sleeper-static", "sleeper-static-pie", "calls", "values"]
    programs = [target(name) for name in names] * 3
    if os.path.exists(os.path.join(TARGETS, "target-sleeper-musl")):
        programs += [target("sleeper-musl")] * 3
    done = run_with_file("count", "--json", "-f", "-e", "EXE!main", "--", "env", "sh", "-c", "; ".join(programs) + "; exit 0",
                         stdin=subprocess.DEVNULL).expect(0)
    named = sum(run("list", shutil.which(name), "main").status == 0 for name in ("env", "sh"))
    assert done.counts()["main"] == len(programs) + named, (done.out, done.err)
    assert done.program.split() == ["ready"] * len(programs)
    assert done.summary()["refused"] == 0


def test_events_carry_the_pid_of_who_did_it_and_come_in_order_of_time():
    done = run_with_file("trace", "--json", "-f", "-e", "EXE!step x=$arg1", "--", SELF, "forks", 3, 50).expect(0)
    hits = done.hits()
    calls = Counter(hit["pid"] for hit in hits)
    assert sorted(calls.values()) == [7] + [50] * 6, calls
    assert all(hit["tid"] == hit["pid"] for hit in hits)
    latest = late = 0
    for hit in hits:
        late += hit["time_ns"] < latest
        latest = max(latest, hit["time_ns"])
    said = re.search(r"(\d+) events are out of order", done.err)  # on a busy machine it may come to that
    assert late == int(said.group(1) if said else 0), (late, done.err)
    for pid in calls:
        assert [hit["args"]["x"] for hit in hits if hit["pid"] == pid] == list(range(calls[pid]))
    assert done.summary()["hits"] == 307


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


main(globals())
