/* SPDX-License-Identifier: MIT
 *
 * A hash table from a word that is not 0 (an address, a pointer) to a pointer. Room is made beforehand, so that what
 * has been prepared cannot fail any more.
 */
#ifndef TRAPLINE_LIB_KEYS_H
#define TRAPLINE_LIB_KEYS_H

#include <stddef.h>
#include <stdint.h>

struct keys {
    struct keys_slot {
        uint64_t key;
        void *value;
    } * slots;
    size_t room, count; /* room: 0 or a power of two */
};

/* See that `more` further keys find room. 0 or -ENOMEM. */
int keys_reserve(struct keys *keys, size_t more);
void keys_put(struct keys *keys, uint64_t key, void *value); /* the key is not there, and room is reserved */
void *keys_get(const struct keys *keys, uint64_t key);       /* or NULL */
void keys_remove(struct keys *keys, uint64_t key);           /* the key is there */
void keys_free(struct keys *keys);

#endif
