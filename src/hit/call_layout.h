/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: where things lie that both the assembler and C know of. call_state.h asserts that they agree.
 */
#ifndef TRAPLINE_CALL_LAYOUT_H
#define TRAPLINE_CALL_LAYOUT_H

/* The frame of a hit, on the program's stack: struct tl_regs, what the hook has pushed, the red zone. */
#define FRAME_RAX 0
#define FRAME_RCX 8
#define FRAME_RDX 16
#define FRAME_RBX 24
#define FRAME_RSP 32
#define FRAME_RBP 40
#define FRAME_RSI 48
#define FRAME_RDI 56
#define FRAME_R8 64
#define FRAME_R9 72
#define FRAME_R10 80
#define FRAME_R11 88
#define FRAME_R12 96
#define FRAME_R13 104
#define FRAME_R14 112
#define FRAME_R15 120
#define FRAME_RIP 128
#define FRAME_RFLAGS 136
#define FRAME_REGS 144
#define FRAME_RETURN 144 /* into the hook */
#define FRAME_INDEX 152  /* from the hook; soon replaced by the mark, the address of the thread's record */
#define FRAME_MARK 152
#define FRAME_PROGRAM 288 /* the program's rsp */
#define HOOK_BYTES 136    /* what the hook takes off the stack when it is returned to */
#define RED_ZONE 128

/* struct tl_call_list */
#define LIST_ADDRESS 0
#define LIST_ARGUMENT 8
#define LIST_ENTER 16
#define LIST_RUN 24
#define LIST_FLAGS 32

/* Of a list's flags. */
#define LIST_OWN_STACK 1 /* run on the program's stack */

/* struct tl_call_record */
#define RECORD_FRAME 0
#define RECORD_LIST 8
#define RECORD_ERRNO 32
#define RECORD_MXCSR 36
#define RECORD_IN_USE 40
#define RECORD_MXCSR_NOW 44
#define RECORD_ZMM 64
#define RECORD_K 2112
#define RECORD_X87 2176 /* 576 bytes as xsave writes them */
#define RECORD_BYTES 2752

/* What of the program's flags C code must not see set: TF, DF, NT, AC. */
#define ODD_FLAGS 0x44500

/* State components, as XCR0 numbers them. */
#define STATE_X87 0x01
#define STATE_YMM 0x04
#define STATE_K 0x20
#define STATE_ZMM_UPPER 0x40
#define STATE_ZMM_HIGH 0x80

#endif
