/* SPDX-License-Identifier: MIT
 *
 * target-tids N: threads, one after the other, so that they have the same stack and thread block; each tells its id.
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

volatile long last;

__attribute__((noinline)) void is_here(long tid);
void is_here(long tid)
{
    last = tid;
}

static void *work(void *unused)
{
    is_here(syscall(SYS_gettid));
    return unused;
}

int main(int argc, char **argv)
{
    int count = argc > 1 ? atoi(argv[1]) : 1;
    is_here(syscall(SYS_gettid));
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) || pthread_join(thread, NULL))
            return 1;
    }
    return 0;
}
