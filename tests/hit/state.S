/* SPDX-License-Identifier: MIT */
    .intel_syntax noprefix

/* offsets in struct state */
#define FLAGS 128
#define RED_ZONE 136
#define VECTOR 320

    .bss
    .balign 64
    .global state_in, state_out, state_code
state_in:
    .skip VECTOR + 16384
state_out:
    .skip VECTOR + 16384
state_code:
    .skip 8
state_stack:
    .skip 8

    .text
    .global state_run
    .type state_run, @function
state_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + state_stack], rsp
    sub rsp, 1024
    mov eax, -1
    mov edx, -1
    xrstor [rip + state_in + VECTOR]
    /* The red zone of the code that is called lies below its return address. */
    lea rsi, [rip + state_in + RED_ZONE]
    xor ecx, ecx
1:  mov rax, [rsi + 8 * rcx]
    mov [rsp + 8 * rcx - 136], rax
    inc ecx
    cmp ecx, 16
    jne 1b
    push qword ptr [rip + state_in + FLAGS]
    popfq
    mov rax, [rip + state_in]
    mov rcx, [rip + state_in + 8]
    mov rdx, [rip + state_in + 16]
    mov rbx, [rip + state_in + 24]
    mov rbp, [rip + state_in + 40]
    mov rsi, [rip + state_in + 48]
    mov rdi, [rip + state_in + 56]
    mov r8, [rip + state_in + 64]
    mov r9, [rip + state_in + 72]
    mov r10, [rip + state_in + 80]
    mov r11, [rip + state_in + 88]
    mov r12, [rip + state_in + 96]
    mov r13, [rip + state_in + 104]
    mov r14, [rip + state_in + 112]
    mov r15, [rip + state_in + 120]
    mov [rip + state_in + 32], rsp
    call [rip + state_code]
    mov [rip + state_out], rax
    mov [rip + state_out + 8], rcx
    mov [rip + state_out + 16], rdx
    mov [rip + state_out + 24], rbx
    mov [rip + state_out + 32], rsp
    mov [rip + state_out + 40], rbp
    mov [rip + state_out + 48], rsi
    mov [rip + state_out + 56], rdi
    mov [rip + state_out + 64], r8
    mov [rip + state_out + 72], r9
    mov [rip + state_out + 80], r10
    mov [rip + state_out + 88], r11
    mov [rip + state_out + 96], r12
    mov [rip + state_out + 104], r13
    mov [rip + state_out + 112], r14
    mov [rip + state_out + 120], r15
    pushfq
    pop qword ptr [rip + state_out + FLAGS]
    push 0x202
    popfq
    lea rsi, [rip + state_out + RED_ZONE]
    xor ecx, ecx
1:  mov rax, [rsp + 8 * rcx - 136]
    mov [rsi + 8 * rcx], rax
    inc ecx
    cmp ecx, 16
    jne 1b
    mov eax, -1
    mov edx, -1
    xsave [rip + state_out + VECTOR]
    mov rsp, [rip + state_stack]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .size state_run, . - state_run

    .section .note.GNU-stack, "", @progbits
