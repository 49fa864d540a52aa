/* SPDX-License-Identifier: MIT
 *
 * Where the instructions of a function begin.
 *
 * Nearly all functions are nothing but code, and reading them from front to back finds every instruction, also those
 * that only a jump table reaches. Hand-written assembly puts constants and strings between its code. Read as code these
 * nearly always betray themselves: by a byte that is no instruction, by a branch or a symbol in the middle of one, by
 * an instruction that no program means. Then the whole linear reading is put away, and only what control flow reaches
 * from the known entries is trusted: less, but never data.
 *
 * One kind of branch into the middle is honest: past a lock prefix, where there is only one thread. Such an instruction
 * has two beginnings, and whoever changes its bytes breaks one of them: it is no boundary.
 *
 * Zeros that fill up the end are neither code nor a contradiction.
 */
#include "insn/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "insn/decode.h"

struct reader {
    const struct tl_range *range;
    ZydisDecoder decoder;
    struct tl_sweep *sweep;
};

static bool test_bit(const uint8_t *bits, uint64_t at)
{
    return bits[at / 8] >> at % 8 & 1;
}

static void set_bit(uint8_t *bits, uint64_t at)
{
    bits[at / 8] = (uint8_t)(bits[at / 8] | 1u << at % 8);
}

static void clear_bit(uint8_t *bits, uint64_t at)
{
    bits[at / 8] = (uint8_t)(bits[at / 8] & ~(1u << at % 8));
}

static size_t bitmap_size(uint64_t bytes)
{
    return (size_t)(bytes / 8 + 1);
}

static int decode_at(struct reader *reader, uint64_t at, struct tl_insn *insn)
{
    const struct tl_range *range = reader->range;
    return tl_decode_with(&reader->decoder, range->bytes + at, range->size - at, range->addr + at, insn);
}

static void trust(struct tl_sweep *sweep, uint64_t at, uint8_t length)
{
    set_bit(sweep->boundaries, at);
    for (uint64_t i = 0; i < length; i++)
        set_bit(sweep->covered, at + i);
    sweep->instructions++;
}

static bool has_target(const struct tl_insn *insn)
{
    return insn->flow == TL_FLOW_JUMP || insn->flow == TL_FLOW_BRANCH || insn->flow == TL_FLOW_CALL;
}

static bool goes_on(const struct tl_insn *insn)
{
    return insn->flow == TL_FLOW_NEXT || insn->flow == TL_FLOW_BRANCH || insn->flow == TL_FLOW_CALL ||
           insn->flow == TL_FLOW_CALL_INDIRECT;
}

/* The range's size without the zeros at its end. (The last instruction may well end in zeros, so it still may use
 * them.) */
static uint64_t used_size(const struct tl_range *range)
{
    uint64_t size = range->size;
    while (size > 0 && range->bytes[size - 1] == 0)
        size--;
    return size;
}

/* A branch goes to `at`, where no instruction begins. Is it behind the lock prefix of one that does? */
static bool is_behind_lock(struct reader *reader, uint64_t at)
{
    return at > 0 && test_bit(reader->sweep->boundaries, at - 1) && reader->range->bytes[at - 1] == 0xf0;
}

/* false: a branch goes into the middle of an instruction. */
static bool accept_targets(struct reader *reader, const uint8_t *targets)
{
    struct tl_sweep *sweep = reader->sweep;
    for (size_t i = 0; i < bitmap_size(sweep->size); i++) {
        if (!(targets[i] & ~sweep->boundaries[i]))
            continue;
        for (uint64_t at = i * 8; at < i * 8 + 8; at++) {
            if (!test_bit(targets, at) || test_bit(sweep->boundaries, at))
                continue;
            if (!is_behind_lock(reader, at))
                return false;
            clear_bit(sweep->boundaries, at - 1);
            sweep->instructions--;
        }
    }
    return true;
}

/* Every instruction from front to back. `targets` has a bit for each place that is known to be reached, and gets those
 * that the branches go to. false: it contradicts itself. */
static bool read_linearly(struct reader *reader, uint8_t *targets)
{
    const struct tl_range *range = reader->range;
    uint64_t used = used_size(range);
    struct tl_insn insn;
    for (uint64_t at = 0; at < used; at += insn.length) {
        if (decode_at(reader, at, &insn) != 0 || insn.implausible)
            return false;
        trust(reader->sweep, at, insn.length);
        if (has_target(&insn) && insn.target - range->addr < range->size)
            set_bit(targets, insn.target - range->addr);
    }
    return accept_targets(reader, targets);
}

/* What control flow reaches. `pending` is a stack with room for every byte of the range. */
struct walk {
    struct reader *reader;
    uint8_t *seen;
    uint64_t *pending;
    size_t used;
};

static void reach(struct walk *walk, uint64_t addr)
{
    uint64_t at = addr - walk->reader->range->addr;
    if (at < walk->reader->range->size && !test_bit(walk->seen, at))
        walk->pending[walk->used++] = at;
    if (at < walk->reader->range->size)
        set_bit(walk->seen, at);
}

