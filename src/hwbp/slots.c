/* SPDX-License-Identifier: MIT
 *
 * The rules of slots.h in constant time, but where a request names a CPU.
 *
 * Each rule asks for a maximum: over the CPUs of what is pinned there, or over the tasks of what they hold. Both are
 * small numbers, so they are kept as histograms: at[n] owners hold n + 1 slots, and the maximum is the highest n that
 * is not 0.
 *
 *   cpus_pinned   the CPUs by C(c)
 *   anywhere      the tasks of which no request names a CPU, by T(t, any): once for all CPUs, in each shard
 *   cpu[c].tasks  the other tasks by T(t,c)
 *
 * A task moves from `anywhere` to the histograms of all CPUs with its first request that names a CPU, and back with the
 * last: that is the one thing that takes time in proportion to the number of CPUs.
 *
 * Locking. Tasks are spread over shards, each with a lock, a table, and a histogram of its tasks. A request of a task
 * for any CPU holds the lock of its shard and changes nothing beyond it (but, where the task has other requests that
 * name a CPU, the histograms of CPUs, by atomic additions). What it reads beyond it changes only under all the locks,
 * which a request that names a CPU takes, in order. Two requests of different tasks for any CPU cannot spoil each
 * other's rule: none of them appears in the other's. A flexible and a pinned one could; so a flexible request takes all
 * locks as well.
 */
#include "hwbp/slots.h"

#include <errno.h>

#include "hwbp/holdings.h"

enum { SHARDS = 64, CACHE_LINE = 64 };

struct histogram {
    uint32_t at[TL_SLOTS_MAX];
};

struct cpu {
    uint32_t pinned, flexible;
    struct histogram tasks;
};

/* The accounts of one type. */
struct account {
    unsigned slots;
    struct histogram cpus_pinned;
    uint32_t flexible_on_cpus; /* the sum of cpu[].flexible */
    struct cpu *cpu;
    uint32_t flexible_anywhere;
};

struct shard {
    uint32_t locked;
    struct tl_holdings tasks;
    struct histogram anywhere[TL_SLOT_TYPES];
} __attribute__((aligned(CACHE_LINE)));

struct tl_slots_state {
    struct tl_slots_host host;
    unsigned cpus;
    bool shared;
    struct shard shards[SHARDS];
    struct account accounts[TL_SLOT_TYPES];
    void *memory;
    size_t bytes;
};

/* ---- histograms ---- */

/* The highest number of slots that an owner holds, of `slots`. */
static unsigned highest(const struct histogram *histogram, unsigned slots)
{
    for (unsigned n = slots; n; n--)
        if (__atomic_load_n(&histogram->at[n - 1], __ATOMIC_RELAXED))
            return n;
    return 0;
}

/* An owner held `from` slots and holds `to` now. */
static void move(struct histogram *histogram, unsigned from, unsigned to)
{
    if (from)
        histogram->at[from - 1]--;
    if (to)
        histogram->at[to - 1]++;
}

/* The same for a histogram that others may change at the same time. */
static void move_shared(struct histogram *histogram, unsigned from, unsigned to)
{
    if (from == to)
        return;
    if (from)
        __atomic_fetch_sub(&histogram->at[from - 1], 1, __ATOMIC_RELAXED);
    if (to)
        __atomic_fetch_add(&histogram->at[to - 1], 1, __ATOMIC_RELAXED);
}

/* ---- locks ---- */

static bool lock_one(struct tl_slots_state *state, struct shard *shard, bool no_wait)
{
    while (__atomic_exchange_n(&shard->locked, 1, __ATOMIC_ACQUIRE)) {
        if (no_wait)
            return false;
        if (state->host.relax)
            state->host.relax(state->host.context);
        else
            __builtin_ia32_pause();
    }
    return true;
}

static void unlock_one(struct shard *shard)
{
    __atomic_store_n(&shard->locked, 0, __ATOMIC_RELEASE);
}

