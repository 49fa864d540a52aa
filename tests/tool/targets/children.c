/* SPDX-License-Identifier: MIT
 *
 * Makes children in every way there is, calls called() in them and in itself, and says how each child ended.
 *
 *     fork | vfork | spawn | system | popen | clone | thread-fork     one child
 *     fork-late            a child that does its work when it is released; its process id
 *     release
 *     call N               called(), N times
 *     exec PROGRAM         becomes PROGRAM
 *     exec-thread PROGRAM  the same from another thread
 *     exit N | crash | open LIBRARY
 */
#include "obey.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

long called(long x);
PROBED long called(long x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}

static long call(long times)
{
    long x = 0;
    for (long i = 0; i < times; i++)
        x = called(x);
    return x;
}

static void report_end(pid_t pid)
{
    int status = -1;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status))
        printf("exit %d", WEXITSTATUS(status));
    else
        printf("signal %d", WTERMSIG(status));
}

/* What a child does: the function, the library, a child of its own. */
static int child_work(void *arg)
{
    (void)arg;
    long x = call(1000);
    char *text = strdup("text");
    size_t length = strlen(text);
    free(text);
    pid_t grandchild = fork();
    if (grandchild == 0)
        _exit(call(5) == 5 ? 3 : 1);
    int status;
    waitpid(grandchild, &status, 0);
    _exit(x == 1000 && length == 4 && WIFEXITED(status) && WEXITSTATUS(status) == 3 ? 42 : 1);
}

static void *fork_in_thread(void *arg)
{
    pid_t pid = fork();
    if (pid == 0)
        child_work(NULL);
    *(pid_t *)arg = pid;
    return NULL;
}

static void *exec_in_thread(void *arg)
{
    execl(arg, arg, (char *)NULL);
    return NULL;
}

static void make_child(const char *how)
{
    pid_t pid = -1;
    if (!strcmp(how, "fork")) {
        pid = fork();
        if (pid == 0)
            child_work(NULL);
    } else if (!strcmp(how, "thread-fork")) {
        pthread_t thread;
        pthread_create(&thread, NULL, fork_in_thread, &pid);
        pthread_join(thread, NULL);
    } else if (!strcmp(how, "vfork")) {
        pid = vfork();
        if (pid == 0) {
            execl("/bin/sh", "sh", "-c", "exit 42", (char *)NULL);
            _exit(1);
        }
    } else if (!strcmp(how, "clone")) {
        static char stack[65536];
        pid = clone(child_work, stack + sizeof stack, SIGCHLD, NULL);
    } else if (!strcmp(how, "spawn")) {
        char *argv[] = {(char *)"sh", (char *)"-c", (char *)"exit 42", NULL};
        posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ);
    } else if (!strcmp(how, "system")) {
        int status = system("exit 42");
        printf("exit %d", WEXITSTATUS(status));
        return;
    } else {
        char word[16] = "";
        FILE *pipe = popen("echo heard; exit 42", "r");
        int got = pipe ? fscanf(pipe, "%15s", word) : 0;
        int status = pipe ? pclose(pipe) : -1;
        printf("exit %d", got == 1 && !strcmp(word, "heard") ? WEXITSTATUS(status) : -1);
        return;
    }
    report_end(pid);
}

/* One child at a time. */
static pid_t late_child;
static int late_pipe[2];

static void fork_late(void)
{
    char byte;
    if (pipe(late_pipe) != 0)
        return;
    late_child = fork();
    if (late_child == 0) {
        close(late_pipe[1]);
        if (read(late_pipe[0], &byte, 1) == 0)
            child_work(NULL);
        _exit(1);
    }
    close(late_pipe[0]);
    printf("%d", late_child);
}

static void carry(char **words, int count)
{
    const char *word = count > 1 ? words[1] : "";
    if (!strcmp(words[0], "call")) {
        printf("%ld", call(atol(word)));
    } else if (!strcmp(words[0], "fork-late")) {
        fork_late();
    } else if (!strcmp(words[0], "release")) {
        close(late_pipe[1]);
        report_end(late_child);
    } else if (!strcmp(words[0], "exec")) {
        execl(word, word, (char *)NULL);
    } else if (!strcmp(words[0], "exec-thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, exec_in_thread, (void *)(size_t)word);
        pthread_join(thread, NULL);
    } else if (!strcmp(words[0], "exit")) {
        exit(atoi(word));
    } else if (!strcmp(words[0], "crash")) {
        raise(SIGSEGV);
    } else if (!strcmp(words[0], "open")) {
        void *library = dlopen(word, RTLD_NOW);
        long (*opened)(long) = library ? (long (*)(long))(size_t)dlsym(library, "late_function") : NULL;
        printf("%ld", opened ? opened(20) : -1);
    } else {
        make_child(words[0]);
    }
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
