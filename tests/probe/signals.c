/* SPDX-License-Identifier: MIT
 *
 * A program that is only looked at, until its standard input ends: it has what changes signals in it.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void *thread(void *argument)
{
    return argument;
}

int main(int argc, char **argv)
{
    sigset_t set;
    pthread_t id;
    pid_t child = 0;
    char byte;
    struct sigaction action = {.sa_handler = SIG_IGN};
    if (write(1, "\n", 1) != 1 || read(0, &byte, 1) == 0)
        return 0;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigaction(SIGUSR1, &action, NULL);
    signalfd(-1, &set, 0);
    ppoll(NULL, 0, NULL, &set);
    if (argc > 1 && (sigsuspend(&set) || posix_spawn(&child, argv[1], NULL, NULL, argv, argv)))
        return 1;
    return pthread_create(&id, NULL, thread, NULL) || (argc > 2 && !fork()) || waitpid(child, NULL, 0) == 1;
}
