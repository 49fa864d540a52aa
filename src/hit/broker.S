/* SPDX-License-Identifier: MIT
 *
 * The broker's ways in, its system calls, and its accesses to memory that may not be there.
 *
 * All system calls of the broker and the guards are in this file.
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
#define RIP REG(16)
#define RFLAGS REG(17)

/* struct tl_guard_call (guard.h) stands above the registers. */
#define CALL_NUMBER (REGS_SIZE + 0)
#define CALL_ARGUMENT(n) (REGS_SIZE + 8 + 8 * (n))
#define CALL_WAKE (REGS_SIZE + 56)
#define CALL_RESULT (REGS_SIZE + 64)
#define CALL_BLOCKED_AT (REGS_SIZE + 72)
#define CALL_BLOCKED (REGS_SIZE + 80)
#define CALL_SIZE 136

#define FRAME_SIZE 440 /* struct tl_signal_frame */
#define SIGILL 4
#define SIGTRAP 5
#define SIGBUS 7
#define SIGFPE 8
#define RT_SIGPROCMASK 14
#define SIGRETURN 15
#define GETPID 39
#define GETTID 186
#define EINTR 4

    .intel_syntax noprefix

    .macro function name
    .globl \name
    .hidden \name
    .type \name, @function
\name:
    .endm

    .text

/* A signal of the five. rsp is at the frame; there is room for a second one below, for the broker to leave by. The
 * bytes of the restorer stand at the end, too, for those who look at code to know a signal frame. */
function tl_broker_entry
    mov rdi, [rip + tl_broker_here]
    mov rsi, rsp
    sub rsp, FRAME_SIZE
    mov rdx, rsp
    call tl_broker_signal
    lea rsp, [rax + 8]
    mov rax, SIGRETURN
    syscall
    .size tl_broker_entry, . - tl_broker_entry

    .p2align 4
function tl_broker_restorer
    mov rax, SIGRETURN
    syscall
    .size tl_broker_restorer, . - tl_broker_restorer

/* Another signal, on its way to the program's handler, which is to find everything as the kernel has left it. rsp is at
 * the frame. */
    .p2align 4
function tl_broker_pass
    push rdi
    push rsi
    push rdx
    mov esi, edi
    lea rdx, [rsp + 24]
    mov rdi, [rip + tl_broker_here]
    call tl_broker_passing
    .globl tl_broker_passed
    .hidden tl_broker_passed
tl_broker_passed:
    mov r11, rax
    pop rdx
    pop rsi
    pop rdi
    xor eax, eax
    jmp r11
    .size tl_broker_pass, . - tl_broker_pass

/* A guarded system call (src/probe/hook.h): on the stack the way back and the red zone, r11 the broker, rcx the address
 * behind the call. rax, rcx and r11 are the guard's; all else is kept. */
    .p2align 4
function tl_guard_entry
    lea rsp, [rsp - REGS_SIZE - CALL_SIZE]
    mov [rsp + RAX], rax
    mov [rsp + RCX], rcx
    mov [rsp + RDX], rdx
    mov [rsp + RBX], rbx
    mov [rsp + RBP], rbp
    mov [rsp + RSI], rsi
    mov [rsp + RDI], rdi
    mov [rsp + R8], r8
    mov [rsp + R9], r9
    mov [rsp + R10], r10
    mov [rsp + R12], r12
    mov [rsp + R13], r13
    mov [rsp + R14], r14
    mov [rsp + R15], r15
    mov [rsp + RIP], rcx
    pushfq
    pop rax
    mov [rsp + RFLAGS], rax
    mov [rsp + R11], rax
    lea rax, [rsp + REGS_SIZE + CALL_SIZE + 136]
    mov [rsp + RSP], rax
    mov r12, r11
    mov rdi, r11
    mov rsi, rsp
    lea rdx, [rsp + REGS_SIZE]
    call tl_guard
.Ldecided:
    cmp eax, 2
    je .Lsleep
    ja .Lleave
    mov rbx, 0
    test eax, eax
    cmovne rbx, [rsp + RIP]
    /* The flags, by sahf and an addition: popf might change what is none of our business. */
    mov rax, [rsp + RFLAGS]
    mov ecx, eax
    shl eax, 8
    shr ecx, 11
    and ecx, 1
    mov al, cl
    add al, 127
    sahf
    mov rax, [rsp + RAX]
    mov rcx, rbx
    mov rdx, [rsp + RDX]
    mov rbx, [rsp + RBX]
    mov rbp, [rsp + RBP]
    mov rsi, [rsp + RSI]
    mov rdi, [rsp + RDI]
    mov r8, [rsp + R8]
    mov r9, [rsp + R9]
    mov r10, [rsp + R10]
    mov r11, [rsp + RFLAGS]
    mov r12, [rsp + R12]
    mov r13, [rsp + R13]
    mov r14, [rsp + R14]
    mov r15, [rsp + R15]
    lea rsp, [rsp + REGS_SIZE + CALL_SIZE]
    ret

/* rt_sigreturn: the frame is not what the program has left there any more, so nobody else makes this call. */
.Lleave:
    mov rsp, [rsp + RSP]
    .globl tl_guard_leaves
    .hidden tl_guard_leaves
tl_guard_leaves:
    mov eax, SIGRETURN
    syscall
    .globl tl_guard_has_left
    .hidden tl_guard_has_left
tl_guard_has_left:
    ud2

/* The system call, with other arguments, unless something has come that it would wait for. From here on SIGTRAP is
 * blocked, or not, as the call's mask says; if one comes before the call is under way the broker moves the thread to
 * tl_guard_awake, so that it is not overlooked. */
