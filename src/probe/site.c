/* SPDX-License-Identifier: MIT
 *
 * What stands at a place now, and whether it may be touched.
 *
 * The live text is compared with the file: where they differ somebody else has patched the place (a debugger's
 * breakpoint, another tracer's jump) and we keep out. For an instruction shorter than a jump that includes the bytes
 * behind it, which a punned jump would take as part of its operand.
 */
#include "probe/site.h"

#include <string.h>

enum { JUMP_BYTES = 5, BREAKPOINT = 0xcc };

bool tl_is_signal_restorer(const uint8_t *text, size_t available)
{
    static const uint8_t restorer[TL_RESTORER_CALL + 2] = {0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05};
    return available >= sizeof restorer && !memcmp(text, restorer, sizeof restorer);
}

/* Code that runs without a stack under it: a hook would write where nothing is mapped. musl ends a detached thread so.
 */
static const char *const stackless[] = {"__unmapself"};

static bool is_stackless(const struct tl_function *function)
{
    for (size_t i = 0; function && function->name && i < sizeof stackless / sizeof *stackless; i++)
        if (!strcmp(function->name, stackless[i]))
            return true;
    return false;
}

/* Of the bytes that matter all have to be the file's, except that a debugger may have breakpoints on instructions
 * behind ours: the planner makes its jump right with them and without. */
static enum tl_why compare(struct tl_site *site, const uint8_t *file, size_t matters)
{
    memcpy(site->original, file, matters);
    for (size_t i = 0; i < matters; i++) {
        if (site->text[i] == file[i])
            continue;
        if (!i || site->text[i] != BREAKPOINT || !(site->boundaries >> i & 1))
            return TL_WHY_CHANGED;
        site->foreign |= 1u << i;
    }
    return TL_WHY_NONE;
}

enum tl_why tl_site_inspect(const struct tl_module *module, const struct tl_function *function, tl_site_text *text,
                            void *context, struct tl_site *site)
{
    const struct tl_object *object = module->object;
    uint64_t file_addr = site->addr - module->bias;
    size_t available;
    const uint8_t *file = tl_object_text(object, file_addr, &available);
    struct tl_insn insn;
    if (!file)
        return TL_WHY_NOT_CODE;
    if (tl_insn_decode(file, available, site->addr, &insn))
        return TL_WHY_UNDECODABLE;
    if (tl_object_in_rseq(object, file_addr))
        return TL_WHY_RSEQ;
    if (site->guard != TL_GUARD_RETURN && tl_is_signal_restorer(file, available))
        return TL_WHY_RESTORER;
    if (is_stackless(function))
        return TL_WHY_NO_STACK;

    site->text_length = (uint8_t)text(context, site->addr, site->text, sizeof site->text);
    if (site->text_length < insn.length)
        return TL_WHY_NOT_CODE;
    if (available > site->text_length)
        available = site->text_length;
    /* No jump ends behind `most`, and neither it nor what is passed over to a guarded system call needs more. */
    size_t most = insn.length + JUMP_BYTES - 1u, matters = insn.length < JUMP_BYTES ? most : insn.length;
    size_t reach = most > site->guard_at ? most : site->guard_at + 1u;
    site->boundaries = 1;
    for (size_t at = insn.length; at < available && at < reach; at += insn.length) {
        site->boundaries |= 1u << at;
        if (tl_object_in_rseq(object, file_addr + at))
            site->pinned |= 1u << at;
        if (tl_insn_decode(file + at, available - at, site->addr + at, &insn))
            break;
    }
    return compare(site, file, matters < available ? matters : available);
}
