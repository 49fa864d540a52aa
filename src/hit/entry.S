/* SPDX-License-Identifier: MIT
 *
 * The blob's head and its two ways in, called by hooks (src/probe/hook.c).
 *
 * The program's flags are kept as lahf and seto leave them; DF and the system flags are not touched by anything in the
 * blob. Registers are saved on the program's stack, not in the area that the program shares with the reader: what is
 * restored from there must be what was saved. The C code keeps rbx, rbp and r12 to r15 itself.
 */
#define REG(n) (8 * (n))
#define REGS_SIZE REG(18)
/* enum tl_reg */
#define RAX REG(0)
#define RCX REG(1)
#define RDX REG(2)
#define RBX REG(3)
#define RSP REG(4)
#define RBP REG(5)
#define RSI REG(6)
#define RDI REG(7)
#define R8 REG(8)
#define R9 REG(9)
#define R10 REG(10)
#define R11 REG(11)
#define R12 REG(12)
#define R13 REG(13)
#define R14 REG(14)
#define R15 REG(15)
#define RFLAGS REG(17)

/* What stands above the saved registers: the way back into the hook, the site, and what the hook saved. */
#define SITE (REGS_SIZE + 8)
#define PROGRAM_RCX (REGS_SIZE + 16)
#define PROGRAM_RSP (REGS_SIZE + 24 + 128)

    .intel_syntax noprefix

    /* struct tl_blob_head */
    .section .blob.head, "ax", @progbits
tl_blob_head:
    .quad 0
    .long tl_blob_enter - tl_blob_head
    .long tl_blob_claim - tl_blob_head
    .globl tl_broker_here
    .hidden tl_broker_here
tl_broker_here:
    .quad 0
    .long tl_broker_entry - tl_blob_head
    .long tl_broker_pass - tl_blob_head
    .long tl_broker_restorer - tl_blob_head
    .long tl_guard_entry - tl_blob_head
    .long tl_guard_asleep - tl_blob_head
    .long tl_watch_notify - tl_blob_head

    .text

/* A hit. On the stack: the return address, the site, the program's rcx. Keeps all registers but rcx, and the flags. */
    .type tl_blob_enter, @function
tl_blob_enter:
    lea rsp, [rsp - REGS_SIZE]
    mov [rsp + RAX], rax
    lahf
    seto al
    mov [rsp + RFLAGS], rax
    mov [rsp + RDX], rdx
    mov [rsp + RBX], rbx
    mov [rsp + RBP], rbp
    mov [rsp + RSI], rsi
    mov [rsp + RDI], rdi
    mov [rsp + R8], r8
    mov [rsp + R9], r9
    mov [rsp + R10], r10
    mov [rsp + R11], r11
    mov [rsp + R12], r12
    mov [rsp + R13], r13
    mov [rsp + R14], r14
    mov [rsp + R15], r15
    mov rax, [rsp + PROGRAM_RCX]
    mov [rsp + RCX], rax
    lea rax, [rsp + PROGRAM_RSP]
    mov [rsp + RSP], rax
    mov edx, [rsp + SITE]
    mov rsi, rsp
    mov rdi, [rip + tl_blob_head]
    call tl_hit
    mov rdx, [rsp + RDX]
    mov rsi, [rsp + RSI]
    mov rdi, [rsp + RDI]
    mov r8, [rsp + R8]
    mov r9, [rsp + R9]
    mov r10, [rsp + R10]
    mov r11, [rsp + R11]
    mov rax, [rsp + RFLAGS]
    add al, 127
    sahf
    mov rax, [rsp + RAX]
    lea rsp, [rsp + REGS_SIZE]
    ret
    .size tl_blob_enter, . - tl_blob_enter

/* Find the count block of the thread whose key is in rcx; the block in rdx. Returns to `inc qword [rdx + disp32]`, of
 * which the last four bytes are the displacement. Keeps all registers but rcx and rdx. */
    .type tl_blob_claim, @function
tl_blob_claim:
    push rax
    mov rax, [rsp + 8]
    movzx edx, byte ptr [rax + 6] /* by bytes: the program may have set AC */
    shl edx, 8
    mov dl, [rax + 5]
    shl edx, 8
    mov dl, [rax + 4]
    shl edx, 8
    mov dl, [rax + 3]
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    mov rsi, rcx
    mov rdi, [rip + tl_blob_head]
    call tl_hit_claim
    mov rdx, rax
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rax
    ret
    .size tl_blob_claim, . - tl_blob_claim

    .section .note.GNU-stack, "", @progbits
