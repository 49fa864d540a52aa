/* SPDX-License-Identifier: MIT
 *
 * Functions to probe, which differ in how their first instruction can be probed. Each does nothing with two arguments.
 * Of each there are five: site_X, to be probed; twin_X, to be probed by somebody else; bare_X, which nobody probes; and
 * f1_X and f2_X, in which a jump to a pad by hand takes the place of the first five bytes.
 *
 * Between them int3, as some linkers pad: it lets a jump punned over a ret lead to below the program, away from its
 * heap.
 */
    .intel_syntax noprefix
#include "pads.inc"
    .text

    .macro function name, body:vararg
    .balign 64, 0xcc
    .global \name
    .type \name, @function
\name:
    \body
    ret
    .size \name, . - \name
    .endm

/* Five bytes, however near. */
    .macro long_jump target
    .byte 0xe9
    .long \target - . - 4
    .endm

    .macro padded pad, name, body
    function \pad\()_\name, long_jump \pad\()_\name\()_pad
    .balign 16, 0xcc
\pad\()_\name\()_pad:
    \pad
    \body
    jmp \pad\()_\name + 5
    .endm

    .macro five name, body
    function site_\name, \body
    function twin_\name, \body
    function bare_\name, \body
    padded f1, \name, \body
    padded f2, \name, \body
    .endm

/* Five bytes: room for a jump; the kernel has to execute it out of line, by a step. */
    .macro step_body
    lea rax, [rdi + rsi + 64]
    .endm

/* One byte, which the kernel emulates; a jump has to be punned over what follows. */
    .macro emulated_body
    push rbp
    mov rbp, rsp
    pop rbp
    .endm

/* What Linux 6.18 replaces by a call of its own. */
    .macro nop5_body
    .byte 0x0f, 0x1f, 0x44, 0, 0
    .endm

    five step, step_body
    five emulated, emulated_body
    five nop5, nop5_body
    .balign 64, 0xcc

    .section .note.GNU-stack, "", @progbits
