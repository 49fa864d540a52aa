/* SPDX-License-Identifier: MIT
 *
 * What the pads of pads.inc call.
 */
#include <stddef.h>
#include <stdint.h>

uint64_t bench_counter;
__thread uint64_t bench_guard;
void bench_count(void);

void __attribute__((noinline)) bench_count(void)
{
    bench_counter++;
}

static int handle(void *registers)
{
    bench_counter += registers != NULL;
    return 0;
}
int (*bench_handler)(void *) = handle;
