// SPDX-License-Identifier: MIT
//
// Exceptions through frames that are probed: "throw N" throws N times from below several frames, and answers "ok".
#include "obey.h"

#include <stdexcept>
#include <string>

struct guard {
    long &count;
    explicit guard(long &counter) : count(counter)
    {
        count++;
    }
    ~guard()
    {
        count--;
    }
};

static long alive;

extern "C" PROBED long leaf(long x)
{
    return x + 1;
}

extern "C" PROBED long thrower(long levels)
{
    guard here(alive);
    if (levels == 0)
        throw std::runtime_error("bottom");
    return thrower(levels - 1) + leaf(levels);
}

extern "C" PROBED long between(long levels)
{
    try {
        return thrower(levels);
    } catch (const std::logic_error &) {
        return -1;
    }
}

extern "C" PROBED long catcher(long levels)
{
    try {
        return between(levels);
    } catch (const std::exception &error) {
        return static_cast<long>(std::string(error.what()).size());
    }
}

static void carry(char **words, int count)
{
    long sum = 0, times = count > 1 ? atol(words[1]) : 0;
    for (long i = 0; i < times; i++)
        sum += catcher(i % 30);
    printf("%s", sum == 6 * times && alive == 0 ? "ok" : "wrong");
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
