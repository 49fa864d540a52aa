/* SPDX-License-Identifier: MIT
 *
 * A handler of SIGUSR1 that needs much stack; progress->value counts.
 */
#include "progress.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROOM = 32768 };
static struct progress *progress;

static void on_signal(int number)
{
    volatile unsigned char room[ROOM];
    unsigned sum = 0;
    for (unsigned i = 0; i < ROOM; i++)
        room[i] = (unsigned char)(i + (unsigned)number);
    for (unsigned i = 0; i < ROOM; i++)
        sum += room[i];
    progress->errors += sum != ROOM / 256 * (255 * 256 / 2);
    progress->value++;
}

int main(void)
{
    progress = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    if (progress == MAP_FAILED || signal(SIGUSR1, on_signal) == SIG_ERR)
        return 1;
    progress->loops[0] = 1;
    progress->ready = 1;
    for (;;) {
        usleep(100);
        progress->loops[0]++;
    }
}
