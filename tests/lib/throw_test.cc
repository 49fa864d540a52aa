/* SPDX-License-Identifier: MIT
 *
 * C++ exceptions through functions whose entry, exits and every instruction are probed.
 */
#include <cstdio>
#include <stdexcept>

#include "trapline/trapline.h"

static int hits, returns, destroyed;

struct guard {
    ~guard()
    {
        destroyed++;
    }
};

extern "C" __attribute__((noinline)) int throw_if(int n)
{
    guard local;
    __asm__ volatile("" : "+r"(n));
    if (n > 2)
        throw std::runtime_error("too many");
    return n + 1;
}

extern "C" __attribute__((noinline)) int throw_through(int n)
{
    guard local;
    return throw_if(n) + 1;
}

static int on_hit(tl_probe *, tl_regs *)
{
    hits++;
    return 0;
}

static void on_return(tl_return_instance *, tl_regs *)
{
    returns++;
}

static int go(uint64_t flags)
{
    static tl_probe probes[400];
    tl_return_probe follow[2] = {};
    int count = 0;
    hits = returns = destroyed = 0;
    const char *const names[] = {"throw_if", "throw_through"};
    for (int i = 0; i < 2; i++) {
        follow[i].size = sizeof follow[i];
        follow[i].flags = flags;
        follow[i].symbol = names[i];
        follow[i].handler = on_return;
        tl_error error;
        if (tl_return_probe_register(&follow[i], &error)) {
            std::printf("%s\n", error.text);
            return 1;
        }
        for (unsigned offset = 0; offset < 120; offset++) {
            probes[count] = tl_probe();
            probes[count].size = sizeof probes[count];
            probes[count].flags = flags;
            probes[count].symbol = names[i];
            probes[count].offset = offset;
            probes[count].pre = on_hit;
            count += tl_probe_register(&probes[count], nullptr) == 0;
        }
    }
    int caught = 0, sum = 0;
    for (int i = 0; i < 6; i++) {
        try {
            sum += throw_through(i);
        } catch (const std::exception &) {
            caught++;
        }
    }
    while (count)
        tl_probe_unregister(&probes[--count]);
    for (int i = 0; i < 2; i++)
        tl_return_probe_unregister(&follow[i]);
    bool good = caught == 3 && sum == 2 + 3 + 4 && destroyed == 12 && returns == 6 && hits > 40;
    if (!good)
        std::printf("caught %d, sum %d, destroyed %d, returns %d, hits %d\n", caught, sum, destroyed, returns, hits);
    return !good;
}

int main()
{
    return go(0) || go(TL_PROBE_INT3);
}
