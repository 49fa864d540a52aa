/* SPDX-License-Identifier: MIT
 *
 * What a breakpoint asks for, and whether the hardware can do it: the rules of the kernel's x86 code, in its order.
 * Pure: safe in any thread and in signal handlers.
 */
#ifndef TRAPLINE_HWBP_ATTR_H
#define TRAPLINE_HWBP_ATTR_H

#include <stdbool.h>
#include <stdint.h>

/* Kinds of access, to be combined. The hardware knows X, W and RW (Intel SDM vol. 3B, 18.2.4, R/Wn). */
enum { TL_ACCESS_R = 1, TL_ACCESS_W = 2, TL_ACCESS_RW = 3, TL_ACCESS_X = 4 };

enum { TL_HWBP_LENGTH_MAX = 8, TL_HWBP_REGISTERS = 4 };

struct tl_hwbp_attr {
    uint64_t addr;
    uint64_t length;     /* bytes; of an X breakpoint: 8 (sizeof(long)), as perf_event_open wants it */
    unsigned access;     /* TL_ACCESS_… */
    bool exclude_kernel; /* never about kernel addresses */
};

/* Addresses from here on are the kernel's: user space ends a page below the upper half of the 48-bit canonical form. */
#define TL_USER_SPACE_END 0x7ffffffff000ull

/* 0; -EINVAL: access none, R alone, or X with another; X with a length other than 8; data that is not 1, 2, 4 or 8
 * bytes long or not naturally aligned; addr + length wraps; a kernel address with exclude_kernel. -EOPNOTSUPP: a larger
 * power of two. -EPERM: a kernel address without `privileged`. */
int tl_hwbp_check(const struct tl_hwbp_attr *attr, bool privileged);

/* A data range as pieces that one register each can watch, without gaps or overlap, the fewest possible: how many, of
 * which the first `room` are stored. 0 for a length of 0 or a range that wraps. */
struct tl_hwbp_piece {
    uint64_t addr;
    uint8_t length; /* 1, 2, 4 or 8, aligned */
};
uint64_t tl_hwbp_split(uint64_t addr, uint64_t length, struct tl_hwbp_piece *pieces, uint64_t room);

#endif
