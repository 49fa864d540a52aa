/* SPDX-License-Identifier: MIT
 *
 * Small programs that use signals, each run several times in a child process: as it is, and with its sites probed and
 * the broker armed. What they note, and how they end, must be the same.
 */
#ifndef TRAPLINE_TESTS_BROKER_WORLD_H
#define TRAPLINE_TESTS_BROKER_WORLD_H

#include <sys/types.h>

#include "hit/broker.h"

enum broker_mode {
    MODE_BARE,     /* no broker */
    MODE_INT3,     /* int3 at every site, trampolines within reach */
    MODE_INT3_FAR, /* the same, trampolines out of reach of rip-relative operands */
    MODE_JUMP,     /* jumps where they fit, int3 elsewhere; the broker armed */
    MODE_GUARDED,  /* int3, and the restorer has a guard */
    MODE_STEP,     /* int3, and the instruction is stepped in a slot, if it does not know where it stands */
    MODE_COUNT
};

/* Run `program` in all modes and compare; the wait status. */
int broker_check_same(void (*program)(void));
/* The same, but the place where the program dies may be in memory of ours: where the kernel lets it die at once, since
 * the signal is really blocked or there is no room for a frame. */
int broker_check_same_end(void (*program)(void));
/* The same, only as it is and with a guard on the return from handlers. */
int broker_check_same_seen(void (*program)(void));
/* In one mode; the child's wait status. For programs that check themselves. */
int broker_run(enum broker_mode mode, void (*program)(void));

/* The same, the child (stopped, traced) left to somebody else. */
int broker_run_attended(enum broker_mode mode, void (*program)(void), int (*attending)(pid_t child));

/* ---- for programs ---- */

enum broker_mode broker_mode(void);
/* What is compared: in this order. */
void note(const char *what, uint64_t value);
/* End the program with a failure. */
void broker_failed(const char *what, const char *file, int line);
#define CHECK(condition) ((condition) ? (void)0 : broker_failed(#condition, __FILE__, __LINE__))

/* Hits of all sites so far. */
uint64_t broker_hits(void);
/* The broker, NULL where there is none; and the tables in force may be exchanged. */
struct tl_broker *broker_here(void);
void broker_set_trap(uint64_t addr, uint32_t how, uint64_t to);
/* Write one byte of the program's text. */
void broker_poke(uint64_t addr, uint8_t byte);

/* System calls of the program, guarded. */
#define sys(...) SYSTEM_CALL(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define SYSTEM_CALL(number, a, b, c, d, e, f, ...)                                                                     \
    subject_syscall((number), (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), (uint64_t)(e), (uint64_t)(f))
extern int broker_use_plain_restorer;
typedef void broker_handler(int number, struct tl_siginfo *info, struct tl_context *context);
struct tl_sigaction broker_action(broker_handler *handler, uint64_t flags, uint64_t mask);
void handle(int number, broker_handler *handler, uint64_t flags, uint64_t mask);
/* Change the mask (0 block, 1 unblock, 2 set); the old one. */
uint64_t mask(int how, uint64_t set);
/* All that a handler may look at. */
void note_all(int number, const struct tl_siginfo *info, const struct tl_context *context);

/* Code; see broker_sites.S. */
uint64_t subject_load(const uint64_t *from), subject_load_own(void), subject_divide(const uint64_t *divisor),
    subject_undefined(void), subject_plain(uint64_t x), subject_call(uint64_t x), subject_own(void),
    subject_foreign(void), subject_stepped(uint64_t x), subject_call_through(uint64_t (*const *function)(uint64_t));
int64_t subject_syscall(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f);
void subject_restorer(void), subject_guarded_restorer(void);
extern char site_load[], site_load_own[], site_divide[], site_undefined[], site_plain[], site_call[],
    site_call_through[], site_own[], site_stepped[], behind_load[], behind_load_own[], behind_plain[], behind_divide[],
    behind_undefined[], behind_own[], behind_foreign[], behind_stepped[], behind_syscall[];
extern uint64_t subject_page[1024];

#endif
