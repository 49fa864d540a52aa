/* SPDX-License-Identifier: MIT
 *
 * A fault handler: a program reads through null pointers at one place, and survives it. What it would have read is 0.
 */
#include <signal.h>
#include <stdio.h>

#include <trapline/trapline.h>

__asm__(".globl length_of\n"
        ".type length_of, @function\n"
        "length_of: mov 8(%rdi), %rax\n" /* the probed instruction: 4 bytes */
        "           ret\n"
        ".size length_of, . - length_of\n");
struct string {
    const char *bytes;
    unsigned long length;
};
unsigned long length_of(const struct string *string);

static int reads_zero(struct tl_probe *probe, struct tl_regs *regs, const struct tl_fault *fault)
{
    (void)probe;
    if (fault->where != TL_FAULT_IN_INSTRUCTION || fault->signal != SIGSEGV)
        return 0;
    printf("nothing can be read at %lu\n", (unsigned long)fault->address);
    regs->rax = 0;
    regs->rip += 4;
    return 1;
}

int main(void)
{
    struct tl_probe probe = {.size = sizeof probe, .symbol = "length_of", .fault = reads_zero};
    struct tl_error error;
    const struct string string = {"abc", 3};

    if (tl_probe_register(&probe, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    printf("%lu\n", length_of(&string));
    printf("%lu\n", length_of(NULL));
    tl_probe_unregister(&probe);
    return 0;
}
