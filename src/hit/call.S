/* SPDX-License-Identifier: MIT
 *
 * A hit whose handlers are C: in from the hook, through the list that is in force, and out again.
 *
 * The frame on the program's stack is struct tl_regs, filled as the program had its registers, and restored as the
 * handlers have left it. Flags are read by pushf, but put back by sahf and an addition: popf costs twice as much as all
 * of this, and is kept for hits whose handlers have changed flags, or have found some that C code must not see set (TF,
 * DF, NT, AC).
 *
 * The order at the beginning matters. A signal handler may hit between any two instructions here:
 *   - the mark is in the frame before the record says so: whoever finds the record busy can look whether the frame
 *     lives;
 *   - the record is busy before its list is set: from then on nobody else of this thread sets it;
 *   - the list is set in the record before it is looked up again and used: whoever has replaced it, and made this
 *     thread pass a barrier, finds it in the record, or this thread finds the new one.
 * At the end the record is given back first: what follows uses only the frame, which lies above everything that a signal
 * may put on the stack.
 *
 * A hit on the program's alternate signal stack, or on a stack that lies below it, takes a closer look, since the kernel
 * must not believe that that one is free while handlers run on another: see call_alternate.c.
 *
 * Where the program's stack ends before all that is needed of it, accesses to it fault: call_room.c. Before tl_call_saved
 * (and where calls return, likewise) all registers but rsp are the program's; at the accesses that tl_call_ends lists,
 * the frame holds what has changed.
 *
 * While handlers run: rbx is the record, rbp the frame, r12 the list, r13 the program's rsp, r14 its flags as lahf and
 * seto give them, r15 as pushf does, or -1 to have them put back by popf.
 */
#include "hit/call_layout.h"

    .intel_syntax noprefix
    .irp name, tl_call_ends, tl_call_ends_end, tl_call_saved, tl_call_returned_saved
    .hidden \name
    .global \name
    .endr
    .section .rodata.tl_call_ends, "a", @progbits
    .balign 4
tl_call_ends: /* each: where, from tl_call_enter on; which kind */

    .section trapline_hit, "ax", @progbits

    /* To whole cache lines: where in one the code begins costs as much as several of its instructions. */
    .macro hidden name
    .hidden \name
    .global \name
    .type \name, @function
    .balign 64
\name:
    .endm

    /* The next instruction accesses a stack that may end there. */
    .macro may_end kind
771:
    .pushsection .rodata.tl_call_ends, "a", @progbits
    .long 771b - tl_call_enter, \kind
    .popsection
    .endm

    /* The same once and for all, for what is called on the program's stack. */
    .macro look_ahead
    may_end END_ENTERING
    test [rsp - ROOM_FOR_CALLS], rsp
    .endm

    /* Flags and registers into the frame, which r13 leads to. In order of address, since neighbouring stores cost less. */
    .macro save_registers saved
    pushfq
    lea rsp, [rsp - FRAME_RFLAGS]
    mov [rsp + FRAME_R15], r15
    mov [rsp + FRAME_R14], r14
    mov [rsp + FRAME_R13], r13
    mov [rsp + FRAME_R12], r12
    mov [rsp + FRAME_R11], r11
    mov [rsp + FRAME_R10], r10
    mov [rsp + FRAME_R9], r9
    mov [rsp + FRAME_R8], r8
    mov [rsp + FRAME_RDI], rdi
    mov [rsp + FRAME_RSI], rsi
    mov [rsp + FRAME_RBP], rbp
