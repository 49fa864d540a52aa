/* SPDX-License-Identifier: MIT
 *
 * One instruction, seen before and after: which one in a function reads or changes a register? Here: each instruction
 * of `mix` up to its ret, found by trying: what is no instruction is refused.
 */
#include <stdio.h>

#include <trapline/trapline.h>

__asm__(".globl mix\n"
        ".type mix, @function\n"
        "mix: mov %rdi, %rax\n"
        "     imul $3, %rax\n"
        "     add $7, %rax\n"
        "     shr $1, %rax\n"
        "     ret\n"
        ".size mix, . - mix\n");
unsigned long mix(unsigned long n);

enum { MOST = 32 };
static uint64_t before;

static int note(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    before = regs->rax;
    return 0;
}

static void compare(struct tl_probe *probe, struct tl_regs *regs)
{
    if (regs->rax != before)
        printf("mix+%lu: rax becomes %lu\n", (unsigned long)probe->offset, (unsigned long)regs->rax);
}

int main(void)
{
    static struct tl_probe probes[MOST];
    unsigned count = 0;

    for (unsigned offset = 0; offset < 16; offset++) {
        struct tl_probe *probe = &probes[count];
        *probe =
            (struct tl_probe){.size = sizeof *probe, .symbol = "mix", .offset = offset, .pre = note, .post = compare};
        if (tl_probe_register(probe, NULL) == 0)
            count++;
    }
    printf("%u instructions\n", count);
    printf("%lu\n", mix(5));
    while (count)
        tl_probe_unregister(&probes[--count]);
    return 0;
}
