#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small things that would otherwise creep in.

    hygiene.py ROOT
    hygiene.py --self-test

Every source names its licence in its first line (behind #! its second); no note to oneself is left in C files; no path of
somebody's own machine is written down; nothing that a build makes is kept; text has no trailing blanks and ends with
a newline.
"""
import os
import re
import sys
import tempfile

import common

LICENCE = "SPDX-License-Identifier: MIT"
SOURCES = re.compile(r"(\.(c|h|S|py|sh|ld|go|bash)|(^|/)Makefile)$")
NOTES = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
STRING = re.compile(r'"(\\.|[^"\\])*"')
MACHINE = re.compile(r"(?<![\w.$})/-])/(wo" r"rk|ro" r"ot|ho" r"me)/\w")
MADE = re.compile(r"(\.(o|a|so|bin|elf|pyc|gch|gcda|gcno|su|log|orig|rej|swp)|~)$|(^|/)(__pycache__|build(-[^/]*)?|compile_commands\.json|core)(/|$)")
# Text that is what some program wrote, byte for byte.
VERBATIM = re.compile(r"(^|/)(golden|fixtures|corpus|samples)/")


def check_file(path, content):
    problems = []
    if MADE.search(path) or content.startswith(b"\x7fELF"):
        return [f"{path}: made by a build, and kept"]
    if VERBATIM.search(path):
        return []
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return [f"{path}: is not UTF-8"]
    lines = text.split("\n")
    is_script = lines[0].startswith("#!")
    if (is_script or SOURCES.search(path)) and LICENCE not in lines[1 if is_script and len(lines) > 1 else 0]:
        problems.append(f"{path}: the first line does not name the licence")
    for number, line in enumerate(lines, 1):
        if path.endswith((".c", ".h", ".S")) and NOTES.search(STRING.sub("", line)):
            problems.append(f"{path}:{number}: a note to oneself: {line.strip()}")
        if MACHINE.search(line):
            problems.append(f"{path}:{number}: a path of one machine: {line.strip()}")
        if line != line.rstrip() and not path.endswith(".md"):
            problems.append(f"{path}:{number}: blanks at the end of a line")
    if text and not text.endswith("\n"):
        problems.append(f"{path}: no newline at the end")
    return problems


def check(root):
    problems = []
    files = common.tracked_files(root)
    for path in files:
        full = os.path.join(root, path)
        if not os.path.islink(full):
            with open(full, "rb") as file:
                problems += check_file(path, file.read())
    return problems if files else ["no files at all"]


def self_test():
    c = "/* " + LICENCE + " */\n"
    note, machine = "TO" "DO", "/wo" "rk/main"
    samples = {
        "a good source": ("a.c", c + "int x; /* todo list of the program: X */\n", None),
        "a good script": ("run", "#!/bin/sh\n# " + LICENCE + "\nexec x\n", None),
        "a text": ("README.md", "Two blanks break a line.  \n", None),
        "a word like a path": ("a.c", c + "/* src/work/x, net" + machine + " */\n", None),
        "golden text": ("tests/x/golden/a.text", "trailing \nno newline", None),
        "no licence": ("a.h", "int x;\n", "licence"),
        "a licence too low": ("a.py", "\n# " + LICENCE + "\n", "licence"),
        "a script without": ("run", "#!/bin/sh\nexec x\n", "licence"),
        "a makefile without": ("Makefile", "all:\n", "licence"),
        "a note": ("a.c", c + "/* " + note + ": later */\n", "note to oneself"),
        "a string that looks like one": ("a.c", c + 'const char *s = "X-' + "X" "XX" + '";\n', None),
        "a note in a string's line": ("a.c", c + 'const char *s = "x"; /* ' + "X" "XX" + " */\n", "note to oneself"),
        "a machine's path": ("a.c", c + '#include "' + machine + '/x.h"\n', "one machine"),
        "the same in text": ("README.md", "see `" + machine + "`\n", "one machine"),
        "trailing blanks": ("a.c", c + "int x; \n", "blanks"),
        "no newline": ("a.c", c + "int x;", "newline"),
        "an object": ("a.o", "x\n", "made by a build"),
        "a build directory": ("build-asan/x.txt", "x\n", "made by a build"),
    }
    for name, (path, content, wanted) in samples.items():
        common.expect(name, check_file(path, content.encode()), wanted)
    common.expect("a program", check_file("tool/x", b"\x7fELF\x02"), "made by a build")
    common.expect("not text", check_file("a.c", c.encode() + b"\xff\n"), "UTF-8")
    with tempfile.TemporaryDirectory() as root:
        common.expect("an empty tree", check(root), "no files")
        common.write_files(root, {"src/a.c": "int x;\n"})
        common.expect("a tree", check(root), "licence")


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test()
    else:
        common.report(check(sys.argv[1]))
