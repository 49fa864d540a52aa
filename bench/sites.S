/* SPDX-License-Identifier: MIT
 *
 * Functions to probe, which differ in how their first instruction can be probed. Each does nothing with two arguments.
 * Between them int3, as some linkers pad: it lets a jump punned over a ret lead to below the program, away from its
 * heap.
 */
    .intel_syntax noprefix
    .text

    .macro begin name
    .balign 64, 0xcc
    .global \name
    .type \name, @function
\name:
    .endm

    .macro end name
    ret
    .size \name, . - \name
    .endm

/* Five bytes: room for a jump; the kernel has to execute it out of line, by a step. */
    begin site_step
    lea rax, [rdi + rsi + 64]
    end site_step

/* One byte, which the kernel emulates; a jump has to be punned over what follows. */
    begin site_emulated
    push rbp
    mov rbp, rsp
    pop rbp
    end site_emulated

/* What Linux 6.18 replaces by a call of its own. */
    begin site_nop5
    .byte 0x0f, 0x1f, 0x44, 0, 0
    end site_nop5
    .balign 64, 0xcc

    .section .note.GNU-stack, "", @progbits
