/* SPDX-License-Identifier: MIT
 *
 * The program's own ways of control through probed functions: longjmp, coroutines, backtraces, signals; handlers that
 * use what is probed; libraries that come and go.
 */
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "kit.h"

static unsigned hits, returns;
static jmp_buf back;
static ucontext_t outside, inside;
static void *frames[32];

static uint64_t way(void **state)
{
    hits = returns = 0;
    return *(const uint64_t *)*state;
}

static int count(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    hits++;
    return 0;
}

static void count_return(struct tl_return_instance *instance, struct tl_regs *regs)
{
    (void)instance;
    (void)regs;
    returns++;
}

static void add_return(struct tl_return_probe *probe, uint64_t flags, const char *symbol)
{
    struct tl_error error = {.text = ""};
    *probe = (struct tl_return_probe){
        .size = sizeof *probe, .flags = flags, .symbol = symbol, .handler = count_return, .max_active = 4};
    int code = tl_return_probe_register(probe, &error);
    if (code)
        fail_msg("%s: %d %s", symbol, code, error.text);
}

__attribute__((noinline, weak)) void program_leaves(int how); /* weak: no copies of it for constants */
void program_leaves(int how)
{
    if (how == 1)
        longjmp(back, 1);
    if (how == 2)
        swapcontext(&inside, &outside);
    __asm__ volatile("" ::: "memory");
}