\saved:
    lea r13, [rsp + FRAME_PROGRAM]
    may_end END_SAVING
    mov [rsp + FRAME_RSP], r13
    may_end END_SAVING
    mov [rsp + FRAME_RBX], rbx
    may_end END_SAVING
    mov [rsp + FRAME_RDX], rdx
    may_end END_SAVING
    mov [rsp + FRAME_RCX], rcx
    may_end END_SAVING
    mov [rsp + FRAME_RAX], rax
    .endm

    /* The mark, and r14 and r15 as above. */
    .macro save_rest
    mov rbx, [rip + tl_call_self@gottpoff]
    mov rbx, fs:[rbx]
    may_end END_ENTERING
    mov [rsp + FRAME_MARK], rbx
    lahf
    seto al
    mov r14d, eax
    mov r15, [rsp + FRAME_RFLAGS]
    .endm

    /* Back from the frame, but for rsp. */
    .macro restore_state
    cmp r15, [rsp + FRAME_RFLAGS]
    jne 8f
    mov eax, r14d
    add al, 127
    sahf
9:  mov rax, [rsp + FRAME_RAX]
    mov rcx, [rsp + FRAME_RCX]
    mov rdx, [rsp + FRAME_RDX]
    mov rbx, [rsp + FRAME_RBX]
    mov rbp, [rsp + FRAME_RBP]
    mov rsi, [rsp + FRAME_RSI]
    mov rdi, [rsp + FRAME_RDI]
    mov r8, [rsp + FRAME_R8]
    mov r9, [rsp + FRAME_R9]
    mov r10, [rsp + FRAME_R10]
    mov r11, [rsp + FRAME_R11]
    mov r12, [rsp + FRAME_R12]
    mov r13, [rsp + FRAME_R13]
    mov r14, [rsp + FRAME_R14]
    mov r15, [rsp + FRAME_R15]
    .endm

    /* The rest of that, out of the way. */
    .macro restore_flags kind
8:  may_end \kind
    push [rsp + FRAME_RFLAGS]
    popfq
    jmp 9b
    .endm

    /* In place of the flags that the program has, those that C code may have. */
    .macro tame_flags
    test r15d, ODD_FLAGS
    jz 8f
    and r15d, ~ODD_FLAGS
    may_end END_ENTERING
    push r15
    popfq
    mov r15, -1
8:
    .endm

    .macro saved register, slot
    .cfi_offset \register, \slot - FRAME_PROGRAM
    .endm

    hidden tl_call_enter
    .cfi_startproc
    .cfi_signal_frame
    .cfi_undefined rip
    save_registers tl_call_saved
    save_rest
.Lagain:
    mov eax, [rsp + FRAME_INDEX]
    cmp qword ptr [rbx + RECORD_FRAME], 0
    jne .Lbusy
    mov [rbx + RECORD_FRAME], rsp
    lea rdx, [rip + tl_call_lists]
.Llook:
    mov r12, [rdx + 8 * rax]
    mov [rbx + RECORD_LIST], r12
    cmp r12, [rdx + 8 * rax]
    jne .Llook
    test r12, r12
    jz .Ldone
    test r15d, ODD_FLAGS
    jnz .Lodd
.Leven:
    mov rax, [r12 + LIST_ADDRESS]
    mov [rsp + FRAME_RIP], rax
    mov rdi, [r12 + LIST_ARGUMENT]
    lea rsi, [rsp + FRAME_REGS]
    mov rbp, rsp
    /* Who unwinds from a handler finds the program as it was at the probed place. */
    .cfi_def_cfa rbp, FRAME_PROGRAM
    saved rax, FRAME_RAX
    saved rcx, FRAME_RCX
    saved rdx, FRAME_RDX
    saved rbx, FRAME_RBX
    saved rbp, FRAME_RBP
    saved rsi, FRAME_RSI
    saved rdi, FRAME_RDI
    saved r8, FRAME_R8
    saved r9, FRAME_R9
    saved r10, FRAME_R10
    saved r11, FRAME_R11
    saved r12, FRAME_R12
    saved r13, FRAME_R13
    saved r14, FRAME_R14
    saved r15, FRAME_R15
    saved rip, FRAME_RIP
    cmp rsp, [rbx + RECORD_ALTERNATE_END]
    jb .Lbelow
.Lswitch:
    mov rsp, rbx
    call [r12 + LIST_ENTER]
