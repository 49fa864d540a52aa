/* SPDX-License-Identifier: MIT
 *
 * The fuzz target, without a fuzzer: pieces of real code, changed a little, and noise that begins as instructions do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "subject.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RUNS = 400000, LONGEST = 96 };

static uint64_t state;

static uint32_t below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state * 0x2545f4914f6cdd1dull) >> 32) % limit;
}

static size_t real_code(const struct tl_subject *subject, uint8_t *data)
{
    const struct tl_range *range = &subject->ranges[below((uint32_t)subject->range_count)];
    uint64_t at = below((uint32_t)range->size), size = 1 + below(LONGEST - 1);
    if (size > range->size - at)
        size = range->size - at;
    memcpy(data, range->bytes + at, size);
    for (uint32_t changes = below(4); changes; changes--)
        data[below((uint32_t)size)] = (uint8_t)below(256);
    return size;
}

static size_t noise(uint8_t *data)
{
    static const uint8_t beginnings[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x64, 0x65, 0x3e, 0x40, 0x48, 0x41, 0x0f,
                                         0xc4, 0xc5, 0x62, 0x8f, 0xff, 0xe8, 0xe9, 0xeb, 0x70, 0xe2, 0xe3, 0xcd, 0xc7};
    size_t size = 1 + below(LONGEST - 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)below(256);
    for (size_t i = 0, prefixes = below(5); i < size && i < prefixes; i++)
        data[i] = beginnings[below(sizeof beginnings)];
    if (below(2) && size > 6)
        data[2 + below(4)] = (uint8_t)(0x05 | below(8) << 3); /* often a rip-relative ModRM byte */
    return size;
}

int main(int argc, char **argv)
{
    struct tl_subject subject;
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20240229;
    state = seed | 1;
    tl_subject_open("libcrypto.so.3", &subject);
    for (int i = 0; i < RUNS; i++) {
        uint8_t *data = malloc(LONGEST + 1); /* of its own, so that a sanitizer sees every byte too far */
        data[0] = (uint8_t)below(256);
        size_t size = i % 2 ? real_code(&subject, data + 1) : noise(data + 1);
        uint8_t *exact = realloc(data, size + 1);
        LLVMFuzzerTestOneInput(exact, size + 1);
        free(exact);
    }
    tl_subject_close(&subject);
    printf("seed %llu: %d inputs\n", (unsigned long long)seed, RUNS);
    return 0;
}
