/* SPDX-License-Identifier: MIT
 *
 * What the instruction in front of a place has done to memory. Where it begins is not known: of all that end there,
 * those are left out that cannot have hit what was hit, and the longest of the others is taken, since prefixes belong
 * to it. A string instruction that is not over stands at the place itself.
 */
#include "hwbp_deed.h"

#include "engine.h"
#include "hit/broker.h"
#include "hwbp.h"

bool hwbp_concerns(const struct view *view, const struct deed *deed)
{
    for (unsigned i = 0; i < deed->count; i++) {
        const struct tl_touch *touch = &deed->touches[i];
        bool watched = touch->access & TL_INSN_WRITES || view->access & TL_HWBP_READ;
        if (watched && touch->addr < view->address + view->length && view->address < touch->addr + touch->size)
            return true;
    }
    return false;
}

static bool is_deed(const uint8_t *text, size_t length, const struct tl_context *context, uint64_t addr,
                    const struct view *view, struct deed *deed)
{
    const uint64_t registers[16] = {context->rax, context->rcx, context->rdx, context->rbx, context->rsp, context->rbp,
                                    context->rsi, context->rdi, context->r8,  context->r9,  context->r10, context->r11,
                                    context->r12, context->r13, context->r14, context->r15};
    struct tl_insn insn;
    if (tl_insn_decode(text, length, addr, &insn))
        return false;
    if (addr == context->rip ? !(tl_insn_access(&insn) & TL_INSN_REPEATS) : insn.length != length)
        return false;
    deed->count = tl_insn_touches(&insn, registers, context->rflags, deed->touches);
    return hwbp_concerns(view, deed);
}

bool hwbp_find_deed(const struct tl_context *context, const struct view *view, struct deed *deed)
{
    union {
        uint64_t words[4];
        uint8_t bytes[32];
    } text;
    for (unsigned i = 0; i < 4; i++)
        if (!onhit_peek(context->rip - 16 + i * 8, &text.words[i]))
            text.words[i] = 0;
    if (is_deed(text.bytes + 16, TL_INSN_MAX, context, context->rip, view, deed))
        return true;
    for (unsigned length = TL_INSN_MAX; length; length--)
        if (is_deed(text.bytes + 16 - length, length, context, context->rip - length, view, deed))
            return true;
    return false;
}
