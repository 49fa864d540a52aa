/* SPDX-License-Identifier: MIT
 *
 * Internal to src/hit: where things lie that both the assembler and C know of. call_state.h asserts that they agree.
 */
#ifndef TRAPLINE_CALL_LAYOUT_H
#define TRAPLINE_CALL_LAYOUT_H

/* The frame of a hit, on the program's stack: the mark, struct tl_regs, what the hook has pushed, the red zone. */
#define FRAME_MARK 0
#define FRAME_REGS 8
#define FRAME_RAX 8
#define FRAME_RCX 16
#define FRAME_RDX 24
#define FRAME_RBX 32
#define FRAME_RSP 40
#define FRAME_RBP 48
#define FRAME_RSI 56
#define FRAME_RDI 64
#define FRAME_R8 72
#define FRAME_R9 80
#define FRAME_R10 88
#define FRAME_R11 96
#define FRAME_R12 104
#define FRAME_R13 112
#define FRAME_R14 120
#define FRAME_R15 128
#define FRAME_RIP 136
#define FRAME_RFLAGS 144
#define FRAME_RETURN 152  /* into the hook */
#define FRAME_INDEX 160   /* from the hook */
#define FRAME_PROGRAM 296 /* the program's rsp */
#define HOOK_BYTES 136    /* what the hook takes off the stack when it is returned to */
#define RED_ZONE 128
#define ROOM_FOR_CALLS 1024 /* below the frame, for the C code that enters a hit */

/* At an access to the stack that may fault. */
#define END_SAVING 0   /* rsp is the frame; only r13 has changed */
#define END_ENTERING 1 /* rsp is the frame; no handler has run */
#define END_LEAVING 2  /* the same; all have */
#define END_RESUMING 3 /* rsi is the frame; a ret at rdx, which may release a red zone (ecx), is to lead to rax */

/* struct tl_call_list */
#define LIST_ADDRESS 0
#define LIST_ARGUMENT 8
#define LIST_ENTER 16
#define LIST_RUN 24
#define LIST_FLAGS 32

/* Of a list's flags. */
#define LIST_OWN_STACK 1 /* run on the program's stack */
#define LIST_ASIDE 2 /* called in a signal handler: from the stack that this is on, and signals come on the handlers'  \
                      */

/* struct tl_call_record. The handlers' stack ends where it begins, so that both are in one cache line. */
#define RECORD_FRAME 0
#define RECORD_LIST 8
#define RECORD_ALTERNATE 16 /* where the program's alternate signal stack begins, and ends */
#define RECORD_ALTERNATE_END 24
#define RECORD_ERRNO 32
#define RECORD_MXCSR 36
#define RECORD_IN_USE 40
#define RECORD_MXCSR_NOW 44
#define RECORD_ZMM 48 /* aligned to 64 */
#define RECORD_K 2096
#define RECORD_X87 2160 /* 512 bytes as fxsave writes them; aligned to 16 */
#define RECORD_BYTES 2736
#define X87_CONTROL RECORD_X87
#define X87_STATUS (RECORD_X87 + 2)
#define X87_TAGS (RECORD_X87 + 4) /* a bit for each register that is not empty */
#define X87_PENDING 0x80          /* of the status: an exception that is not masked */

/* What of the program's flags C code must not see set: TF, DF, NT, AC. */
#define ODD_FLAGS 0x44500

/* State components, as XCR0 numbers them. */
#define STATE_X87 0x01
#define STATE_YMM 0x04
#define STATE_K 0x20
#define STATE_ZMM_UPPER 0x40
#define STATE_ZMM_HIGH 0x80
#define STATE_X87_EMPTY 0x10000 /* not of XCR0: the x87 stack was empty */

#endif