static struct shard *shard_of(struct tl_slots_state *state, uint64_t task)
{
    return &state->shards[tl_holdings_hash(task) >> 32 & (SHARDS - 1)];
}

static bool is_wide(const struct tl_slot_request *request)
{
    return request->cpu != TL_ANY_CPU || request->flexible;
}

/* Hold what the request needs, all of it if `all`: 0 or -EBUSY. */
static int lock(struct tl_slots_state *state, const struct tl_slot_request *request, bool all)
{
    if (!all)
        return lock_one(state, shard_of(state, request->task), request->no_wait) ? 0 : -EBUSY;
    for (unsigned i = 0; i < SHARDS; i++)
        if (!lock_one(state, &state->shards[i], request->no_wait)) {
            while (i--)
                unlock_one(&state->shards[i]);
            return -EBUSY;
        }
    return 0;
}

static void unlock(struct tl_slots_state *state, const struct tl_slot_request *request, bool all)
{
    if (!all)
        unlock_one(shard_of(state, request->task));
    for (unsigned i = 0; all && i < SHARDS; i++)
        unlock_one(&state->shards[i]);
}

/* ---- the rules ---- */

static struct account *account_of(struct tl_slots_state *state, enum tl_slot_type type)
{
    return &state->accounts[state->shared ? TL_SLOT_DATA : type];
}

static unsigned type_of(const struct tl_slots_state *state, enum tl_slot_type type)
{
    return state->shared ? TL_SLOT_DATA : type;
}

/* T(t,c) */
static unsigned held_on(const struct tl_slots_state *state, const struct tl_holding *holding, unsigned type,
                        unsigned cpu)
{
    if (!holding)
        return 0;
    return holding->anywhere[type] + (holding->on_cpu ? holding->on_cpu[type * state->cpus + cpu] : 0u);
}

static struct tl_holding *find(struct tl_slots_state *state, uint64_t task)
{
    return task ? tl_holdings_find(&shard_of(state, task)->tasks, task) : NULL;
}

/* The most that a task of which no request names a CPU holds. With all locks held. */
static unsigned most_anywhere(const struct tl_slots_state *state, unsigned type, unsigned slots)
{
    unsigned most = 0;
    for (unsigned i = 0; i < SHARDS && most < slots; i++) {
        unsigned held = highest(&state->shards[i].anywhere[type], slots);
        most = held > most ? held : most;
    }
    return most;
}

/* What the rules add w to. */
static unsigned busy(struct tl_slots_state *state, const struct tl_slot_request *request,
                     const struct tl_holding *holding)
{
    const struct account *account = account_of(state, request->type);
    unsigned type = type_of(state, request->type);
    if (!request->task) {
        const struct cpu *cpu = &account->cpu[request->cpu];
        unsigned bound = highest(&cpu->tasks, account->slots), free = most_anywhere(state, type, account->slots);
        return cpu->pinned + (bound > free ? bound : free);
    }
    if (request->cpu != TL_ANY_CPU)
        return account->cpu[request->cpu].pinned + held_on(state, holding, type, (unsigned)request->cpu);
    if (!holding || !holding->on_cpu)
        return highest(&account->cpus_pinned, account->slots) + (holding ? holding->anywhere[type] : 0u);
    unsigned most = 0;
    for (unsigned c = 0; c < state->cpus; c++) {
        unsigned sum = account->cpu[c].pinned + held_on(state, holding, type, c);
        most = sum > most ? sum : most;
    }
    return most;
}

/* Whether a flexible request wants a slot on a CPU that this request is about. */
static bool flexible_present(const struct account *account, const struct tl_slot_request *request)
{
    if (account->flexible_anywhere)
        return true;
    return request->cpu == TL_ANY_CPU ? account->flexible_on_cpus : account->cpu[request->cpu].flexible;
}

