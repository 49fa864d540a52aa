/* SPDX-License-Identifier: MIT
 *
 * From specs to places: which functions of which modules a person means, and at which instructions each has to be
 * probed. Reads symbol tables and text, changes nothing. For one thread at a time, as symbol.h wants it; not for
 * signal handlers.
 */
#ifndef TRAPLINE_SELECT_H
#define TRAPLINE_SELECT_H

#include "insn/sweep.h"
#include "probe/plan.h"
#include "spec/spec.h"
#include "symbol/symbol.h"

enum { TL_PARTS_MAX = 8 };

/* One thing that is counted and shown under one name: an entry, an instruction, or all the exits of a function. */
struct tl_probe {
    const struct tl_spec *spec;
    const struct tl_module *module;
    const struct tl_function *function; /* NULL where no symbol covers the address */
    char *name;                         /* the event's name */
    uint64_t addr;                      /* live */
    bool is_return;
    bool at_entry;
    uint8_t why;    /* enum tl_why: refused as a whole */
    uint8_t tactic; /* after planning: the slowest of its places' */
    uint8_t part_count;
    struct tl_part parts[TL_PARTS_MAX]; /* of a return probe's function: live addresses */
};

/* One instruction at which one probe has to act. */
struct tl_place {
    uint64_t addr; /* live */
    uint32_t probe;
    uint32_t site; /* index in sites, or UINT32_MAX when refused */
    uint8_t exit;  /* enum tl_exit_kind + 1, or 0 */
    uint8_t why;   /* enum tl_why */
};

/* What was selected. Several places may share a site. */
struct tl_selection {
    struct tl_probe *probes;
    size_t probe_count;
    struct tl_place *places; /* by site, then in the order of the specs */
    size_t place_count;
    struct tl_site *sites; /* by address; ready for tl_plan_build but for the hooks */
    size_t site_count;
};

struct tl_select_options {
    bool every_instruction; /* each instruction of the named functions is a probe of its own */
    /* Reads the live target; 0 or -errno. */
    int (*read)(void *host, uint64_t addr, void *bytes, size_t size);
    void *host;
    /* Told what a person may want to know (aliases, copies, what an ifunc was resolved to); `detail`: about a member of
     * a glob, where there may be hundreds. May be NULL. */
    void (*notice)(void *context, bool detail, const char *text);
    void *notice_context;
};

/* Select for `count` specs. A spec that names nothing fails the whole call: -ENOENT with a text, *failed the spec's
 * index. A function or place that cannot be probed is kept, with its reason in `why`. -ENOMEM. */
int tl_select(const struct tl_spec *const *specs, size_t count, const struct tl_modules *modules,
              const struct tl_select_options *options, struct tl_selection *selection, size_t *failed,
              struct tl_error *error);
void tl_selection_free(struct tl_selection *selection); /* a zeroed one is allowed */

#endif