.Lran:
    mov rsp, rbp
    test eax, eax
    jnz .Lresume
    cmp r13, [rsp + FRAME_RSP]
    jne .Lmoved
.Ldone:
    mov qword ptr [rbx + RECORD_FRAME], 0
.Lleave:
    restore_state
    lea rsp, [rsp + FRAME_RETURN]
    ret
    restore_flags END_LEAVING

.Lodd:
    tame_flags
    jmp .Leven

    /* Other ways to enter a list: with the vector state kept, and on the program's stack. They are called on top of the
     * handlers' stack. */
    hidden tl_call_run_vectors
    call tl_vector_save
    mov rcx, [rip + tl_call_errno]
    mov eax, fs:[rcx]
    mov [rbx + RECORD_ERRNO], eax
    lea rsp, [rbx - 16]
    test dword ptr [r12 + LIST_FLAGS], LIST_OWN_STACK
    jz 1f
    mov rsp, rbp
    and rsp, -16
1:  call [r12 + LIST_RUN]
    lea rsp, [rbx - 16]
    mov [rsp], eax
    mov rcx, [rip + tl_call_errno]
    mov eax, [rbx + RECORD_ERRNO]
    mov fs:[rcx], eax
    call tl_vector_restore
    pop rax
    ret

    hidden tl_call_run_here
    mov rsp, rbp
    and rsp, -16
    call [r12 + LIST_RUN]
    lea rsp, [rbx - 8]
    ret

    /* rsp was changed, but the copy is to be executed: leave as if the hook had been entered with the new one. */
.Lmoved:
    mov qword ptr [rbx + RECORD_FRAME], 0
    mov rax, [rsp + FRAME_RETURN]
    mov ecx, HOOK_BYTES
    jmp 1f
    /* Go on elsewhere. The new rip is put below the red zone of the new stack, and popped last, by a ret that releases
     * the red zone; so nothing that is needed ever lies below rsp. New and old stack may overlap: the registers are
     * copied to below both first. If the new one is somewhere else entirely, nobody uses the old one meanwhile. */
.Lresume:
    mov qword ptr [rbx + RECORD_FRAME], 0
.Lresume_unseen:
    mov rax, [rsp + FRAME_RIP]
    mov ecx, RED_ZONE
1:  mov rdx, [rsp + FRAME_RSP]
    sub rdx, rcx
    sub rdx, 8
    mov [rsp + FRAME_RSP], rdx
    mov rsi, rsp
    cmp rdx, rsp
    cmovb rsp, rdx
    lea rsp, [rsp - FRAME_RETURN]
    mov edi, FRAME_REGS
2:  mov r8, [rsi + rdi]
    may_end END_RESUMING
    mov [rsp + rdi], r8
    add edi, 8
    cmp edi, FRAME_RETURN
    jne 2b
    may_end END_RESUMING
    mov [rdx], rax
    cmp ecx, RED_ZONE
    jne 3f
    restore_state
    mov rsp, [rsp + FRAME_RSP]
    ret RED_ZONE
    restore_flags END_RESUMING
3:  restore_state
    mov rsp, [rsp + FRAME_RSP]
    ret
    restore_flags END_RESUMING

    /* On the alternate signal stack, or further below; or it is not known. */
.Lbelow:
    cmp rsp, [rbx + RECORD_ALTERNATE]
    jae 1f
    cmp qword ptr [rbx + RECORD_ALTERNATE_END], -1
    jne .Lswitch
1:  look_ahead
    and rsp, -16
    mov rdi, rbx
    mov rsi, rbp
    call tl_call_alternate_block
    mov rdi, [r12 + LIST_ARGUMENT]
    lea rsi, [rbp + FRAME_REGS]
    test al, al
    jz .Lswitch
    mov rsp, rbx
    mov rdi, rbx
    call tl_call_alternate_give_up
    mov rdi, [r12 + LIST_ARGUMENT]
    lea rsi, [rbp + FRAME_REGS]
    call [r12 + LIST_ENTER]
    mov rdi, rbx
    mov esi, eax
    call tl_call_alternate_take_back
    mov rsp, rbp
    and rsp, -16
    mov rdi, rbx
    mov esi, eax
    call tl_call_alternate_unblock
    jmp .Lran

    /* The thread has no record; or it is busy with a hit; or was left so by one. */
