/* SPDX-License-Identifier: MIT
 *
 * The fuzz target without a fuzzer: the same inputs each time, for every build and every sanitizer.
 */
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { INPUTS = 20000, SIZE = 512 };

int main(void)
{
    static const uint8_t common[] = {0, 0, 0, 0, 1, 3, 5, 6, 7, 8, 40, 48, 56, 0xff};
    uint64_t seed = 0x2545f4914f6cdd1d;
    uint8_t bytes[SIZE];

    for (int input = 0; input < INPUTS; input++) {
        for (size_t i = 0; i < SIZE; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            /* Small numbers make whole events now and then, random ones do not. */
            bytes[i] = seed & 0x300 ? common[(seed >> 16) % sizeof(common)] : (uint8_t)seed;
        }
        if (input % 4)
            bytes[0] = 0; /* an honest layout, else few get further */
        LLVMFuzzerTestOneInput(bytes, seed >> 32 & (SIZE - 1));
    }
    return 0;
}
