/* SPDX-License-Identifier: MIT
 *
 * Starts programs in every way there is, and shows what they find: their masks, and which signals are ignored or
 * caught. Also steps through a function of its own.
 *
 *     plain          nothing was changed before
 *     ignoring       SIGTRAP and SIGUSR1 are ignored
 *     blocking       SIGTRAP and SIGUSR2 are blocked
 *     handling       both, and handlers for all five
 *     asking         by posix_spawn with a mask and defaults asked for
 *     failing        execve of what is not there, then on as before
 *     steps N        N times through a function with the trap flag set
 */
#include "obey.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

extern char **environ;

long work(long x);
PROBED long work(long x)
{
    long sum = 0;
    for (int i = 0; i < 3; i++)
        sum += (x >> i) & 7;
    return sum;
}

static long works(void)
{
    long sum = 0;
    for (long i = 0; i < 40; i++)
        sum += work(i);
    return sum;
}

static char program[] = "/bin/grep", pattern[] = "^Sig[BIC]", file[] = "/proc/self/status", option[] = "-h";
static char *command[] = {program, option, pattern, file, NULL};

static void await(pid_t child)
{
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status)
        printf("status %x; ", (unsigned)status);
    printf("%ld\n", works());
    fflush(stdout);
}

static void start_all(const posix_spawnattr_t *attributes)
{
    pid_t child;
    fflush(stdout);
    if (posix_spawn(&child, program, NULL, attributes, command, environ))
        child = -1;
    await(child);
    child = vfork();
    if (child == 0) {
        work(1);
        execv(program, command);
        _exit(1);
    }
    await(child);
    child = fork();
    if (child == 0) {
        works();
        execv(program, command);
        _exit(1);
    }
    await(child);
    await(system("/bin/grep -h '^Sig[BIC]' /proc/self/status") ? -1 : fork() ?: (_exit(0), 0));
    FILE *output = popen("/bin/grep -h '^Sig[BIC]' /proc/self/status", "r");
    char line[256];
    while (output && fgets(line, sizeof line, output))
        fputs(line, stdout);
    printf("%d ", output ? pclose(output) : -1);
}

static void nothing(int number)
{
    (void)number;
}

static void block(int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static void asking(void)
{
    posix_spawnattr_t attributes;
    sigset_t mask, defaults;
    sigfillset(&mask);
    sigdelset(&mask, SIGHUP);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGTRAP);
    sigaddset(&defaults, SIGUSR1);
    signal(SIGTRAP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGSEGV, SIG_IGN);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &mask);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    start_all(&attributes);
    posix_spawnattr_destroy(&attributes);
}

static void failing(void)
{
    static char nowhere[] = "/nowhere/at/all";
    char *arguments[] = {nowhere, NULL};
    sigset_t set;
    block(SIGTRAP);
    signal(SIGSEGV, SIG_IGN);
    int result = execv(nowhere, arguments), error = errno;
    long sum = works();
    sigprocmask(SIG_SETMASK, NULL, &set);
    printf("%d %d %ld %d %d ", result, error == ENOENT, sum, sigismember(&set, SIGTRAP),
           signal(SIGSEGV, SIG_DFL) == SIG_IGN);
}

static volatile long stepped, summed;

static void on_step(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] - (uintptr_t)work;
    (void)number;
    if (at < 256) {
        stepped++;
        summed = summed * 31 + (long)at;
    }
    if (info->si_code != TRAP_TRACE)
        summed = -1;
}

static void steps(long rounds)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    stepped = summed = 0;
    long sum = 0;
    for (long i = 0; i < rounds; i++) {
        __asm__ volatile("lea -128(%%rsp), %%rsp\n pushf\n orl $0x100, (%%rsp)\n popf\n lea 128(%%rsp), %%rsp" ::
                             : "cc", "memory");
        sum += work(i);
        __asm__ volatile("lea -128(%%rsp), %%rsp\n pushf\n andl $~0x100, (%%rsp)\n popf\n lea 128(%%rsp), %%rsp" ::
                             : "cc", "memory");
    }
    printf("%ld %ld %lx", sum, stepped, (unsigned long)summed);
    signal(SIGTRAP, SIG_DFL);
}

static void carry(char **words, int count)
{
    bool handling = !strcmp(words[0], "handling");
    if (handling || !strcmp(words[0], "ignoring"))
        signal(SIGTRAP, SIG_IGN), signal(SIGUSR1, SIG_IGN);
    if (handling || !strcmp(words[0], "blocking"))
        block(SIGTRAP), block(SIGUSR2);
    if (handling) {
        signal(SIGTRAP, nothing), signal(SIGSEGV, nothing), signal(SIGBUS, nothing);
        signal(SIGFPE, nothing), signal(SIGILL, nothing);
    }
    if (!strcmp(words[0], "asking"))
        asking();
    else if (!strcmp(words[0], "failing"))
        failing();
    else if (!strcmp(words[0], "steps"))
        steps(count > 1 ? atol(words[1]) : 1);
    else
        start_all(NULL);
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