.Lbusy:
    tame_flags
    look_ahead
    mov rbp, rsp
    and rsp, -16
    mov rdi, rbx
    mov rsi, rbp
    call tl_call_claim
    mov rsp, rbp
    mov rbx, rax
    mov [rsp + FRAME_MARK], rbx
    test rbx, rbx
    jnz .Lagain
    mov eax, [rsp + FRAME_INDEX]
    lea rdx, [rip + tl_call_missed_hits]
    lock inc qword ptr [rdx + 8 * rax]
    jmp .Lleave
    .cfi_endproc
    .size tl_call_enter, . - tl_call_enter

/* A call has returned to a stub, which has done what a hook does. It must go on where it was called from, whatever
 * happens, so this never returns. */
    hidden tl_call_returned
    .cfi_startproc
    .cfi_signal_frame
    .cfi_undefined rip
    save_registers tl_call_returned_saved
    save_rest
    tame_flags
    mov rbp, rsp
    mov r12d, [rsp + FRAME_INDEX]
    cmp qword ptr [rbx + RECORD_FRAME], 0
    je 1f
    look_ahead
    and rsp, -16
    mov rdi, rbx
    mov rsi, rbp
    call tl_call_claim
    mov rbx, rax
    test rbx, rbx
    jz 2f
    mov rsp, rbp
    mov [rsp + FRAME_MARK], rbx
1:  mov [rbx + RECORD_FRAME], rsp
    lea rdx, [rip + tl_call_lists]
    mov r12, [rdx + 8 * r12]
    mov [rbx + RECORD_LIST], r12
    jmp .Leven
    /* No handler may run. */
2:  mov edi, r12d
    lea rsi, [rbp + FRAME_REGS]
    call tl_call_unseen
    mov rsp, rbp
    jmp .Lresume_unseen
    .cfi_endproc
    .size tl_call_returned, . - tl_call_returned

/* void tl_call_jump(handler, regs, record, bytes): the handler finds vector registers as the program had them, from the
 * record, since handlers may have run since. */
    hidden tl_call_jump
    .cfi_startproc
    push rbp
    .cfi_def_cfa_offset 16
    .cfi_offset rbp, -16
    mov rbp, rsp
    .cfi_def_cfa_register rbp
    push rbx
    .cfi_offset rbx, -24
    push r12
    .cfi_offset r12, -32
    mov r12, rdi
    lea r11, [rsi - FRAME_REGS]
    mov rbx, rdx
    mov r9, rcx
    call tl_vector_restore
    sub rsp, r9
    mov rsi, [r11 + FRAME_RSP]
1:  sub r9, 8
    jl 2f
    mov rax, [rsi + r9 + 8]
    mov [rsp + r9], rax
    jmp 1b
2:  mov rax, [r11 + FRAME_RAX]
    mov rcx, [r11 + FRAME_RCX]
    mov rdx, [r11 + FRAME_RDX]
    mov rsi, [r11 + FRAME_RSI]
    mov rdi, [r11 + FRAME_RDI]
    mov r8, [r11 + FRAME_R8]
    mov r9, [r11 + FRAME_R9]
    mov r10, [r11 + FRAME_R10]
    call r12
    lea rsp, [rbp - 16]
    pop r12
    pop rbx
    pop rbp
    ret
    .cfi_endproc
    .size tl_call_jump, . - tl_call_jump

    .section .rodata.tl_call_ends, "a", @progbits
tl_call_ends_end:

    .section .note.GNU-stack, "", @progbits
