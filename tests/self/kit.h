/* SPDX-License-Identifier: MIT
 *
 * A handle on this process, and probes that do nothing on made-up functions: function i returns i.
 */
#ifndef TESTS_SELF_KIT_H
#define TESTS_SELF_KIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/self/self.h"
#include "probe/traps.h"
#include "symbol/symbol.h"

enum { SUBJECTS = 10000, SUBJECT_BYTES = 8 };

typedef int subject(void);
static inline subject *subject_at(size_t i)
{
    extern const char first_subject[];
    return (subject *)(uintptr_t)(first_subject + i * SUBJECT_BYTES);
}

struct kit {
    struct tl_self *self;
    struct tl_modules modules;
    struct tl_site *sites;
    size_t count;
    struct tl_plan plan;
    struct tl_traps_part **parts;
    size_t part_count;
    struct tl_patch *in, *out;
    size_t patch_count;
    bool mapped;
};

/* All return 0, or -errno with a message on stderr. `own`: the code of this program is not guarded. */
int kit_open(struct kit *kit);
/* Plan and map sites on the first instruction of the subjects from `first` on. tactics as in struct tl_plan_options. */
int kit_plan(struct kit *kit, size_t first, size_t count, uint32_t tactics);
int kit_publish(struct kit *kit);
int kit_in(struct kit *kit);
int kit_out(struct kit *kit);
int kit_unpublish(struct kit *kit);
int kit_wait_until_empty(struct kit *kit); /* until no thread is in a trampoline any more; the text is restored */
void kit_drop(struct kit *kit);            /* the plan: nobody may be inside */
int kit_arm(struct kit *kit);
/* Disarm. The handle stays for the next kit_open: what guards were mapped stays in its place, which threads' stacks may
 * take otherwise, so that it cannot be had again. */
int kit_close(struct kit *kit);
int kit_end(struct kit *kit); /* for good */

/* Whether the subjects' text is as in the file. */
bool text_is_original(void);
/* How many mappings of ours there are, by the kernel's word; how many descriptors are open; how many children. */
size_t count_lines(const char *path, const char *with);
size_t count_descriptors(void);

#endif
