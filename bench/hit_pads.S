/* SPDX-License-Identifier: MIT
 *
 * What the figures of hit_bench are measured against: loops over one instruction, bare and with hand-written pads.
 * void loop(uint64_t turns)
 */
    .intel_syntax noprefix

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

    .text
    loop bench_bare, SITE
    loop bench_f0, jmp f0_pad
    loop bench_f1, jmp f1_pad
    loop bench_f2, jmp f2_pad

/* F0: flags by lahf and seto, an increment in line, the displaced instruction, a jump back. */
    .balign 16
f0_pad:
    lea rsp, [rsp - 128]
    push rax
    lahf
    seto al
    inc qword ptr [rip + bench_counter]
    add al, 127
    sahf
    pop rax
    lea rsp, [rsp + 128]
    SITE
    jmp bench_f0_next

/* F1: the registers that a C function may change, and the call of one that counts. */
    .balign 16
f1_pad:
    lea rsp, [rsp - 128]
    push rax
    lahf
    seto al
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    call bench_count
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add al, 127
    sahf
    pop rax
    lea rsp, [rsp + 128]
    SITE
    jmp bench_f1_next

/* F2: all registers and the flags in a struct, a guard of the thread, an indirect call whose result decides. */
    .balign 16
f2_pad:
    lea rsp, [rsp - 128]
    lea rsp, [rsp - 136]
    mov [rsp], rax
    lahf
    seto al
    mov [rsp + 128], rax
    mov rax, fs:[bench_guard@tpoff]
    test rax, rax
    jnz 1f
    mov qword ptr fs:[bench_guard@tpoff], 1
    mov [rsp + 8], rcx
    mov [rsp + 16], rdx
    mov [rsp + 24], rbx
    lea rax, [rsp + 264]
    mov [rsp + 32], rax
    mov [rsp + 40], rbp
    mov [rsp + 48], rsi
    mov [rsp + 56], rdi
    mov [rsp + 64], r8
    mov [rsp + 72], r9
    mov [rsp + 80], r10
    mov [rsp + 88], r11
    mov [rsp + 96], r12
    mov [rsp + 104], r13
    mov [rsp + 112], r14
    mov [rsp + 120], r15
    mov rdi, rsp
    call [rip + bench_handler]
    test eax, eax
    jnz 2f
2:  mov rcx, [rsp + 8]
    mov rdx, [rsp + 16]
    mov rbx, [rsp + 24]
    mov rbp, [rsp + 40]
    mov rsi, [rsp + 48]
    mov rdi, [rsp + 56]
    mov r8, [rsp + 64]
    mov r9, [rsp + 72]
    mov r10, [rsp + 80]
    mov r11, [rsp + 88]
    mov r12, [rsp + 96]
    mov r13, [rsp + 104]
    mov r14, [rsp + 112]
    mov r15, [rsp + 120]
    mov qword ptr fs:[bench_guard@tpoff], 0
1:  mov rax, [rsp + 128]
    add al, 127
    sahf
    mov rax, [rsp]
    lea rsp, [rsp + 264]
    SITE
    jmp bench_f2_next

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
