/* SPDX-License-Identifier: MIT
 *
 * Programs that never stand still, each checking itself until SIGTERM ends it: usage: restless
 * forks|threads|loads|ticks The exit status is 0 when nothing went wrong.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static volatile sig_atomic_t enough;
static long rounds, wrong;

static void on_term(int signal)
{
    (void)signal;
    enough = 1;
}

__attribute__((noinline)) static long step(long x)
{
    __asm__ volatile("" : "+r"(x)); /* nothing is known of it: each call is made */
    return x * 31 + 7;
}

static long steps(int count)
{
    unsigned long sum = 0;
    for (int i = 0; i < count; i++) {
        char *text = malloc(40);
        snprintf(text, 40, "%ld", step(i));
        sum = sum * 17 + strlen(text) + (unsigned long)step(i);
        free(text);
    }
    return (long)sum;
}

static void forks(void)
{
    char name[] = "true", *command[] = {name, NULL};
    static const char path[] = "/bin/true";
    long expected = steps(100);
    pid_t child = -1;
    int status;
    switch (rounds % 4) {
    case 0:
        child = fork();
        if (child == 0)
            _exit(steps(100) == expected ? 0 : 1);
        break;
    case 1:
        child = fork();
        if (child == 0)
            _exit(execv(path, command));
        break;
    case 2:
        child = vfork();
        if (child == 0) {
            execv(path, command);
            _exit(1);
        }
        break;
    default:
        if (posix_spawn(&child, path, NULL, NULL, command, environ))
            child = -1;
    }
    wrong += child < 0 || waitpid(child, &status, 0) != child || status != 0;
}

static void *in_thread(void *expected)
{
    return (void *)(long)(steps(200) != *(long *)expected);
}

static void threads(void)
{
    pthread_t made[8];
    long expected = steps(200);
    for (int i = 0; i < 8; i++) {
        if (pthread_create(&made[i], NULL, in_thread, &expected))
            abort();
    }
    for (int i = 0; i < 8; i++) {
        void *result;
        pthread_join(made[i], &result);
        wrong += result != NULL;
    }
}

static void loads(void)
{
    static const char *const libraries[] = {"libz.so.1", "liblzma.so.5", "libm.so.6"};
    static const char *const names[] = {"zlibVersion", "lzma_version_string", "cos"};
    void *library = dlopen(libraries[rounds % 3], RTLD_NOW);
    if (!library)
        return;
    void *function = dlsym(library, names[rounds % 3]);
    wrong += !function;
    if (function && rounds % 3 < 2)
        wrong += ((const char *(*)(void))function)()[0] == 0;
    dlclose(library);
}

static volatile long handled;

static void on_tick(int signal)
{
    char text[32];
    snprintf(text, sizeof text, "%d", signal);
    handled += step(signal) == signal * 31L + 7;
}

static void ticks(void)
{
    static long expected;
    if (rounds == 0) {
        struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
        struct itimerval often = {{0, 1000}, {0, 1000}};
        expected = steps(1000);
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
    }
    wrong += steps(1000) != expected;
}

int main(int argc, char **argv)
{
    void (*kinds[])(void) = {forks, threads, loads, ticks};
    static const char *const names[] = {"forks", "threads", "loads", "ticks"};
    signal(SIGTERM, on_term);
    for (int i = 0; argc > 1 && i < 4; i++) {
        for (; strcmp(argv[1], names[i]) == 0 && !enough; rounds++)
            kinds[i]();
    }
    printf("%ld rounds, %ld wrong\n", rounds, wrong);
    return rounds == 0 || wrong != 0;
}
