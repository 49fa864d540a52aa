/* SPDX-License-Identifier: MIT
 *
 * What the processor has of vector state, for vector.S.
 */
#include <cpuid.h>

#include "hit/call_state.h"

enum { STATE_SSE = 2, CPUID_OSXSAVE = 1 << 27, CPUID_XGETBV1 = 1 << 2, CPUID_AVX512BW = 1 << 30 };

uint32_t tl_vector_components, tl_vector_can_ask, tl_vector_has_avx, tl_vector_wide_masks;

void tl_vector_setup(void)
{
    uint32_t a, b, c, d, high;
    tl_vector_components = STATE_X87 | STATE_SSE;
    tl_vector_can_ask = tl_vector_has_avx = tl_vector_wide_masks = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & CPUID_OSXSAVE))
        return;
    __asm__("xgetbv" : "=a"(tl_vector_components), "=d"(high) : "c"(0));
    tl_vector_has_avx = (tl_vector_components & STATE_YMM) != 0;
    tl_vector_can_ask = __get_cpuid_count(13, 1, &a, &b, &c, &d) && (a & CPUID_XGETBV1);
    tl_vector_wide_masks = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & CPUID_AVX512BW);
}
