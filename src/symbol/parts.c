/* SPDX-License-Identifier: MIT
 *
 * The pieces of a function.
 *
 * Compilers move code that seldom runs out of a function into a piece far away, which the function reaches by a jump
 * and which jumps back. Whoever looks for a function's exits has to know its pieces, or takes the jump for a tail call
 * and the piece's returns for nobody's. Where there are symbols the piece is called "f.cold". (`f.part.0` is not such a
 * piece: it is a function of its own that is called.) In a stripped file there is only the FDE, and the evidence is in
 * the code:
 *
 *  - f jumps to the piece, and the piece begins with a frame that no fresh call has (kind TL_FUNCTION_PART), or
 *  - f jumps to the piece, whose frame looks like a call's since f has none itself, and the piece's jumps go back into
 * the middle of f, and into the middle of no other function: nobody enters a function there but itself.
 *
 * Reading every function instruction by instruction would cost more than all the rest of placing probes; so its bytes
 * are first searched for anything that could be a jump of the long form to a range that is a candidate, and only where
 * there is one it is decoded.
 */
#include <string.h>

#include "insn/insn.h"
#include "symbol/object.h"

struct pieces {
    const struct tl_object *object;
    struct tl_part *parts;
    size_t count, most;
};

static bool holds(const struct pieces *pieces, uint64_t addr)
{
    for (size_t i = 0; i < pieces->count; i++)
        if (addr - pieces->parts[i].addr < pieces->parts[i].size)
            return true;
    return false;
}

static void add(struct pieces *pieces, const struct tl_function *piece)
{
    if (pieces->count < pieces->most && !holds(pieces, piece->addr))
        pieces->parts[pieces->count++] = (struct tl_part){piece->addr, piece->size};
}

/* What may be a piece of another function, at an address: a part, or an unnamed range. */
static const struct tl_function *candidate_at(const struct pieces *pieces, uint64_t addr)
{
    if (holds(pieces, addr) || !object_segment(pieces->object, addr, true))
        return NULL;
    const struct tl_function *function = tl_object_function_at(pieces->object, addr);
    return function && (function->kind == TL_FUNCTION_PART || function->kind == TL_FUNCTION_UNNAMED) ? function : NULL;
}

/* The direct jumps of a range: calls each() with their targets until it returns true, and returns that. */
static bool each_jump(const struct pieces *pieces, struct tl_part range,
                      bool (*each)(struct pieces *, uint64_t target, void *), void *context)
{
    size_t available;
    const uint8_t *text = tl_object_text(pieces->object, range.addr, &available);
    struct tl_insn insn;
    for (uint64_t at = 0; text && at < range.size && at < available;) {
        if (tl_insn_decode(text + at, available - at, range.addr + at, &insn) < 0) {
            at++;
            continue;
        }
        at += insn.length;
        if ((insn.flow == TL_FLOW_JUMP || insn.flow == TL_FLOW_BRANCH) &&
            each((struct pieces *)pieces, insn.target, context))
            return true;
    }
    return false;
}

/* Whether the bytes hold anything that could be a jmp or jcc rel32 to a candidate. */
static bool may_jump_out(const struct pieces *pieces, struct tl_part range)
{
    size_t available;
    const uint8_t *text = tl_object_text(pieces->object, range.addr, &available);
    uint64_t size = available < range.size ? available : range.size;
    for (uint64_t at = 0; text && at + 5 <= size; at++) {
        bool jump = text[at] == 0xe9 || (at > 0 && text[at - 1] == 0x0f && (text[at] & 0xf0) == 0x80);
        int32_t displacement;
        if (!jump)
            continue;
        memcpy(&displacement, text + at + 1, sizeof displacement);
        if (candidate_at(pieces, range.addr + at + 5 + (uint64_t)(int64_t)displacement))
            return true;
    }
    return false;
}

struct evidence {
    uint64_t entry;
    struct tl_part piece;
    bool back, elsewhere;
};

/* A jump of a candidate: back into the middle of ours, or of another function? */
static bool weigh(struct pieces *pieces, uint64_t target, void *context)
{
    struct evidence *evidence = context;
    if (target - evidence->piece.addr < evidence->piece.size)
        return false;
    if (holds(pieces, target)) {
        evidence->back |= target != evidence->entry;
        return false;
    }
    const struct tl_function *other = tl_object_function_at(pieces->object, target);
    evidence->elsewhere |= other && other->addr != target;
    return evidence->elsewhere;
}

static bool take(struct pieces *pieces, uint64_t target, void *context)
{
    const struct tl_function *piece = candidate_at(pieces, target);
    (void)context;
    if (!piece)
        return false;
    if (piece->kind == TL_FUNCTION_UNNAMED) {
        struct evidence evidence = {.entry = pieces->parts[0].addr, .piece = {piece->addr, piece->size}};
        each_jump(pieces, evidence.piece, weigh, &evidence);
        if (!evidence.back || evidence.elsewhere)
            return false;
    }
    add(pieces, piece);
    return pieces->count == pieces->most;
}

/* "f.cold" where there is one of it and one of f: also a piece that only a jump table or the unwinder enters is found
 * then. */
static void take_named(struct pieces *pieces, const struct tl_function *function)
{
    char name[1024];
    const struct table *table = &pieces->object->functions;
    size_t length = function->name ? strlen(function->name) : 0;
    if (length == 0 || length + sizeof ".cold" > sizeof name)
        return;
    memcpy(name, function->name, length);
    memcpy(name + length, ".cold", sizeof ".cold");
    const struct tl_function *owner = table_named(table, function->name, NULL), *piece = table_named(table, name, NULL);
    if (owner && piece && !table_named(table, function->name, owner) && !table_named(table, name, piece))
        add(pieces, piece);
}

size_t tl_object_parts(const struct tl_object *object, const struct tl_function *function, struct tl_part *parts,
                       size_t most)
{
    struct pieces pieces = {.object = object, .parts = parts, .most = most};
    if (most == 0)
        return 0;
    object_need_tables((struct tl_object *)object);
    add(&pieces, function);
    if (function->kind == TL_FUNCTION_PART || function->kind == TL_FUNCTION_IFUNC)
        return pieces.count;
    take_named(&pieces, function);
    for (size_t i = 0; i < pieces.count && pieces.count < most; i++)
        if (may_jump_out(&pieces, parts[i]))
            each_jump(&pieces, parts[i], take, NULL);
    return pieces.count;
}
