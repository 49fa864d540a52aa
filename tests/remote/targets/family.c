/* SPDX-License-Identifier: MIT
 *
 * Makes children all the time, by fork and by vfork, and looks how each of them ends. argv[1]: hello.
 */
#include "progress.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VALUE = 0x11223344, CALLS = 20, GREETING = 42 };

extern const char family_probe[];
__asm__(".pushsection .text\n"
        ".balign 16\n"
        "family_probe:\n"
        "    mov $0x11223344, %eax\n"
        "    ret\n"
        ".popsection\n");

static struct progress *progress;

static int call_probe(void)
{
    return ((unsigned (*)(void))(uintptr_t)family_probe)() != VALUE;
}

static void expect(pid_t child, int wanted, unsigned what)
{
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != wanted) {
        progress->errors++;
        progress->where = what;
    }
}

static void child(void)
{
    int wrong = 0;
    pid_t grandchild = fork();
    for (int i = 0; i < CALLS; i++)
        wrong |= call_probe();
    if (grandchild == 0)
        _exit(wrong);
    expect(grandchild, 0, 1);
    _exit(wrong);
}

static void greet(char *path)
{
    char *argv[] = {path, (char *)"one", (char *)"two words", NULL}, *envp[] = {(char *)"HELLO_MARK=here", NULL};
    pid_t pid = vfork();
    if (pid == 0) {
        execve(path, argv, envp);
        _exit(1);
    }
    expect(pid, GREETING, 2);
}

static void *beside(void *unused)
{
    for (;;) {
        progress->errors += (unsigned)call_probe();
        progress->loops[1]++;
        usleep(100);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    progress = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    if (progress == MAP_FAILED || argc < 2)
        return 1;
    pthread_create(&thread, NULL, beside, NULL);
    progress->probe = (uintptr_t)family_probe;
    for (;;) {
        pid_t pid = fork();
        if (pid == 0)
            child();
        progress->errors += (unsigned)call_probe();
        expect(pid, 0, 3);
        greet(argv[1]);
        progress->loops[0]++;
        progress->ready = progress->loops[1] > 0;
    }
}
