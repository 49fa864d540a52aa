/* SPDX-License-Identifier: MIT */
    .section subjects, "ax", @progbits
    .globl first_subject
    .hidden first_subject
    .balign 4096
first_subject:
    .set i, 0
    .rept 10000
    mov $i, %eax
    ret
    .byte 0x66, 0x90
    .set i, i + 1
    .endr
    .section .note.GNU-stack, "", @progbits