.Lsleep:
    mov rbx, [rsp + CALL_WAKE]
    mov rcx, [rsp + CALL_BLOCKED_AT]
    mov r11, [rsp + CALL_BLOCKED]
    mov rax, [rsp + CALL_NUMBER]
    mov rdi, [rsp + CALL_ARGUMENT(0)]
    mov rsi, [rsp + CALL_ARGUMENT(1)]
    mov rdx, [rsp + CALL_ARGUMENT(2)]
    mov r10, [rsp + CALL_ARGUMENT(3)]
    mov r8, [rsp + CALL_ARGUMENT(4)]
    mov r9, [rsp + CALL_ARGUMENT(5)]
    .globl tl_guard_drowsy
    .hidden tl_guard_drowsy
tl_guard_drowsy:
    mov [rcx], r11b
    cmp dword ptr [rbx], 0
    jne tl_guard_awake
    syscall
    .globl tl_guard_asleep
    .hidden tl_guard_asleep
tl_guard_asleep:
    jmp .Lslept
    .globl tl_guard_awake
    .hidden tl_guard_awake
tl_guard_awake:
    mov rax, -EINTR
.Lslept:
    mov [rsp + CALL_RESULT], rax
    mov rdi, r12
    mov rsi, rsp
    lea rdx, [rsp + REGS_SIZE]
    call tl_guard_slept
    jmp .Ldecided
    .size tl_guard_entry, . - tl_guard_entry

/* bool tl_notify(notifier, context, notification): with the stack as code that knows of vector registers wants it. */
    .p2align 4
function tl_notify
    push rbp
    mov rbp, rsp
    and rsp, -16
    mov rax, rdi
    mov rdi, rsi
    mov rsi, rdx
    call rax
    mov rsp, rbp
    pop rbp
    ret
    .size tl_notify, . - tl_notify

/* int64_t tl_kernel(number, six arguments) */
    .p2align 4
function tl_kernel
    mov rax, rdi
    mov rdi, rsi
    mov rsi, rdx
    mov rdx, rcx
    mov r10, r8
    mov r8, r9
    mov r9, [rsp + 8]
    syscall
    ret
    .size tl_kernel, . - tl_kernel

/* Raises the signal in edi, AC set. */
    .p2align 4
function tl_end_here
    cmp edi, SIGTRAP
    je 1f
    cmp edi, SIGILL
    je 2f
    cmp edi, SIGFPE
    je 3f
    cmp edi, SIGBUS
    je 4f
    xor eax, eax
    dec rax
    shr rax, 1
    mov eax, [rax]
1:  int3
2:  ud2
3:  xor ecx, ecx
    div ecx
4:  mov eax, [rip + tl_end_here + 1]
    .size tl_end_here, . - tl_end_here

/* What a hit may ask the kernel, in few words of stack: uint64_t, the signals that this thread blocks (all ones: it does
 * not say); the process. */
    .p2align 4
function tl_ask_mask
    push -1
    xor edi, edi
    xor esi, esi
    mov rdx, rsp
    mov r10d, 8
    mov eax, RT_SIGPROCMASK
    syscall
    pop rax
    ret
    .size tl_ask_mask, . - tl_ask_mask

/* The same without a system call but the return from the signal: the broker, which the trap comes to, answers. */
function tl_ask_mask_by_trap
    int3
    .globl tl_asked
    .hidden tl_asked
tl_asked:
    ret
    .size tl_ask_mask_by_trap, . - tl_ask_mask_by_trap

function tl_ask_process
    mov eax, GETPID
    syscall
    ret
    .size tl_ask_process, . - tl_ask_process

function tl_ask_thread
    mov eax, GETTID
    syscall
    ret
    .size tl_ask_thread, . - tl_ask_thread

/* Where an access from here to tl_fault_end faults, the broker goes on at tl_fault_end, which returns what is in rax. By
 * bytes: the program may have set AC. */
    .p2align 4
function tl_fault_copy
    xor eax, eax
    test rdx, rdx
    je tl_fault_end
    .globl tl_fault_begin
    .hidden tl_fault_begin
tl_fault_begin:
    mov cl, [rsi + rax]
    mov [rdi + rax], cl
    inc rax
    cmp rax, rdx
    jb tl_fault_begin
    ret
    .size tl_fault_copy, . - tl_fault_copy

/* The same up to a byte that is 0. */
function tl_fault_copy_text
    xor eax, eax
    test rdx, rdx
    je tl_fault_end
1:  mov cl, [rsi + rax]
    mov [rdi + rax], cl
    inc rax
    test cl, cl
    je tl_fault_end
    cmp rax, rdx
    jb 1b
    ret
    .size tl_fault_copy_text, . - tl_fault_copy_text

function tl_fault_load
    xor eax, eax
    mov rdx, [rdi]
    mov [rsi], rdx
    mov al, 1
    ret
    .size tl_fault_load, . - tl_fault_load

function tl_fault_load_fs
    xor eax, eax
    mov rdx, fs:[rdi]
    mov [rsi], rdx
    mov al, 1
    ret
    .size tl_fault_load_fs, . - tl_fault_load_fs

function tl_fault_load_gs
    xor eax, eax
    mov rdx, gs:[rdi]
    mov [rsi], rdx
    mov al, 1
    ret
    .size tl_fault_load_gs, . - tl_fault_load_gs

function tl_fault_end
    ret
    .size tl_fault_end, . - tl_fault_end

    .section .note.GNU-stack, "", @progbits
