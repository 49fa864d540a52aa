/* SPDX-License-Identifier: MIT
 *
 * The fuzz target of plans on inputs that are the same in each run: text of common instructions with noise in it.
 */
#include <stdint.h>
#include <string.h>

#include "../spec/chance.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RUNS = 6000, SIZE_MAX_INPUT = 3000 };

static size_t make_input(struct chance *chance, uint8_t *bytes)
{
    static const char *const common[] = {"\x55",         "\x53",         "\x41\x57",         "\x48\x89\xe5",
                                         "\x5d\xc3",     "\x31\xc0",     "\x48\x83\xec\x18", "\x0f\x05",
                                         "\x85\xff",     "\x74\x20",     "\xff\xd0",         "\xf3\x0f\x1e\xfa",
                                         "\x89\x44\x24", "\x48\x8b\x05", "\xe8\x11\x22\x33", "\x0f\x84\x12\x13"};
    size_t size = 16 + chance_below(chance, SIZE_MAX_INPUT - 16), at = 0;
    while (at < size) {
        if (at < size / 2 || chance_below(chance, 8) == 0) {
            bytes[at++] = (uint8_t)chance_bits(chance);
            continue;
        }
        const char *insn = common[chance_below(chance, sizeof common / sizeof *common)];
        for (; *insn && at < size; insn++)
            bytes[at++] = (uint8_t)*insn;
    }
    return size;
}

int main(void)
{
    static uint8_t bytes[SIZE_MAX_INPUT];
    struct chance chance = {42};
    for (int run = 0; run < RUNS; run++) {
        size_t size = make_input(&chance, bytes);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    return 0;
}
