#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the rooms to their order: a room includes only itself and what stands before it.

    layers.py ROOT COMPILER...    the project; the compiler says whether each header compiles alone
    layers.py --self-test COMPILER...
"""
import os
import re
import subprocess
import sys
import tempfile

import common

# Lowest first. Rooms of one line do not know each other.
ORDER = [
    ["include/trapline"],
    ["src/base"],
    ["src/insn"],
    ["src/symbol"],
    ["src/hit"],
    ["src/spec"],
    ["src/probe", "src/hwbp"],
    ["src/host/fake", "src/host/remote", "src/host/self", "src/host/machine", "src/host/ring0"],
    ["src/trace"],
    ["lib", "tool"],
]
ROOTS = ("src/", "include/", "lib/", "tool/")
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

# Rooms that only think: no header through which something is done to a process, a file or a thread.
PURE = ["include/trapline", "src/base", "src/insn", "src/hit", "src/spec", "src/probe", "src/hwbp"]
ACTING = re.compile(
    r"(unistd|fcntl|pthread|signal|sched|dirent|poll|termios|dlfcn|link|threads)\.h$"
    r"|sys/(?!types\.h$)|linux/|asm/"
)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]', re.MULTILINE)
SOURCE_LINES, HEADER_LINES = 700, 200


def room_of(path):
    """The room that a file lies in, or None."""
    folder = os.path.dirname(path)
    while folder:
        if folder in RANK:
            return folder
        folder = os.path.dirname(folder)
    return None


def resolve(root, path, name):
    """The file that `#include "name"` in `path` means: beside it, below src/, or below include/."""
    for folder in (os.path.dirname(path), "src", "include"):
        candidate = os.path.normpath(os.path.join(folder, name))
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def check_include(root, path, quote, name):
    room = room_of(path)
    target = resolve(root, path, name) if quote == '"' else None
    if quote == "<":
        if room in PURE and ACTING.search(name):
            return [f"{path}: {room} only thinks, and includes <{name}>"]
        return []
    if target is None:
        return [] if name.endswith(".inc") else [f'{path}: includes "{name}", which is not in the tree']
    target_room = room_of(target)
    if target_room is None:
        return [f"{path}: includes {target}, which is in no room"]
    if target_room == room or RANK[target_room] < RANK[room]:
        return []
    return [f"{path}: includes {target} from a room that is not below {room}"]


def check_includes(root, files):
    problems = []
    for path in files:
        if path.endswith((".c", ".h", ".S")) and path.startswith(ROOTS):
            if room_of(path) is None:
                problems.append(f"{path}: lies in no room; add the room to the order here")
                continue
            text = open(os.path.join(root, path), encoding="utf-8").read()
            for quote, name in INCLUDE.findall(text):
                problems += check_include(root, path, quote, name)
    return problems


def check_sizes(root, files):
    problems = []
    for path in files:
        limit = HEADER_LINES if path.startswith("include/") else SOURCE_LINES
        if path.endswith(".c") or (path.endswith(".h") and limit == HEADER_LINES):
            lines = open(os.path.join(root, path), encoding="utf-8").read().count("\n")
            if lines > limit:
                problems.append(f"{path}: {lines} lines, more than {limit}")
    return problems


def check_headers_alone(root, files, compiler):
    problems = []
    for path in files:
        if path.endswith(".h") and path.startswith(ROOTS):
            command = compiler + ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
            command += ["-Iinclude", "-Isrc", "-I.", "-x", "c", "-"]
            source = f'#include "{path}"\nextern int nothing;\n'
            result = subprocess.run(command, input=source, cwd=root, capture_output=True, text=True, check=False)
            if result.returncode != 0:
                problems.append(f"{path}: does not compile alone:\n{result.stderr}")
    return problems


def check(root, compiler):
    files = common.tracked_files(root)
    return check_includes(root, files) + check_sizes(root, files) + check_headers_alone(root, files, compiler)


def self_test(compiler):
    good = {
        "include/trapline/error.h": "#include <errno.h>\nint error(void);\n",
        "src/base/list.h": "#include <stddef.h>\nstruct list { size_t n; };\nstatic inline int one(void) { return 1; }\n",
        "src/insn/insn.c": '#include "base/list.h"\n#include "insn/insn.h"\n#include "trapline/error.h"\n',
        "src/insn/insn.h": "#include <string.h>\n#include <sys/types.h>\n",
        "src/host/fake/fake.c": '#include "insn/insn.h"\n#include <sys/ptrace.h>\n',
        "src/host/remote/remote.h": "int remote(void);\n",
        "src/hwbp/slot.h": "int slot(void);\n",
        "tool/main.c": '#include "main.h"\n#include "host/remote/remote.h"\n',
        "tool/main.h": "int run(void);\n",
        "lib/where.c": '#include "where.h"\n#include "insn/insn.h"\n#include <unistd.h>\n',
        "lib/where.h": "int where(void);\n",
    }
    bad = {
        "an upward include": ("src/insn/insn.c", '#include "probe/plan.h"\n', "not below src/insn"),
        "the same, indented": ("src/base/list.h", '  #  include "insn/insn.h"\n', "not below src/base"),
        "a host in a host": ("src/host/fake/fake.c", '#include "host/remote/remote.h"\n', "not below src/host/fake"),
        "probe knows hwbp": ("src/probe/plan.c", '#include "hwbp/slot.h"\n', "not below src/probe"),
        "the tool knows the library": ("tool/main.c", '#include "../lib/where.h"\n', "not below tool"),
        "a room that acts": ("src/probe/plan.c", "#include <sys/ptrace.h>\n", "only thinks"),
        "a thread in a pure room": ("src/spec/spec.c", "#include <pthread.h>\n", "only thinks"),
        "a file in no room": ("src/other/file.c", "\n", "no room"),
        "a missing file": ("src/insn/insn.c", '#include "insn/gone.h"\n', "not in the tree"),
        "a header that needs another": ("src/spec/spec.h", "size_t length(void);\n", "does not compile alone"),
        "a long file": ("src/spec/spec.c", "\n" * 701, "701 lines"),
        "a long public header": ("include/trapline/big.h", "\n" * 201, "201 lines"),
    }
    for name, (path, content, wanted) in {"a good tree": (None, None, None), **bad}.items():
        with tempfile.TemporaryDirectory() as root:
            common.write_files(root, {"src/probe/plan.h": "int plan(void);\n", **good})
            if path:
                common.write_files(root, {path: content})
            problems = check(root, compiler)
            common.expect(name, problems, wanted)


if __name__ == "__main__":
    if sys.argv[1] == "--self-test":
        self_test(sys.argv[2:])
    else:
        common.report(check(sys.argv[1], sys.argv[2:]))
