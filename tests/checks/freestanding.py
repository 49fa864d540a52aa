#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The freestanding part needs nothing but itself and the four functions that compilers call on their own.

    freestanding.py NM OBJECT...      objects or archives, looked at as one program
    freestanding.py --self-test NM COMPILER...
"""
import os
import subprocess
import sys
import tempfile

import common

ALLOWED = {"memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_"}  # the last is the linker's


def check(nm, objects):
    """Symbols that some object needs and none defines."""
    if not objects:
        return ["nothing to look at"]
    needed, defined = {}, set()
    for line in common.run([nm, "-A", "-P", *objects]).splitlines():
        where, rest = line.split(": ", 1)
        name, kind = rest.split()[:2]
        if kind in "Uvw":  # weak ones as well: they would be null
            needed.setdefault(name, where)
        elif kind.isupper() or kind == "u":
            defined.add(name)
    if not defined:
        return ["nothing is defined in what there was to look at"]
    return [f"{needed[name]}: needs {name}" for name in sorted(set(needed) - defined - ALLOWED)]


SAMPLES = {
    "what compilers call": ("void *memcpy(void *, const void *, unsigned long); void f(char *a, char *b) { memcpy(a, b, 4096); }", None),
    "a sibling": ("int second(int); int f(int x) { return second(x); }", None),
    "the C library": ("int puts(const char *); int f(void) { return puts(\"x\"); }", "puts"),
    "errno": ("extern _Thread_local int errno_of_libc; int f(void) { return errno_of_libc; }", "errno_of_libc"),
    "a weak need": ("void g(void) __attribute__((weak)); void f(void) { if (g) g(); }", "needs g"),
    "a stack protector": ("void g(char *); void f(void) { char a[64]; a[0] = 0; __asm__(\"call __stack_chk_fail\"); }", "__stack_chk_fail"),
    "nothing": ("", "nothing is defined"),
}


def self_test(nm, compiler):
    for name, (source, wanted) in SAMPLES.items():
        with tempfile.TemporaryDirectory() as folder:
            objects = []
            sources = [source] + (["int second(int x) { return x; }"] if "second" in source else [])
            for number, text in enumerate(sources):
                objects.append(os.path.join(folder, f"{number}.o"))
                subprocess.run(compiler + ["-O1", "-fPIC", "-c", "-x", "c", "-", "-o", objects[-1]], input=text, text=True, check=True)
            common.expect(name, check(nm, objects), wanted)
    common.expect("no object", check(nm, []), "nothing to look at")


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test(sys.argv[2], sys.argv[3:])
    else:
        common.report(check(sys.argv[1], sys.argv[2:]))
