/* SPDX-License-Identifier: MIT
 *
 * Functions of which each instruction is known.
 */
        .macro function name
        .globl \name
        .type \name, @function
        .p2align 4
\name:  .cfi_startproc
        .endm
        .macro finish name
        .cfi_endproc
        .size \name, . - \name
        .endm
        .macro label name
        .globl \name
\name:
        .endm

        .text
        function kit_add
        label kit_add_entry
        lea 1(%rdi), %rax
        label kit_add_body
        add %rsi, %rax
        label kit_add_ret
        ret
        finish kit_add

        function kit_call
        sub $8, %rsp
        .cfi_adjust_cfa_offset 8
        mov %rdi, %rsi
        label kit_call_site
        call kit_add
        add $8, %rsp
        .cfi_adjust_cfa_offset -8
        ret
        finish kit_call

        function kit_branch
        mov $1, %eax
        test %rdi, %rdi
        label kit_branch_site
        jns 1f
        mov $-1, %rax
1:      ret
        finish kit_branch

        function kit_tail
        mov %rdi, %rsi
        jmp kit_add
        finish kit_tail

        function kit_switch
        mov %rdi, %rsi
        lea table(%rip), %rax
        movslq (%rax, %rdi, 4), %rcx
        add %rcx, %rax
        label kit_switch_jump
        jmp *%rax
zero:   mov $10, %eax
        ret
one:    mov $11, %eax
        ret
two:    mov $12, %eax
        ret
        finish kit_switch

        function kit_load
        xor %eax, %eax
        label kit_load_site
        mov (%rdi), %rax
        ret
        finish kit_load

        function kit_many
        lea (%rdi, %rsi), %rax
        add %rdx, %rax
        add %rcx, %rax
        add %r8, %rax
        add %r9, %rax
        add 8(%rsp), %rax
        sub 16(%rsp), %rax
        ret
        finish kit_many

        function kit_half
        cvtsi2sd %rdi, %xmm1
        mulsd half(%rip), %xmm0
        addsd %xmm1, %xmm0
        ret
        finish kit_half

        function kit_deep
        xor %eax, %eax
        test %rdi, %rdi
        je 1f
        push %rdi
        .cfi_adjust_cfa_offset 8
        dec %rdi
        call kit_deep
        pop %rdi
        .cfi_adjust_cfa_offset -8
        inc %rax
1:      ret
        finish kit_deep

        .globl kit_data
        .type kit_data, @object
        .size kit_data, 16
        .p2align 4
kit_data:
        .quad 0x1122334455667788, 0x99aabbccddeeff00

        .section .rodata
half:   .double 0.5
table:  .long zero - table, one - table, two - table, kit_add - table

        .section .note.GNU-stack, "", @progbits
