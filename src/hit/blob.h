/* SPDX-License-Identifier: MIT
 *
 * The runtime as bytes: position independent, to be mapped into a target read-only and executable.
 */
#ifndef TRAPLINE_BLOB_H
#define TRAPLINE_BLOB_H

#include <stddef.h>
#include <stdint.h>

/* The first bytes of the image. */
struct tl_blob_head {
    uint64_t area;   /* where the target has mapped its hit area */
    uint32_t enter;  /* offsets of the entry points: for tl_gate.enter… */
    uint32_t claim;  /* … and for tl_gate.claim */
    uint64_t broker; /* where the target has its struct tl_broker, or 0 */
    uint32_t broker_entry, broker_pass, broker_restorer, guard_entry, guard_asleep; /* src/hit/broker.h */
    uint32_t watch;                                                                 /* src/hit/watch.h */
};

extern const uint8_t tl_blob[];
extern const size_t tl_blob_size;

/* Set the address of the hit area in a copy of the image, before it is mapped anywhere. */
void tl_blob_prepare(uint8_t *copy, uint64_t area);
/* The same for the address of the broker. */
void tl_blob_set_broker(uint8_t *copy, uint64_t broker);
/* Offsets from the start of the image. */
uint32_t tl_blob_enter(void);
uint32_t tl_blob_claim(void);
/* Of what src/hit/broker.h describes. */
uint32_t tl_blob_broker_entry(void);
uint32_t tl_blob_broker_pass(void);
uint32_t tl_blob_broker_restorer(void);
uint32_t tl_blob_guard_entry(void);
uint32_t tl_blob_guard_asleep(void);
/* Of src/hit/watch.h. */
uint32_t tl_blob_watch(void);

#endif
