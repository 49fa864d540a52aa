/* SPDX-License-Identifier: MIT
 *
 * Watches into the target: the hit area has a site for each spot, the text is patched for the broker's guards alone,
 * and when all that is in place the registers are armed.
 */
#include "placing.h"

#include "hwbp/attr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What each event of a watch carries, before its filter is asked. Registers only where the tool has to find out whether
 * it was this instruction at all. */
#define REGISTER(n)                                                                                                    \
    {.op = TL_OP_REG, .a = (n)},                                                                                       \
    {                                                                                                                  \
        .op = TL_OP_STORE, .a = WATCH_SLOT_REGISTERS + (n)                                                             \
    }
#define REGISTERS(n) REGISTER(n), REGISTER((n) + 1), REGISTER((n) + 2), REGISTER((n) + 3)
static const struct tl_operation fetches[] = {{.op = TL_OP_OLD},
                                              {.op = TL_OP_STORE, .a = WATCH_SLOT_OLD},
                                              {.op = TL_OP_NEW},
                                              {.op = TL_OP_STORE, .a = WATCH_SLOT_NEW},
                                              {.op = TL_OP_REG, .a = TL_RIP},
                                              {.op = TL_OP_STORE, .a = WATCH_SLOT_IP},
                                              {.op = TL_OP_HOW},
                                              {.op = TL_OP_STORE, .a = WATCH_SLOT_HOW},
                                              {.op = TL_OP_HOW},
                                              {.op = TL_OP_JZ, .imm = 32},
                                              REGISTERS(0),
                                              REGISTERS(4),
                                              REGISTERS(8),
                                              REGISTERS(12)};
enum { FETCHES = sizeof fetches / sizeof *fetches };

static int add_spots(struct placed *placed, struct place_watch *watch, uint32_t index)
{
    const struct watch_wish *wish = &watch->wishes[index];
    struct tl_hwbp_piece pieces[TL_WATCH_SPOTS] = {{wish->addr, 1}};
    uint64_t room = TL_WATCH_SPOTS - watch->spot_count;
    uint64_t count = wish->access & TL_SPOT_EXECUTES ? 1 : tl_hwbp_split(wish->addr, wish->length, pieces, room);
    watch->room.needed += (unsigned)(count < UINT32_MAX / 2 ? count : UINT32_MAX / 2);
    if (count > room) {
        place_trouble(placed, "that would take %u debug registers, and even in turns no more than %d can be watched",
                      watch->room.needed, TL_WATCH_SPOTS);
        return EXIT_FAILED;
    }
    for (uint64_t i = 0; i < count; i++)
        watch->spots[watch->spot_count++] =
            (struct watch_spot){.wish = index, .addr = pieces[i].addr, .length = pieces[i].length};
    return 0;
}

int place_resolve(struct placed *placed)
{
    struct place_watch *watch = placed->watches;
    int status = watch->resolve(watch, placed);
    watch->spot_count = 0;
    watch->room = (struct tl_watching_room){0};
    for (uint32_t i = 0; i < watch->wish_count && !status; i++)
        status = add_spots(placed, watch, i);
    return status;
}

/* Each wish's whole program, one behind the other in `code`. */
static void put_program(struct tl_operation *code, const struct watch_wish *wish, struct tl_assemble_watch *out)
{
    static const struct tl_operation end = {.op = TL_OP_END};
    const struct tl_operation *filter = wish->code ? wish->code : &end;
    size_t length = wish->code ? wish->code_length : 1;
    memcpy(code, fetches, sizeof fetches);
    memcpy(code + FETCHES, filter, length * sizeof *filter);
    out->code = code;
    out->length = FETCHES + length;
    out->strings = wish->strings;
    out->strings_size = wish->strings_size;
}

