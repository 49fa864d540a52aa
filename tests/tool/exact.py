#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Nothing is counted twice and nothing is forgotten: threads, recursion, exits, readers that are too slow."""
import fcntl
from collections import Counter

from kit import *


def names():
    return {f"f{i:02o}": i + 1 for i in range(64)}


def factorial(n):
    product = 1
    for i in range(2, n + 1):
        product = product * i & (1 << 64) - 1
    return product


def test_four_threads_calling_64_functions_are_counted_exactly():
    rounds = 2000
    bare = subprocess.run([target("calls"), "run", "4", str(rounds)], stdout=subprocess.PIPE, text=True).stdout
    done = run_with_file("count", "--json", "-e", "EXE!f[0-7][0-7]", "--", target("calls"), "run", 4, rounds).expect(0)
    expected = {name: calls * 4 * rounds for name, calls in names().items()}
    assert done.counts() == expected, Counter(expected) - Counter(done.counts())
    assert done.summary()["hits"] == sum(expected.values()) and done.summary()["missed"] == 0
    assert done.program == bare


def test_entries_and_exits_of_threads_are_counted_exactly():
    done = run_with_file("count", "--json", "-v", "-e", "EXE!f[0-7][0-7]", "-e", "r EXE:f[0-7][0-7]", "--",
                         target("calls"), "run", 16, 50).expect(0)
    expected = {name + kind: calls * 16 * 50 for name, calls in names().items() for kind in ("", "%return")}
    refused = {line["probe"] for line in done.lines() if line["type"] == "refused"}
    assert len(refused) < 40 and all(name.endswith("%return") for name in refused), refused
    expected = {name: hits for name, hits in expected.items() if name not in refused}
    assert done.counts() == expected, Counter(expected) - Counter(done.counts())


def test_each_event_of_threads_is_seen_or_told_to_be_lost():
    rounds, threads = 10, 4
    done = run_with_file("trace", "--json", "-e", "EXE!f[0-7][0-7] x=$arg1", "--", target("calls"), "run", threads,
                         rounds).expect(0)
    hits, summary = done.hits(), done.summary()
    assert summary["hits"] == 2080 * rounds * threads, summary
    assert len(hits) + summary["lost"] + summary["missed"] == summary["hits"], (len(hits), summary)
    times = [hit["time_ns"] for hit in hits]
    assert times == sorted(times), "not in order of time"
    if not summary["lost"] + summary["missed"]:
        expected = {name: calls * rounds * threads for name, calls in names().items()}
        assert Counter(hit["probe"] for hit in hits) == expected


def test_with_block_no_event_is_lost():
    rounds, threads = 20, 4
    done = run_with_file("trace", "--json", "--block", "-e", "EXE!f[0-7][0-7]", "--", target("calls"), "run", threads,
                         rounds).expect(0)
    expected = {name: calls * rounds * threads for name, calls in names().items()}
    assert Counter(hit["probe"] for hit in done.hits()) == expected, done.summary()
    assert done.summary()["lost"] == 0, done.summary()


def test_a_slow_reader_loses_events_and_is_told_how_many():
    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 4096)
    program = Program("calls")
    program.ask("run 4 1")  # from now on it has the stacks of its threads
    with Untouched(program.pid):
        tool = Tool("trace", "--json", "-e", "EXE!f[0-7][0-7] x=$arg1", "-p", program.pid, stdout=write)
        os.close(write)
        program.ask("run 4 60")  # nobody reads meanwhile
        reader, lines = read_lines(read)
        tool.stop().expect(0)
        reader.join()
    summary = lines[-1]
    hits = [line for line in lines if line["type"] == "hit"]
    assert len(hits) == len(lines) - 1 and summary["type"] == "summary"
    assert summary["hits"] == 60 * 4 * 2080, summary
    assert summary["lost"] > 0 and len(hits) + summary["lost"] + summary["missed"] == summary["hits"], (len(hits), summary)


def test_recursion_has_an_entry_and_an_exit_each_time():
    done = run_with_file("trace", "--json", "-e", "EXE!factorial n=$arg1", "-e", "r EXE:factorial ret=$retval:u64", "--",
                         target("calls"), "factorial", 300).expect(0)
    entries = [hit["args"]["n"] for hit in done.hits("factorial")]
    exits = [hit["args"]["ret"] for hit in done.hits("factorial%return")]
    assert entries == list(range(300, 0, -1)), entries
    assert exits == [factorial(n) for n in range(1, 301)], exits
    kinds = [hit["probe"] for hit in done.hits()]
    assert kinds == ["factorial"] * 300 + ["factorial%return"] * 300


def test_several_probes_on_one_place_each_see_every_hit():
    specs = [word for i in range(20) for word in ("-e", f"p:e{i} EXE:f00 x=$arg1")]
    done = run_with_file("trace", "--json", *specs, "--", target("calls"), "single", 50).expect(0)
    assert Counter(hit["probe"] for hit in done.hits()) == {f"e{i}": 50 for i in range(20)}
    order = [hit["probe"] for hit in done.hits()]
    assert order == [f"e{i}" for i in range(20)] * 50, "not in the order in which they were given"


def test_each_instruction_of_a_function_is_counted():
    done = run_with_file("count", "--json", "--every-instruction", "-e", "EXE!f00", "--", target("calls"), "single",
                         1000).expect(0)
    counts = done.counts()
    assert counts and set(counts.values()) == {1000}, counts


def test_attaching_twice_in_a_row_counts_from_nothing():
    program = Program("calls")
    with Untouched(program.pid):
        for calls in (10, 20):
            tool = Tool("count", "--json", "-e", "EXE!f00", "-e", "EXE!f01", "-p", program.pid)
            program.ask(f"single {calls}")
            assert tool.stop().expect(0).counts() == {"f00": calls, "f01": 0}
    program.ask("single 5")
    program.quit()


main(globals())
