/* SPDX-License-Identifier: MIT
 *
 * The order is what keeps the target able to run on at every instant: what a jump leads to is there before the jump,
 * and stays until no thread can come from it any more.
 *
 *   apply:  fill the pool, stop, map code and gates, set the gates, patch guards, arm, patch the rest, resume
 *   remove: stop, un-patch all but guards, move threads out of copies, and, once none is left inside, disarm, un-patch
 *           guards, unmap, resume
 *
 * On removal the gates are closed with the text, so that threads that are still in a hook leave it without entering the
 * runtime.
 *
 * As long as the broker is armed its guards are there: without them the program would be told of the kernel's actions
 * and masks, which are the broker's. So guards come first and go last, and arming wakes them all at once; they rely on
 * the program's own bytes only.
 * Breakpoints come last and go first: what a program learns of its signals in the moment until nobody is inside is
 * rarely wrong, and a breakpoint would be fatal. One that a jump below runs into comes and goes with that.
 */
#include "probe/apply.h"

#include "base/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE = 4096, BREAKPOINT = 0xcc, ARM_TRIES = 50 };

static size_t round_up(size_t value)
{
    return (value + PAGE - 1) & ~(size_t)(PAGE - 1);
}

size_t tl_apply_pool_size(const struct tl_plan *plan, const struct tl_runtime *runtime)
{
    return round_up(plan->pool_size) + round_up(runtime->size) + round_up(runtime->data_size);
}

static const struct tl_site *site_at(const struct tl_applied *applied, uint64_t addr)
{
    size_t upto = tl_array_upto(applied->sites, applied->site_count, sizeof *applied->sites,
                                offsetof(struct tl_site, addr), addr);
    return upto && applied->sites[upto - 1].addr == addr ? &applied->sites[upto - 1] : NULL;
}

/* When it comes: late ones (they go late) are the first. */
enum turn { LATE, WITH_PROBES, BREAKPOINTS };

/* Writes come from the highest address down: what one runs into has had its turn decided, or changed, before. */
static void take_turns(const struct tl_applied *applied, enum turn *turns)
{
    const struct tl_plan *plan = applied->plan;
    for (size_t i = 0; i < plan->write_count; i++) {
        const struct tl_plan_write *write = &plan->writes[i];
        const struct tl_site *site = site_at(applied, write->addr);
        bool breakpoint = write->length == 1 && write->new_bytes[0] == BREAKPOINT;
        bool guard = site && site->guard != TL_GUARD_NONE; /* these rely on nobody's bytes */
        uint8_t reach = site && !guard && site->jump_length > write->length ? site->jump_length : write->length;
        turns[i] = breakpoint ? BREAKPOINTS : guard ? LATE : WITH_PROBES;
        for (size_t k = i; k-- > 0 && plan->writes[k].addr < write->addr + reach;) {
            if (turns[k] == BREAKPOINTS)
                turns[k] = WITH_PROBES;
            if (turns[k] != LATE)
                turns[i] = WITH_PROBES;
        }
    }
}

static int order_patches(struct tl_applied *applied)
{
    const struct tl_plan *plan = applied->plan;
    enum turn *turns = calloc(plan->write_count + 1, sizeof *turns);
    if (!turns)
        return -ENOMEM;
    take_turns(applied, turns);
    struct tl_patch *patch = applied->patches;
    for (unsigned turn = LATE; turn <= BREAKPOINTS; turn++) {
        for (size_t i = 0; i < plan->write_count; i++) {
            const struct tl_plan_write *write = &plan->writes[i];
            if (turns[i] != turn)
                continue;
            patch->addr = write->addr;
            patch->length = write->length;
            patch->late = turn == LATE;
            memcpy(patch->expect, write->old_bytes, write->length);
            memcpy(patch->bytes, write->new_bytes, write->length);
            applied->late_count += turn == LATE;
            patch++;
        }
    }
    applied->patch_count = plan->write_count;
    free(turns);
    return 0;
}

static int prepare(struct tl_applied *applied, const struct tl_runtime *runtime)
{
    const struct tl_plan *plan = applied->plan;
    applied->mappings = calloc(plan->map_count + plan->gate_count + 3, sizeof *applied->mappings);
    applied->patches = calloc(plan->write_count ? plan->write_count : 1, sizeof *applied->patches);
    if (!applied->mappings || !applied->patches)
        return -ENOMEM;
    struct tl_mapping *mapping = applied->mappings;
    size_t pool = round_up(plan->pool_size), size = round_up(runtime->size);
    *mapping++ = (struct tl_mapping){runtime->addr, size, pool, TL_MAPPING_CODE};
    if (runtime->data_size) {
        *mapping++ =
            (struct tl_mapping){runtime->data_addr, round_up(runtime->data_size), pool + size, TL_MAPPING_DATA};
        *mapping++ = (struct tl_mapping){runtime->marker_addr, PAGE, 0, TL_MAPPING_GATE};
    }
    for (size_t i = 0; i < plan->gate_count; i++)
        *mapping++ = (struct tl_mapping){plan->gates[i].addr, PAGE, 0, TL_MAPPING_GATE};
    for (size_t i = 0; i < plan->map_count; i++)
        *mapping++ = (struct tl_mapping){plan->maps[i].addr, plan->maps[i].size, plan->maps[i].pool, TL_MAPPING_CODE};
    applied->mapping_count = (size_t)(mapping - applied->mappings);
    applied->runtime_addr = runtime->addr;
    applied->runtime_size = size;
    return order_patches(applied);
}

