/* SPDX-License-Identifier: MIT
 *
 * Shared by select.c and places.c: the selection while it grows. For threads and signals select.h holds here too.
 * Functions that return int return 0 or -ENOMEM.
 */
#ifndef TRAPLINE_SELECTING_H
#define TRAPLINE_SELECTING_H

#include "probe/select.h"

struct tl_selecting {
    const struct tl_select_options *options;
    const struct tl_modules *modules;
    struct tl_selection *selection;
    size_t probe_room, place_room;
    /* A window of live text, so that thousands of neighbouring sites cost few reads. */
    uint64_t window_addr;
    size_t window_size;
    uint8_t window[65536];
};

/* Append a probe and return it (valid until the next call), or NULL: no memory. */
struct tl_probe *tl_selecting_probe(struct tl_selecting *selecting);

/* Find the places of the probe with index `probe`: its address, or the exits of its function. A refusal goes into
 * probe->why. 0 or -ENOMEM. */
int tl_places_at(struct tl_selecting *selecting, uint32_t probe);
int tl_places_of_exits(struct tl_selecting *selecting, uint32_t probe);

/* One probe for each instruction of `function` of the spec's module. 0 or -ENOMEM. */
int tl_places_every_instruction(struct tl_selecting *selecting, const struct tl_spec *spec,
                                const struct tl_module *module, const struct tl_function *function);

/* Places to sites: sort, merge, read the live text. 0 or -ENOMEM. */
int tl_places_to_sites(struct tl_selecting *selecting);

#endif
