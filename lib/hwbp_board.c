/* SPDX-License-Identifier: MIT
 *
 * Where signals find their breakpoint, and as what.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hwbp.h"
#include "readers.h"
#include "notifiers.h"

enum { BOARD_LEAST = 64, BOARD_MOST = HWBP_INDEX_MASK + 1 };

static uint32_t *generations; /* of each place */

static int grow_board(size_t room)
{
    struct board *old = hwbp_board, *board = malloc(sizeof *board + room * sizeof *board->places);
    uint32_t *numbers = realloc(generations, room * sizeof *numbers);
    if (numbers)
        generations = numbers;
    if (!board || !numbers) {
        free(board);
        return -ENOMEM;
    }
    board->room = room;
    board->places = (struct tl_hwbp **)(board + 1);
    size_t used = old ? old->room : 0;
    for (size_t i = 0; i < room; i++)
        board->places[i] = i < used ? old->places[i] : NULL;
    memset(numbers + used, 0, (room - used) * sizeof *numbers);
    __atomic_store_n(&hwbp_board, board, __ATOMIC_RELEASE);
    readers_wait();
    free(old);
    return 0;
}

int hwbp_find_place(uint32_t *index)
{
    size_t room = hwbp_board ? hwbp_board->room : 0;
    for (size_t i = 0; i < room; i++)
        if (!hwbp_board->places[i]) {
            *index = (uint32_t)i;
            return 0;
        }
    *index = (uint32_t)room;
    return room == BOARD_MOST ? -ENOMEM : grow_board(room ? room * 2 : BOARD_LEAST);
}

void hwbp_put(uint32_t index, struct tl_hwbp *hwbp)
{
    __atomic_store_n(&hwbp_board->places[index], hwbp, __ATOMIC_RELEASE);
    if (!hwbp)
        readers_wait();
}

uint64_t hwbp_next_tag(uint32_t index)
{
    uint64_t generation = ++generations[index] & HWBP_GENERATION_MASK;
    return HWBP_MAGIC << HWBP_MAGIC_AT | generation << HWBP_GENERATION_AT | index;
}

/* ---- views ---- */

void hwbp_show(struct view *view, const struct tl_perf_spec *spec)
{
    __atomic_fetch_add(&hwbp_readers, spec->attr.access & TL_HWBP_READ ? 1 : 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&hwbp_reporters, spec->tag ? 1 : 0, __ATOMIC_SEQ_CST);
    view->address = spec->attr.addr;
    view->length = (uint32_t)spec->attr.length;
    view->access = spec->attr.access;
    hwbp_look(view, &view->shadow);
    __atomic_store_n(&view->tag, spec->tag, __ATOMIC_RELEASE);
}

void hwbp_hide(struct view *view)
{
    __atomic_fetch_sub(&hwbp_readers, view->access & TL_HWBP_READ ? 1 : 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&hwbp_reporters, view->tag ? 1 : 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&view->tag, 0, __ATOMIC_RELEASE);
}
