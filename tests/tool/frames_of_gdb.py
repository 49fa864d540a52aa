# SPDX-License-Identifier: MIT
"""Run inside gdb: the call stack at the first hit of a function once the C library has been entered.

gdb -nx -batch -ex 'set $function = "NAME"' -x frames_of_gdb.py --args COMMAND...

Prints "frame ADDRESS" for each frame that is not inlined into another, innermost first, then "base ADDRESS PATH" for
each file that is mapped.
"""
import re

import gdb

name = gdb.parse_and_eval("$function").string()
for command in ("set disable-randomization on", "set backtrace past-main on", "starti",
                "tbreak __libc_start_main", "continue", f"tbreak *{name}", "continue"):
    gdb.execute("set breakpoint pending on")
    gdb.execute(command, to_string=True)
frame = gdb.newest_frame()
while frame is not None:
    if frame.type() != gdb.INLINE_FRAME:
        print(f"frame {frame.pc():#x}")
    frame = frame.older()
bases = {}
for line in gdb.execute("info proc mappings", to_string=True).splitlines():
    match = re.match(r"\s+(0x[0-9a-f]+)\s.*\s(/\S+)$", line)
    if match:
        bases.setdefault(match.group(2), match.group(1))
for path, base in bases.items():
    print("base", base, path)
gdb.execute("kill", to_string=True)
