/* SPDX-License-Identifier: MIT
 *
 * Somebody else's program: only installed headers, C11, and C++ as well.
 */
#include <stdio.h>
#include <string.h>

#include <trapline/trapline.h>

static int hits;

#ifdef __cplusplus
extern "C"
#endif
    __attribute__((noinline)) int
    probed(int n);
int probed(int n)
{
    __asm__ volatile("" : "+r"(n)); /* so that calls are calls */
    return n + 1;
}

static int on_hit(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    hits += (int)tl_regs_argument(regs, 0);
    return 0;
}

int main(void)
{
    struct tl_probe probe;
    struct tl_error error;
    memset(&probe, 0, sizeof probe);
    probe.size = sizeof probe;
    probe.symbol = "probed";
    probe.pre = on_hit;
    if (tl_probe_register(&probe, &error)) {
        fprintf(stderr, "%s (%s)\n", error.text, tl_errno_name(-error.code));
        return 1;
    }
    int sum = probed(3) + probed(4);
    if (tl_probe_unregister(&probe))
        return 2;
    printf("%d hits, %d, version %s\n", hits, sum + probed(1), tl_version());
    return 0;
}
