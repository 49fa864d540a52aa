#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each public header compiles alone, as C11 and as C++17, without a warning, whatever else is not included.

    headers.py FOLDER COMPILER...       (include/trapline, and the C compiler)
"""
import os
import shutil
import subprocess
import sys

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "-fsyntax-only"]


def main():
    folder, *c_compiler = sys.argv[1:]
    ways = [(c_compiler, ["-std=c11", "-xc"])]
    for compiler in ("g++", "clang++"):
        if shutil.which(compiler):
            ways.append(([compiler], ["-std=c++17", "-xc++"]))
    if len(ways) < 2:
        sys.exit("no C++ compiler")
    problems = []
    for name in sorted(os.listdir(folder)):
        for compiler, options in ways:
            # Twice, for the guard; then something, so that the unit is not empty.
            source = f'#include "trapline/{name}"\n#include "trapline/{name}"\nextern int nothing;\n'
            command = compiler + options + STRICT + ["-I", os.path.dirname(folder), "-"]
            result = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
            if result.returncode:
                problems.append(f"{name}, {' '.join(compiler + options)}:\n{result.stderr}")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()
