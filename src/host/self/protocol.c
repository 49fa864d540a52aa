/* SPDX-License-Identifier: MIT
 *
 * Changing code that others execute.
 *
 * What a processor fetches, after another one has written and before it was made to synchronise, is any mixture of old
 * and new bytes, but a single byte is old or new. So where more than one byte of an instruction changes
 *
 *   1. a breakpoint goes onto its first byte;             wait until every thread must see it
 *   2. the bytes behind the first change;                 wait again
 *   3. the first byte gets its final value;               and wait, so that the call's end means something
 *
 * A thread that comes by meanwhile takes the breakpoint, and the broker leads it where it belongs. A whole batch shares
 * the three waits. An instruction of which only the first byte changes needs no breakpoint.
 *
 * One thing makes a batch more than many single changes. A punned jump has bytes of the instructions behind it as part
 * of its operand, and these may be changed in the same batch. Such a jump may not be executed before they have their
 * final values, and no longer be executed when they begin to change. So changes have ranks: one that executes others'
 * bytes ranks above them. Where ranks differ, step 1 goes from the highest to the lowest rank as of the bytes before,
 * step 3 from the lowest to the highest as of the bytes after, and there is a wait between ranks. (A change that
 * others depend on, or that depends on others, always takes its breakpoint.)
 *
 * Taking back is the same with before and after exchanged. It starts from any point of the above, so step 1 goes by the
 * ranks of both sides together. What fails on the way back is passed over: every place that can be restored is.
 */
#include "host/self/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, BREAKPOINT = 0xcc, JUMP = 0xe9, JUMP_BYTES = 5 };

static bool is_prefix(uint8_t byte)
{
    return (byte >= 0x40 && byte <= 0x4f) || (byte & 0xe7) == 0x26 || (byte >= 0x64 && byte <= 0x67) || byte == 0xf0 ||
           byte == 0xf2 || byte == 0xf3;
}

/* How many bytes the instruction has that stands at a place with these first bytes. Only a jump of ours can be longer
 * than what was changed for it. */
static unsigned reach(const uint8_t *bytes, unsigned length)
{
    unsigned at = 0;
    while (at < length && is_prefix(bytes[at]))
        at++;
    if (at == length || (bytes[at] == JUMP && at + JUMP_BYTES > length))
        return at + JUMP_BYTES;
    return length;
}

static int by_addr(const void *a, const void *b)
{
    const struct tl_change *x = a, *y = b;
    return x->patch->addr < y->patch->addr ? -1 : x->patch->addr > y->patch->addr;
}

/* Ranks, from the highest address down: whatever a change depends on lies above it. */
static void rank(struct tl_change *changes, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        struct tl_change *c = &changes[i];
        const struct tl_patch *p = c->patch;
        uint64_t before = p->addr + reach(p->expect, p->length), after = p->addr + reach(p->bytes, p->length);
        c->before = c->after = c->either = 0;
        c->trapped = p->length > 1 && memcmp(p->expect + 1, p->bytes + 1, p->length - 1) != 0;
        for (size_t j = i + 1; j < count; j++) {
            uint64_t addr = changes[j].patch->addr;
            if (addr >= before && addr >= after)
                break;
            if (addr < before && changes[j].before >= c->before)
                c->before = changes[j].before + 1;
            if (addr < after && changes[j].after >= c->after)
                c->after = changes[j].after + 1;
            if (changes[j].either >= c->either)
                c->either = changes[j].either + 1;
            c->trapped = true;
        }
    }
}

int tl_protocol_prepare(struct tl_change *changes, size_t count)
{
    bool in_order = true;
    for (size_t i = 1; i < count && in_order; i++)
        in_order = by_addr(&changes[i - 1], &changes[i]) <= 0;
    if (!in_order)
        qsort(changes, count, sizeof *changes, by_addr);
    for (size_t i = 0; i < count; i++) {
        const struct tl_patch *p = changes[i].patch;
        if (p->length < 1 || p->length > sizeof p->bytes || p->addr % PAGE + p->length > PAGE)
            return -EINVAL;
        if (i + 1 < count && changes[i + 1].patch->addr - p->addr < p->length)
            return -EINVAL;
    }
    rank(changes, count);
    return 0;
}

