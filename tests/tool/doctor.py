#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""trapline doctor: a verdict on each thing, and for each "no" what would change it."""
from kit import *

PTRACE, PERF_EVENT_OPEN = 101, 298


def findings(**options):
    return {line["name"]: line for line in run("doctor", "--json", **options).expect(0, "^$").lines()}


def test_each_no_has_its_change():
    for line in findings().values():
        assert set(line) == {"type", "name", "ok", "found"} | ({"change"} if not line["ok"] else set()), line
        assert line["type"] == "check" and line["found"] and line.get("change", "x")


def test_text_says_the_same():
    lines = run("doctor").expect(0, "^$").out.splitlines()
    verdicts = {line[:18].strip(): line[19:22].strip() for line in lines if not line.startswith(" ")}
    assert verdicts == {name: "yes" if line["ok"] else "no" for name, line in findings().items()}
    assert sum("to change that" in line for line in lines) == list(verdicts.values()).count("no")


def test_what_is_forbidden_is_said():
    before = findings()
    without = findings(before=[target("forbid"), str(PERF_EVENT_OPEN)])
    assert not without["watch events"]["ok"] and "perf_event_open" in without["watch events"]["change"], without
    assert without["debug registers"] == before["debug registers"]
    without = findings(before=[target("forbid"), str(PTRACE)], env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
    assert not without["attach"]["ok"] and not without["debug registers"]["ok"]
    assert "ptrace" in without["debug registers"]["change"] and without["watch events"]["ok"] == before["watch events"]["ok"]


def test_as_nobody():
    found = findings(before=as_nobody(), cwd="/")
    assert not found["watch -a"]["ok"] and found["watch -a"]["change"] == "run as root"


main(globals())
