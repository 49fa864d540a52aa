/* SPDX-License-Identifier: MIT */
#include "hwbp/attr.h"

#include <errno.h>

static bool is_power_of_two(uint64_t n)
{
    return n && !(n & (n - 1));
}

static int check_shape(const struct tl_hwbp_attr *attr)
{
    if (attr->access == TL_ACCESS_X)
        return attr->length == sizeof(long) ? 0 : -EINVAL;
    if (attr->access != TL_ACCESS_W && attr->access != TL_ACCESS_RW)
        return -EINVAL;
    if (!is_power_of_two(attr->length) || attr->addr & (attr->length - 1))
        return -EINVAL;
    /* A larger range takes the address masks that some AMD processors have. */
    return attr->length > TL_HWBP_LENGTH_MAX ? -EOPNOTSUPP : 0;
}

int tl_hwbp_check(const struct tl_hwbp_attr *attr, bool privileged)
{
    if (attr->addr + attr->length < attr->addr)
        return -EINVAL;
    int error = check_shape(attr);
    if (error)
        return error;
    uint64_t last = attr->addr + (attr->access == TL_ACCESS_X ? 0 : attr->length - 1);
    if (last < TL_USER_SPACE_END)
        return 0;
    if (attr->exclude_kernel)
        return -EINVAL;
    return privileged ? 0 : -EPERM;
}

uint64_t tl_hwbp_split(uint64_t addr, uint64_t length, struct tl_hwbp_piece *pieces, uint64_t room)
{
    uint64_t count = 0;
    if (addr + length < addr)
        return 0;
    while (length) {
        /* The largest piece that begins here: greedy is best, as sizes are powers of two and alignments divide. */
        uint8_t size = TL_HWBP_LENGTH_MAX;
        while (size > length || addr % size)
            size /= 2;
        if (count < room)
            pieces[count] = (struct tl_hwbp_piece){addr, size};
        count++;
        addr += size;
        length -= size;
    }
    return count;
}
