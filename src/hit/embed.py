# SPDX-License-Identifier: MIT
"""Write the bytes of a file as a C array: embed.py IMAGE OUT.c"""
import sys

data = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "w") as out:
    out.write('/* SPDX-License-Identifier: MIT\n * Made by embed.py. */\n#include "hit/blob.h"\n\n')
    out.write("const size_t tl_blob_size = %d;\n" % len(data))
    out.write("const uint8_t tl_blob[] __attribute__((aligned(16))) = {\n")
    for i in range(0, len(data), 16):
        out.write("    " + " ".join("0x%02x," % byte for byte in data[i : i + 16]) + "\n")
    out.write("};\n")
