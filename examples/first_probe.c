/* SPDX-License-Identifier: MIT
 *
 * First probe: who calls this function, and with what?
 */
#include <stdio.h>

#include <trapline/trapline.h>

static __attribute__((noinline)) int square(int n)
{
    return n * n;
}

static int on_square(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    printf("square(%d) is called\n", (int)tl_regs_argument(regs, 0));
    return 0;
}

int main(void)
{
    struct tl_probe probe = {.size = sizeof probe, .symbol = "square", .pre = on_square};
    struct tl_error error;

    if (tl_probe_register(&probe, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    printf("%d\n", square(3) + square(4));
    tl_probe_unregister(&probe);
    printf("%d\n", square(5));
    return 0;
}