static bool is_call(const struct tl_insn *insn)
{
    return insn->flow == TL_FLOW_CALL || insn->flow == TL_FLOW_CALL_INDIRECT;
}

/* One straight run: from `start` to where control leaves, or to what was read before. A run that ends in what cannot be
 * code was none itself, as far back as the last call (which then does not come back). */
static void walk_run(struct walk *walk, uint64_t start)
{
    struct reader *reader = walk->reader;
    struct tl_insn insn = {0};
    uint64_t end = start, safe = start;
    for (bool more = true; more;) {
        if (decode_at(reader, end, &insn) != 0 || insn.implausible) {
            end = safe;
            break;
        }
        end += insn.length;
        if (is_call(&insn))
            safe = end;
        more = goes_on(&insn) && end < reader->sweep->size && !test_bit(walk->seen, end);
    }
    for (uint64_t at = start; at < end; at += insn.length) {
        decode_at(reader, at, &insn);
        set_bit(walk->seen, at);
        trust(reader->sweep, at, insn.length);
        if (has_target(&insn))
            reach(walk, insn.target);
    }
}

/* Two of the instructions found share bytes: one of them is data, or both are real. Neither may be changed. */
static void drop_overlaps(struct reader *reader)
{
    struct tl_sweep *sweep = reader->sweep;
    struct tl_insn insn;
    uint64_t end = 0, previous = 0;
    for (uint64_t at = 0; at < sweep->size; at++) {
        if (!test_bit(sweep->boundaries, at) || decode_at(reader, at, &insn) != 0)
            continue;
        if (at < end) {
            clear_bit(sweep->boundaries, at);
            clear_bit(sweep->boundaries, previous);
        }
        if (at + insn.length > end) {
            end = at + insn.length;
            previous = at;
        }
    }
}

static size_t count_bits(const uint8_t *bits, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += (size_t)__builtin_popcount(bits[i]);
    return count;
}

static int read_by_flow(struct reader *reader, const uint64_t *entries, size_t entry_count)
{
    struct tl_sweep *sweep = reader->sweep;
    size_t bitmap = bitmap_size(sweep->size);
    struct walk walk = {
        .reader = reader, .seen = calloc(1, bitmap), .pending = calloc(sweep->size + 1, sizeof *walk.pending)};
    if (walk.seen && walk.pending) {
        memset(sweep->boundaries, 0, bitmap);
        memset(sweep->covered, 0, bitmap);
        reach(&walk, sweep->addr);
        for (size_t i = 0; i < entry_count; i++)
            reach(&walk, entries[i]);
        while (walk.used)
            walk_run(&walk, walk.pending[--walk.used]);
        drop_overlaps(reader);
        sweep->instructions = count_bits(sweep->boundaries, bitmap);
    }
    int result = walk.seen && walk.pending ? 0 : -ENOMEM;
    free(walk.seen);
    free(walk.pending);
    return result;
}

int tl_sweep_range(const struct tl_range *range, const uint64_t *entries, size_t entry_count, struct tl_sweep *sweep)
{
    size_t bitmap = bitmap_size(range->size);
    uint8_t *targets = calloc(1, bitmap);
    struct reader reader = {.range = range, .sweep = sweep};
    int result = -ENOMEM;
    *sweep = (struct tl_sweep){
        .addr = range->addr, .size = range->size, .boundaries = calloc(1, bitmap), .covered = calloc(1, bitmap)};
    if (targets && sweep->boundaries && sweep->covered) {
        tl_decoder_init(&reader.decoder);
        for (size_t i = 0; i < entry_count; i++)
            if (entries[i] - range->addr < range->size)
                set_bit(targets, entries[i] - range->addr);
        sweep->mixed = !read_linearly(&reader, targets);
        result = sweep->mixed ? read_by_flow(&reader, entries, entry_count) : 0;
    }
    free(targets);
    if (result != 0)
        tl_sweep_free(sweep);
    return result;
}

void tl_sweep_free(struct tl_sweep *sweep)
{
    free(sweep->boundaries);
    free(sweep->covered);
    *sweep = (struct tl_sweep){0};
}

enum tl_why tl_sweep_check(const struct tl_sweep *sweep, uint64_t addr)
{
    uint64_t at = addr - sweep->addr;
    if (at >= sweep->size || !test_bit(sweep->covered, at))
        return TL_WHY_NOT_CODE;
    return test_bit(sweep->boundaries, at) ? TL_WHY_NONE : TL_WHY_NOT_BOUNDARY;
}

uint64_t tl_sweep_next(const struct tl_sweep *sweep, uint64_t addr)
{
    uint64_t at = addr < sweep->addr ? 0 : addr - sweep->addr;
    while (at < sweep->size) {
        if (at % 8 == 0 && sweep->boundaries[at / 8] == 0) {
            at += 8;
            continue;
        }
        if (test_bit(sweep->boundaries, at))
            return sweep->addr + at;
        at++;
    }
    return 0;
}