/* The rule for a request, where pinned ones may use `slots`. */
static bool fits(struct tl_slots_state *state, const struct tl_slot_request *request, const struct tl_holding *holding,
                 unsigned slots)
{
    unsigned taken = busy(state, request, holding);
    unsigned weight = request->flexible ? 1 : request->weight;
    return request->weight <= slots && taken <= slots - weight;
}

static bool admitted(struct tl_slots_state *state, const struct tl_slot_request *request,
                     const struct tl_holding *holding)
{
    const struct account *account = account_of(state, request->type);
    return fits(state, request, holding, account->slots - (!request->flexible && flexible_present(account, request)));
}

/* ---- changes ---- */

/* The task's weights go from the histogram of its shard to those of all CPUs, or back. With all locks held. */
static void spread(struct tl_slots_state *state, const struct tl_holding *holding, bool back)
{
    struct shard *shard = shard_of(state, holding->task);
    for (unsigned type = 0; type < TL_SLOT_TYPES; type++) {
        struct account *account = &state->accounts[type];
        unsigned weight = holding->anywhere[type];
        move(&shard->anywhere[type], back ? 0 : weight, back ? weight : 0);
        for (unsigned c = 0; account->cpu && c < state->cpus; c++)
            move(&account->cpu[c].tasks, back ? weight : 0, back ? 0 : weight);
    }
}

static void add_to_task(struct tl_slots_state *state, struct tl_holding *holding, const struct tl_slot_request *request,
                        int weight)
{
    struct account *account = account_of(state, request->type);
    unsigned type = type_of(state, request->type);
    if (request->cpu == TL_ANY_CPU) {
        for (unsigned c = 0; holding->on_cpu && c < state->cpus; c++) {
            unsigned held = held_on(state, holding, type, c);
            move_shared(&account->cpu[c].tasks, held, (unsigned)((int)held + weight));
        }
        unsigned held = holding->anywhere[type];
        if (!holding->on_cpu)
            move(&shard_of(state, holding->task)->anywhere[type], held, (unsigned)((int)held + weight));
        holding->anywhere[type] = (uint16_t)((int)held + weight);
        return;
    }
    unsigned c = (unsigned)request->cpu, held = held_on(state, holding, type, c);
    move(&account->cpu[c].tasks, held, (unsigned)((int)held + weight));
    holding->on_cpu[type * state->cpus + c] = (uint16_t)(holding->on_cpu[type * state->cpus + c] + weight);
    holding->bound = (uint32_t)((int)holding->bound + weight);
}

/* Enter a request that was admitted, or (weight negative) take it out. Cannot fail: `holding` has all that it needs. */
static void add(struct tl_slots_state *state, struct tl_holding *holding, const struct tl_slot_request *request,
                int weight)
{
    struct account *account = account_of(state, request->type);
    if (request->flexible) {
        if (request->cpu == TL_ANY_CPU)
            account->flexible_anywhere += (uint32_t)weight;
        else {
            account->cpu[request->cpu].flexible += (uint32_t)weight;
            account->flexible_on_cpus += (uint32_t)weight;
        }
    } else if (request->task) {
        add_to_task(state, holding, request, weight);
    } else {
        struct cpu *cpu = &account->cpu[request->cpu];
        move(&account->cpus_pinned, cpu->pinned, (unsigned)((int)cpu->pinned + weight));
        cpu->pinned = (uint32_t)((int)cpu->pinned + weight);
    }
}

/* Give the request's task a holding where it has none, with room for the request. 0 or -ENOMEM. */
static int make_holding(struct tl_slots_state *state, const struct tl_slot_request *request,
                        struct tl_holding **holding)
{
    if (!request->task || request->flexible)
        return 0;
    if (!*holding)
        *holding = tl_holdings_add(&shard_of(state, request->task)->tasks, request->task, &state->host);
    if (!*holding)
        return -ENOMEM;
    if (request->cpu == TL_ANY_CPU || (*holding)->on_cpu)
        return 0;
    size_t count = TL_SLOT_TYPES * (size_t)state->cpus;
    uint16_t *on_cpu = state->host.allocate(state->host.context, count * sizeof *on_cpu);
    if (!on_cpu)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        on_cpu[i] = 0;
    spread(state, *holding, false);
    (*holding)->on_cpu = on_cpu;
    return 0;
}

