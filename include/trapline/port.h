/* SPDX-License-Identifier: MIT
 *
 * What a host provides: the few things that the probe core cannot decide by thinking.
 *
 * A host is this process, another process, bare metal, or a scripted fake. All addresses are the target's. All
 * functions return 0 or a negative errno value and, on failure, leave the target as it was before the call. Sizes are
 * in bytes. A host is for one thread at a time, and may want it to be the same all its life; its functions may sleep
 * and allocate, so none is for signal handlers.
 */
#ifndef TRAPLINE_PORT_H
#define TRAPLINE_PORT_H

#include <stddef.h>
#include <stdint.h>

/* A change of code: `length` (1 to 15) bytes at `addr`, all in one page. */
struct tl_patch {
    uint64_t addr;
    uint8_t length;
    uint8_t late;       /* a guard of the broker's: whoever cleans up takes it back last */
    uint8_t expect[15]; /* what must stand there now; otherwise -EBUSY and nothing is written */
    uint8_t bytes[15];
};

/* Map `size` bytes at exactly `addr`. CODE: read and execute, private, content from offset `pool` of the code pool.
 * GATE: read and write, private, wiped on fork, content zero. DATA: read and write, private, copied by fork, content as
 * for CODE. Multiples of the page size (4096). */
enum tl_mapping_kind { TL_MAPPING_CODE, TL_MAPPING_GATE, TL_MAPPING_DATA };
struct tl_mapping {
    uint64_t addr, size, pool;
    enum tl_mapping_kind kind;
};

struct tl_port {
    void *host;

    /* Read `size` bytes of the target's memory, page protection ignored. -EFAULT where not mapped. */
    int (*read)(void *host, uint64_t addr, void *bytes, size_t size);

    /* Stop every task that shares the target's memory, outside of kernel modifications of it; nests. -EAGAIN when one
     * could not be stopped in bounded time (all that were stopped run again), -ESRCH when the target is gone. */
    int (*stop)(void *host);
    /* Undo one stop. Never fails: what is gone is gone. */
    void (*resume)(void *host);

    /* Put `size` bytes into the code pool, before anything is mapped from there. */
    int (*fill)(void *host, uint64_t pool, const void *bytes, size_t size);
    /* Only while stopped. All or none. -EEXIST when an address is taken, -ENOMEM. */
    int (*map)(void *host, const struct tl_mapping *mappings, size_t count);
    /* Only while stopped. Ranges that are not mapped are no error. */
    int (*unmap)(void *host, const struct tl_mapping *mappings, size_t count);
    /* Store 8 bytes into a gate page. */
    int (*set)(void *host, uint64_t addr, uint64_t value);

    /* Only while stopped. Writes in the order given; all or none, as far as -EBUSY goes. The undo record is durable
     * before the first byte changes. */
    int (*patch)(void *host, const struct tl_patch *patches, size_t count);

    /* Only while stopped, text already restored. Moves every thread whose program counter `locate` can map out of the
     * plan's memory. 0 when no thread, and no saved context that could be found on a stack, is left inside; -EAGAIN
     * when one has to run on first (resume, wait a little, stop, ask again). locate's result: 0 moved to *original,
     * -EAGAIN has to run, -ENOENT not ours. Before anything is placed, it tells whether somebody is where locate says
     * -EAGAIN. */
    int (*evacuate)(void *host, int (*locate)(void *context, uint64_t pc, uint64_t *original, int *fix_rcx),
                    void *context);

    /* Only while stopped. Hand the program's signals to the broker whose state (struct tl_broker, src/hit/broker.h) is
     * mapped at `broker`: before any text is patched. -ENOSYS: this program's signals cannot be handed over. NULL in a
     * host without a broker. */
    int (*arm)(void *host, uint64_t broker);
    /* Only while stopped, text restored, nobody inside: the program has its signals back, those that wait included.
     * Nothing to do where nothing is armed. */
    int (*disarm)(void *host);
};

#endif
