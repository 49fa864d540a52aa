/* SPDX-License-Identifier: MIT
 *
 * What the programs of the broker's tests are made of: functions with one site each, a system call as a guard's hook
 * stands in front of it, a signal restorer. Sites have five bytes or more, so that a jump fits.
 */
    .intel_syntax noprefix

    .macro function name
    .globl \name
    .hidden \name
    .type \name, @function
    .p2align 4
\name:
    .endm
    .macro site name
    .globl \name
    .hidden \name
\name:
    .endm

    .text
/* uint64_t f(uint64_t *): what is there */
function subject_load
    .cfi_startproc
    mov r10d, 0x10101010
    mov r11d, 0x11111111
site site_load
    mov.d32 rax, [rdi]
site behind_load
    ret
    .cfi_endproc

/* The same, of a page of the program's own. */
function subject_load_own
    .cfi_startproc
    mov r10d, 0x10101010
    mov r11d, 0x11111111
site site_load_own
    mov rax, [rip + subject_page]
site behind_load_own
    ret
    .cfi_endproc

/* uint64_t f(uint64_t *divisor): 1000 divided by it */
function subject_divide
    .cfi_startproc
    mov r10d, 0x10101010
    mov r11d, 0x11111111
    mov eax, 1000
    xor edx, edx
site site_divide
    div.d32 qword ptr [rdi]
site behind_divide
    ret
    .cfi_endproc
function subject_undefined
    .cfi_startproc
    mov r10d, 0x10101010
    mov r11d, 0x11111111
    mov eax, 77
site site_undefined
    ud1.d32 eax, [rdi]
site behind_undefined
    ret
    .cfi_endproc

/* uint64_t f(uint64_t x): x + 1 */
function subject_plain
    .cfi_startproc
site site_plain
    lea.d32 rax, [rdi + 1]
site behind_plain
    ret
    .cfi_endproc

/* Calls something, by an instruction of five bytes. */
function subject_call
    .cfi_startproc
    sub rsp, 8
    .cfi_adjust_cfa_offset 8
site site_call
    call subject_called
site behind_call
    add rsp, 8
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
/* … and by a pointer in memory. */
function subject_call_through
    .cfi_startproc
    sub rsp, 8
    .cfi_adjust_cfa_offset 8
site site_call_through
    call.d32 [rdi]
    add rsp, 8
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
function subject_called
    .cfi_startproc
    lea rax, [rdi + 2]
    ret
    .cfi_endproc

/* The program's own breakpoint. */
function subject_own
    .cfi_startproc
    mov r10d, 0x10101010
    mov r11d, 0x11111111
    mov eax, 5
site site_own
    int3
site behind_own
    ret
    .cfi_endproc

/* One that nobody probes. */
function subject_foreign
    .cfi_startproc
    mov r10d, 0x10101010
    mov r11d, 0x11111111
    mov eax, 6
    int3
site behind_foreign
    ret
    .cfi_endproc

/* TF on, a site, TF off. */
function subject_stepped
    .cfi_startproc
    lea rsp, [rsp - 128]
    pushfq
    or dword ptr [rsp], 0x100
    popfq
    nop
site site_stepped
    lea.d32 rax, [rdi + 1]
site behind_stepped
    nop
    nop
    pushfq
    and dword ptr [rsp], ~0x100
    popfq
    lea rsp, [rsp + 128]
    ret
    .cfi_endproc

/* int64_t subject_syscall(number, six arguments): as behind a guard's hook, if there is a broker. */
function subject_syscall
    .cfi_startproc
    mov rax, rdi
    mov rdi, rsi
    mov rsi, rdx
    mov rdx, rcx
    mov r10, r8
    mov r8, r9
    mov r9, [rsp + 8]
    mov r11, [rip + subject_broker]
    test r11, r11
    je 1f
    lea rcx, [rip + behind_syscall]
    lea rsp, [rsp - 128]
    call tl_guard_entry
    lea rsp, [rsp + 128]
    jrcxz 1f
    jmp rcx
1:
    syscall
site behind_syscall
    ret
    .cfi_endproc

/* A restorer, and one with a guard. */
function subject_restorer
    mov rax, 15
    syscall
    ud2
function subject_guarded_restorer
    mov eax, 15
    mov r11, [rip + subject_broker]
    test r11, r11
    je 1f
    lea rcx, [rip + 2f]
    lea rsp, [rsp - 128]
    call tl_guard_entry
    lea rsp, [rsp + 128]
1:
    syscall
2:
    ud2

    .bss
    .p2align 12
    .globl subject_page
    .hidden subject_page
subject_page:
    .skip 8192
    .globl subject_broker
    .hidden subject_broker
subject_broker:
    .quad 0

    .section .note.GNU-stack, "", @progbits