static bool is_empty(const struct tl_holding *holding)
{
    return !holding->bound && !holding->anywhere[TL_SLOT_DATA] && !holding->anywhere[TL_SLOT_INSTRUCTION];
}

/* What a holding does not need any more goes. */
static void tidy(struct tl_slots_state *state, struct tl_holding *holding)
{
    if (!holding)
        return;
    if (holding->on_cpu && !holding->bound) {
        state->host.release(state->host.context, holding->on_cpu, TL_SLOT_TYPES * state->cpus * sizeof(uint16_t));
        holding->on_cpu = NULL;
        spread(state, holding, true);
    }
    if (is_empty(holding))
        tl_holdings_drop(&shard_of(state, holding->task)->tasks, holding);
}

/* Whether the accounts show at least what this request would have added. */
static bool is_held(struct tl_slots_state *state, const struct tl_slot_request *request,
                    const struct tl_holding *holding)
{
    const struct account *account = account_of(state, request->type);
    unsigned type = type_of(state, request->type);
    if (request->flexible)
        return request->weight <=
               (request->cpu == TL_ANY_CPU ? account->flexible_anywhere : account->cpu[request->cpu].flexible);
    if (!request->task)
        return request->weight <= account->cpu[request->cpu].pinned;
    if (!holding)
        return false;
    if (request->cpu == TL_ANY_CPU)
        return request->weight <= holding->anywhere[type];
    return holding->on_cpu && request->weight <= holding->on_cpu[type * state->cpus + (unsigned)request->cpu];
}

/* With the locks held. What a failure leaves behind of a holding is for the caller to tidy up. */
static int reserve(struct tl_slots_state *state, const struct tl_slot_request *request, struct tl_holding **holding)
{
    if (!admitted(state, request, *holding))
        return -ENOSPC;
    int error = make_holding(state, request, holding);
    if (!error)
        add(state, *holding, request, (int)request->weight);
    return error;
}

static int check(const struct tl_slots *slots, const struct tl_slot_request *request)
{
    const struct tl_slots_state *state = slots->state;
    if (!state)
        return -ENOMEM;
    if ((unsigned)request->type >= TL_SLOT_TYPES || !request->weight)
        return -EINVAL;
    if (request->cpu == TL_ANY_CPU)
        return request->task ? 0 : -EINVAL;
    return request->cpu >= 0 && (unsigned)request->cpu < state->cpus ? 0 : -EINVAL;
}

int tl_slots_reserve(struct tl_slots *slots, const struct tl_slot_request *request)
{
    int error = check(slots, request);
    bool all = is_wide(request);
    if (!error)
        error = lock(slots->state, request, all);
    if (error)
        return error;
    struct tl_holding *holding = find(slots->state, request->task);
    error = reserve(slots->state, request, &holding);
    if (error)
        tidy(slots->state, holding);
    unlock(slots->state, request, all);
    return error;
}

int tl_slots_release(struct tl_slots *slots, const struct tl_slot_request *request)
{
    int error = check(slots, request);
    if (error)
        return error == -ENOMEM ? -EINVAL : error;
    struct tl_slots_state *state = slots->state;
    bool all = is_wide(request);
    error = lock(state, request, all);
    if (error)
        return error;
    /* The last request that names a CPU takes its task back to `anywhere`: that concerns all CPUs, but such a request
     * holds all locks. */
    struct tl_holding *holding = find(state, request->task);
    if (is_held(state, request, holding)) {
        add(state, holding, request, -(int)request->weight);
        tidy(state, holding);
    } else
        error = -EINVAL;
    unlock(state, request, all);
    return error;
}

