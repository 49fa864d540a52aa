/* SPDX-License-Identifier: MIT
 *
 * First probe: who calls this function, and with what?
 */
#include <stdio.h>

#include <trapline/trapline.h>

__attribute__((noinline)) int square(int n);
int square(int n)
{
    return n * n;
}

static int on_square(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    printf("square(%d) is called\n", (int)tl_regs_argument(regs, 0));
    return 0;
}

int main(int argc, char **argv)
{
    (void)argv;
    struct tl_probe probe = {.size = sizeof probe, .symbol = "square", .pre = on_square};
    struct tl_error error;

    if (tl_probe_register(&probe, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    printf("%d\n", square(argc + 2) + square(argc + 3));
    tl_probe_unregister(&probe);
    printf("%d\n", square(argc + 4));
    return 0;
}