int place_assemble_watches(struct placed *placed, const struct tl_assemble_options *options)
{
    const struct place_watch *watch = placed->watches;
    struct tl_assemble_watch rows[TL_WATCH_SPOTS] = {{0}};
    struct tl_error error;
    size_t room = 0;
    for (uint32_t i = 0; i < watch->spot_count; i++)
        room += FETCHES + watch->wishes[watch->spots[i].wish].code_length + 1;
    struct tl_operation *code = calloc(room + 1, sizeof *code), *next = code;
    if (!code) {
        place_trouble(placed, "out of memory");
        return EXIT_FAILED;
    }
    for (uint32_t i = 0; i < watch->spot_count; i++) {
        rows[i].probe = watch->spots[i].wish;
        rows[i].addr = watch->spots[i].addr;
        put_program(next, &watch->wishes[watch->spots[i].wish], &rows[i]);
        next += rows[i].length;
    }
    int result =
        tl_assemble_watches(rows, watch->spot_count, (uint32_t)watch->wish_count, options, &placed->assembly, &error);
    free(code);
    if (result)
        place_trouble(placed, "%s", error.text);
    return result ? EXIT_FAILED : 0;
}

static struct tl_watch_table *table_of(const struct placed *placed)
{
    return (void *)((uint8_t *)placed->region.area + placed->assembly.layout->watches);
}

void place_fill_table(struct placed *placed)
{
    const struct place_watch *watch = placed->watches;
    struct tl_watch_table *table = table_of(placed);
    memset(table, 0, sizeof *table);
    table->offset = placed->assembly.layout->watches;
    table->count = watch->spot_count;
    for (uint32_t i = 0; i < watch->spot_count; i++) {
        const struct watch_wish *wish = &watch->wishes[watch->spots[i].wish];
        table->spots[i] = (struct tl_watch_spot){.addr = watch->spots[i].addr,
                                                 .length = watch->spots[i].length,
                                                 .access = (uint8_t)wish->access,
                                                 .changes_only = wish->changes_only,
                                                 .site = i};
    }
}

void place_begin_watches(void *context)
{
    struct placed *placed = context;
    struct place_watch *watch = placed->watches;
    const struct tl_watching_options options = {.multiplex = watch->multiplex, .period_ns = watch->period_ns};
    struct tl_error error;
    if (tl_watching_begin(placed->remote, table_of(placed), &options, &placed->watching, &watch->room, &error))
        place_trouble(placed, "%s", error.text);
}

int place_watches(struct placed *placed, const struct options *options, struct place_watch *watch)
{
    placed->watches = watch;
    int status = place_all(placed, options);
    if (!status && !placed->in_place) {
        place_trouble(placed, "the program's signals cannot be taken over, without which a hit would end it: %s",
                      placed->arming.why);
        status = EXIT_FAILED;
    }
    if (!status && !placed->watching)
        status = EXIT_FAILED;
    if (status && placed->in_place)
        place_remove(placed);
    return status;
}

int place_watches_copy(struct placed *placed, struct placed *parent, struct place_watch *watch)
{
    watch->wish_count = parent->watches->wish_count;
    watch->spot_count = parent->watches->spot_count;
    memcpy(watch->spots, parent->watches->spots, sizeof watch->spots);
    watch->wishes = parent->watches->wishes;
    placed->watches = watch;
    int result = place_copy(placed, parent);
    if (!result && !placed->watching) {
        place_withdraw(placed);
        result = -EAGAIN;
    }
    return result;
}

uint64_t place_watches_turn(struct placed *placed)
{
    return placed->watching ? tl_watching_turn(placed->watching) : UINT64_MAX;
}

void place_end_watches(struct placed *placed)
{
    struct tl_error error;
    if (placed->watching && tl_watching_end(placed->watching, &error))
        complain("%s", error.text);
}

void place_watches_count(const struct placed *placed, size_t wish, struct tl_watching_count *count)
{
    const struct place_watch *watch = placed->watches;
    memset(count, 0, sizeof *count);
    count->counted = true;
    count->armed = 1;
    for (uint32_t i = 0; i < watch->spot_count && placed->watching; i++) {
        struct tl_watching_count spot;
        if (watch->spots[i].wish != wish)
            continue;
        tl_watching_count(placed->watching, i, &spot);
        count->counted &= spot.counted;
        count->accesses += spot.accesses;
        count->signals += spot.signals;
        count->reports += spot.reports;
        count->late += spot.late;
        count->armed = spot.armed < count->armed ? spot.armed : count->armed;
    }
}
