/* SPDX-License-Identifier: MIT
 *
 * Writes over memory that it was given by us, when it is told to: `value` is a seed, and 0 again when that is done. The
 * lowest bit of the seed: all over; otherwise a few words. The next two: the private memory, or the shared.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "five_bytes.h"
#include "progress.h"

static uint64_t state;
static uint64_t some(void)
{
    static const uint64_t odd[] = {0, 1, ~0ull, 1ull << 63, 0x7fffffffffff, 4096, 0x100000000, 5};
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return state >> 60 < 8 ? odd[state >> 60] : state >> 61 == 6 ? state >> 32 : state;
}

static void scribble(uint64_t *words, size_t count, int all)
{
    for (size_t i = 0; all && i < count; i++)
        words[i] = some();
    for (int i = 0; !all && i < 40; i++)
        words[some() % (i % 2 ? count : 200)] = some();
}

static void over_everything(uint64_t seed)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], mode[5];
    unsigned long from, to;
    state = seed;
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %4s", &from, &to, mode) == 3 && mode[1] == 'w' && strstr(line, "memfd:trapline") &&
            seed & (mode[3] == 's' ? 4 : 2))
            scribble((uint64_t *)from, (to - from) / 8, (int)(seed & 1));
    if (maps)
        fclose(maps);
}

int main(void)
{
    volatile struct progress *p = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    p->probe = (uintptr_t)five_bytes;
    p->loops[0] = 1;
    p->ready = 1;
    while (!p->stop) {
        if (p->value) {
            over_everything(p->value);
            p->value = 0;
        }
        p->loops[0]++;
        usleep(100);
    }
    return (int)five_bytes();
}
