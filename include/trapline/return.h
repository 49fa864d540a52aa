/* SPDX-License-Identifier: MIT
 *
 * Return probes: a handler for a function's entry and one for its return, with data of yours for each call.
 *
 * Normally the exits of the function are probed, each ret and each jump that leaves it, and calls are told apart by the
 * stack pointer. The stack is never touched, so exceptions, longjmp, coroutines and backtraces go on as without.
 * With TL_RETURN_REWRITE the return address of each call is replaced instead: that works where exits are not known, but
 * backtraces through the function break off, and exceptions through it end the program. Frames that longjmp left are
 * noticed, and given up, at the next call of the same thread.
 *
 * What probe.h says of structs, handlers and threads holds here too.
 */
#ifndef TRAPLINE_RETURN_H
#define TRAPLINE_RETURN_H

#include "trapline/probe.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct tl_return_probe;

/* One call that is followed. */
struct tl_return_instance {
    struct tl_return_probe *probe;
    void *data;           /* data_size bytes of this call's own, aligned to 16; undefined at entry */
    uint64_t return_to;   /* the return address */
    uint32_t value_known; /* at return: 0 where the function ends by a jump to another one, which will return for it:
                             rax is not yet the value, and changing it has no effect on that */
    uint32_t reserved;
};

/* At the entry. Non-zero: do not follow this call (it is not missed either). regs may be changed. */
typedef int tl_return_entry(struct tl_return_instance *instance, struct tl_regs *regs);
/* At the return, before the ret is executed (behind it, with TL_RETURN_REWRITE). regs may be changed:
 * tl_regs_set_return_value. */
typedef void tl_return_handler(struct tl_return_instance *instance, struct tl_regs *regs);

enum {
    TL_RETURN_DISABLED = TL_PROBE_DISABLED,
    TL_RETURN_GENERAL = TL_PROBE_GENERAL,
    TL_RETURN_OWN_STACK = TL_PROBE_OWN_STACK,
    TL_RETURN_INT3 = TL_PROBE_INT3,
    TL_RETURN_JUMP = TL_PROBE_JUMP,
    TL_RETURN_REWRITE = 1 << 8 /* replace return addresses */
};
enum { TL_RETURN_ACTIVE_DEFAULT = 256, TL_RETURN_ACTIVE_MAX = 1 << 20, TL_RETURN_DATA_MAX = 4096 };

struct tl_return_probe {
    size_t size;    /* sizeof(struct tl_return_probe) */
    uint64_t flags; /* TL_RETURN_… */
    void *address;  /* as in struct tl_probe; it has to be the first instruction of a function */
    const char *symbol;
    const char *module;
    uint64_t offset;
    tl_return_entry *entry;     /* may be NULL */
    tl_return_handler *handler; /* may not */
    size_t data_size;           /* bytes for each call, at most TL_RETURN_DATA_MAX; 0: none */
    uint32_t max_active; /* calls followed at one time, in all threads; 0: TL_RETURN_ACTIVE_DEFAULT. A call beyond
                            that is missed. At most TL_RETURN_ACTIVE_MAX */
    uint32_t reserved;   /* 0 */
    void *context;       /* yours */
};

/* As tl_probe_register and so on; moreover
 *   -EINVAL    data_size or max_active too large
 *   -EILSEQ    not the first instruction of a function
 *   -ENOTSUP   the function's exits are not known, or one of them cannot be probed (TL_RETURN_REWRITE may help)
 * A call that is under way at registration has no entry and is not followed. Calls under way at tl_return_probe_disable
 * or tl_return_probe_unregister are given up. */
int tl_return_probe_register(struct tl_return_probe *probe, struct tl_error *error);
int tl_return_probe_unregister(struct tl_return_probe *probe);
int tl_return_probes_register(struct tl_return_probe *const *probes, size_t count, size_t *failed,
                              struct tl_error *error);
int tl_return_probes_unregister(struct tl_return_probe *const *probes, size_t count, size_t *failed);
int tl_return_probe_enable(struct tl_return_probe *probe);
int tl_return_probe_disable(struct tl_return_probe *probe);

/* Calls that were not followed, and returns that were not reported, because a handler ran on the thread already or
 * max_active was reached. 0, -ENOENT, -EDEADLK. */
int tl_return_probe_missed(const struct tl_return_probe *probe, uint64_t *missed);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
