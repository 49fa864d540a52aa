#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check.py PROGRAM FILE: the program ends well, and prints what is in the file."""
import subprocess
import sys

program, file = sys.argv[1:]
result = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False, timeout=50)
wanted = open(file, encoding="utf-8").read()
if result.returncode == 77:
    print("skipped: what it shows does not work here")
    sys.exit(77)
if result.returncode or result.stdout != wanted:
    sys.exit(f"{program} ended with {result.returncode} and printed\n{result.stdout}and not\n{wanted}")