/* Store the gate's words, or zeros, into every gate page. */
static int set_gates(const struct tl_applied *applied, const struct tl_gate *gate)
{
    for (size_t i = 0; i < applied->plan->gate_count; i++) {
        uint64_t words[sizeof *gate / sizeof(uint64_t)];
        memcpy(words, gate, sizeof words);
        for (size_t k = 0; k < sizeof words / sizeof *words; k++) {
            int error =
                applied->port->set(applied->port->host, applied->plan->gates[i].addr + k * sizeof *words, words[k]);
            if (error)
                return error;
        }
    }
    return 0;
}

/* For port->evacuate, before anything is in place: behind the instruction that a guard's jump will take, and not yet
 * through with the system call that it is for. */
static int is_behind_lead(void *context, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    const struct tl_applied *applied = context;
    size_t upto = tl_array_upto(applied->sites, applied->site_count, sizeof *applied->sites,
                                offsetof(struct tl_site, addr), pc - 1);
    const struct tl_site *site = upto ? &applied->sites[upto - 1] : NULL;
    (void)original, (void)fix_rcx;
    return site && site->guard && pc - site->addr - 1 < site->guard_at ? -EAGAIN : -ENOENT;
}

static bool has_leads(const struct tl_applied *applied)
{
    for (size_t i = 0; i < applied->site_count; i++)
        if (applied->sites[i].guard_at && applied->sites[i].why == TL_WHY_NONE)
            return true;
    return false;
}

static struct tl_patch undo_of(const struct tl_patch *patch)
{
    struct tl_patch undo = {.addr = patch->addr, .length = patch->length, .late = patch->late};
    memcpy(undo.expect, patch->bytes, patch->length);
    memcpy(undo.bytes, patch->expect, patch->length);
    return undo;
}

/* What takes these back, from the last to the first; NULL without memory. */
static struct tl_patch *undo_all(const struct tl_patch *patches, size_t count)
{
    struct tl_patch *undo = calloc(count + 1, sizeof *undo);
    for (size_t i = 0; i < count && undo; i++)
        undo[i] = undo_of(&patches[count - 1 - i]);
    return undo;
}

/* All or nothing. */
static int place_text(struct tl_applied *applied, const struct tl_runtime *runtime)
{
    const struct tl_port *port = applied->port;
    struct tl_patch *patches = applied->patches;
    size_t guards = applied->late_count;
    struct tl_patch *undo = undo_all(patches, guards);
    int error = undo ? 0 : -ENOMEM;
    if (!error && guards)
        error = port->patch(port->host, patches, guards);
    if (error) {
        free(undo);
        return error;
    }
    if (runtime->data_size)
        error = port->arm(port->host, runtime->data_addr);
    if (!error) {
        error = port->patch(port->host, patches + guards, applied->patch_count - guards);
        if (error && runtime->data_size)
            port->disarm(port->host);
    }
    if (error && guards)
        port->patch(port->host, undo, guards);
    free(undo);
    return error;
}

static int place(struct tl_applied *applied, const struct tl_runtime *runtime)
{
    const struct tl_port *port = applied->port;
    bool looks = runtime->data_size && has_leads(applied);
    int error = looks ? port->evacuate(port->host, is_behind_lead, applied) : 0;
    if (error)
        return error;
    error = port->map(port->host, applied->mappings, applied->mapping_count);
    if (error)
        return error;
    error = set_gates(applied, &runtime->gate);
    if (!error && runtime->data_size)
        error = port->set(port->host, runtime->marker_addr, 1);
    if (!error)
        error = place_text(applied, runtime);
    if (error)
        port->unmap(port->host, applied->mappings, applied->mapping_count);
    else if (runtime->then)
        runtime->then(runtime->then_context);
    return error;
}

