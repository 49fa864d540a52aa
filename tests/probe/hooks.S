/* SPDX-License-Identifier: MIT */
    .intel_syntax noprefix

    .bss
    .balign 8
    .globl hooks_rsp, hooks_seen, hooks_hits, hooks_guarded, hooks_asked, hooks_answer, hooks_result
hooks_rsp: .quad 0
keep_rsp: .quad 0
keep_state: .quad 0
out: .fill 17, 8, 0
hooks_seen: .fill 18 * 16, 8, 0
hooks_hits: .quad 0
hooks_guarded: .fill 17, 8, 0
hooks_asked: .quad 0
hooks_answer: .quad 0
hooks_result: .quad 0

/* All registers but rsp. */
    .macro store_all to
    mov [rip + \to + 0], rax
    mov [rip + \to + 8], rcx
    mov [rip + \to + 16], rdx
    mov [rip + \to + 24], rbx
    mov [rip + \to + 40], rbp
    mov [rip + \to + 48], rsi
    mov [rip + \to + 56], rdi
    mov [rip + \to + 64], r8
    mov [rip + \to + 72], r9
    mov [rip + \to + 80], r10
    mov [rip + \to + 88], r11
    mov [rip + \to + 96], r12
    mov [rip + \to + 104], r13
    mov [rip + \to + 112], r14
    mov [rip + \to + 120], r15
    .endm

    .text
    .globl hooks_run
hooks_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rip + keep_rsp], rsp
    mov [rip + keep_state], rdi
    lea rax, [rip + finish]
    mov [rip + go_on], rax
    sub rsp, 520
    mov [rip + hooks_rsp], rsp
    push rsi
    mov rbx, rdi
    lea rdi, [rsp + 8 - 128]
    mov ecx, 120
    mov al, 0x5a
    rep stosb
    mov rdi, rbx
    mov rax, [rdi]
    mov rcx, [rdi + 8]
    mov rdx, [rdi + 16]
    mov rbx, [rdi + 24]
    mov rbp, [rdi + 40]
    mov rsi, [rdi + 48]
    mov r8, [rdi + 64]
    mov r9, [rdi + 72]
    mov r10, [rdi + 80]
    mov r11, [rdi + 88]
    mov r12, [rdi + 96]
    mov r13, [rdi + 104]
    mov r14, [rdi + 112]
    mov r15, [rdi + 120]
    lea rsp, [rsp - 256]
    push qword ptr [rdi + 128]
    popfq
    lea rsp, [rsp + 256]
    mov rdi, [rdi + 56]
    ret /* to the code; what was pushed is above the red zone's 120 bytes that are filled */

/* Where the code ends. */
finish:
    store_all out
    lea rsp, [rsp - 256]
    pushfq
    pop qword ptr [rip + out + 128]
    lea rsp, [rsp + 256]
    cld
    cmp rsp, [rip + hooks_rsp]
    jne broken
    lea rdi, [rsp - 128]
    mov ecx, 120
    mov al, 0x5a
    repe scasb
    jne broken
    mov rdi, [rip + keep_state]
    mov rax, [rdi + 32]
    mov [rip + out + 32], rax
    lea rsi, [rip + out]
    mov ecx, 17
    rep movsq
    mov rsp, [rip + keep_rsp]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
broken:
    ud2

    .globl hooks_clone
hooks_clone:
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    lea rax, [rip + cloned]
    mov [rip + go_on], rax
    mov eax, 56
    jmp hooks_syscall
cloned:
    test rax, rax
    jz child
    ret
child:
    mov edi, 42
    mov eax, 60
    syscall

/* The code to be probed. */
    .balign 64
    .globl hooks_start, hooks_end, hooks_lea, hooks_add, hooks_jump, hooks_lead, hooks_syscall
hooks_start:
hooks_lea:
    lea rax, [rax + 2 * rbx + 5]
hooks_add:
    add eax, ecx
    nop dword ptr [rax + 0x60]
    jmp finish
    .balign 32
hooks_jump:
    .byte 0xe9
    .long finish - (. + 4)
    .balign 32
hooks_lead:
    mov eax, 39
    mov r10d, 8
hooks_syscall:
    syscall
    nop dword ptr [rax + 0x60] /* bytes with which a jump leads upwards */
    jmp [rip + go_on]
    .balign 64
hooks_end:

    .data
    .balign 8
go_on: .quad 0
    .text

/* On the stack: the return address, the index, the red zone. */
    .globl hooks_called
hooks_called:
    pushfq
    push rax
    push rcx
    push rdx
    lea rdx, [rip + hooks_seen]
    mov rax, [rip + hooks_hits]
    imul rax, rax, 18 * 8
    add rdx, rax
    add qword ptr [rip + hooks_hits], 1
    mov rax, [rsp + 40]
    mov [rdx], rax
    mov rax, [rsp + 24]
    mov [rdx + 8 + 128], rax
    mov rax, [rsp + 16]
    mov [rdx + 8], rax
    mov rax, [rsp + 8]
    mov [rdx + 16], rax
    mov rax, [rsp]
    mov [rdx + 24], rax
    mov [rdx + 32], rbx
    lea rax, [rsp + 32 + 144]
    mov [rdx + 40], rax
    mov [rdx + 48], rbp
    mov [rdx + 56], rsi
    mov [rdx + 64], rdi
    mov [rdx + 72], r8
    mov [rdx + 80], r9
    mov [rdx + 88], r10
    mov [rdx + 96], r11
    mov [rdx + 104], r12
    mov [rdx + 112], r13
    mov [rdx + 120], r14
    mov [rdx + 128], r15
    pop rdx
    pop rcx
    pop rax
    popfq
    ret

/* On the stack: the return address, the red zone. */
    .globl hooks_guard
hooks_guard:
    store_all hooks_guarded
    pushfq
    pop qword ptr [rip + hooks_guarded + 128]
    pushfq
    lea rcx, [rsp + 8 + 136]
    mov [rip + hooks_guarded + 32], rcx
    add qword ptr [rip + hooks_asked], 1
    movzx ecx, byte ptr [rip + hooks_answer]
    jrcxz 1f
    mov rax, [rip + hooks_result]
1:  popfq
    ret

    .section .note.GNU-stack, "", @progbits
