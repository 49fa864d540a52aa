/* SPDX-License-Identifier: MIT
 *
 * What the tests of hardware breakpoints share.
 */
#ifndef TRAPLINE_TESTS_LIB_HWBP_KIT_H
#define TRAPLINE_TESTS_LIB_HWBP_KIT_H

#include <stdbool.h>
#include <string.h>

#include "kit.h"

/* What the last hit was, and how many there were. */
struct seen {
    unsigned hits;
    struct tl_hwbp_hit hit;
    struct tl_regs regs;
    const struct tl_hwbp *hwbp;
};
/* A handler that notes it; its context is a struct seen. */
void kit_note(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit);

/* Options for `length` bytes at `address`, by kit_note. */
struct tl_hwbp_options kit_watch(const volatile void *address, uint64_t length, uint32_t access, struct seen *seen);
/* Fails the test if it cannot be created. */
struct tl_hwbp *kit_create(const struct tl_hwbp_options *options);
void kit_destroy(struct tl_hwbp *hwbp);
struct tl_hwbp_counts kit_counts(const struct tl_hwbp *hwbp);
/* hits, handled and missed are these; none is late. */
void kit_expect(const struct tl_hwbp *hwbp, uint64_t hits, uint64_t handled, uint64_t missed);

/* For main: where the kernel offers no breakpoint events, says so and leaves with 77. */
void kit_skip_without_events(void);

/* Instructions, so that each access is known; see hwbp_sites.S. */
void kit_store(volatile void *at, uint64_t value, uint64_t length); /* length: 1, 2, 4, 8 */
uint64_t kit_fetch(const volatile void *at, uint64_t length);
void kit_store16(volatile void *at);                         /* 16 bytes of 1 */
void kit_fill(volatile void *at, int value, uint64_t count); /* rep stosb */
extern char kit_fill_insn[], kit_store8_end[];
int kit_exchange(volatile uint32_t *at, uint32_t old, uint32_t value); /* lock cmpxchg: whether it did */
void kit_increment(volatile uint32_t *at);                             /* inc dword */
void kit_prefetch(const volatile void *at);
void kit_copy8(volatile void *to, const volatile void *from); /* movsq */
long kit_loop(long n);                                        /* passes kit_loop_insn n times; returns n */
long kit_steps(long n);                                       /* 2 * n, behind a short instruction */
extern char kit_steps_second[];
extern char kit_loop_insn[], kit_loop_out[];

#endif
