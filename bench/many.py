#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""many.py COUNT: write assembly with COUNT functions, f00000 and so on, that begin as compilers begin functions, and a
table of them."""
import sys

count = int(sys.argv[1])

# (what a function does first, what it does last). The first instructions are 1 to 7 bytes long.
SHAPES = [
    ("push rbp; mov rbp, rsp", "pop rbp"),
    ("sub rsp, 24; mov [rsp + 8], rdi", "add rsp, 24"),
    ("mov eax, {k}; add rax, rdi", ""),
    ("push rbx; mov rbx, rdi; sub rsp, 16", "add rsp, 16; pop rbx"),
    ("test edi, edi; je 1f; add rdi, {k}; 1:", ""),
    ("push r12; push rbp; mov r12, rdi", "pop rbp; pop r12"),
    ("lea rax, [rip + many_count]; add rdi, [rax]", ""),
    ("mov rax, fs:[0]; xor rax, rdi", ""),
]

print(".intel_syntax noprefix\n.text")
for k in range(count):
    first, last = SHAPES[k * 2654435761 % (1 << 32) % len(SHAPES)]
    print(f".balign 16\n.type f{k:05}, @function\nf{k:05}: {first.format(k=k)}")
    print("lea rax, [rdi + rdi * 2]; xor rax, %d; imul rax, rax, 77" % (k * 97))
    print(f"{last}; ret\n.size f{k:05}, . - f{k:05}")
print(".section .data.rel.ro, \"aw\"\n.balign 8\n.global many, many_count\nmany:")
print("\n".join(f".quad f{k:05}" for k in range(count)))
print(f"many_count: .quad {count}\n.section .note.GNU-stack, \"\", @progbits")
