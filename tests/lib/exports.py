#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the libraries show to others: the public names, and no more.

    exports.py SHARED STATIC GOLDEN HEADERS_FOLDER
"""
import os
import re
import subprocess
import sys


def names(command):
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return sorted(line.split()[-1].split("@")[0] for line in text.splitlines() if re.search(r" [TDBRWVi] \w", line))


def declared(folder):
    """The functions of the headers that are installed."""
    found = set()
    for name in os.listdir(folder):
        if name == "port.h":
            continue
        text = re.sub(r"/\*.*?\*/", "", open(os.path.join(folder, name), encoding="utf-8").read(), flags=re.DOTALL)
        text = re.sub(r"static inline.*?^}", "", text, flags=re.DOTALL | re.MULTILINE)
        text = re.sub(r"typedef [^;]*;", "", text)
        found |= set(re.findall(r"^[a-z][\w \n*]*?\b(tl_\w+)\(", text, re.MULTILINE))
    return sorted(found)


def main():
    shared, static, golden, headers = sys.argv[1:]
    wanted = open(golden, encoding="utf-8").read().split()
    problems = []
    for what, got in (("the shared library", names(["nm", "-D", "--defined-only", shared])),
                      ("the static library", names(["nm", "-g", "--defined-only", static])),
                      ("the headers", declared(headers))):
        got = [name for name in got if not name.startswith("TRAPLINE_")]
        problems += [f"{what}: {name} too much" for name in sorted(set(got) - set(wanted))]
        problems += [f"{what}: {name} is missing" for name in sorted(set(wanted) - set(got))]
    dynamic = subprocess.run(["readelf", "-dW", shared], stdout=subprocess.PIPE, text=True, check=True).stdout
    if not re.search(r"SONAME.*\[libtrapline\.so\.0\]", dynamic):
        problems.append("no soname libtrapline.so.0")
    if not re.search(r"FLAGS.*\bNOW\b", dynamic):
        problems.append("not bound at load")
    segments = subprocess.run(["readelf", "-lW", shared], stdout=subprocess.PIPE, text=True, check=True).stdout
    if "GNU_RELRO" not in segments:
        problems.append("no relro")
    if "RWE" in segments:
        problems.append("a segment, or the stack, is writable and executable")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
