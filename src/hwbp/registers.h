/* SPDX-License-Identifier: MIT
 *
 * The debug registers' fields (Intel SDM vol. 3B, 18.2.3 and 18.2.4; AMD APM vol. 2, 13.1.1). Pure: safe in any thread
 * and in signal handlers.
 *
 *   DR7  bit 2n, 2n + 1   register n enabled for the task (L), for good (G)
 *        bit 8, 9         exact (LE, GE): no meaning any more; GE is set by the kernel, out of custom
 *        bit 10           always 1
 *        bit 16 + 4n      R/W: 0 execute, 1 write, 3 read or write; then 2 bits LEN: 0, 1, 3, 2 for 1, 2, 4, 8 bytes
 *   DR6  bit n            the condition of register n was met
 *        bit 13, 14, 15   a debug register was touched, single step, task switch; bit 11 is 0 after a bus lock
 */
#ifndef TRAPLINE_HWBP_REGISTERS_H
#define TRAPLINE_HWBP_REGISTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "hwbp/attr.h"

struct tl_debug_register {
    bool local, global; /* enabled */
    uint8_t access;     /* TL_ACCESS_X, W or RW */
    uint8_t length;     /* 1, 2, 4 or 8; of X: 1 */
};

struct tl_debug_control {
    struct tl_debug_register registers[TL_HWBP_REGISTERS];
    bool exact; /* GE */
};

/* The value of DR7, without bit 10 (which reads as 1 whatever is written). 0, or -EINVAL: an access or length that it
 * cannot express. A register that is not enabled and has access 0 leaves its fields 0. */
int tl_dr7_encode(const struct tl_debug_control *control, uint64_t *dr7);
/* The opposite. R/W 2 (I/O ports) gives access 0. A register of which all fields are 0 reads as not enabled, access X,
 * length 1: that is what these bits say. */
void tl_dr7_decode(uint64_t dr7, struct tl_debug_control *control);

struct tl_debug_status {
    uint8_t hit; /* bit n: the condition of register n was met, whether it is enabled or not */
    bool access_detected, single_step, task_switch, bus_lock;
};
void tl_dr6_decode(uint64_t dr6, struct tl_debug_status *status);

#endif
