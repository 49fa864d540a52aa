/* SPDX-License-Identifier: MIT
 *
 * A hash table from a word that is not 0 (an address, a pointer) to a pointer. Room is made beforehand, so that what
 * has been prepared cannot fail any more.
 */
#ifndef TRAPLINE_LIB_TABLE_H
#define TRAPLINE_LIB_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table {
    struct table_slot {
        uint64_t key;
        void *value;
    } * slots;
    size_t room, count; /* room: 0 or a power of two */
};

/* See that `more` further keys find room. 0 or -ENOMEM. */
int table_reserve(struct table *table, size_t more);
void table_put(struct table *table, uint64_t key, void *value); /* the key is not there, and room is reserved */
void *table_get(const struct table *table, uint64_t key);       /* or NULL */
void table_remove(struct table *table, uint64_t key);           /* the key is there */
void table_free(struct table *table);

#endif
