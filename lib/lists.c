/* SPDX-License-Identifier: MIT
 *
 * What runs at a site: its users' actions, in order of registration. Exits that may be none come last, behind the
 * action that executes a jump which stays inside: its result, not 0, ends the list there.
 *
 * Each list has two pieces of memory, of which one is in force and the other is quiet. So an action can always be taken
 * out, also when no memory is left. Before an update returns, what was in force has become quiet: all threads have
 * passed a barrier, and none is in it.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

/* A probe gives two actions where its post handler runs in front of the copy; one more for `stay`. */
static size_t most_actions(size_t users)
{
    return 2 * users + 1;
}

static int reserve(struct lists *lists, size_t actions)
{
    if (actions <= lists->room || actions <= lists->larger_room)
        return 0;
    size_t size = (tl_call_list_size(actions) + 15) & ~(size_t)15;
    char *both = aligned_alloc(16, 2 * size);
    if (!both)
        return -ENOMEM;
    free(lists->larger[0]);
    lists->larger[0] = both;
    lists->larger[1] = both + size;
    lists->larger_room = actions;
    return 0;
}

static struct tl_call_action *scratch; /* room for the actions of one site */
static size_t scratch_room;

int lists_reserve(struct site *site, size_t users)
{
    if (users > site->user_room) {
        size_t room = users < 2 ? users : users + users / 2;
        struct user *grown = realloc(site->users, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        site->users = grown;
        site->user_room = room;
    }
    if (most_actions(site->user_room) > scratch_room) {
        size_t room = most_actions(site->user_room) * 2;
        struct tl_call_action *grown = realloc(scratch, room * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        scratch = grown;
        scratch_room = room;
    }
    int error = 0;
    for (struct site *at = site; at && !error; at = at->older) {
        error = reserve(&at->before, most_actions(site->user_room));
        if (!error && at->has_after)
            error = reserve(&at->behind, site->user_room);
    }
    return error;
}

uint64_t site_missed(const struct site *site)
{
    uint64_t missed = 0;
    for (; site; site = site->older)
        missed += tl_call_missed(site->before.index);
    return missed;
}

bool site_is_used(const struct site *site)
{
    for (size_t i = 0; i < site->user_count; i++)
        if (site->users[i].entry->enabled)
            return true;
    return false;
}

static struct tl_call_action of_probe(const struct entry *entry, enum tl_call_kind kind)
{
    struct tl_call_action action = {.kind = kind,
                                    .flags = (uint32_t)entry->probe.flags & (TL_PROBE_GENERAL | TL_PROBE_OWN_STACK),
                                    .probe = (struct tl_probe *)(uintptr_t)entry->key,
                                    .fault = entry->probe.fault,
                                    .break_handler = entry->probe.break_handler};
    if (kind == TL_CALL_PRE)
        action.pre = entry->probe.pre;
    else
        action.post = entry->probe.post;
    return action;
}

static struct tl_call_action of_return(const struct entry *entry, enum tl_call_kind kind)
{
    return (struct tl_call_action){.kind = kind,
                                   .flags = (uint32_t)entry->returns.flags & (TL_PROBE_GENERAL | TL_PROBE_OWN_STACK),
                                   .calls = entry->calls};
}

static struct tl_call_action of_jump(const struct entry *entry)
{
    uint32_t bytes = entry->jump.stack_bytes;
    return (struct tl_call_action){
        .kind = TL_CALL_JUMP, .jump = entry->jump.handler, .stack_bytes = bytes ? bytes : TL_JUMP_STACK_DEFAULT};
}

/* Whether a user of `site` acts in the lists of `at`, which is that site or an older one. What an older one cannot do
 * was asked for later than that anybody comes to it. */
static bool acts(const struct site *site, const struct site *at, const struct user *user)
{
    if (!user->entry->enabled)
        return false;
    if (user->role == ROLE_TAIL_IF)
        return at->stay != NULL;
    return user->role != ROLE_PROBE || !user->entry->probe.post || at->has_after == site->has_after;
}

/* The actions in front of the instruction. */
static size_t before(const struct site *site, const struct site *at, struct tl_call_action *actions)
{
    size_t count = 0;
    bool may_stay = false;
    for (size_t i = 0; i < site->user_count; i++) {
        const struct entry *entry = site->users[i].entry;
        if (!acts(site, at, &site->users[i]))
            continue;
        switch (site->users[i].role) {
        case ROLE_PROBE:
            actions[count++] = of_probe(entry, TL_CALL_PRE);
            if (entry->probe.post && !at->has_after && at->transfers)
                actions[count++] = of_probe(entry, TL_CALL_POST);
            break;
        case ROLE_ENTRY:
            actions[count++] = of_return(entry, TL_CALL_ENTRY);
            break;
        case ROLE_EXIT:
            actions[count++] = of_return(entry, TL_CALL_EXIT);
            break;
        case ROLE_TAIL:
            actions[count++] = of_return(entry, TL_CALL_TAIL);
            break;
        case ROLE_JUMP:
            actions[count++] = of_jump(entry);
            break;
        case ROLE_TAIL_IF:
            may_stay = true;
            break;
        }
    }
    if (may_stay)
        actions[count++] = (struct tl_call_action){.kind = TL_CALL_PRE,
                                                   .flags = TL_PROBE_GENERAL | TL_PROBE_OWN_STACK,
                                                   .probe = &at->stay->probe,
                                                   .pre = stay_inside};
    for (size_t i = 0; may_stay && i < site->user_count; i++)
        if (site->users[i].role == ROLE_TAIL_IF && site->users[i].entry->enabled)
            actions[count++] = of_return(site->users[i].entry, TL_CALL_TAIL);
    return count;
}

static size_t behind(const struct site *site, struct tl_call_action *actions)
{
    size_t count = 0;
    for (size_t i = 0; i < site->user_count; i++) {
        const struct user *user = &site->users[i];
        if (user->role == ROLE_PROBE && user->entry->enabled && user->entry->probe.post)
            actions[count++] = of_probe(user->entry, TL_CALL_POST);
    }
    return count;
}

/* The next list of these actions into force. What was there before may still be in use: the other memory's, or that of
 * `left`. */
static void put(struct lists *lists, struct tl_call_place place, size_t count)
{
    if (!count && !lists->current)
        return;
    if (lists->larger_room) {
        lists->left = lists->memory[0];
        memcpy(lists->memory, lists->larger, sizeof lists->memory);
        memset(lists->larger, 0, sizeof lists->larger);
        lists->room = lists->larger_room;
        lists->larger_room = 0;
    }
    struct tl_call_list *next = lists->memory[lists->current == lists->memory[0]];
    place.index = lists->index;
    if (count)
        tl_call_list_init(next, &place, scratch, count);
    lists->old = tl_call_swap(lists->index, count ? next : NULL);
    lists->current = count ? next : NULL;
}

static void look(uint64_t fs_base, const void *stack, const void *end, uint64_t *frame)
{
    struct tl_self_range handlers = {(uintptr_t)stack, (uintptr_t)end};
    tl_self_note_left(engine.self, &fs_base, &handlers, frame, NULL);
}

/* A thread that has left a handler by longjmp, and does something else since, is looked at after some time, and after
 * twice that, and so on: its handler may be long. */
void lists_wait(const struct tl_call_list *old)
{
    enum { QUICK = 100, FIRST_LOOK = 256 };
    for (unsigned turn = 0; old && !tl_call_quiet(old); turn++) {
        if (turn < QUICK)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        if (turn >= FIRST_LOOK && !(turn & (turn - 1)))
            tl_call_look(old, look);
    }
}

static void settle(struct lists *lists)
{
    lists_wait(lists->old);
    lists->old = NULL;
    free(lists->left);
    lists->left = NULL;
}

void lists_update(struct site *const *sites, size_t count)
{
    bool used = false;
    for (size_t i = 0; i < count; i++)
        for (struct site *at = sites[i]; at; at = at->older) {
            bool posts = at->transfers && !at->has_after;
            struct tl_call_place place = {.address = at->plan.addr, .emulation = posts ? &at->emulation : NULL};
            put(&at->before, place, before(sites[i], at, scratch));
            if (at->has_after)
                put(&at->behind, (struct tl_call_place){.address = at->next}, behind(sites[i], scratch));
            used = used || at->before.old || at->behind.old;
        }
    while (used && tl_self_barrier(engine.self, NULL))
        sched_yield(); /* a thread that could not be stopped in time, where there is no membarrier */
    for (size_t i = 0; i < count; i++)
        for (struct site *at = sites[i]; at; at = at->older) {
            settle(&at->before);
            settle(&at->behind);
        }
}
