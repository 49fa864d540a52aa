/* SPDX-License-Identifier: MIT
 *
 * From what is in the text to what should be: one patch operation for any number of sites. Afterwards a site is patched
 * with its plan's bytes, or the program's own bytes are back.
 *
 * Where a file was unloaded with probes in it, nothing is to be put back; neither where somebody else has written over
 * our bytes: then they are his.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

/* What is there now is the program's bytes, ours, or those of a site that is being replaced; up to where the longest of
 * these ends. */
static struct tl_patch patch_of(const struct site *site)
{
    const struct site *old = site->replaces && site->replaces->patched ? site->replaces : NULL;
    uint8_t ours[TL_INSN_MAX], there[TL_INSN_MAX];
    struct tl_patch patch = {.addr = site->plan.addr, .length = site->plan.own_length};
    if (old && old->plan.own_length > patch.length)
        patch.length = old->plan.own_length;
    memcpy(ours, site->plan.text, sizeof ours);
    memcpy(ours, site->bytes, site->plan.own_length);
    memcpy(there, site->plan.text, sizeof there);
    if (old)
        memcpy(there, old->bytes, old->plan.own_length);
    memcpy(patch.expect, site->wanted ? there : ours, patch.length);
    memcpy(patch.bytes, site->wanted ? ours : there, patch.length);
    return patch;
}

/* Our bytes are not there any more: nothing to undo. */
static bool is_gone(const struct site *site)
{
    uint8_t now[TL_INSN_MAX];
    return tl_self_read(engine.self, site->plan.addr, now, site->plan.own_length) ||
           memcmp(now, site->bytes, site->plan.own_length) != 0;
}

/* Traps of sites are known while their bytes are in the text, or on their way; behind that, threads may still come from
 * there. */
static void tell(struct site *const *sites, size_t count, bool patched)
{
    for (size_t i = 0; i < count; i++)
        tl_traps_part_gone(sites[i]->part, !sites[i]->patched && !(patched && sites[i]->wanted));
}

int text_update(struct site *const *sites, size_t count, size_t *failed, struct tl_error *error)
{
    struct tl_patch *patches = calloc(count + 1, sizeof *patches);
    size_t *which = calloc(count + 1, sizeof *which);
    int code = patches && which ? 0 : tl_fail(error, -ENOMEM, "out of memory");
    bool comes = false, goes = false;
    *failed = count;
    for (size_t i = 0; i < count; i++) {
        comes = comes || (sites[i]->wanted && !sites[i]->patched);
        goes = goes || (!sites[i]->wanted && sites[i]->patched);
    }
    if (!code && comes) {
        tell(sites, count, true);
        code = engine_tell(sites, count, error);
    }
    while (!code) {
        size_t used = 0, bad = SIZE_MAX;
        for (size_t i = 0; i < count; i++) {
            if (sites[i]->wanted == sites[i]->patched)
                continue;
            which[used] = i;
            patches[used++] = patch_of(sites[i]);
        }
        if (!used)
            break;
        code = tl_self_patch(engine.self, patches, used, &bad, error);
        for (size_t i = 0; i < used && !code; i++)
            sites[which[i]]->patched = sites[which[i]]->wanted;
        if ((code != -EBUSY && code != -EFAULT) || bad >= used)
            break;
        *failed = which[bad];
        struct site *site = sites[which[bad]];
        if (site->wanted || !is_gone(site))
            break;
        site->patched = false; /* and again without it */
        code = 0;
    }
    if (goes || code) {
        tell(sites, count, false);
        engine_tell(sites, count, NULL);
    }
    free(patches);
    free(which);
    return code;
}
