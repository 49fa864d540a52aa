/* SPDX-License-Identifier: MIT
 *
 * What the functions of the public headers have in common.
 */
#ifndef TRAPLINE_LIB_FRONTEND_H
#define TRAPLINE_LIB_FRONTEND_H

#include "batch.h"

struct frontend {
    enum entry_kind kind;
    /* Copy the user's struct into the entry, if it is sound. */
    int (*check)(const void *theirs, struct entry *entry, struct tl_error *error);
};

int frontend_check_flags(uint64_t flags, uint64_t known, struct tl_error *error);
int frontend_register(const struct frontend *frontend, void *const *structs, size_t count, size_t *failed,
                      struct tl_error *error);
int frontend_unregister(const struct frontend *frontend, void *const *structs, size_t count, size_t *failed);
int frontend_switch(const struct frontend *frontend, const void *key, bool on);
int frontend_missed(const struct frontend *frontend, const void *key, uint64_t *missed);
int frontend_place(const struct frontend *frontend, const void *key, void **address, const char **tactic);

#endif
