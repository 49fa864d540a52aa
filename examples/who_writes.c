/* SPDX-License-Identifier: MIT
 *
 * Who writes this variable: each change of it, by any thread, with what was there before and where it was written.
 */
#include <pthread.h>
#include <stdio.h>
#include <trapline/trapline.h>

static volatile long balance = 100;

__attribute__((noinline)) static void *deposit(void *amount)
{
    balance += *(long *)amount;
    return NULL;
}

__attribute__((noinline)) static void *withdraw(void *amount)
{
    balance -= *(long *)amount;
    return NULL;
}

static void on_write(struct tl_hwbp *hwbp, struct tl_regs *regs, const struct tl_hwbp_hit *hit)
{
    /* The processor reports behind the instruction that wrote. */
    char *at = (char *)regs->rip;
    char *nearest = at >= (char *)deposit ? (char *)deposit : NULL;
    if (at >= (char *)withdraw && (char *)withdraw > nearest)
        nearest = (char *)withdraw;
    (void)hwbp;
    printf("%ld -> %ld by %s\n", (long)hit->before, (long)hit->now,
           nearest == (char *)deposit ? "deposit" : "withdraw");
}

static void in_a_thread(void *(*function)(void *), long amount)
{
    pthread_t thread;
    if (!pthread_create(&thread, NULL, function, &amount))
        pthread_join(thread, NULL);
}

int main(void)
{
    struct tl_hwbp_options options = {.size = sizeof options,
                                      .access = TL_HWBP_WRITE,
                                      .address = (void *)&balance,
                                      .length = sizeof balance,
                                      .handler = on_write};
    struct tl_hwbp *hwbp;
    struct tl_error error;

    if (tl_hwbp_create(&options, &hwbp, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 77;
    }
    in_a_thread(deposit, 50);
    in_a_thread(withdraw, 30);
    in_a_thread(deposit, 5);

    struct tl_hwbp_counts counts = {.size = sizeof counts};
    tl_hwbp_read(hwbp, &counts);
    printf("%d writes\n", (int)counts.hits);
    tl_hwbp_destroy(hwbp);
    in_a_thread(deposit, 1);
    return 0;
}
