#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Who changes a variable, from what to what: of a program that does it as often as it is told, in all ways."""
from collections import Counter

from kit import *

SOURCE = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "targets", "watched.c")).read().splitlines()


def line_of(text):
    """Where the source says so, as reports do."""
    (number,) = [i + 1 for i, line in enumerate(SOURCE) if text in line]
    return f"watched.c:{number}"


def watch(*arguments, status=0, **options):
    return run_with_file("watch", "--json", *arguments, **options).expect(status)


def watched(*words):
    return ["--", target("watched"), *words]


def chain(hits):
    """Each old value is the new one of the hit before."""
    assert all(a["new"] == b["old"] for a, b in zip(hits, hits[1:])), "there is a gap"
    return [hits[0]["old"], *(hit["new"] for hit in hits)]


def test_each_change_by_one_thread_is_seen():
    done = watch("counter", *watched("bump", 3000))
    hits = done.watches()
    assert chain(hits) == list(range(3001)) and done.program == "3000\n"
    assert {hit["source"] for hit in hits} == {line_of("counter += 1;")}
    assert {hit["symbol"].split("+")[0] for hit in hits} == {"bump"}
    assert {(hit["pid"], hit["comm"]) for hit in hits} == {(hits[0]["tid"], "target-watched")}
    times = [hit["time_ns"] for hit in hits]
    assert times == sorted(times)
    assert done.watched()["counter"].items() >= {"accesses": 3000, "reported": 3000, "late": 0, "armed": 1}.items()
    writers = [line for line in done.lines() if line["type"] == "writer"]
    assert writers == [{"type": "writer", "watch": "counter", "writer": "bump", "source": line_of("counter += 1;"),
                        "hits": 3000, "share": 1}]
    assert done.summary() == {"type": "summary", "hits": 3000, "missed": 0, "lost": 0, "refused": 0}


def test_text_says_the_same():
    done = run_with_file("watch", "counter", *watched("bump", 2)).expect(0)
    lines = [re.sub(r"^\d+\.\d{9} target-watched-(\d+)/\1 ", "", line) for line in done.out.splitlines()]
    symbol = lines[0].split()[-2]
    where = f"({line_of('counter += 1;')})"
    assert re.fullmatch(r"bump\+0x[0-9a-f]+", symbol)
    assert lines == [f"counter: 0 -> 1  {symbol} {where}", f"counter: 1 -> 2  {symbol} {where}",
                     "WATCH    HITS   SHARE  WRITER", f"counter     2  100.0%  bump {where}",
                     "counter: 2 accesses, 2 reported", "2 hits, 0 missed, 0 lost"], lines


def test_threads_are_watched_that_were_there_and_that_come():
    program = Program("watched")
    for warm in ("many 5", "many 0", "threads 4 500"):
        program.ask(warm)
    begun = int(program.ask("bump 0"))
    with Untouched(program.pid):
        program.ask("many 5")
        tool = Tool("watch", "--json", "counter", "-p", program.pid, ready="in place")
        program.ask("many 0")
        assert program.ask("threads 4 500") == str(begun + 2005)
        done = tool.stop().expect(0)
        hits = sorted(done.watches(), key=lambda hit: hit["old"])  # which of two threads was first, times need not tell
        assert done.watched()["counter"]["accesses"] == 2005
        # Two that are written before anybody looks are one change; those that were there write but once.
        assert chain(hits)[-1] == begun + 2005 and 5 <= len({hit["tid"] for hit in hits}) <= 9
        assert len(hits) > 1000 and {hit["source"] for hit in hits} == {line_of("__atomic_fetch_add(&counter")}
    program.quit()


def test_a_value_that_is_stored_again_is_no_change():
    done = watch("hidden", *watched("same", 50))
    assert [(hit["old"], hit["new"]) for hit in done.watches()] == [(0, 1)]
    assert done.watched()["hidden"]["accesses"] == 50
    done = watch("--all-writes", "hidden", *watched("same", 50))
    assert [(hit["old"], hit["new"]) for hit in done.watches()] == [(0, 1)] + [(1, 1)] * 49


ACCESSES = {  # how often they trigger a watch of writes, and one of reads and writes
    "overlap": (1, 1), "unaligned": (1, 1), "beside": (0, 0), "vector": (1, 1), "string": (4, 4),
    "failed-exchange": (1, 1), "same": (1, 2), "read": (0, 1), "update": (1, 1), "prefetch": (0, 0),
}


