/* SPDX-License-Identifier: MIT
 *
 * Control flow that goes its own ways, each checked by itself; the answer is "ok", or what was wrong.
 *
 *     storm N        N rounds of work under timers, children that end and signals of its own, with handlers that call
 *                    probed functions, on a stack of their own
 *     faults N       SIGSEGV and SIGTRAP handlers that leave by siglongjmp or mend the registers
 *     jumps N        longjmp out of several frames
 *     coroutines N   two stacks that take turns inside a function
 */
#include "obey.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static volatile long handled[65];
static long handled_sum;

long leaf(long x);
PROBED long leaf(long x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}

/* Uses the red zone: what a probe in it must not touch. */
long red_zone(long x);
PROBED long red_zone(long x)
{
    volatile long low[8];
    for (int i = 0; i < 8; i++)
        low[i] = x + i;
    long sum = 0;
    for (int i = 0; i < 8; i++)
        sum += low[i];
    return sum - 28;
}

long in_handler(long x);
PROBED long in_handler(long x)
{
    return leaf(red_zone(x) / 8);
}

static void on_signal(int number)
{
    handled[number]++;
    if (in_handler(number) != number + 1)
        handled_sum = -1;
}

static void on_child(int number)
{
    int status;
    on_signal(number);
    while (waitpid(-1, &status, WNOHANG) > 0)
        ;
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(number, &action, NULL);
}

static void *send(void *arg)
{
    pthread_t main_thread = *(pthread_t *)arg;
    for (;;) {
        pthread_kill(main_thread, SIGUSR1);
        usleep(200);
        pthread_testcancel();
    }
    return NULL;
}

static const char *storm(long rounds)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    pthread_t sender, self = pthread_self();
    sigaltstack(&alternate, NULL);
    handle(SIGALRM, on_signal);
    handle(SIGVTALRM, on_signal);
    handle(SIGTRAP, on_signal);
    handle(SIGUSR1, on_signal);
    handle(SIGCHLD, on_child);
    setitimer(ITIMER_REAL, &often, NULL);
    setitimer(ITIMER_VIRTUAL, &often, NULL);
    pthread_create(&sender, NULL, send, &self);
    long wrong = 0;
    for (long i = 0; i < rounds; i++) {
        for (long n = 0; n < 2000; n++)
            wrong += red_zone(n) != 8 * n || leaf(n) != n + 1;
        if (i % 16 == 0) {
            long traps = handled[SIGTRAP];
            raise(SIGTRAP);
            wrong += handled[SIGTRAP] != traps + 1;
            if (fork() == 0)
                _exit(leaf(1) != 2);
        }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    setitimer(ITIMER_VIRTUAL, &never, NULL);
    pthread_cancel(sender);
    pthread_join(sender, NULL);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    return wrong || handled_sum ? "wrong" : "ok";
}

static sigjmp_buf back;
static volatile long faults;

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    faults++;
    leaf(number);
    siglongjmp(back, 1);
}

long touch(const volatile long *where);
PROBED long touch(const volatile long *where)
{
    return leaf(*where);
}

static const char *fault(long rounds)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old_fault, old_trap;
    static const volatile long *volatile nowhere;
    volatile long wrong = 0;
    sigaction(SIGSEGV, &action, &old_fault);
    sigaction(SIGTRAP, &action, &old_trap);
    faults = 0;
    for (volatile long i = 0; i < rounds; i++) {
        if (sigsetjmp(back, 1) == 0) {
            if (i % 2)
                touch(nowhere);
            else
                __asm__ volatile("int3");
            wrong++;
        }
    }
    sigaction(SIGSEGV, &old_fault, NULL);
    sigaction(SIGTRAP, &old_trap, NULL);
    return wrong || faults != rounds ? "wrong" : "ok";
}

static jmp_buf out;

long deep(long levels);
PROBED long deep(long levels)
{
    if (levels < 0)
        return 0;
    if (levels == 0)
        longjmp(out, 7);
    return deep(levels - 1) + leaf(levels);
}

static const char *jump(long rounds)
{
    volatile long wrong = 0;
    for (volatile long i = 0; i < rounds; i++) {
        int got = setjmp(out);
        if (got == 0)
            deep(i % 50);
        wrong += got != 0 && got != 7;
        wrong += leaf(got) != got + 1;
    }
    return wrong ? "wrong" : "ok";
}

static ucontext_t here, there;
static long shared, wanted;

long take_turns(long rounds, ucontext_t *from, ucontext_t *to);
PROBED long take_turns(long rounds, ucontext_t *from, ucontext_t *to)
{
    for (long i = 0; i < rounds; i++) {
        shared = leaf(shared);
        swapcontext(from, to);
    }
    return rounds;
}

static void other(void)
{
    if (take_turns(wanted, &there, &here) != wanted)
        shared = -1;
    for (;;)
        swapcontext(&there, &here);
}

static const char *coroutines(long rounds)
{
    static char stack[65536];
    wanted = rounds;
    shared = 0;
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = sizeof stack;
    there.uc_link = &here;
    makecontext(&there, other, 0);
    if (take_turns(rounds, &here, &there) != rounds)
        return "wrong";
    return shared == 2 * rounds ? "ok" : "wrong";
}

static void carry(char **words, int count)
{
    long number = count > 1 ? atol(words[1]) : 0;
    const char *answer = "unknown";
    if (!strcmp(words[0], "storm"))
        answer = storm(number);
    else if (!strcmp(words[0], "faults"))
        answer = fault(number);
    else if (!strcmp(words[0], "jumps"))
        answer = jump(number);
    else if (!strcmp(words[0], "coroutines"))
        answer = coroutines(number);
    printf("%s", answer);
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
