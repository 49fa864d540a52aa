/* SPDX-License-Identifier: MIT
 *
 * Lists of actions, as the library makes them, puts them into force and takes them out. Nothing here runs on a hit.
 */
#include "hit/call_state.h"

struct tl_call_platform tl_call_platform;
uint64_t tl_call_errno;
const struct tl_call_list *tl_call_lists[TL_CALL_INDEX_MAX];
uint64_t tl_call_missed_hits[TL_CALL_INDEX_MAX];

void tl_call_setup(const struct tl_call_platform *platform)
{
    tl_call_platform = *platform;
    tl_call_errno = (uint64_t)platform->errno_offset;
    tl_vector_setup();
}

size_t tl_call_list_size(size_t count)
{
    return sizeof(struct tl_call_list) + count * sizeof(struct tl_call_action);
}

/* What a list runs that has one action only: less than dispatch, where that can be. */
static tl_call_run *shortcut(const struct tl_call_action *action)
{
    switch (action->kind) {
    case TL_CALL_PRE:
        return (tl_call_run *)(void (*)(void))action->pre;
    case TL_CALL_ENTRY:
        return tl_call_run_entry;
    case TL_CALL_EXIT:
        return tl_call_run_exit;
    case TL_CALL_BACK:
        return tl_call_run_back;
    default:
        return NULL;
    }
}

void tl_call_list_init(struct tl_call_list *list, const struct tl_call_place *place,
                       const struct tl_call_action *actions, size_t count)
{
    uint32_t common = TL_PROBE_GENERAL | TL_PROBE_OWN_STACK;
    list->address = place->address;
    list->index = place->index;
    list->emulation = place->emulation;
    list->count = count;
    list->posts = 0;
    for (size_t i = 0; i < count; i++) {
        list->actions[i] = actions[i];
        list->posts += actions[i].kind == TL_CALL_POST;
        common &= actions[i].kind == TL_CALL_JUMP ? 0 : actions[i].flags;
    }
    list->flags = common & TL_PROBE_OWN_STACK ? LIST_OWN_STACK : 0;
    list->run = count == 1 && !place->emulation ? shortcut(actions) : NULL;
    if (list->run) {
        list->argument = actions->kind == TL_CALL_PRE ? (void *)actions->probe : actions->calls;
    } else {
        list->run = tl_call_dispatch;
        list->argument = list;
    }
    if (!(common & TL_PROBE_GENERAL))
        list->enter = tl_call_run_vectors;
    else
        list->enter = common & TL_PROBE_OWN_STACK ? tl_call_run_here : list->run;
}

const struct tl_call_list *tl_call_swap(uint32_t index, const struct tl_call_list *list)
{
    return __atomic_exchange_n(&tl_call_lists[index], list, __ATOMIC_SEQ_CST);
}

uint64_t tl_call_missed(uint32_t index)
{
    return __atomic_load_n(&tl_call_missed_hits[index], __ATOMIC_RELAXED);
}
