/* SPDX-License-Identifier: MIT
 *
 * The return values of malloc in a threaded program: how much is asked for, by how many calls, and is each block
 * aligned?
 *
 * The handlers run inside malloc's callers, in four threads at once: they add to counters, and nothing else.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <trapline/trapline.h>

enum { THREADS = 4, BLOCKS = 1000 };

static atomic_ulong calls, bytes, aligned;

/* What is known at the entry is kept for the return. */
static int on_entry(struct tl_return_instance *instance, struct tl_regs *regs)
{
    size_t size = tl_regs_argument(regs, 0);

    *(size_t *)instance->data = size;
    return size < 100000 || size >= 200000; /* other calls do not interest us */
}

static void on_return(struct tl_return_instance *instance, struct tl_regs *regs)
{
    atomic_fetch_add(&calls, 1);
    atomic_fetch_add(&bytes, *(const size_t *)instance->data);
    atomic_fetch_add(&aligned, tl_regs_return_value(regs) % 16 == 0);
}

static void *allocate(void *argument)
{
    (void)argument;
    for (size_t i = 0; i < BLOCKS; i++) {
        void *volatile block = malloc(100000 + i); /* or the compiler would leave it out */
        free(block);
    }
    return NULL;
}

int main(void)
{
    struct tl_return_probe probe = {.size = sizeof probe,
                                    .symbol = "malloc",
                                    .module = "libc",
                                    .entry = on_entry,
                                    .handler = on_return,
                                    .data_size = sizeof(size_t)};
    struct tl_error error;
    pthread_t threads[THREADS];
    uint64_t missed = 0;

    if (tl_return_probe_register(&probe, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, allocate, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    tl_return_probe_missed(&probe, &missed);
    tl_return_probe_unregister(&probe);
    printf("%lu calls for %lu bytes, %lu aligned, %lu missed\n", (unsigned long)calls, (unsigned long)bytes,
           (unsigned long)aligned, (unsigned long)missed);
    return 0;
}
