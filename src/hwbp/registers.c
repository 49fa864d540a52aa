/* SPDX-License-Identifier: MIT */
#include "hwbp/registers.h"

#include <errno.h>

enum { GLOBAL_EXACT = 1 << 9, RW_EXECUTE = 0, RW_WRITE = 1, RW_IO = 2, RW_READ_WRITE = 3, FIELDS_AT = 16 };

/* The two bits of a length, which are its own inverse: 0, 1, 3, 2 for 1, 2, 4, 8. */
static int length_bits(unsigned length)
{
    switch (length) {
    case 1:
        return 0;
    case 2:
        return 1;
    case 4:
        return 3;
    case 8:
        return 2;
    default:
        return -EINVAL;
    }
}

static int access_bits(unsigned access)
{
    switch (access) {
    case TL_ACCESS_X:
        return RW_EXECUTE;
    case TL_ACCESS_W:
        return RW_WRITE;
    case TL_ACCESS_RW:
        return RW_READ_WRITE;
    default:
        return -EINVAL;
    }
}

int tl_dr7_encode(const struct tl_debug_control *control, uint64_t *dr7)
{
    uint64_t value = control->exact ? GLOBAL_EXACT : 0;
    for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++) {
        const struct tl_debug_register *reg = &control->registers[n];
        if (!reg->local && !reg->global && !reg->access)
            continue;
        int access = access_bits(reg->access), length = length_bits(reg->length);
        if (access < 0 || length < 0 || (access == RW_EXECUTE && length))
            return -EINVAL;
        value |= (uint64_t)reg->local << 2 * n | (uint64_t)reg->global << (2 * n + 1);
        value |= (uint64_t)(access | length << 2) << (FIELDS_AT + 4 * n);
    }
    *dr7 = value;
    return 0;
}

void tl_dr7_decode(uint64_t dr7, struct tl_debug_control *control)
{
    static const uint8_t accesses[] = {TL_ACCESS_X, TL_ACCESS_W, 0, TL_ACCESS_RW};
    static const uint8_t lengths[] = {1, 2, 8, 4};
    control->exact = dr7 & GLOBAL_EXACT;
    for (unsigned n = 0; n < TL_HWBP_REGISTERS; n++) {
        unsigned fields = dr7 >> (FIELDS_AT + 4 * n) & 15;
        control->registers[n] = (struct tl_debug_register){.local = dr7 >> 2 * n & 1,
                                                           .global = dr7 >> (2 * n + 1) & 1,
                                                           .access = accesses[fields & 3],
                                                           .length = lengths[fields >> 2]};
    }
}

void tl_dr6_decode(uint64_t dr6, struct tl_debug_status *status)
{
    *status = (struct tl_debug_status){.hit = dr6 & 15,
                                       .access_detected = dr6 >> 13 & 1,
                                       .single_step = dr6 >> 14 & 1,
                                       .task_switch = dr6 >> 15 & 1,
                                       .bus_lock = !(dr6 >> 11 & 1)};
}
