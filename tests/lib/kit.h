/* SPDX-License-Identifier: MIT
 *
 * What the tests of the library share: functions to probe, and both ways to reach them.
 */
#ifndef TRAPLINE_TESTS_LIB_KIT_H
#define TRAPLINE_TESTS_LIB_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../skip.h"

#include "trapline/trapline.h"

/* Functions of assembler, so that each instruction is known; see sites.S. */
extern char kit_add_entry[], kit_add_body[], kit_add_ret[]; /* long kit_add(long a, long b): a + b + 1 */
long kit_add(long a, long b);
extern char kit_call_site[]; /* long kit_call(long n): calls kit_add(n, n) here */
long kit_call(long n);
extern char kit_branch_site[]; /* long kit_branch(long n): n < 0 ? -1 : 1, by a jump here */
long kit_branch(long n);
long kit_tail(long n); /* jumps to kit_add(n, n) */
extern char kit_switch_jump[];
long kit_switch(long n); /* by a jump table inside: 10, 11, 12 for 0, 1, 2, and kit_add(n, n) for 3 */
extern char kit_load_site[];
long kit_load(const long *from); /* loads here, and returns what it has loaded */
long kit_many(long a, long b, long c, long d, long e, long f, long g, long h); /* g - h, and the rest added */
double kit_half(double x, long n);                                             /* x / 2 + n */
long kit_deep(long n);                                                         /* calls itself n times; returns n */
extern char kit_data[];                                                        /* data in the text */

/* The flags that lead to each tactic. */
enum { KIT_WAYS = 2 };
extern const uint64_t kit_ways[KIT_WAYS];

/* With the address sanitizer the C library's malloc and printf are not what runs, and mappings come and go. */
#if defined(__SANITIZE_ADDRESS__)
#define KIT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KIT_ASAN 1
#endif
#endif
#ifndef KIT_ASAN
#define KIT_ASAN 0
#endif

/* Two tests of one function: *state is a pointer to the flags. */
#define BOTH_WAYS(test)                                                                                                \
    {#test " by a jump", test, NULL, NULL, (void *)&kit_ways[0]},                                                      \
    {                                                                                                                  \
#test " by a trap", test, NULL, NULL, (void *)&kit_ways[1]                                                     \
    }

void kit_register(struct tl_probe *probe);
void kit_unregister(struct tl_probe *probe);
uint64_t kit_missed(const struct tl_probe *probe);
/* The lines of /proc/self/maps that name executable memory, added up: whether anything is mapped that was not. */
unsigned long kit_text_sum(const void *from, size_t size);

#endif
