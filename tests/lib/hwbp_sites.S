/* SPDX-License-Identifier: MIT
 *
 * Accesses of one instruction each.
 */
    .intel_syntax noprefix
    .text

    .macro function name
    .global \name
    .type \name, @function
    .balign 16
\name:
    .endm

    /* (at, value, length) */
    function kit_store
    cmp rdx, 2
    jb 1f
    je 2f
    cmp rdx, 4
    je 4f
    mov [rdi], rsi
    .global kit_store8_end
kit_store8_end:
    ret
4:  mov [rdi], esi
    ret
2:  mov [rdi], si
    ret
1:  mov [rdi], sil
    ret

    /* (at, length) */
    function kit_fetch
    cmp rsi, 2
    jb 1f
    je 2f
    cmp rsi, 4
    je 4f
    mov rax, [rdi]
    ret
4:  mov eax, [rdi]
    ret
2:  movzx eax, word ptr [rdi]
    ret
1:  movzx eax, byte ptr [rdi]
    ret

    function kit_store16
    pcmpeqd xmm0, xmm0
    pabsb xmm0, xmm0
    movdqu [rdi], xmm0
    ret

    function kit_fill
    mov eax, esi
    mov rcx, rdx
    .global kit_fill_insn
kit_fill_insn:
    rep stosb
    ret

    function kit_exchange
    mov eax, esi
    lock cmpxchg [rdi], edx
    sete al
    movzx eax, al
    ret

    function kit_increment
    inc dword ptr [rdi]
    ret

    function kit_prefetch
    prefetcht0 [rdi]
    ret

    function kit_copy8
    movsq
    ret

    function kit_loop
    xor eax, eax
    .global kit_loop_insn, kit_loop_out
kit_loop_insn:
    inc rax
    cmp rax, rdi
    jb kit_loop_insn
kit_loop_out:
    ret

    /* A short instruction, and one behind it that a jump in its place runs into. */
    function kit_steps
    push rbp
    .global kit_steps_second
kit_steps_second:
    mov eax, 0xe00000
    lea rax, [rdi + rdi]
    pop rbp
    ret

    .section .note.GNU-stack, "", @progbits
