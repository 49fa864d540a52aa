/* SPDX-License-Identifier: MIT
 *
 * The code that runs in the target's core: the runner of batches, and the gate before a launched program's entry. Position
 * independent, general registers only, no stack but the program's; the data it works on is the page behind its own. It is
 * copied, never called here. The offsets are those of layout.h (core.c has the compiler check them).
 *
 * Both wait for the tool only while it lives, which a robust futex tells, and for a bounded time only, in ppoll: the one
 * sleeping call that leaves the kernel's restart block alone, which may belong to a call of the program that was
 * interrupted for this. Then they go on by themselves.
 */
#define DATA (tl_runner_code + 4096)
#define FRAME 69632 /* from DATA on: TL_CORE_FRAME */
#define CALLS 86016 /* TL_CORE_CALLS */
/* struct tl_runner */
#define NEXT 0
#define COUNT 8
#define STOP_ON_ERROR 16
#define DONE 20
#define LEAVE 24
#define TURNS 28
#define NAP 32
#define HOLDER 48
#define TOOL_DIED 0x40000000
/* struct tl_entry */
#define ENTRY 64
#define REACHED 0
#define GO 4
#define GATE_TURNS 8
#define GOES_TO 16
#define SAVED 24
#define GATE_NAP 160
#define WORD 176
#define SYS_rt_sigreturn 15
#define SYS_ppoll 271

/* A millisecond, in the timespec at \nap. */
.macro doze nap
    lea \nap, %rdx
    movq $0, (%rdx)
    movq $1000000, 8(%rdx)
    xor %edi, %edi
    xor %esi, %esi
    xor %r10d, %r10d
    mov $8, %r8d
    mov $SYS_ppoll, %eax
    syscall
.endm

.macro save register, index
    mov %\register, DATA + ENTRY + SAVED + 8 * \index(%rip)
.endm
.macro load register, index
    mov DATA + ENTRY + SAVED + 8 * \index(%rip), %\register
.endm
.macro all_but_rsp do
    \do rax, 0
    \do rcx, 1
    \do rdx, 2
    \do rbx, 3
    \do rbp, 5
    \do rsi, 6
    \do rdi, 7
    \do r8, 8
    \do r9, 9
    \do r10, 10
    \do r11, 11
    \do r12, 12
    \do r13, 13
    \do r14, 14
    \do r15, 15
.endm

    .section .rodata.runner, "a"
    .globl tl_runner_code, tl_runner_code_end, tl_runner_gate
    .hidden tl_runner_code, tl_runner_code_end, tl_runner_gate
    .balign 64
tl_runner_code:
    lea DATA(%rip), %rbx
next_call:
    mov NEXT(%rbx), %rax
    cmp COUNT(%rbx), %rax
    jae done
    shl $6, %rax
    lea CALLS(%rbx, %rax), %r12
    mov (%r12), %rax
    mov 8(%r12), %rdi
    mov 16(%r12), %rsi
    mov 24(%r12), %rdx
    mov 32(%r12), %r10
    mov 40(%r12), %r8
    mov 48(%r12), %r9
    syscall
    mov %rax, 56(%r12)
    incq NEXT(%rbx)
    cmpl $0, STOP_ON_ERROR(%rbx)
    je next_call
    cmp $-4095, %rax
    jb next_call
done:
    movl $1, DONE(%rbx)
    mov TURNS(%rbx), %r13d
wait:
    cmpl $0, LEAVE(%rbx)
    jne leave
    testl $TOOL_DIED, HOLDER(%rbx)
    jnz leave
    sub $1, %r13d
    jc leave
    doze NAP(%rbx)
    jmp wait
leave:
    lea FRAME + 8(%rbx), %rsp
    mov $SYS_rt_sigreturn, %eax
    syscall
    hlt

    .balign 64
gate:
    all_but_rsp save
    save rsp, 4
    pushf /* nothing lies below the stack pointer of a program that begins */
    popq DATA + ENTRY + SAVED + 8 * 16(%rip)
    lea DATA + ENTRY(%rip), %rbx
    mov GOES_TO(%rbx), %rax /* the program may look at its auxiliary vector: nothing of ours is to be seen there */
    mov WORD(%rbx), %rcx
    mov %rax, (%rcx)
    movl $1, REACHED(%rbx)
hold:
    cmpl $0, GO(%rbx)
    jne enter
    testl $TOOL_DIED, HOLDER - ENTRY(%rbx)
    jnz enter
    subq $1, GATE_TURNS(%rbx)
    jc enter
    doze GATE_NAP(%rbx)
    jmp hold
enter:
    pushq DATA + ENTRY + SAVED + 8 * 16(%rip)
    popf
    all_but_rsp load
    jmp *DATA + ENTRY + GOES_TO(%rip)
tl_runner_code_end:

    .balign 4
tl_runner_gate:
    .long gate - tl_runner_code

    .section .note.GNU-stack, "", @progbits
