#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What runs on a hit in one's own process stays among itself: code in the section trapline_hit calls only code in that
section, and no part but the one that saves the vector state touches it.

    on_hit.py OBJECT...           objects or archives, looked at as one program
    on_hit.py --self-test COMPILER...
"""
import os
import re
import subprocess
import sys
import tempfile

import common
from blob import PREFIXES, STATE, VECTOR

SECTION, KEEPER = "trapline_hit", "vector.S"


def symbols(objects):
    """{name: section} of what is defined."""
    found = {}
    for line in common.run(["objdump", "-t", *objects]).splitlines():
        match = re.match(r"[0-9a-f]+ (.{7}) (\S+)\s+[0-9a-f]+\s+(?:\.hidden )?(\S+)$", line)
        if match and match.group(2) not in ("*UND*", "*ABS*"):
            found.setdefault(match.group(3), match.group(2))
    return found


def check_calls(objects):
    """Where relocations of calls and jumps in the section lead."""
    problems, defined = [], symbols(objects)
    if SECTION not in defined.values():
        return [f"nothing in {SECTION}"]
    for line in common.run(["objdump", "-dr", "-j", SECTION, "--no-show-raw-insn", *objects]).splitlines():
        match = re.search(r":\s+R_X86_64_(\w+)\s+(\S+?)(?:[-+]0x[0-9a-f]+)?$", line)
        words = line.split("\t")
        if len(words) > 1 and not match:
            instruction = words[1]
        elif match and re.match(r"(call|j\w+)\s+\*", instruction) and "GOT" not in match.group(1):
            continue  # through a pointer that the symbol holds
        elif match and re.match(r"(call|j\w+)\s", instruction) and defined.get(match.group(2)) != SECTION:
            problems.append(f"{instruction.split()[0]} to {match.group(2)}, which is not in {SECTION}")
    return problems


def check_vectors(objects):
    problems, where = [], ""
    for line in common.run(["objdump", "-d", "-w", "--no-show-raw-insn", *objects]).splitlines():
        if "file format" in line:
            where = line.split(":")[0]
            continue
        words = line.split("\t")
        if len(words) < 2 or KEEPER in where:
            continue
        text = words[1].split("#")[0].split()
        while text and (text[0] in PREFIXES or text[0].startswith("rex")):
            text.pop(0)
        if text and (VECTOR.search(" ".join(text[1:])) or STATE.match(text[0])):
            problems.append(f"{where}: vector or x87 state: {' '.join(text)}")
    return problems


def check(objects):
    return check_calls(objects) + check_vectors(objects)


ON_HIT = '__attribute__((section("trapline_hit"))) '
GOOD = ON_HIT + "int first(int x) { return 3 * x; }\n"
SAMPLES = {
    "a good one": (ON_HIT + "__attribute__((noinline)) int g(int x) { return x * x; }" + ON_HIT + "int h(int x) { return g(x) + 1; }", None),
    "a call through a pointer": (ON_HIT + "int g(int (*f)(int)) { return f(1) + 1; }", None),
    "a call out of the section": ("__attribute__((noinline)) int g(int x) { return x * x; }" + ON_HIT + "int h(int x) { return g(x) + 1; }", "not in trapline_hit"),
    "a jump out of it": ("int g(int x);" + ON_HIT + "int h(int x) { return g(x + 1); }", "not in trapline_hit"),
    "the C library": ("void *memcpy(void *, const void *, unsigned long);" + ON_HIT + "void h(char *a, char *b, long n) { memcpy(a, b, n); }", "memcpy"),
    "a vector register": (ON_HIT + 'void g(void) { __asm__("movaps %xmm0, %xmm1"); }', "%xmm0"),
    "x87": (ON_HIT + 'void g(void) { __asm__("fldz"); }', "fldz"),
}


def self_test(compiler):
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "sample.o")

        def build(source):
            subprocess.run(compiler + ["-O1", "-fPIC", "-c", "-x", "c", "-", "-o", output], input=source, text=True, check=True)
            return [output]
        for name, (source, wanted) in SAMPLES.items():
            common.expect(name, check(build(GOOD + source)), wanted)
        common.expect("nothing on a hit", check_calls(build("int x;")), "nothing in")


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test(sys.argv[2:])
    else:
        common.report(check(sys.argv[1:]))