struct run {
    const struct tl_change *changes;
    size_t count;
    const struct tl_change_port *port;
    void *context;
    bool back;  /* from the bytes after to the bytes before */
    bool dirty; /* something was written since the last barrier */
};

static const uint8_t *from_bytes(const struct run *run, const struct tl_change *c)
{
    return run->back ? c->patch->bytes : c->patch->expect;
}

static const uint8_t *to_bytes(const struct run *run, const struct tl_change *c)
{
    return run->back ? c->patch->expect : c->patch->bytes;
}

static uint32_t from_rank(const struct run *run, const struct tl_change *c)
{
    return run->back ? c->either : c->before;
}

static uint32_t to_rank(const struct run *run, const struct tl_change *c)
{
    return run->back ? c->before : c->after;
}

static int put(struct run *run, uint64_t addr, const uint8_t *bytes, size_t length)
{
    run->dirty = true;
    int result = run->port->write(run->context, addr, bytes, length);
    return run->back ? 0 : result;
}

static int barrier(struct run *run)
{
    if (!run->dirty)
        return 0;
    run->dirty = false;
    int result = run->port->barrier(run->context);
    return run->back ? 0 : result;
}

static uint32_t highest(const struct run *run, uint32_t (*rank_of)(const struct run *, const struct tl_change *))
{
    uint32_t most = 0;
    for (size_t i = 0; i < run->count; i++) {
        uint32_t r = rank_of(run, &run->changes[i]);
        most = r > most ? r : most;
    }
    return most;
}

static int put_traps(struct run *run)
{
    static const uint8_t breakpoint = BREAKPOINT;
    for (uint32_t r = highest(run, from_rank) + 1; r-- > 0;) {
        for (size_t i = 0; i < run->count; i++) {
            const struct tl_change *c = &run->changes[i];
            if (!c->trapped || from_rank(run, c) != r || (from_bytes(run, c)[0] == BREAKPOINT && !run->back))
                continue;
            int result = put(run, c->patch->addr, &breakpoint, 1);
            if (result)
                return result;
        }
        int result = barrier(run);
        if (result)
            return result;
    }
    return 0;
}

static int put_tails(struct run *run)
{
    for (size_t i = 0; i < run->count; i++) {
        const struct tl_change *c = &run->changes[i];
        const struct tl_patch *p = c->patch;
        if (p->length == 1 || memcmp(p->expect + 1, p->bytes + 1, p->length - 1u) == 0)
            continue;
        int result = put(run, p->addr + 1, to_bytes(run, c) + 1, p->length - 1u);
        if (result)
            return result;
    }
    return barrier(run);
}

static int put_heads(struct run *run)
{
    uint32_t ranks = highest(run, to_rank) + 1;
    for (uint32_t r = 0; r < ranks; r++) {
        for (size_t i = 0; i < run->count; i++) {
            const struct tl_change *c = &run->changes[i];
            if (to_rank(run, c) != r)
                continue;
            int result = put(run, c->patch->addr, to_bytes(run, c), 1);
            if (result)
                return result;
        }
        int result = barrier(run);
        if (result)
            return result;
    }
    return 0;
}

static int change(struct run *run)
{
    int result = put_traps(run);
    if (result == 0)
        result = put_tails(run);
    return result ? result : put_heads(run);
}

int tl_protocol_run(const struct tl_change *changes, size_t count, const struct tl_change_port *port, void *context)
{
    struct run run = {.changes = changes, .count = count, .port = port, .context = context};
    int result = change(&run);
    if (result) {
        run.back = run.dirty = true; /* the barrier that failed is still owed */
        change(&run);
    }
    return result;
}

int tl_protocol_run_stopped(const struct tl_change *changes, size_t count, const struct tl_change_port *port,
                            void *context)
{
    for (size_t i = 0; i < count; i++) {
        const struct tl_patch *p = changes[i].patch;
        int result = port->write(context, p->addr, p->bytes, p->length);
        if (result == 0)
            continue;
        for (size_t j = i + 1; j-- > 0;)
            port->write(context, changes[j].patch->addr, changes[j].patch->expect, changes[j].patch->length);
        return result;
    }
    return 0;
}
