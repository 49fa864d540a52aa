/* SPDX-License-Identifier: MIT
 *
 * Code of a dead tool, and threads in it. Where the signal broker was armed its tables name the instruction that each
 * copy stands for. They stand in memory that the program can write to, and are read as such: where they are wrong a
 * thread goes on where the program itself has said.
 */
#include "host/remote/internal.h"
#include "insn/insn.h"

#include <stdlib.h>

enum { TABLES_MAX = 1 << 28, COPIES_MAX = 6 };

struct tl_broker_tables *tl_tables_load(struct tl_remote *r, const struct tl_remote_area *areas, size_t count,
                                        uint64_t broker)
{
    struct tl_broker_tables head, *tables = NULL;
    uint64_t at;
    if (tl_mem_read(r, broker + offsetof(struct tl_broker, tables), &at, sizeof at) ||
        tl_mem_read(r, at, &head, sizeof head))
        return NULL;
    const struct tl_remote_area *area = tl_area_at(areas, count, at);
    if (area && tl_is_ours(area) && head.size >= sizeof head && head.size <= TABLES_MAX && head.size <= area->end - at)
        tables = malloc(head.size);
    if (tables && (tl_mem_read(r, at, tables, head.size) || tl_broker_tables_verify(tables, head.size))) {
        free(tables);
        tables = NULL;
    }
    return tables;
}

int tl_origin_by_tables(const struct tl_broker_tables *tables, uint64_t pc, uint64_t *original, int *fix_rcx)
{
    const struct tl_trap_range *range = tl_trap_range_find(tables, pc);
    const struct tl_mark *marks = (const struct tl_mark *)((const char *)tables + tables->marks);
    for (uint32_t i = 0; range && i < range->mark_count; i++) {
        const struct tl_mark *mark = &marks[range->first_mark + i];
        if (range->start + mark->at != pc || mark->state == TL_MARK_WITHIN)
            continue;
        *original = mark->addr;
        *fix_rcx = mark->state == TL_MARK_AFTER && range->flags & TL_RANGE_SYSCALL;
        return 0;
    }
    return -EAGAIN;
}

int tl_origin_behind_call(struct tl_remote *r, const struct tl_remote_area *areas, size_t count, uint64_t pc,
                          uint64_t *original)
{
    uint8_t text[2 + 64];
    if (tl_mem_read(r, pc - 2, text, sizeof text) || text[0] != 0x0f || text[1] != 0x05)
        return -EAGAIN;
    struct tl_insn insn;
    for (size_t at = 2, n = 0; n < COPIES_MAX && tl_insn_decode(text + at, sizeof text - at, pc - 2 + at, &insn) == 0;
         n++) {
        at += insn.length;
        if (insn.flow != TL_FLOW_JUMP)
            continue;
        /* The way out: it leads behind the system call in the program. */
        const struct tl_remote_area *area = tl_area_at(areas, count, insn.target);
        if (!area || tl_is_ours(area) || tl_mem_read(r, insn.target - 2, text, 2) || text[0] != 0x0f || text[1] != 0x05)
            return -EAGAIN;
        *original = insn.target;
        return 0;
    }
    return -EAGAIN;
}
