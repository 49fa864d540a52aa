/* SPDX-License-Identifier: MIT
 *
 * A program that knows exactly what each of its instructions and calls must give, and says so when it does not: one
 * thread computes with all registers in use, the others sleep in the calls that a stop may disturb.
 */
#include "progress.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct progress *progress;
static int numbers[2], answers[2];

extern const char probe_me[];
__asm__(".pushsection .text\n"
        ".balign 16\n"
        ".globl probe_me\n"
        "probe_me:\n"
        "    mov $0x12345678, %eax\n"
        "    ret\n"
        ".popsection\n");

static void wrong(unsigned thread, unsigned what)
{
    progress->where = 100 * thread + what;
    __atomic_add_fetch(&progress->errors, 1, __ATOMIC_SEQ_CST);
}

/* A tool that is killed between its stop and its next step cannot help that these end with EINTR. */
static void early(int is_eintr, unsigned thread, unsigned what)
{
    if (is_eintr)
        __atomic_add_fetch(&progress->interrupted, 1, __ATOMIC_SEQ_CST);
    else
        wrong(thread, what);
}

static void turn(unsigned thread)
{
    progress->loops[thread]++;
    if (progress->stop)
        pthread_exit(NULL);
}

/* Everything that a task owns keeps its value over some thousand calls of the probed function. */
static void *compute(void *arg)
{
    for (;;) {
        uint64_t sum = 0, bad = 0, turns = 2000;
        __asm__ volatile("movabs $0x1122334455667788, %%r8\n"
                         "movq %%r8, %%xmm0\n"
                         "pshufd $0x44, %%xmm0, %%xmm15\n"
                         "movdqa %%xmm15, %%xmm7\n"
                         "fld1\n"
                         "lea 1(%%r8), %%r9\n lea 2(%%r8), %%r10\n lea 3(%%r8), %%r11\n lea 4(%%r8), %%r12\n"
                         "lea 5(%%r8), %%r13\n lea 6(%%r8), %%r14\n"
                         "1: call probe_me\n"
                         "add %%rax, %[sum]\n"
                         "dec %[turns]\n"
                         "jnz 1b\n"
                         "lea 1(%%r8), %%rax\n cmp %%rax, %%r9\n setne %%al\n movzbq %%al, %%rax\n add %%rax, %[bad]\n"
                         "lea 3(%%r8), %%rax\n cmp %%rax, %%r11\n setne %%al\n movzbq %%al, %%rax\n add %%rax, %[bad]\n"
                         "lea 6(%%r8), %%rax\n cmp %%rax, %%r14\n setne %%al\n movzbq %%al, %%rax\n add %%rax, %[bad]\n"
                         "movq %%xmm7, %%rax\n cmp %%rax, %%r8\n setne %%al\n movzbq %%al, %%rax\n add %%rax, %[bad]\n"
                         "psrldq $8, %%xmm15\n"
                         "movq %%xmm15, %%rax\n cmp %%rax, %%r8\n setne %%al\n movzbq %%al, %%rax\n add %%rax, %[bad]\n"
                         "fld1\n fcomip %%st(1), %%st\n setne %%al\n movzbq %%al, %%rax\n add %%rax, %[bad]\n"
                         "fstp %%st(0)\n"
                         : [sum] "+D"(sum), [bad] "+S"(bad), [turns] "+b"(turns)
                         :
                         : "rax", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "xmm0", "xmm7", "xmm15", "memory",
                           "cc");
        if (sum != 2000 * 0x12345678ull)
            wrong(0, 1);
        if (bad)
            wrong(0, 2);
        turn(0);
    }
    return arg;
}

static void *sleeping(void *arg)
{
    for (;;) {
        struct timespec nap = {.tv_nsec = 3000000};
        if (clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL) != 0)
            wrong(1, 1);
        turn(1);
    }
    return arg;
}

static void *reading(void *arg)
{
    for (uint32_t expected = 0, got;; expected++) {
        if (read(numbers[0], &got, sizeof got) != sizeof got || got != expected)
            wrong(2, 1);
        if (write(answers[1], &got, sizeof got) != sizeof got)
            wrong(2, 2);
        turn(2);
    }
    return arg;
}

static void *writing(void *arg)
{
    for (uint32_t number = 0, back;; number++) {
        struct pollfd fd = {.fd = answers[0], .events = POLLIN};
        if (write(numbers[1], &number, sizeof number) != sizeof number)
            wrong(3, 1);
        if (poll(&fd, 1, -1) != 1 || read(answers[0], &back, sizeof back) != sizeof back || back != number)
            wrong(3, 2);
        if (poll(NULL, 0, 2) != 0)
            wrong(3, 3);
        turn(3);
    }
    return arg;
}

static void *waiting_epoll(void *arg)
{
    int set = epoll_create1(0);
    for (;;) {
        struct epoll_event event;
        int n = epoll_wait(set, &event, 1, 3);
        if (n != 0)
            early(n < 0 && errno == EINTR, 4, 1);
        turn(4);
    }
    return arg;
}

static void *waiting_futex(void *arg)
{
    static uint32_t word;
    for (;;) {
        struct timespec nap = {.tv_nsec = 3000000};
        if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &nap, NULL, 0) != -1 || errno != ETIMEDOUT)
            wrong(5, 1);
        turn(5);
    }
    return arg;
}

static void *waiting_signal(void *arg)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    for (;;) {
        struct timespec nap = {.tv_nsec = 3000000};
        if (sigtimedwait(&set, NULL, &nap) != -1 || errno != EAGAIN)
            early(errno == EINTR, 6, 1);
        turn(6);
    }
    return arg;
}

static void *waiting_semaphore(void *arg)
{
    int set = semget(IPC_PRIVATE, 1, 0600);
    for (;;) {
        struct timespec nap = {.tv_nsec = 3000000};
        struct sembuf down = {.sem_op = -1};
        if (semtimedop(set, &down, 1, &nap) != -1 || errno != EAGAIN)
            early(errno == EINTR, 7, 1);
        progress->loops[7]++;
        if (progress->stop)
            break;
    }
    semctl(set, 0, IPC_RMID);
    return arg;
}

static void *waiting_socket(void *arg)
{
    int pair[2];
    struct timeval limit = {.tv_usec = 4000};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 ||
        setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit))
        wrong(8, 1);
    for (;;) {
        char byte;
        if (recv(pair[0], &byte, 1, 0) != -1 || errno != EAGAIN)
            early(errno == EINTR, 8, 2);
        turn(8);
    }
    return arg;
}

int main(int argc, char **argv)
{
    static void *(*const threads[])(void *) = {compute,        sleeping,          reading,
                                               writing,        waiting_epoll,     waiting_futex,
                                               waiting_signal, waiting_semaphore, waiting_socket};
    enum { COUNT = sizeof threads / sizeof threads[0] };
    size_t count = argc > 1 ? (size_t)atoi(argv[1]) : COUNT;
    pthread_t ids[COUNT];
    sigset_t set;
    progress = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    if (progress == MAP_FAILED || pipe(numbers) || pipe(answers) || count > COUNT)
        return 1;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    progress->probe = (uintptr_t)probe_me;
    for (size_t i = 1; i < count; i++)
        pthread_create(&ids[i], NULL, threads[i], NULL);
    for (size_t i = 1; i < count; i++) {
        while (!progress->loops[i])
            usleep(100);
    }
    sigaddset(&set, SIGTRAP); /* the one that meets the probe */
    sigprocmask(SIG_BLOCK, &set, NULL);
    progress->ready = 1;
    threads[0](NULL);
    return 0;
}
