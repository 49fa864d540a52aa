/* SPDX-License-Identifier: MIT */
#include "probe/trampoline.h"

#include <string.h>

enum { BREAKPOINT = 0xcc };

static enum tl_why append_hook(struct tl_trampoline *made, const struct tl_hook *hook, uint64_t gate, uint64_t at)
{
    struct tl_hook placed = *hook;
    size_t length = 0;
    placed.gate = gate;
    if (hook->kind != TL_HOOK_NONE && tl_hook_emit(&placed, at + made->length, made->code + made->length, &length))
        return TL_WHY_NO_ROOM;
    made->length += length;
    return TL_WHY_NONE;
}

/* What the guard's hook has to know of the site. */
static struct tl_guard_hook guard_for(const struct tl_site *site, const struct tl_insn *insn,
                                      const struct tl_guard_hook *guard)
{
    struct tl_guard_hook hook = {.next = insn->addr + insn->length, .length = insn->length};
    hook.known = site->guard != TL_GUARD_ASK;
    if (guard) {
        hook.routine = guard->routine;
        hook.context = guard->context;
    }
    return hook;
}

static enum tl_why append_guard(struct tl_trampoline *made, const struct tl_site *site, const struct tl_insn *insn,
                                const struct tl_guard_hook *guard)
{
    struct tl_guard_hook hook = guard_for(site, insn, guard);
    size_t length = 0;
    if (site->guard && tl_guard_hook_emit(&hook, made->code + made->length, &length))
        return TL_WHY_TACTIC;
    made->length += length;
    return TL_WHY_NONE;
}

static void append(struct tl_trampoline *made, const uint8_t *bytes, size_t length)
{
    memcpy(made->code + made->length, bytes, length);
    made->length += length;
}

static enum tl_why append_jump(struct tl_trampoline *made, uint64_t at, uint64_t target)
{
    if (tl_emit_jump(made->code + made->length, at + made->length, target))
        return TL_WHY_NO_ROOM;
    made->length += TL_JUMP_BYTES;
    return TL_WHY_NONE;
}

static enum tl_why append_step(struct tl_trampoline *made, const struct tl_insn *insn, uint64_t at)
{
    struct tl_copy copy;
    tl_insn_step(insn, at + made->length + TL_STEP_AT, &copy);
    memset(made->code + made->length, BREAKPOINT, TL_STEP_AT);
    made->length += TL_STEP_AT;
    made->step_at = TL_STEP_AT;
    append(made, copy.code, copy.length);
    return copy.why;
}

/* Where in a copy of what simply goes on stands its jump back. */
static size_t way_back(const struct tl_copy *copy)
{
    return copy->marks[copy->marks_used - 1].at;
}

static enum tl_why append_copy(struct tl_trampoline *made, const struct tl_site *site, const struct tl_insn *insn,
                               uint64_t at)
{
    struct tl_copy copy;
    if (tl_insn_relocate(insn, at + made->length, &copy))
        return copy.why;
    if (site->after.kind == TL_HOOK_NONE) {
        append(made, copy.code, copy.length);
        return TL_WHY_NONE;
    }
    append(made, copy.code, way_back(&copy));
    enum tl_why why = append_hook(made, &site->after, site->hook.gate, at);
    return why == TL_WHY_NONE ? append_jump(made, at, insn->addr + insn->length) : why;
}

static enum tl_why make_taken(struct tl_trampoline *made, const struct tl_site *site, const struct tl_insn *insn,
                              uint64_t at)
{
    struct tl_copy copy;
    if (tl_insn_relocate_taken(insn, at, &copy))
        return copy.why;
    append(made, copy.code, copy.length);
    enum tl_why why = append_hook(made, &site->hook, site->hook.gate, at);
    return why == TL_WHY_NONE ? append_jump(made, at, insn->target) : why;
}

/* The instructions in front of the system call of site->guard_at; then what it is. */
static enum tl_why append_lead(struct tl_trampoline *made, const struct tl_site *site, uint64_t at,
                               struct tl_insn *insn)
{
    struct tl_piece pieces[TL_PIECES_MAX];
    unsigned count = tl_lead_pieces(site, at + made->length, pieces);
    for (unsigned i = 0; i < count; i++)
        append(made, pieces[i].copy.code, pieces[i].length);
    bool found = count && !tl_insn_decode(site->text + site->guard_at, sizeof site->text - site->guard_at,
                                          site->addr + site->guard_at, insn);
    return found ? TL_WHY_NONE : TL_WHY_TACTIC;
}

