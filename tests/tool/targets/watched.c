/* SPDX-License-Identifier: MIT
 *
 * A program that accesses its variables as often as it is told, in the ways in which memory can be accessed.
 *
 *   bump N              count N times, one by one             answers the counter
 *   threads T N         T threads count N times each, locked  answers the counter
 *   same N              store the same value N times
 *   access HOW          once (see ways[])
 *   fields              one member of `conf` after the other
 *   blocked N           bump with SIGTRAP blocked
 *   handler N           raise SIGTRAP N times, with a handler of our own that counts, bumping in between
 *   fork N, exec N      a child bumps (in another program: this one, with "bump N"), then we do
 *   many T              start T threads that stay, and answers once they do; "many 0": let them go
 *   end                 bump and end at once
 */
#include <emmintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include "obey.h"

enum color { RED, GREEN, BLUE };
struct conf {
    int limit;
    enum color color;
    double rate;
    const char *name;
    struct {
        short low;
        signed char first, second;
    } parts;
    unsigned flag : 1, level : 7;
};
struct conf conf = {.rate = 0.5, .name = "none"};
uint64_t counter;
static uint32_t hidden;
long table[8];
_Alignas(64) char bytes[128];
static volatile sig_atomic_t traps;
static const char *self;

/* The writer's line is that of the addition. */
PROBED void bump(void);
PROBED void bump(void)
{
    counter += 1;
}

static inline __attribute__((always_inline)) void add_locked(uint64_t n)
{
    __atomic_fetch_add(&counter, n, __ATOMIC_SEQ_CST);
}

PROBED void bump_locked(void);
PROBED void bump_locked(void)
{
    add_locked(1);
}

PROBED void store(uint32_t value);
PROBED void store(uint32_t value)
{
    *(volatile uint32_t *)&hidden = value;
}

PROBED void set_fields(void);
PROBED void set_fields(void)
{
    volatile struct conf *all = &conf;
    all->limit = -7;
    all->color = BLUE;
    all->rate = 1.25;
    all->name = "some";
    all->parts.low = 300;
    all->parts.second = -3;
    all->level = 5;
}

/* bytes[8] to bytes[11] are what is watched. */
static void access_overlap(void)
{
    *(volatile uint64_t *)(void *)(bytes + 8) = 1;
}
static void access_unaligned(void)
{
    __asm__ volatile("movl $0x01010101, %0" : "=m"(*(char(*)[4])(bytes + 11)));
}
static void access_beside(void)
{
    *(volatile char *)(bytes + 12) = 1;
    *(volatile char *)(bytes + 7) = 1;
}
static void access_vector(void)
{
    _mm_store_si128((__m128i *)(void *)bytes, _mm_set1_epi8(2));
}
static void access_string(void)
{
    char *to = bytes;
    size_t count = 32;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(3) : "memory");
}
static void access_failed_exchange(void)
{
    uint32_t expected = 0xdeadbeef;
    __atomic_compare_exchange_n((uint32_t *)(void *)(bytes + 8), &expected, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
static void access_same(void)
{
    *(volatile char *)(bytes + 8) = *(volatile char *)(bytes + 8);
}
static void access_read(void)
{
    (void)*(volatile uint32_t *)(void *)(bytes + 8);
}
static void access_update(void)
{
    __asm__ volatile("incl %0" : "+m"(*(uint32_t *)(void *)(bytes + 8)));
}
static void access_prefetch(void)
{
    __builtin_prefetch(bytes + 8);
}

static const struct {
    const char *name;
    void (*run)(void);
} ways[] = {{"overlap", access_overlap},  {"unaligned", access_unaligned}, {"beside", access_beside},
            {"vector", access_vector},    {"string", access_string},       {"failed-exchange", access_failed_exchange},
            {"same", access_same},        {"read", access_read},           {"update", access_update},
            {"prefetch", access_prefetch}};

static void *count_locked(void *times)
{
    for (long n = (long)(intptr_t)times; n > 0; n--)
        bump_locked();
    return NULL;
}

static void run_threads(int count, long times)
{
    pthread_t threads[64];
    for (int i = 0; i < count && i < 64; i++)
        pthread_create(&threads[i], NULL, count_locked, (void *)(intptr_t)times);
    for (int i = 0; i < count && i < 64; i++)
        pthread_join(threads[i], NULL);
}

static pthread_t *staying;
static pthread_barrier_t barrier;
static void *stay(void *unused)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    bump_locked();
    return unused;
}

static void many(int count)
{
    static int stayed;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 16);
    if (stayed) {
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < stayed; i++)
            pthread_join(staying[i], NULL);
        free(staying);
    }
    stayed = count;
    if (!count)
        return;
    staying = calloc((size_t)count, sizeof *staying);
    pthread_barrier_init(&barrier, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++)
        pthread_create(&staying[i], &small, stay, NULL);
    pthread_barrier_wait(&barrier);
}

static void on_trap(int number)
{
    (void)number;
    traps++;
}

static void bump_times(long times)
{
    for (; times > 0; times--)
        bump();
}

static void block(int how)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    pthread_sigmask(how, &set, NULL);
}

static void in_child(const char *way, const char *times)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0 && !strcmp(way, "exec")) {
        execl(self, self, "bump", times, (char *)NULL);
        _exit(99);
    }
    if (child == 0) {
        bump_times(atol(times));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    bump_times(atol(times));
}

static void carry(char **words, int count)
{
    const char *what = words[0];
    long n = count > 1 ? atol(words[1]) : 0;
    if (!strcmp(what, "bump"))
        bump_times(n);
    else if (!strcmp(what, "threads"))
        run_threads((int)n, count > 2 ? atol(words[2]) : 1);
    else if (!strcmp(what, "many"))
        many((int)n);
    else if (!strcmp(what, "same"))
        for (; n > 0; n--)
            store(1);
    else if (!strcmp(what, "fields"))
        set_fields();
    else if (!strcmp(what, "blocked")) {
        block(SIG_BLOCK);
        bump_times(n);
        block(SIG_UNBLOCK);
    } else if (!strcmp(what, "handler")) {
        signal(SIGTRAP, on_trap);
        for (traps = 0; n > 0; n--) {
            raise(SIGTRAP);
            bump();
        }
        printf("%d traps, ", (int)traps);
    } else if (!strcmp(what, "fork") || !strcmp(what, "exec"))
        in_child(what, words[1]);
    else if (!strcmp(what, "end")) {
        bump();
        _exit(7);
    }
    for (size_t i = 0; !strcmp(what, "access") && i < sizeof ways / sizeof *ways; i++)
        if (!strcmp(words[1], ways[i].name))
            ways[i].run();
    printf("%lu", (unsigned long)counter);
}

int main(int argc, char **argv)
{
    self = argv[0];
    return obey(argc, argv, carry);
}
