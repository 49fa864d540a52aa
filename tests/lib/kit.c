/* SPDX-License-Identifier: MIT */
#include "kit.h"

#include <stdio.h>

const uint64_t kit_ways[KIT_WAYS] = {0, TL_PROBE_INT3};

void kit_register(struct tl_probe *probe)
{
    struct tl_error error = {.text = ""};
    int code = tl_probe_register(probe, &error);
    if (code)
        fail_msg("register: %d %s", code, error.text);
}

void kit_unregister(struct tl_probe *probe)
{
    assert_int_equal(tl_probe_unregister(probe), 0);
}

uint64_t kit_missed(const struct tl_probe *probe)
{
    uint64_t missed = UINT64_MAX;
    assert_int_equal(tl_probe_missed(probe, &missed), 0);
    return missed;
}

unsigned long kit_text_sum(const void *from, size_t size)
{
    unsigned long sum = 0;
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + ((const unsigned char *)from)[i];
    return sum;
}