enum tl_why tl_trampoline_make(struct tl_trampoline *made, const struct tl_site *site, const struct tl_insn *insn,
                               bool steps, const struct tl_guard_hook *guard, uint64_t at)
{
    made->length = made->copy_at = made->step_at = 0;
    if (site->mode == TL_SITE_TAKEN)
        return make_taken(made, site, insn, at);
    struct tl_insn displaced = *insn;
    enum tl_why why = append_hook(made, &site->hook, site->hook.gate, at);
    if (why == TL_WHY_NONE && site->guard_at)
        why = append_lead(made, site, at, &displaced);
    if (why == TL_WHY_NONE)
        why = append_guard(made, site, &displaced, guard);
    made->copy_at = made->length;
    if (why != TL_WHY_NONE)
        return why;
    return steps ? append_step(made, &displaced, at) : append_copy(made, site, &displaced, at);
}

bool tl_trampoline_make_beyond(struct tl_trampoline *made, const struct tl_site *site,
                               const struct tl_guard_hook *guard, uint64_t at)
{
    struct tl_piece pieces[TL_PIECES_MAX];
    struct tl_insn insn;
    made->length = made->copy_at = made->step_at = 0;
    if (site->after.kind != TL_HOOK_NONE || site->step_at || site->guard_at ||
        tl_insn_decode(site->text, site->text_length, site->addr, &insn) ||
        append_hook(made, &site->hook, site->hook.gate, at) != TL_WHY_NONE ||
        append_guard(made, site, &insn, guard) != TL_WHY_NONE || made->length != site->copy_at)
        return false;
    made->copy_at = made->length;
    unsigned count = tl_beyond_pieces(site, at + made->length, pieces);
    for (unsigned i = 0; i < count; i++)
        append(made, pieces[i].copy.code, pieces[i].length);
    return count > 0;
}

/* ---- what is known of a thread that is in there ---- */

struct stretches {
    const struct tl_site *site;
    const struct tl_insn *insn;
    struct tl_stretch *stretches;
    unsigned count;
};

static struct tl_stretch *add(struct stretches *made, uint64_t start, uint64_t size, const struct tl_insn *insn)
{
    struct tl_stretch *stretch = &made->stretches[made->count++];
    *stretch = (struct tl_stretch){.start = start,
                                   .end = start + size,
                                   .addr = insn->addr,
                                   .length = insn->length,
                                   .is_syscall = insn->is_syscall};
    return stretch;
}

static void mark_once(struct tl_stretch *stretch, enum tl_mark_state state, uint64_t addr)
{
    stretch->marks[0] = (struct tl_mark){.state = (uint8_t)state, .borrowed = TL_NO_REG, .addr = addr};
    stretch->marks_used = 1;
}

/* A copy, or its first `size` bytes. */
static struct tl_stretch *add_copy(struct stretches *made, uint64_t start, size_t size, const struct tl_insn *insn,
                                   const struct tl_copy *copy)
{
    struct tl_stretch *stretch = add(made, start, size, insn);
    for (unsigned i = 0; i < copy->marks_used; i++)
        if (copy->marks[i].at < size)
            stretch->marks[stretch->marks_used++] = copy->marks[i];
    return stretch;
}

/* The beginning of a hook in front of which the program is at `addr`. */
static void add_hook(struct stretches *made, const struct tl_hook *hook, uint64_t start, uint64_t addr)
{
    size_t size;
    struct tl_mark marks[TL_HOOK_MARKS];
    unsigned count = tl_hook_marks(hook, addr, marks, &size);
    if (!count)
        return;
    struct tl_stretch *stretch = add(made, start, size, made->insn);
    memcpy(stretch->marks, marks, count * sizeof *marks);
    stretch->marks_used = (uint8_t)count;
    stretch->is_syscall = false;
}

static void add_lead(struct stretches *made, uint64_t start)
{
    struct tl_piece pieces[TL_PIECES_MAX];
    const struct tl_hook *hook = &made->site->hook;
    uint8_t code[TL_HOOK_BYTES_MAX];
    size_t length = 0;
    if (hook->kind != TL_HOOK_NONE)
        tl_hook_emit(hook, start, code, &length);
    unsigned count = tl_lead_pieces(made->site, start + length, pieces);
    for (unsigned i = 0; i < count; i++)
        add_copy(made, pieces[i].addr, pieces[i].length, &pieces[i].insn, &pieces[i].copy)->behind = i > 0;
}