int tl_slots_modify(struct tl_slots *slots, const struct tl_slot_request *from, const struct tl_slot_request *to)
{
    int error = check(slots, to);
    if (!error)
        error = check(slots, from);
    if (error)
        return error;
    struct tl_slots_state *state = slots->state;
    bool all = from->task != to->task || is_wide(from) || is_wide(to);
    struct tl_slot_request locking = {.task = to->task, .no_wait = from->no_wait || to->no_wait};
    error = lock(state, &locking, all);
    if (error)
        return error;
    struct tl_holding *holding = find(state, from->task);
    if (!is_held(state, from, holding)) {
        unlock(state, &locking, all);
        return -EINVAL;
    }
    /* What is given up stays in its table for the moment, so that taking it back needs no memory; and it fits, since
     * nothing has been added meanwhile. (A flexible request of another task may have come after it, which keeps new
     * requests to S - 1: not one that is there already.) */
    add(state, holding, from, -(int)from->weight);
    struct tl_holding *target = find(state, to->task);
    error = reserve(state, to, &target);
    holding = find(state, from->task); /* it may have moved */
    if (error) {
        if (!fits(state, from, holding, account_of(state, from->type)->slots))
            __builtin_trap();
        add(state, holding, from, (int)from->weight);
        tidy(state, find(state, to->task));
    } else
        tidy(state, holding);
    unlock(state, &locking, all);
    return error;
}

unsigned tl_slots_left(struct tl_slots *slots, const struct tl_slot_request *request)
{
    struct tl_slot_request pinned = *request;
    pinned.weight = 1;
    pinned.flexible = pinned.no_wait = false;
    if (check(slots, &pinned))
        return 0;
    struct tl_slots_state *state = slots->state;
    bool all = is_wide(&pinned);
    lock(state, &pinned, all);
    const struct account *account = account_of(state, pinned.type);
    unsigned taken = busy(state, &pinned, find(state, pinned.task)) + flexible_present(account, &pinned);
    unlock(state, &pinned, all);
    return taken < account->slots ? account->slots - taken : 0;
}

/* ---- life ---- */

int tl_slots_init(struct tl_slots *slots, const struct tl_slots_machine *machine, const struct tl_slots_host *host)
{
    unsigned types = machine->shared ? 1 : TL_SLOT_TYPES;
    slots->state = NULL;
    if (!machine->cpus || machine->cpus > INT32_MAX)
        return -EINVAL;
    for (unsigned type = 0; type < types; type++)
        if (!machine->slots[type] || machine->slots[type] > TL_SLOTS_MAX)
            return -EINVAL;
    size_t bytes = sizeof(struct tl_slots_state) + CACHE_LINE + types * (size_t)machine->cpus * sizeof(struct cpu);
    uint8_t *memory = host->allocate(host->context, bytes);
    if (!memory)
        return -ENOMEM;
    for (size_t i = 0; i < bytes; i++)
        memory[i] = 0;
    uintptr_t start = ((uintptr_t)memory + CACHE_LINE - 1) & ~(uintptr_t)(CACHE_LINE - 1);
    struct tl_slots_state *state = (struct tl_slots_state *)start;
    state->host = *host;
    state->cpus = machine->cpus;
    state->shared = machine->shared;
    state->memory = memory;
    state->bytes = bytes;
    struct cpu *cpu = (struct cpu *)(state + 1);
    for (unsigned type = 0; type < types; type++, cpu += machine->cpus) {
        state->accounts[type].slots = machine->slots[type];
        state->accounts[type].cpu = cpu;
    }
    slots->state = state;
    return 0;
}

void tl_slots_destroy(struct tl_slots *slots)
{
    struct tl_slots_state *state = slots->state;
    slots->state = NULL;
    if (!state)
        return;
    struct tl_slots_host host = state->host;
    for (unsigned i = 0; i < SHARDS; i++)
        tl_holdings_free(&state->shards[i].tasks, state->cpus, &host);
    host.release(host.context, state->memory, state->bytes);
}
