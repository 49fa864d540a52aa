/* SPDX-License-Identifier: MIT
 *
 * Registration and its like, of any number of entries at once: all or nothing.
 */
#ifndef TRAPLINE_LIB_BATCH_H
#define TRAPLINE_LIB_BATCH_H

#include "engine.h"

/* A new entry of this kind for the user's struct `key`, whose fields have been checked and copied into it by the
 * caller; or NULL. */
struct entry *entry_new(const void *key, enum entry_kind kind);
void entry_free(struct entry *entry); /* NULL is allowed */
/* What is common to the three kinds. */
uint64_t entry_flags(const struct entry *entry);
struct wanted entry_wanted(const struct entry *entry);

/* engine_begin has been called. On success the entries are the engine's; else they stay the caller's. *failed: the one
 * that was refused, or `count`. */
int batch_register(struct entry **entries, size_t count, size_t *failed, struct tl_error *error);
/* The structs `keys` of this kind. engine_enter has been called. 0 or -ENOENT, then nothing has changed. */
int batch_unregister(const void *const *keys, size_t count, enum entry_kind kind, size_t *failed);
int batch_switch(const void *key, enum entry_kind kind, bool on);

/* The registered entry, or NULL. */
struct entry *entry_find(const void *key, enum entry_kind kind);
/* What it has missed up to now. */
uint64_t entry_missed(const struct entry *entry);

#endif