def test_what_triggers():
    for way, counts in ACCESSES.items():
        for kind, expected in zip(("w", "rw"), counts):
            done = watch("--all-writes", f"mem:bytes+8/4:{kind}", *watched("access", way))
            assert len(done.watches()) == done.watched()["bytes+8"]["accesses"] == expected, (way, kind)
            place = "access_" + way.replace("-", "_")
            assert all(hit["symbol"].split("+")[0] == place for hit in done.watches()), done.watches()
    values = [hit["new"] for hit in watch("mem:bytes+8/4:w", *watched("access", "string")).watches()]
    assert values == [0x3, 0x303, 0x30303, 0x3030303]


def test_reads_alone():
    for way, expected in (("read", 1), ("overlap", 0), ("update", 1), ("same", 1)):
        done = watch("mem:bytes+8/4:r", *watched("access", way))
        assert len(done.watches()) == expected, (way, done.watches())


def test_what_is_executed():
    for spec in ("mem:bump:x", "watchpoint:bump:8:x"):
        done = watch(spec, *watched("bump", 40))
        assert [hit["symbol"] for hit in done.watches()] == ["bump+0x0"] * 40
        assert not any("old" in hit or "new" in hit for hit in done.watches())


def test_values_are_shown_as_their_types():
    members = {"conf.limit": (0, -7), "conf.color": ("RED", "BLUE"), "conf.rate": (0.5, 1.25), "conf.parts.low": (0, 300)}
    done = watch(*members, *watched("fields"))
    assert {hit["watch"]: (hit["old"], hit["new"]) for hit in done.watches()} == members
    done = watch("conf.name", "conf.level", "conf.flag", "conf.parts", *watched("fields"))
    found = {hit["watch"]: hit["new"] for hit in done.watches()}
    assert found.pop("conf.name").startswith("0x")
    assert found == {"conf.level": 5, "conf.parts": {"low": 300, "first": 0, "second": -3}}, found
    text = run_with_file("watch", "conf.color", "conf.parts", *watched("fields")).expect(0).out
    assert "conf.color: RED -> BLUE  set_fields" in text and "{low = 300, first = 0" in text, text


def test_a_filter_is_decided_in_the_program():
    done = watch("counter if new % 100 == 0 && old != new", *watched("bump", 1000))
    assert [hit["new"] for hit in done.watches()] == list(range(100, 1001, 100))
    assert done.watched()["counter"]["accesses"] == 1000
    done = watch("counter if tid == pid", *watched("threads", 3, 10))
    assert not done.watches()


def test_n_is_exact_and_t_ends_it():
    for n in (1, 7, 500):
        done = watch("-n", n, "counter", *watched("bump", 2000))
        assert [hit["new"] for hit in done.watches()] == list(range(1, n + 1)) and done.program == "2000\n"
    program = Program("watched")
    with Untouched(program.pid):
        run("watch", "-t", "0.05", "counter", "-p", program.pid).expect(0)
    assert program.ask("bump 1") == "1"
    program.quit()


def test_stacks_are_right_and_show_functions_inside_others():
    done = watch("-k", "counter", *watched("threads", 1, 2))
    for hit in done.watches():
        frames = [frame.split("+0x")[0] for frame in hit["stack"]]
        assert frames[:3] == ["add_locked [inlined]", "bump_locked", "count_locked"], frames
        assert hit["stack"][1] == hit["symbol"]
    text = run_with_file("watch", "-k", "counter", *watched("threads", 1, 1)).expect(0).out
    assert f"\n    add_locked [inlined] ({line_of('__atomic_fetch_add(&counter')})\n" in text, text
    assert f" ({line_of('add_locked(1);')})\n" in text, text


def test_several_watches_hit_by_one_instruction_report_each():
    done = watch("mem:bytes+8/4:w", "mem:bytes+12/4:w", "mem:bytes+6/2:w", *watched("access", "vector"))
    assert Counter(hit["watch"] for hit in done.watches()) == {"bytes+8": 1, "bytes+12": 1, "bytes+6": 1}
    assert all(line["accesses"] == 1 for line in done.watched().values())


def test_a_range_in_pieces_says_which_has_changed():
    done = watch("conf.parts", "mem:bytes+8/12", *watched("access", "vector"))
    assert {hit["watch"]: hit["new"] for hit in done.watches()} == {"bytes+0x8": 0x0202020202020202}, done.watches()
    done = watch("--multiplex", "table", "conf", *watched("fields"))
    assert {hit["watch"].split(".")[0] for hit in done.watches()} <= {"conf"}


main(globals())
