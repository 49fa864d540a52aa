/* SPDX-License-Identifier: MIT
 *
 * What the figures of hit_bench are measured against: loops over one instruction, bare and with hand-written pads.
 * void loop(uint64_t turns)
 */
    .intel_syntax noprefix
#include "pads.inc"

/* The instruction that is probed: five bytes, no effect on anything else. */
#define SITE lea rax, [rsi + rsi + 64]

    .macro loop name, site:vararg
    .balign 64
    .global \name
    .type \name, @function
\name:
    \site
\name\()_next:
    dec rdi
    jnz \name
    ret
    .size \name, . - \name
    .endm

    .macro pad name
    .balign 16
\name\()_pad:
    \name
    SITE
    jmp bench_\name\()_next
    .endm

    .text
    loop bench_bare, SITE
/* The thread's base address, by which counters are told apart. */
    loop bench_fsbase, rdfsbase rdx
    loop bench_f0, jmp f0_pad
    loop bench_f1, jmp f1_pad
    loop bench_f2, jmp f2_pad

    pad f0
    pad f1
    pad f2

/* The same instruction in a function that is called in each turn. */
    .balign 64
    .global bench_call
    .type bench_call, @function
bench_call:
    call function
    dec rdi
    jnz bench_call
    ret
    .balign 16
function:
    SITE
    ret

    .section .note.GNU-stack, "", @progbits