static void pause_ms(unsigned ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* Another tracer's turn may pass, or has just passed (EPERM), as a busy machine's moment does: another tool that only
 * looks whether the program is free. */
static bool may_pass(int error)
{
    return error == -EBUSY || error == -EPERM;
}

/* Nobody stays for long between a guard's jump and its system call, unless a signal handler does that came there. */
static int place_patiently(struct tl_applied *applied, const struct tl_runtime *runtime)
{
    const struct tl_port *port = applied->port;
    for (unsigned tries = 0;; tries++) {
        int error = port->stop(port->host);
        bool is_stopped = error == 0;
        if (is_stopped) {
            error = place(applied, runtime);
            port->resume(port->host);
        }
        if (is_stopped ? error != -EAGAIN : !may_pass(error) || tries == ARM_TRIES)
            return error;
        if (tries == ARM_TRIES)
            return -ENOSYS;
        pause_ms(1 + tries / 8);
    }
}

int tl_apply(const struct tl_port *port, const struct tl_site *sites, size_t site_count, const struct tl_plan *plan,
             const struct tl_runtime *runtime, struct tl_applied *applied)
{
    memset(applied, 0, sizeof *applied);
    applied->port = port;
    applied->sites = sites;
    applied->site_count = site_count;
    applied->plan = plan;
    int error = prepare(applied, runtime);
    if (!error && plan->pool_size)
        error = port->fill(port->host, 0, plan->pool, plan->pool_size);
    if (!error)
        error = port->fill(port->host, round_up(plan->pool_size), runtime->code, runtime->size);
    if (!error && runtime->data_size)
        error = port->fill(port->host, round_up(plan->pool_size) + round_up(runtime->size), runtime->data,
                           runtime->data_size);
    if (!error)
        error = place_patiently(applied, runtime);
    if (error)
        tl_applied_free(applied);
    return error;
}

/* For port->evacuate: where does a program counter in our memory belong? */
static int locate(void *context, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    const struct tl_applied *applied = context;
    if (pc - applied->runtime_addr < applied->runtime_size)
        return -EAGAIN;
    return tl_plan_locate(applied->sites, applied->site_count, applied->plan, pc, original, fix_rcx);
}

/* One patch, where all at once were refused because somebody else has changed something. A breakpoint on the first byte
 * is left where it is (its owner has the program's byte and will put it back), the bytes behind it are restored. */
static int restore_one(const struct tl_port *port, const struct tl_patch *patch)
{
    struct tl_patch undo = undo_of(patch);
    uint8_t now[sizeof undo.bytes];
    int error = port->read(port->host, undo.addr, now, undo.length);
    if (error)
        return error == -EFAULT ? 0 : error; /* unloaded: there is nothing to put back */
    size_t from = now[0] == BREAKPOINT && undo.expect[0] != BREAKPOINT ? 1 : 0;
    if (!memcmp(now + from, undo.bytes + from, undo.length - from))
        return 0;
    if (from) {
        undo.addr++;
        undo.length--;
        memmove(undo.expect, undo.expect + 1, undo.length);
        memmove(undo.bytes, undo.bytes + 1, undo.length);
    }
    return port->patch(port->host, &undo, 1);
}

/* Put back what can be put back, from the last patch to the one with index `first`. applied->patches keeps what could
 * not: -EBUSY then. */
static int restore_text(struct tl_applied *applied, size_t first)
{
    const struct tl_port *port = applied->port;
    size_t count = applied->patch_count - first;
    if (!count)
        return 0;
    struct tl_patch *undo = undo_all(applied->patches + first, count);
    if (!undo)
        return -ENOMEM;
    int error = port->patch(port->host, undo, count);
    free(undo);
    if (error == -EBUSY || error == -EFAULT) {
        size_t kept = applied->patch_count, left = 0;
        error = 0;
        while (kept-- > first) {
            int failed = restore_one(port, &applied->patches[kept]);
            if (failed && failed != -EBUSY)
                return failed;
            /* Those left are collected at the end, in their order. */
            if (failed)
                memmove(&applied->patches[applied->patch_count - ++left], &applied->patches[kept],
                        sizeof *applied->patches);
        }
        memmove(&applied->patches[first], &applied->patches[applied->patch_count - left],
                left * sizeof *applied->patches);
        applied->patch_count = first + left;
        return left ? -EBUSY : 0;
    }
    if (!error)
        applied->patch_count = first;
    return error;
}

/* Nobody is inside. */
static int take_back_guards(struct tl_applied *applied)
{
    const struct tl_port *port = applied->port;
    int error = port->disarm ? port->disarm(port->host) : 0;
    if (error == -EAGAIN)
        return error;
    /* Where the kernel's actions cannot be had back, the guards are dormant nevertheless. */
    int text = restore_text(applied, 0);
    applied->late_count = applied->patch_count;
    return error ? error : text;
}

static int try_to_remove(struct tl_applied *applied)
{
    const struct tl_port *port = applied->port;
    static const struct tl_gate closed;
    int error = port->stop(port->host);
    if (error)
        return may_pass(error) ? -EAGAIN : error;
    error = restore_text(applied, applied->late_count);
    if (!error || error == -EBUSY) {
        int gates = set_gates(applied, &closed);
        error = error ? error : gates;
    }
    if (!error)
        error = port->evacuate(port->host, locate, applied);
    if (!error)
        error = take_back_guards(applied);
    if (!error)
        error = port->unmap(port->host, applied->mappings, applied->mapping_count);
    port->resume(port->host);
    return error;
}

/* A program that faults all the time is inside of us most of the time: what counts there is how often one looks. */
int tl_apply_remove(struct tl_applied *applied, unsigned patience_ms)
{
    for (unsigned waited = 0, wait = 1;; waited += wait, wait = wait < 8 ? wait * 2 : wait) {
        int error = try_to_remove(applied);
        if (error != -EAGAIN || waited >= patience_ms)
            return error;
        pause_ms(wait);
    }
}

void tl_applied_free(struct tl_applied *applied)
{
    free(applied->mappings);
    free(applied->patches);
    memset(applied, 0, sizeof *applied);
}
