/* SPDX-License-Identifier: MIT
 *
 * Instead of the function: a handler that redirects the registers. The program asks for the time, and always gets the
 * same.
 */
#include <stdio.h>
#include <time.h>

#include <trapline/trapline.h>

/* Return to the caller at once, with a value of ours. */
static int always_the_same(struct tl_probe *probe, struct tl_regs *regs)
{
    const uint64_t *stack = (const uint64_t *)regs->rsp;

    regs->rax = (uint64_t)(time_t)probe->context;
    regs->rip = *stack;
    regs->rsp += sizeof *stack;
    return 1;
}

static __attribute__((noinline)) time_t now(void)
{
    return time(NULL);
}

int main(void)
{
    struct tl_probe probe = {.size = sizeof probe, .symbol = "now", .pre = always_the_same, .context = (void *)86399};
    struct tl_error error;

    if (tl_probe_register(&probe, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    time_t then = now();
    printf("it is %s", asctime(gmtime(&then)));
    tl_probe_unregister(&probe);
    return now() == then;
}
