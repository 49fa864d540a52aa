#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many small functions, and a table of them: many.py COUNT > many.c"""
import sys

count = int(sys.argv[1])
print('#include "many.h"')
for i in range(count):
    print(f"static __attribute__((noinline)) unsigned long many_{i}(unsigned long n) {{ __asm__ volatile(\"\" : \"+r\"(n)); "
          f"return n * {i % 97 + 3} + {i}; }}")
print("many_function *const many[] = {")
print(",\n".join(f"    many_{i}" for i in range(count)))
print("};")
print(f"const unsigned many_count = {count};")
