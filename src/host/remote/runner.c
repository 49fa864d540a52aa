/* SPDX-License-Identifier: MIT
 *
 * The code that runs in the target's core: the runner of batches, and the gate before a launched program's entry.
 * Position independent, general registers only, no stack but the program's; the data it works on is the page behind its
 * own. It is copied, never called here.
 *
 * Both wait for the tool for a bounded time only, in ppoll: the one sleeping call that leaves the kernel's restart
 * block alone, which may belong to a call of the program that was interrupted for this. Then they go on by themselves.
 */
#include "host/remote/internal.h"

#define RUNNER_CALLS 20480 /* TL_CORE_CALLS and TL_CORE_FRAME, from the data page on */
#define RUNNER_FRAME 4096
#define TEXT(x) #x
#define NUMBER(x) TEXT(x)

_Static_assert(TL_CORE_CALLS - TL_CORE_DATA == RUNNER_CALLS && TL_CORE_FRAME - TL_CORE_DATA == RUNNER_FRAME, "core");
_Static_assert(offsetof(struct tl_runner, count) == 8 && offsetof(struct tl_runner, stop_on_error) == 16 &&
                   offsetof(struct tl_runner, done) == 20 && offsetof(struct tl_runner, leave) == 24 &&
                   offsetof(struct tl_runner, turns) == 28 && offsetof(struct tl_runner, nap) == 32,
               "struct tl_runner");
_Static_assert(offsetof(struct tl_core_page, entry) == 64 && offsetof(struct tl_entry, go) == 4 &&
                   offsetof(struct tl_entry, turns) == 8 && offsetof(struct tl_entry, entry) == 16 &&
                   offsetof(struct tl_entry, saved) == 24 && offsetof(struct tl_entry, nap) == 160,
               "struct tl_entry");
_Static_assert(sizeof(struct tl_slot) == 64, "struct tl_slot");

__asm__(".pushsection .rodata.runner,\"a\"\n"
        ".globl tl_runner_code, tl_runner_code_end, tl_runner_gate\n"
        ".hidden tl_runner_code, tl_runner_code_end, tl_runner_gate\n"
        ".balign 64\n"
        "tl_runner_code:\n"
        "    lea tl_runner_code + 4096(%rip), %rbx\n"
        "1:  mov (%rbx), %rax\n" /* the next slot */
        "    cmp 8(%rbx), %rax\n"
        "    jae 2f\n"
        "    shl $6, %rax\n"
        "    lea " NUMBER(
            RUNNER_CALLS) "(%rbx, %rax), %r12\n"
                          "    mov (%r12), %rax\n"
                          "    mov 8(%r12), %rdi\n"
                          "    mov 16(%r12), %rsi\n"
                          "    mov 24(%r12), %rdx\n"
                          "    mov 32(%r12), %r10\n"
                          "    mov 40(%r12), %r8\n"
                          "    mov 48(%r12), %r9\n"
                          "    syscall\n"
                          "    mov %rax, 56(%r12)\n"
                          "    incq (%rbx)\n"
                          "    cmpl $0, 16(%rbx)\n"
                          "    je 1b\n"
                          "    cmp $-4095, %rax\n"
                          "    jb 1b\n"
                          "2:  movl $1, 20(%rbx)\n" /* done: wait to be told, or for the time to be up */
                          "    mov 28(%rbx), %r13d\n"
                          "3:  cmpl $0, 24(%rbx)\n"
                          "    jne 4f\n"
                          "    sub $1, %r13d\n"
                          "    jc 4f\n"
                          "    lea 32(%rbx), %rdx\n"
                          "    movq $0, (%rdx)\n"
                          "    movq $1000000, 8(%rdx)\n"
                          "    xor %edi, %edi\n"
                          "    xor %esi, %esi\n"
                          "    xor %r10d, %r10d\n"
                          "    mov $8, %r8d\n"
                          "    mov $271, %eax\n" /* ppoll */
                          "    syscall\n"
                          "    jmp 3b\n"
                          "4:  lea " NUMBER(
                              RUNNER_FRAME) " + 8(%rbx), %rsp\n"
                                            "    mov $15, %eax\n" /* rt_sigreturn */
                                            "    syscall\n"
                                            "    hlt\n"
                                            ".balign 64\n"
                                            "tl_runner_gate_code:\n"
                                            ".macro tl_runner_each do\n"
                                            "    \\do rax, 0\n \\do rcx, 1\n \\do rdx, 2\n \\do rbx, 3\n \\do rbp, 5\n "
                                            "\\do rsi, 6\n \\do rdi, 7\n"
                                            "    \\do r8, 8\n \\do r9, 9\n \\do r10, 10\n \\do r11, 11\n \\do r12, "
                                            "12\n \\do r13, 13\n \\do r14, 14\n"
                                            "    \\do r15, 15\n"
                                            ".endm\n"
                                            ".macro tl_runner_save register, index\n"
                                            "    mov %\\register, tl_runner_code + 4096 + 64 + 24 + 8 * \\index(%rip)\n"
                                            ".endm\n"
                                            ".macro tl_runner_load register, index\n"
                                            "    mov tl_runner_code + 4096 + 64 + 24 + 8 * \\index(%rip), %\\register\n"
                                            ".endm\n"
                                            "    tl_runner_each tl_runner_save\n"
                                            "    mov %rsp, tl_runner_code + 4096 + 64 + 24 + 8 * 4(%rip)\n"
                                            "    pushf\n" /* nothing lies below the stack pointer of a program that
                                                             begins */
                                            "    popq tl_runner_code + 4096 + 64 + 24 + 8 * 16(%rip)\n"
                                            "    lea tl_runner_code + 4096 + 64(%rip), %rbx\n"
                                            "    movl $1, (%rbx)\n"
                                            "5:  cmpl $0, 4(%rbx)\n"
                                            "    jne 6f\n"
                                            "    subq $1, 8(%rbx)\n"
                                            "    jc 6f\n"
                                            "    lea 160(%rbx), %rdx\n"
                                            "    movq $0, (%rdx)\n"
                                            "    movq $1000000, 8(%rdx)\n"
                                            "    xor %edi, %edi\n"
                                            "    xor %esi, %esi\n"
                                            "    xor %r10d, %r10d\n"
                                            "    mov $8, %r8d\n"
                                            "    mov $271, %eax\n"
                                            "    syscall\n"
                                            "    jmp 5b\n"
                                            "6:  pushq tl_runner_code + 4096 + 64 + 24 + 8 * 16(%rip)\n"
                                            "    popf\n"
                                            "    tl_runner_each tl_runner_load\n"
                                            "    jmp *tl_runner_code + 4096 + 64 + 16(%rip)\n"
                                            "tl_runner_code_end:\n"
                                            ".balign 4\n"
                                            "tl_runner_gate: .long tl_runner_gate_code - tl_runner_code\n"
                                            ".popsection\n");
