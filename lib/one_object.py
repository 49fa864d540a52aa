#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""All of the library as one object file, whose only global names are those that the version map exports.

    one_object.py LD OBJCOPY MAP SCRIPT OUTPUT WHOLE_ARCHIVE ARCHIVE...

From the first archive everything is taken, from the others what is needed. Code comes into a section of its own name,
by which the library knows its own code and refuses to probe it.
"""
import re
import subprocess
import sys


def exported(version_map):
    text = open(version_map, encoding="utf-8").read()
    return re.findall(r"^\s+(tl_\w+);", text, re.MULTILINE)


def main():
    ld, objcopy, version_map, script, output, whole, *archives = sys.argv[1:]
    subprocess.run([ld, "-r", "-T", script, "-o", output, "--whole-archive", whole, "--no-whole-archive",
                    "--start-group", *archives, "--end-group"], check=True)
    names = [f"--keep-global-symbol={name}" for name in exported(version_map)]
    subprocess.run([objcopy, *names, output], check=True)


if __name__ == "__main__":
    main()
