/* SPDX-License-Identifier: MIT
 *
 * A process that makes others, in every way; each calls step() a known number of times.
 *
 *     forks CHILDREN CALLS      children that each call and make one grandchild that calls as well
 *     vfork SELF CALLS          vfork, then exec of this program: "steps CALLS"
 *     spawn SELF CALLS          the same by posix_spawn
 *     system SELF CALLS         and by system()
 *     clone CALLS               a process that shares the memory
 *     thread CHILDREN CALLS     forks from a second thread, while the first one calls as well
 *     threads THREADS CHILDREN CALLS  forks from many threads at a time
 *     headless CHILDREN CALLS   forks from a second thread, after the first one has ended
 *     exec-thread SELF CALLS    becomes "steps CALLS", from a second thread
 *     user SELF                 becomes "user"; without SELF it says whose rights it has
 *     kill CHILDREN CALLS       children are killed at once, or a little later
 *     orphan FILE CALLS         a child outlives its parent, calls then, and makes FILE
 *     chain FILE LENGTH CALLS   each calls, makes the next one and ends at once; the last one makes FILE
 *     busy FILE CHILDREN CALLS  children and theirs call until there is FILE.end; then each adds an x to FILE if all
 * was right steps CALLS               calls
 */
#include "obey.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

PROBED long step(long x);
long step(long x)
{
    return x + 1;
}

static long steps(long calls)
{
    long x = 0;
    for (long i = 0; i < calls; i++)
        x = step(x);
    return x;
}

static void reap(void)
{
    while (wait(NULL) > 0) {
    }
}

static void forks(long children, long calls)
{
    for (long i = 0; i < children; i++) {
        if (fork() == 0) {
            steps(calls);
            if (fork() == 0) {
                steps(calls);
                _exit(0);
            }
            reap();
            _exit(0);
        }
    }
    reap();
}

static long children_of_thread, calls_of_thread;

static void *forking(void *unused)
{
    forks(children_of_thread, calls_of_thread);
    return unused;
}

static void in_thread(long children, long calls)
{
    pthread_t thread;
    children_of_thread = children;
    calls_of_thread = calls;
    pthread_create(&thread, NULL, forking, NULL);
    steps(calls);
    pthread_join(thread, NULL);
}

static void kill_children(long children, long calls)
{
    for (long i = 0; i < children; i++) {
        pid_t child = fork();
        if (child == 0)
            for (;;)
                steps(calls);
        nanosleep(&(struct timespec){.tv_nsec = i % 16 * 200000}, NULL);
        kill(child, SIGKILL);
        reap();
    }
}

static void *exec_in_thread(void *words)
{
    execv(((char **)words)[0], words);
    return NULL;
}

static void in_threads(long count, long children, long calls)
{
    pthread_t threads[64];
    children_of_thread = children;
    calls_of_thread = calls;
    count = count < 64 ? count : 64;
    for (long i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, forking, NULL);
    for (long i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

static void *forking_alone(void *leader)
{
    pthread_join(*(pthread_t *)leader, NULL);
    forks(children_of_thread, calls_of_thread);
    _exit(0);
}

static void headless(long children, long calls)
{
    static pthread_t leader;
    pthread_t thread;
    leader = pthread_self();
    children_of_thread = children;
    calls_of_thread = calls;
    pthread_create(&thread, NULL, forking_alone, &leader);
    pthread_exit(NULL);
}

static int step_in_clone(void *calls)
{
    return steps((long)calls) == (long)calls ? 0 : 1;
}

static void orphan(const char *file, long calls)
{
    pid_t parent = getpid();
    if (fork() != 0)
        _exit(0);
    while (getppid() == parent)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    steps(calls);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    _exit(0);
}

static void chain(const char *file, long length, long calls)
{
    for (long i = 1; i < length; i++) {
        steps(calls);
        if (fork() != 0)
            _exit(0);
    }
    steps(calls);
    close(open(file, O_CREAT | O_WRONLY, 0600));
    _exit(0);
}

/* Until somebody makes FILE.end; meanwhile others can come and go. What went wrong is said by a byte other than x. */
static char busy_child(const char *end, long calls)
{
    char verdict = 'x';
    for (long piece = 0; access(end, F_OK) != 0; piece++) {
        if (steps(calls) != calls)
            verdict = 's';
        if (piece % 10 == 0 && fork() == 0)
            _exit(steps(calls) == calls ? 0 : 1);
        for (int status; waitpid(-1, &status, WNOHANG) > 0;)
            verdict = status ? 'c' : verdict;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    for (int status; wait(&status) > 0;)
        verdict = status ? 'c' : verdict;
    return verdict;
}

static void busy(const char *file, long children, long calls)
{
    char end[512];
    snprintf(end, sizeof end, "%s.end", file);
    for (long i = 0; i < children; i++) {
        if (fork() == 0) {
            char verdict = busy_child(end, calls);
            int fd = open(file, O_CREAT | O_WRONLY | O_APPEND, 0600);
            _exit(write(fd, &verdict, 1) == 1 ? 0 : 1);
        }
    }
    reap();
}

static void carry(char **words, int count)
{
    long first = count > 1 ? atol(words[1]) : 0, second = count > 2 ? atol(words[2]) : 0;
    char *again[] = {words[1], (char *)"steps", count > 2 ? words[2] : NULL, NULL};
    char line[512];
    pid_t child;
    if (!strcmp(words[0], "steps")) {
        steps(first);
    } else if (!strcmp(words[0], "forks")) {
        forks(first, second);
    } else if (!strcmp(words[0], "vfork")) {
        child = vfork();
        if (child == 0) {
            execv(words[1], again);
            _exit(1);
        }
        reap();
    } else if (!strcmp(words[0], "spawn")) {
        posix_spawn(&child, words[1], NULL, NULL, again, environ);
        reap();
    } else if (!strcmp(words[0], "system")) {
        snprintf(line, sizeof line, "%s steps %s; %s steps %s", words[1], words[2], words[1], words[2]);
        printf("%d", system(line));
    } else if (!strcmp(words[0], "thread")) {
        in_thread(first, second);
    } else if (!strcmp(words[0], "threads") && count > 3) {
        in_threads(first, second, atol(words[3]));
    } else if (!strcmp(words[0], "kill")) {
        kill_children(first, second);
    } else if (!strcmp(words[0], "headless")) {
        headless(first, second);
    } else if (!strcmp(words[0], "clone")) {
        static char stack[1 << 16];
        clone(step_in_clone, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)first);
        reap();
    } else if (!strcmp(words[0], "exec-thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, exec_in_thread, again);
        pthread_join(thread, NULL);
    } else if (!strcmp(words[0], "user") && count > 1) {
        execl(words[1], words[1], "user", NULL);
    } else if (!strcmp(words[0], "user")) {
        printf("%d", (int)geteuid());
    } else if (!strcmp(words[0], "orphan")) {
        orphan(words[1], second);
    } else if (!strcmp(words[0], "chain") && count > 3) {
        chain(words[1], second, atol(words[3]));
    } else if (!strcmp(words[0], "busy") && count > 3) {
        busy(words[1], second, atol(words[3]));
    }
    steps(7);
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