/* Calls that are left by longjmp do not use up what can be followed. */
static void longjmp_out_of_a_followed_call(void **state)
{
    struct tl_return_probe probe;
    add_return(&probe, way(state), "program_leaves");
    for (volatile int i = 0; i < 20; i++)
        if (!setjmp(back))
            program_leaves(1);
    assert_int_equal(returns, 0);
    program_leaves(0);
    assert_int_equal(returns, 1);
    uint64_t missed = 99;
    assert_int_equal(tl_return_probe_missed(&probe, &missed), 0);
    assert_int_equal(missed, 0);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

static void coroutine(void)
{
    program_leaves(2);
    program_leaves(2);
}

static void coroutines(void **state)
{
    struct tl_return_probe probe;
    static char stack[65536] __attribute__((aligned(16)));
    add_return(&probe, way(state), "program_leaves");
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = sizeof stack;
    inside.uc_link = &outside;
    makecontext(&inside, coroutine, 0);
    swapcontext(&outside, &inside);
    assert_int_equal(returns, 0);
    program_leaves(0); /* on this stack, while the other call is under way */
    assert_int_equal(returns, 1);
    swapcontext(&outside, &inside);
    assert_int_equal(returns, 2);
    swapcontext(&outside, &inside);
    assert_int_equal(returns, 3);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

__attribute__((noinline)) int program_traces(void);
int program_traces(void)
{
    int found = backtrace(frames, 32);
    __asm__ volatile("" : "+r"(found));
    return found;
}

static void backtraces_go_through(void **state)
{
    struct tl_return_probe probe;
    void *without[32];
    int expected = program_traces();
    memcpy(without, frames, sizeof without);
    add_return(&probe, way(state), "program_traces");
    int found = program_traces();
    assert_int_equal(found, expected);
    /* But for this function's own frame, at another place in it now, all are the same. */
    size_t from = 2 + KIT_ASAN; /* it has a frame of its own */
    assert_memory_equal(frames + from, without + from, sizeof(void *) * ((size_t)found - from));
    assert_int_equal(returns, 1);
    assert_int_equal(tl_return_probe_unregister(&probe), 0);
}

static int prints(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    char text[64];
    FILE *file = fopen("/dev/null", "w");
    hits += file && fprintf(file, "%f %lu", 1.5, (unsigned long)regs->rdi) > 8;
    snprintf(text, sizeof text, "%p", malloc(40));
    if (file)
        fclose(file);
    return 0;
}

/* The handler calls malloc too: that hit is missed, once for each call, and nothing else happens. */
static void handlers_use_what_is_probed(void **state)
{
    if (KIT_ASAN)
        SKIP_BECAUSE("with the address sanitizer malloc is not the C library's");
    struct tl_probe probe = {
        .size = sizeof probe, .flags = way(state), .symbol = "malloc", .module = "libc", .pre = prints};
    kit_register(&probe);
    char *volatile block = malloc(100);
    assert_non_null(block);
    memset(block, 7, 100);
    free(block);
    unsigned seen = hits;
    uint64_t missed = kit_missed(&probe);
    kit_unregister(&probe);
    assert_int_equal(seen, 1);
    assert_true(missed >= 2);
}

static void *hit_once(void *unused)
{
    (void)unused;
    kit_add(1, 2);
    return NULL;
}

/* Threads that come and go, hundreds of them. */
static void threads_end(void **state)
{
    struct tl_probe probe = {.size = sizeof probe, .flags = way(state), .symbol = "kit_add", .pre = count};
    kit_register(&probe);
    for (int i = 0; i < 600; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, hit_once, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    assert_int_equal(hits + kit_missed(&probe), 600);
    assert_int_equal(hits, 600);
    kit_unregister(&probe);
}

static void libraries_come_and_go(void **state)
{
    uint64_t flags = way(state);
    for (int turn = 0; turn < 3; turn++) {
        void *library = dlopen(getenv("LIB_GUEST"), RTLD_NOW);
        assert_non_null(library);
        long (*guest)(long) = (long (*)(long))(uintptr_t)dlsym(library, "lib_guest");
        struct tl_probe probe = {.size = sizeof probe, .flags = flags, .symbol = "lib_guest", .pre = count};
        kit_register(&probe);
        assert_int_equal(guest(4), 5);
        assert_int_equal(hits, turn + 1);
        if (turn == 0) { /* in order */
            kit_unregister(&probe);
            assert_int_equal(guest(4), 5);
            dlclose(library);
        } else { /* with the probe in it: unregistering finds nothing to take back */
            dlclose(library);
            kit_unregister(&probe);
        }
        assert_int_equal(tl_probe_register(&probe, NULL), -ENOENT);
        assert_int_equal(hits, turn + 1);
    }
}

/* To the same place perhaps, with the probe still registered. */
static void a_library_that_comes_back_is_probed_anew(void **state)
{
    uint64_t flags = way(state);
    for (int turn = 0; turn < 3; turn++) {
        struct tl_probe probes[2];
        void *library = NULL;
        for (int i = 0; i < 2; i++) {
            probes[i] =
                (struct tl_probe){.size = sizeof probes[i], .flags = flags, .symbol = "lib_guest", .pre = count};
            if (library)
                dlclose(library);
            library = dlopen(getenv("LIB_GUEST"), RTLD_NOW);
            assert_non_null(library);
            long (*guest)(long) = (long (*)(long))(uintptr_t)dlsym(library, "lib_guest");
            kit_register(&probes[i]);
            uint64_t before = hits;
            assert_int_equal(guest(4), 5);
            assert_true(hits > before);
        }
        kit_unregister(&probes[turn & 1]);
        kit_unregister(&probes[!(turn & 1)]);
        long (*guest)(long) = (long (*)(long))(uintptr_t)dlsym(library, "lib_guest");
        uint64_t before = hits;
        assert_int_equal(guest(4), 5);
        assert_int_equal(hits, before);
        dlclose(library);
    }
}

static volatile sig_atomic_t signals;
static void on_alarm(int number)
{
    (void)number;
    kit_add(1, 1);
    signals++;
}

static int raises(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    if (hits++ < 5)
        raise(SIGUSR1);
    return 0;
}

/* A signal comes while a handler runs, and its own handler hits: that is missed. */
static void signals_in_handlers(void **state)
{
    struct tl_probe probe = {.size = sizeof probe, .flags = way(state), .symbol = "kit_add", .pre = raises};
    signal(SIGUSR1, on_alarm);
    signals = 0;
    kit_register(&probe);
    for (int i = 0; i < 10; i++)
        assert_int_equal(kit_add(i, 1), i + 2);
    assert_int_equal(signals, 5);
    assert_int_equal(hits, 10);
    assert_int_equal(kit_missed(&probe), 5);
    kit_unregister(&probe);
    signal(SIGUSR1, SIG_DFL);
}

static void children_keep_their_probes(void **state)
{
    struct tl_probe probe = {.size = sizeof probe, .flags = way(state), .symbol = "kit_add", .pre = count};
    struct tl_probe other = {.size = sizeof other, .flags = way(state), .symbol = "kit_call", .pre = count};
    kit_register(&probe);
    pid_t child = fork();
    if (!child) {
        kit_add(1, 1);
        int good = hits == 1 && tl_probe_register(&other, NULL) == 0 && kit_call(1) == 3 && hits == 3 &&
                   tl_probe_unregister(&probe) == 0 && kit_add(1, 1) == 3 && hits == 3 &&
                   tl_probe_unregister(&other) == 0;
        _exit(!good);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    kit_add(1, 1);
    assert_int_equal(hits, 1);
    kit_unregister(&probe);
}

static int calls_the_library(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)regs;
    hits += tl_probe_unregister(probe) == -EDEADLK && tl_probe_disable(probe) == -EDEADLK &&
            tl_probe_register(probe, NULL) == -EDEADLK;
    return 0;
}

static void handlers_may_not_register(void **state)
{
    struct tl_probe probe = {.size = sizeof probe, .flags = way(state), .symbol = "kit_add", .pre = calls_the_library};
    kit_register(&probe);
    kit_add(1, 1);
    assert_int_equal(hits, 1);
    kit_unregister(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_WAYS(longjmp_out_of_a_followed_call),
        BOTH_WAYS(coroutines),
        BOTH_WAYS(backtraces_go_through),
        BOTH_WAYS(handlers_use_what_is_probed),
        BOTH_WAYS(threads_end),
        BOTH_WAYS(libraries_come_and_go),
        BOTH_WAYS(a_library_that_comes_back_is_probed_anew),
        BOTH_WAYS(signals_in_handlers),
        BOTH_WAYS(children_keep_their_probes),
        BOTH_WAYS(handlers_may_not_register),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
