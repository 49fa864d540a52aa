/* SPDX-License-Identifier: MIT
 *
 * Sixty-four functions, each called a known number of times, by threads at the same time.
 *
 *     run THREADS ROUNDS    each thread calls f00 once, f01 twice, ... f63 64 times a round
 *     factorial N           by recursion
 *     single N              f00, N times
 */
#include "obey.h"

#include <pthread.h>

#define EACH_OF_8(X, n) X(n##0) X(n##1) X(n##2) X(n##3) X(n##4) X(n##5) X(n##6) X(n##7)
#define EACH(X)                                                                                                        \
    EACH_OF_8(X, 0)                                                                                                    \
    EACH_OF_8(X, 1) EACH_OF_8(X, 2) EACH_OF_8(X, 3) EACH_OF_8(X, 4) EACH_OF_8(X, 5) EACH_OF_8(X, 6) EACH_OF_8(X, 7)

/* Named in octal: f00 ... f77. Their bodies differ, so that their first instructions do. */
#define DEFINE(n)                                                                                                      \
    PROBED long f##n(long x);                                                                                          \
    long f##n(long x)                                                                                                  \
    {                                                                                                                  \
        volatile char room[(0##n % 5) * 24 + 1];                                                                       \
        room[0] = (char)x;                                                                                             \
        if (0##n % 3 == 1 && x == -1)                                                                                  \
            return room[0];                                                                                            \
        __asm__ volatile("");                                                                                          \
        return 0##n % 2 ? x * (0##n + 3) + room[0] : x + 0##n;                                                         \
    }
EACH(DEFINE)

#define ENTRY(n) f##n,
static long (*const functions[64])(long) = {EACH(ENTRY)};

/* An exit is one byte, and the jump in its place takes the bytes behind it for its distance. These lead to where
 * nothing ever is, whatever the compiler. */
#define EXIT "ret\n endbr64\n"

long factorial(long n);
__asm__(".pushsection .text\n"
        ".globl factorial\n .type factorial, @function\n"
        "factorial:\n"
        "  mov $1, %eax\n"
        "  cmp $1, %rdi\n"
        "  jg 1f\n"
        "  " EXIT "1:\n"
        "  push %rdi\n"
        "  sub $1, %rdi\n"
        "  call factorial\n"
        "  pop %rdi\n"
        "  imul %rdi, %rax\n"
        "  " EXIT ".size factorial, . - factorial\n"
        ".popsection\n");

static long rounds, result;

static void *work(void *arg)
{
    long x = (long)arg;
    for (long round = 0; round < rounds; round++)
        for (int i = 0; i < 64; i++)
            for (int times = 0; times <= i; times++)
                x = functions[i](x);
    __atomic_add_fetch(&result, x, __ATOMIC_RELAXED);
    return NULL;
}

static void carry(char **words, int count)
{
    long number = count > 1 ? atol(words[1]) : 0;
    if (!strcmp(words[0], "run") && count > 2) {
        pthread_t threads[64];
        rounds = atol(words[2]);
        result = 0;
        for (long i = 0; i < number && i < 64; i++)
            pthread_create(&threads[i], NULL, work, (void *)i);
        for (long i = 0; i < number && i < 64; i++)
            pthread_join(threads[i], NULL);
        printf("%ld", result);
    } else if (!strcmp(words[0], "factorial")) {
        printf("%ld", factorial(number));
    } else if (!strcmp(words[0], "single")) {
        long x = 0;
        for (long i = 0; i < number; i++)
            x = f00(x);
        printf("%ld", x);
    }
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
