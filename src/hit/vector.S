/* SPDX-License-Identifier: MIT
 *
 * The vector state of a hit: into the thread's record, and back.
 *
 * Plain stores and loads, since xsave and xrstor cost several times as much. What is in its initial state, as the
 * processor says (xgetbv), is not stored, and set back to it afterwards if the handlers have used it: loading zeros
 * would do for the program, but leaves registers in use that it had not used, and its own code slower.
 *
 * The handlers begin with an empty x87 stack, as their ABI has it, and with the program's control words. The x87 unit
 * has no cheap way in and out, and once used it stays in use; but its stack is nearly always empty. Then nothing of it
 * is loaded that was not changed: if status and control are the same, the stack is again empty, and what lies in empty
 * registers is nobody's.
 *
 * In: rbx, the record. Clobber rax, rcx, rdx and flags.
 */
#include "hit/call_layout.h"

    .intel_syntax noprefix
    .section trapline_hit, "ax", @progbits

    .macro hidden name
    .hidden \name
    .global \name
    .type \name, @function
    .balign 16
\name:
    .endm

    /* Sixteen registers, each to or from its place in the record. */
    .macro store_low instruction, kind, size
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    \instruction \size ptr [rbx + RECORD_ZMM + 64 * \n], \kind\n
    .endr
    .endm
    .macro load_low instruction, kind, size
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    \instruction \kind\n, \size ptr [rbx + RECORD_ZMM + 64 * \n]
    .endr
    .endm
#define HIGH 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

    hidden tl_vector_save
    .cfi_startproc
    mov eax, [rip + tl_vector_components]
    cmp dword ptr [rip + tl_vector_can_ask], 0
    je 1f
    mov ecx, 1
    xgetbv
1:  mov [rbx + RECORD_IN_USE], eax
    stmxcsr [rbx + RECORD_MXCSR]
    test eax, STATE_ZMM_UPPER
    jnz 3f
    test eax, STATE_YMM
    jnz 2f
    store_low movaps, xmm, xmmword
    jmp 4f
2:  store_low vmovdqa, ymm, ymmword
    vzeroupper
    jmp 4f
3:  store_low vmovdqa64, zmm, zmmword
    vzeroupper
4:  test eax, STATE_ZMM_HIGH
    jz 5f
    .irp n, HIGH
    vmovdqa64 zmmword ptr [rbx + RECORD_ZMM + 64 * \n], zmm\n
    .endr
5:  test eax, STATE_K
    jz 7f
    test dword ptr [rip + tl_vector_wide_masks], -1
    jz 6f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq qword ptr [rbx + RECORD_K + 8 * \n], k\n
    .endr
    jmp 7f
6:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovw word ptr [rbx + RECORD_K + 8 * \n], k\n
    .endr
7:  test eax, STATE_X87
    jnz 8f
    ret
8:  fxsave64 [rbx + RECORD_X87] /* as quick as xsave would be for this alone */
    cmp byte ptr [rbx + X87_TAGS], 0
    jne 3f
    test byte ptr [rbx + X87_STATUS], X87_PENDING
    jnz 3f
    or dword ptr [rbx + RECORD_IN_USE], STATE_X87_EMPTY
    ret
3:  fninit
    fldcw [rbx + X87_CONTROL]
    ret
    .cfi_endproc
    .size tl_vector_save, . - tl_vector_save

    hidden tl_vector_restore
    .cfi_startproc
    mov edx, [rbx + RECORD_IN_USE]
    xor eax, eax
    cmp dword ptr [rip + tl_vector_can_ask], 0
    je 1f
    mov ecx, 1
    xgetbv
    mov edx, [rbx + RECORD_IN_USE]
    /* What is in use that was not. Of the lower registers' upper parts vzeroupper takes care. */
1:  mov ecx, edx
    not ecx
    and ecx, eax
    and ecx, STATE_X87 | STATE_K | STATE_ZMM_HIGH
    jz 2f
    mov eax, ecx
    mov ecx, edx
    xor edx, edx
    xrstor64 [rip + initial_state]
    mov edx, ecx
2:  test edx, STATE_X87
    jnz .Lrestore_x87
.Lx87_is_back:
    test edx, STATE_ZMM_UPPER
    jnz 5f
    test edx, STATE_YMM
    jnz 4f
    cmp dword ptr [rip + tl_vector_has_avx], 0
    je 3f
    vzeroupper
3:  load_low movaps, xmm, xmmword
    jmp 6f
4:  load_low vmovdqa, ymm, ymmword
    jmp 6f
5:  load_low vmovdqa64, zmm, zmmword
6:  test edx, STATE_ZMM_HIGH
    jz 7f
    .irp n, HIGH
    vmovdqa64 zmm\n, zmmword ptr [rbx + RECORD_ZMM + 64 * \n]
    .endr
7:  test edx, STATE_K
    jz 9f
    test dword ptr [rip + tl_vector_wide_masks], -1
    jz 8f
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq k\n, qword ptr [rbx + RECORD_K + 8 * \n]
    .endr
    jmp 9f
8:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7
    kmovw k\n, word ptr [rbx + RECORD_K + 8 * \n]
    .endr
9:  mov eax, [rbx + RECORD_MXCSR]
    stmxcsr [rbx + RECORD_MXCSR_NOW]
    cmp eax, [rbx + RECORD_MXCSR_NOW]
    je 1f
    ldmxcsr [rbx + RECORD_MXCSR]
1:  ret
.Lrestore_x87:
    test edx, STATE_X87_EMPTY
    jz 1f
    fnstsw ax
    cmp ax, [rbx + X87_STATUS]
    jne 1f
    fnstcw [rbx + RECORD_MXCSR_NOW]
    mov ax, [rbx + RECORD_MXCSR_NOW]
    cmp ax, [rbx + X87_CONTROL]
    je .Lx87_is_back
1:  fxrstor64 [rbx + RECORD_X87] /* the lower registers with it, as they were: they are loaded again below */
    jmp .Lx87_is_back
    .cfi_endproc
    .size tl_vector_restore, . - tl_vector_restore

    /* An xsave area that holds nothing: its components are set to their initial state. */
    .section .rodata
    .balign 64
initial_state:
    .zero 576
    .size initial_state, . - initial_state

    .section .note.GNU-stack, "", @progbits
