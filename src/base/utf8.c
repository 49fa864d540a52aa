/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

size_t tl_utf8_length(const unsigned char *s, size_t available)
{
    if (s[0] < 0x80)
        return 1;
    static const struct {
        unsigned char first, last, low, high, length; /* of the first byte; of the second byte */
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        size_t length = forms[i].length;
        if (s[0] < forms[i].first || s[0] > forms[i].last)
            continue;
        if (length > available || s[1] < forms[i].low || s[1] > forms[i].high)
            return 0;
        for (size_t j = 2; j < length; j++)
            if (s[j] < 0x80 || s[j] > 0xbf)
                return 0;
        return length;
    }
    return 0;
}
