/* SPDX-License-Identifier: MIT
 *
 * The code in front of a displaced instruction: it counts in line, or enters the runtime, and leaves registers, flags,
 * red zone and vector state as they were. Pure: emits bytes for an address.
 *
 * Near each group of trampolines there is one *gate* page, private and wiped on fork (MADV_WIPEONFORK), with the
 * pointers that a hook needs. In a fork child it reads as zeros, which switches every hook off.
 *
 * A hook needs the program's stack: the red zone's 128 bytes and up to 512 more (24 for a count, about 230 for an event
 * of registers). So it cannot stand where the stack is gone already, as between munmap and exit at a thread's end in
 * musl.
 */
#ifndef TRAPLINE_HOOK_H
#define TRAPLINE_HOOK_H

#include <stddef.h>
#include <stdint.h>

enum { TL_HOOK_BYTES_MAX = 128 };

/* The gate page's content. */
struct tl_gate {
    uint64_t enter;  /* the runtime's entry point, or 0: off */
    uint64_t counts; /* the table of per-thread count blocks, or 0: off */
    uint64_t claim;  /* the runtime's routine that finds or claims the count block of a thread */
    uint64_t reserved[5];
};

enum tl_hook_kind {
    TL_HOOK_NONE,  /* nothing: only displace (tests, benchmarks) */
    TL_HOOK_COUNT, /* hits of probe `index` counted in line, exact under threads */
    TL_HOOK_ENTER  /* enter the runtime with site `index` */
};

struct tl_hook {
    enum tl_hook_kind kind;
    uint32_t index;       /* COUNT: which counter; ENTER: which site */
    uint64_t gate;        /* address of the gate page, within reach of a rip-relative operand */
    uint8_t block_shift;  /* COUNT: a count block is 1 << block_shift bytes… */
    uint8_t table_shift;  /* … and there are 1 << table_shift of them, found by a hash of the thread's fs base */
    uint8_t has_fsgsbase; /* rdfsbase may be used (AT_HWCAP2 bit 1), and is */
    /* Without has_fsgsbase: fs:0 holds the fs base in every thread (glibc, musl), and is read for it. A thread that a
     * raw clone makes later without such a block dies of that; rdfsbase cannot fail. */
    uint8_t fs_self;
    uint8_t has_rdpid; /* not used by hooks */
};

/* Emit the hook for address `at`. On its end the program's registers and flags are as at its start. *length = bytes
 * used. 0, -ERANGE when the gate is out of reach, -EINVAL. A thread interrupted anywhere inside a hook has to be let
 * run. */
int tl_hook_emit(const struct tl_hook *hook, uint64_t at, uint8_t out[TL_HOOK_BYTES_MAX], size_t *length);

#endif
