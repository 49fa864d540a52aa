/* SPDX-License-Identifier: MIT
 *
 * Coming back behind the jump. A displaced `push rbp` has one byte; behind it the program goes on at an address that is
 * the second byte of the site's own jump. That is right, and slow: a processor keeps what it knows of jumps by where
 * they lie, has one noted across this address, and starts over each time it finds other instructions there. That costs
 * ten times what counting does. So the trampoline goes on for a little, in copies of the instructions behind,
 *
 *     e9 48 89 e5 41 | 57 …      (push rbp; mov rbp, rsp; push r15)
 *
 *     hook; push rbp; mov rbp, rsp; push r15; jmp behind the push r15
 *
 * and comes back where the jump's bytes end, or later. The text of those instructions stays as it is, for whoever else
 * comes there.
 *
 * What must not be passed over is a breakpoint that somebody sets on one of them. It changes a byte of the rel32, and
 * so where the jump comes down: on the stub of a guard (tactic_punned.c), which leads to the site's other trampoline,
 * the plain one, which comes back right behind the site. Each instruction that is copied begins inside the jump, so
 * that this holds for all of them; and only a site all of whose guards are in place gets this trampoline at all. Where
 * a breakpoint stands already when the plan is made, it is the guard for its going that leads here. (A breakpoint in a
 * debug register changes no byte. Behind a site it is passed over; there is no telling.)
 *
 * Copies are made of what is plain: control goes on behind it, or leaves for good. Not of a call (its return would not
 * be paired with it, which costs as much as is gained), not of a system call (threads block there), not of another
 * site.
 */
#include "probe/beyond.h"

#include <string.h>

#include "probe/planner.h"

enum { BREAKPOINT = 0xcc, REL_BYTES = 4 };

/* The program's own bytes, where a debugger's stand. */
static uint8_t own_byte(const struct tl_site *site, unsigned at)
{
    return site->foreign >> at & 1 && site->text[at] == BREAKPOINT ? site->original[at] : site->text[at];
}

/* The instruction at site + offset, of which a copy may run in its place. */
static bool take_insn(const struct tl_site *site, unsigned offset, struct tl_insn *insn)
{
    uint8_t text[TL_TEXT_BYTES];
    unsigned known = site->text_length < TL_TEXT_BYTES ? site->text_length : TL_TEXT_BYTES;
    if (offset >= known || !(site->boundaries >> offset & 1))
        return false;
    for (unsigned i = offset; i < known; i++)
        text[i] = own_byte(site, i);
    if (tl_insn_decode(text + offset, known - offset, site->addr + offset, insn))
        return false;
    if (insn->flow == TL_FLOW_CALL || insn->flow == TL_FLOW_CALL_INDIRECT || insn->flow == TL_FLOW_STOP)
        return false;
    if (offset == 0)
        return true;
    uint32_t all = (uint32_t)(((1ull << insn->length) - 1) << offset);
    bool entered_within = site->boundaries & all & ~(1u << offset);
    return !entered_within && !insn->implausible && !insn->is_syscall && !(site->pinned & all);
}

/* Whether control comes out of the copy's end, by a jump back that may as well be left out. */
static bool comes_back_last(const struct tl_piece *piece)
{
    const struct tl_copy *copy = &piece->copy;
    if (piece->insn.flow != TL_FLOW_NEXT && piece->insn.flow != TL_FLOW_BRANCH)
        return false;
    const struct tl_mark *last = &copy->marks[copy->marks_used - 1];
    return copy->marks_used && last->state == TL_MARK_AFTER && last->addr == piece->insn.addr + piece->insn.length;
}

unsigned tl_beyond_pieces(const struct tl_site *site, uint64_t at, struct tl_piece pieces[TL_PIECES_MAX])
{
    unsigned offset = 0;
    for (unsigned i = 0; i < TL_PIECES_MAX; i++) {
        struct tl_piece *piece = &pieces[i];
        if (!take_insn(site, offset, &piece->insn) || tl_insn_relocate(&piece->insn, at, &piece->copy))
            return 0;
        piece->addr = at;
        piece->length = piece->copy.length;
        offset += piece->insn.length;
        bool passes = piece->insn.flow == TL_FLOW_NEXT || piece->insn.flow == TL_FLOW_BRANCH;
        if (!passes || offset >= site->jump_length)
            return i ? i + 1 : 0;
        if (!comes_back_last(piece))
            return 0;
        piece->length = piece->copy.marks[piece->copy.marks_used - 1].at;
        at += piece->length;
    }
    return 0;
}

unsigned tl_lead_pieces(const struct tl_site *site, uint64_t at, struct tl_piece pieces[TL_PIECES_MAX])
{
    unsigned offset = 0, count = 0;
    for (; offset < site->guard_at && count < TL_PIECES_MAX; count++) {
        struct tl_piece *piece = &pieces[count];
        if (!take_insn(site, offset, &piece->insn) || piece->insn.flow != TL_FLOW_NEXT || piece->insn.is_syscall ||
            tl_insn_relocate(&piece->insn, at, &piece->copy) || !comes_back_last(piece))
            return 0;
        piece->addr = at;
        piece->length = piece->copy.marks[piece->copy.marks_used - 1].at;
        at += piece->length;
        offset += piece->insn.length;
    }
    return offset == site->guard_at ? count : 0;
}

uint64_t tl_beyond_landing(const struct tl_site *site, const uint8_t *jump, unsigned own)
{
    uint8_t rel_bytes[REL_BYTES];
    uint32_t rel;
    unsigned opcode_end = site->jump_length - REL_BYTES;
    for (unsigned i = 0; i < REL_BYTES; i++)
        rel_bytes[i] = opcode_end + i < own ? jump[opcode_end + i] : own_byte(site, opcode_end + i);
    memcpy(&rel, rel_bytes, sizeof rel);
    uint64_t behind = site->addr + site->jump_length;
    bool pointer = jump[opcode_end - 1] == 0x25;
    return pointer ? (uint32_t)(behind + rel) : behind + (uint64_t)(int64_t)(int32_t)rel;
}

/* One of the instructions to be copied is a site too. */
static bool has_site_behind(const struct tl_planner *planner, size_t number)
{
    const struct tl_site *site = planner->jobs[number].site;
    return number + 1 < planner->count && planner->jobs[number + 1].site->addr < site->addr + site->jump_length;
}

void tl_beyond_make(struct tl_planner *planner)
{
    for (size_t i = 0; i < planner->count && !planner->error; i++) {
        const struct tl_job *job = &planner->jobs[i];
        struct tl_site *site = job->site;
        if (!job->placed || job->tactic != TL_TACTIC_PUNNED)
            continue;
        site->jump_length = job->jump_length;
        if (!job->guarded || site->mode != TL_SITE_BEFORE || has_site_behind(planner, i) ||
            !tl_arena_emit_beyond(&planner->arenas, job, i, &planner->error))
            continue;
        uint64_t landing = tl_beyond_landing(site, job->bytes, job->length);
        if (!tl_landing_redirect(&planner->landings, job->mark, landing, site->beyond)) {
            site->beyond = 0;
            site->beyond_size = 0;
        }
    }
}
