/* SPDX-License-Identifier: MIT
 *
 * What runs on hits, beside the runtime: built for general registers only, as that is.
 */
#include <errno.h>

#include "engine.h"
#include "hit/broker.h"
#include "hit/confine.h"
#include "hit/emulate.h"

uint64_t onhit_fs_base(void)
{
    uint64_t base;
    __asm__("mov %%fs:0, %0" : "=r"(base)); /* in every thread of the C libraries */
    return base;
}

_Static_assert(sizeof(struct tl_regs) == sizeof(struct tl_hit_regs), "the same by two names");

int onhit_emulate(const struct tl_emulation *emulation, struct tl_regs *regs)
{
    return tl_emulate(emulation, (struct tl_hit_regs *)regs);
}

/* A jump that may leave the function or not, at an exit: executed here if it stays inside, so that the actions behind
 * see only jumps that leave. */
int stay_inside(struct tl_probe *probe, struct tl_regs *regs)
{
    const struct stay *stay = probe->context;
    struct tl_regs after = *regs;
    if (onhit_emulate(&stay->emulation, &after))
        return 0; /* it faults: let the program's own instruction do so */
    bool inside = after.rip == stay->emulation.next;
    for (unsigned i = 0; i < stay->part_count; i++)
        inside = inside || after.rip - stay->parts[i].addr < stay->parts[i].size;
    if (inside)
        *regs = after;
    return inside;
}

/* Whether the program, if it has confined itself, allows us this system call. */
static bool may_call(uint64_t number)
{
    uint64_t forbidden = engine.traps ? tl_self_broker(engine.self)->forbidden : 0;
    switch (number) {
#define IS_FORBIDDEN(name, its_number)                                                                                 \
    case its_number:                                                                                                   \
        return !(forbidden >> TL_OWN_##name & 1);
        TL_OWN_CALLS(IS_FORBIDDEN)
#undef IS_FORBIDDEN
    default:
        return true;
    }
}

bool onhit_read(uint64_t addr, uint64_t *word)
{
    enum { PROCESS_VM_READV = 310 };
    return may_call(PROCESS_VM_READV) && tl_self_read(engine.self, addr, word, sizeof *word) == 0;
}

bool onhit_peek(uint64_t addr, uint64_t *word)
{
    if (engine.traps && tl_broker_may_load(tl_self_broker(engine.self), onhit_fs_base(), true))
        return tl_fault_load(addr, word);
    return onhit_read(addr, word);
}

int64_t onhit_kernel(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return may_call(number) ? tl_self_call((long)number, (long)a, (long)b, (long)c, (long)d, 0, 0) : -EPERM;
}

void onhit_watch_alternate(uint64_t *end)
{
    if (engine.traps)
        tl_broker_watch_stack(tl_self_broker(engine.self), onhit_fs_base(), end);
}