/* Hook and guard, which end where the copies begin. */
static void add_front(struct stretches *made, uint64_t start)
{
    const struct tl_site *site = made->site;
    add_hook(made, &site->hook, start, site->addr);
    if (!site->guard)
        return;
    if (site->guard_at)
        add_lead(made, start);
    uint8_t code[TL_GUARD_BYTES_MAX];
    struct tl_guard_hook hook = guard_for(site, made->insn, NULL);
    struct tl_mark marks[TL_HOOK_MARKS];
    size_t length = 0, size;
    unsigned count = tl_guard_hook_marks(&hook, made->insn->addr, marks, &size);
    tl_guard_hook_emit(&hook, code, &length);
    struct tl_stretch *stretch = add(made, start + site->copy_at - length, size, made->insn);
    memcpy(stretch->marks, marks, count * sizeof *marks);
    stretch->marks_used = (uint8_t)count;
    stretch->is_syscall = false;
}

static void stretches_of_step(struct stretches *made)
{
    struct tl_copy copy;
    uint64_t start = made->site->trampoline + made->site->copy_at, slot = start + made->site->step_at;
    mark_once(add(made, start, 1, made->insn), TL_MARK_BEFORE, made->site->addr);
    if (!tl_insn_step(made->insn, slot, &copy))
        add_copy(made, slot, copy.length, made->insn, &copy);
}

static void stretches_of_copy(struct stretches *made)
{
    struct tl_copy copy;
    const struct tl_site *site = made->site;
    uint64_t start = site->trampoline + site->copy_at, next = made->insn->addr + made->insn->length;
    if (tl_insn_relocate(made->insn, start, &copy))
        return;
    bool behind = site->after.kind != TL_HOOK_NONE;
    size_t size = behind ? way_back(&copy) : copy.length;
    add_copy(made, start, size, made->insn, &copy);
    if (!behind)
        return;
    add_hook(made, &site->after, start + size, next);
    uint64_t jump = site->trampoline + site->trampoline_size - TL_JUMP_BYTES;
    mark_once(add(made, jump, TL_JUMP_BYTES, made->insn), TL_MARK_AFTER, next);
}

static void stretches_of_taken(struct stretches *made)
{
    struct tl_copy copy;
    const struct tl_site *site = made->site;
    if (tl_insn_relocate_taken(made->insn, site->trampoline, &copy))
        return;
    add_copy(made, site->trampoline, copy.length, made->insn, &copy);
    add_hook(made, &site->hook, site->trampoline + copy.length, made->insn->target);
    uint64_t jump = site->trampoline + site->trampoline_size - TL_JUMP_BYTES;
    mark_once(add(made, jump, TL_JUMP_BYTES, made->insn), TL_MARK_AFTER, made->insn->target);
}

static void stretches_of_beyond(struct stretches *made)
{
    struct tl_piece pieces[TL_PIECES_MAX];
    const struct tl_site *site = made->site;
    add_front(made, site->beyond);
    unsigned count = tl_beyond_pieces(site, site->beyond + site->copy_at, pieces);
    for (unsigned i = 0; i < count; i++)
        add_copy(made, pieces[i].addr, pieces[i].length, &pieces[i].insn, &pieces[i].copy)->behind = i > 0;
}

unsigned tl_trampoline_stretches(const struct tl_site *site, struct tl_stretch stretches[TL_STRETCHES_MAX])
{
    struct tl_insn insn;
    size_t known = site->text_length < sizeof site->text ? site->text_length : sizeof site->text;
    unsigned at = site->guard_at;
    if (!site->trampoline || at >= known || tl_insn_decode(site->text + at, known - at, site->addr + at, &insn))
        return 0;
    struct stretches made = {.site = site, .insn = &insn, .stretches = stretches};
    if (site->mode == TL_SITE_TAKEN) {
        stretches_of_taken(&made);
    } else {
        add_front(&made, site->trampoline);
        if (site->step_at)
            stretches_of_step(&made);
        else
            stretches_of_copy(&made);
    }
    if (site->beyond)
        stretches_of_beyond(&made);
    return made.count;
}
