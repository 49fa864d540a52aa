/* SPDX-License-Identifier: MIT
 *
 * The real programs that the tests of this room read: their code, and the ranges of their functions.
 */
#ifndef TRAPLINE_TESTS_INSN_SUBJECT_H
#define TRAPLINE_TESTS_INSN_SUBJECT_H

#include "insn/sweep.h"

extern const char *const tl_subjects[]; /* names, NULL at the end */

/* Code that is contiguous: an executable section. */
struct tl_section {
    uint64_t addr, size;
    const uint8_t *bytes;
};

struct tl_subject {
    char path[512];
    struct tl_section *sections;
    size_t section_count;
    struct tl_range *ranges; /* by address, not overlapping */
    size_t range_count;
    uint64_t *entries; /* what symbols and unwind information say is code, by address */
    size_t entry_count;
    void *elf;
    int file;
};

/* Open a subject by its name (a library as the loader finds it, a program as the shell does). Ends the process with a
 * message when it is missing: a test without its subject has failed. */
void tl_subject_open(const char *name, struct tl_subject *subject);
void tl_subject_close(struct tl_subject *subject);

/* Sweep one range with the entries that belong to it. */
void tl_subject_sweep(const struct tl_subject *subject, const struct tl_range *range, struct tl_sweep *sweep);

#endif
