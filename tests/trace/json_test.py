#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The JSON that format_test wrote is JSON, with the fields and the values that were promised."""
import json
import sys

FIELDS = {
    "hit": (["type", "probe", "pid", "tid", "time_ns", "comm", "addr"], ["args", "stack"]),
    "count": (["type", "probe", "hits", "missed"], ["how"]),
    "refused": (["type", "probe", "error", "why"], []),
    "watch": (["type", "watch", "pid", "tid", "time_ns", "comm", "ip", "symbol"],
              ["source", "old", "new", "late", "armed", "stack"]),
    "writer": (["type", "watch", "writer"], ["source", "hits", "share"]),
    "watched": (["type", "watch"], ["accesses", "reported", "late", "armed", "how"]),
    "summary": (["type", "hits", "missed", "lost", "refused"], []),
}


def main():
    lines = open(sys.argv[1], "rb").read().decode("utf-8", "strict").splitlines()
    objects = [json.loads(line) for line in lines]
    for fields in objects:
        needed, allowed = FIELDS[fields["type"]]
        assert list(fields)[: len(needed)] == needed, fields
        assert set(fields) <= set(needed + allowed), fields
        assert all("\n" not in line for line in lines)
    watches = ["watch"] * 4 + ["writer"] * 3 + ["watched"] * 3
    assert [o["type"] for o in objects] == ["hit"] * 6 + ["count"] * 4 + ["refused"] * 2 + watches + ["summary"] * 3

    first, odd, named, tick, cut, bare = objects[:6]
    assert first["args"] == {"size": 32} and first["addr"] == "0x7f0012345678" and first["time_ns"] == 8123004512345
    assert odd["probe"] == 'odd\n"name"' and odd["comm"] == 'a\ufffd "b"\n\x1b[1m\x9bé'
    assert odd["args"] == {
        "u": 2**64 - 1,
        "s": -7,
        "x": 0xDEADBEEF,
        "text": 'q"\\\n\t\x01\x7fé\ufffd€\ufffd\ufffd\ufffd',
        "min": -(2**63),
        "bad": None,
        "badtext": None,
        "absent": None,
        "beyond": None,
        "notext": None,
        "who": odd["comm"],
        "fixed": 'a "b"',
        "letter": " ",
        "where": 0xDEADBEEF,
    }
    assert named["args"] == {**odd["args"], "where": "main+0xf"}
    assert "args" not in tick and tick["stack"][:2] == ["malloc", "xmalloc+0x12"] and len(tick["stack"][2]) > 4096
    assert cut == {**tick, "stack": ["malloc"]}
    assert bare["stack"] == [] and "stack" not in first
    assert objects[7]["hits"] == 2**64 - 1 and "how" not in objects[8]
    assert objects[10] == {"type": "refused", "probe": "frob", "error": "EILSEQ", "why": "not an instruction boundary"}
    assert objects[-1] == {"type": "summary", "hits": 120, "missed": 1, "lost": 2, "refused": 3}


main()
