/* SPDX-License-Identifier: MIT
 *
 * The running kernel as the oracle: random sequences of opening, modifying and closing breakpoint events, for several
 * threads and CPUs, are admitted or refused by it exactly when the accounting says so.
 */
#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hwbp/slots.h"

enum { OPERATIONS = 24000, THREADS = 4, CPUS_MAX = 8, HELD_MAX = 40, SLOTS = 4, SKIPPED = 77 };

static uint64_t watched[64];
static pid_t tids[THREADS];
static pthread_barrier_t started, finished;

struct held {
    int fd;
    struct tl_slot_request request;
};

static uint64_t seed = 88172645463325252ull;
static unsigned below(unsigned n)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned)(seed >> 33) % n;
}

static void *allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static void *wait_until_finished(void *number)
{
    tids[(uintptr_t)number] = (pid_t)syscall(SYS_gettid);
    pthread_barrier_wait(&started);
    pthread_barrier_wait(&finished);
    return NULL;
}

static struct perf_event_attr attributes(enum tl_slot_type type)
{
    struct perf_event_attr attr = {.type = PERF_TYPE_BREAKPOINT, .size = sizeof attr, .exclude_kernel = 1};
    attr.bp_addr = (uint64_t)(uintptr_t)&watched[below(sizeof watched / sizeof *watched)];
    attr.bp_type = type == TL_SLOT_DATA ? HW_BREAKPOINT_W : HW_BREAKPOINT_X;
    attr.bp_len = type == TL_SLOT_DATA ? 1u << below(4) : sizeof(long);
    return attr;
}

static int kernel_open(const struct tl_slot_request *request)
{
    struct perf_event_attr attr = attributes(request->type);
    pid_t pid = request->task ? (pid_t)request->task : -1;
    int fd = (int)syscall(SYS_perf_event_open, &attr, pid, request->cpu, -1, PERF_FLAG_FD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Why this test cannot be run here, or NULL. */
static const char *obstacle(unsigned cpus)
{
    int fds[CPUS_MAX][SLOTS];
    const char *why = NULL;
    for (unsigned c = 0; c < cpus; c++)
        for (unsigned i = 0; i < SLOTS; i++) {
            fds[c][i] = kernel_open(&(struct tl_slot_request){.cpu = (int)c, .weight = 1});
            if (fds[c][i] == -EACCES || fds[c][i] == -EPERM)
                why = "events of a whole CPU take root";
            else if (fds[c][i] == -ENOSPC)
                why = "somebody holds slots already";
            else if (fds[c][i] < 0)
                why = "the kernel offers no breakpoint events";
        }
    for (unsigned c = 0; c < cpus; c++)
        for (unsigned i = 0; i < SLOTS; i++)
            if (fds[c][i] >= 0)
                close(fds[c][i]);
    return why;
}

static struct tl_slot_request random_request(unsigned cpus)
{
    struct tl_slot_request request = {.cpu = (int)below(cpus), .weight = 1};
    if (below(4))
        request.task = (uint64_t)tids[below(THREADS)];
    if (request.task && below(3))
        request.cpu = TL_ANY_CPU;
    request.type = below(2) ? TL_SLOT_DATA : TL_SLOT_INSTRUCTION;
    return request;
}

static int compare(const char *what, const struct tl_slot_request *request, int kernel, int ours)
{
    if ((kernel < 0 ? kernel : 0) == ours)
        return 0;
    printf("%s, task %d, cpu %d: the kernel says %d, the accounting %d\n", what, (int)request->task, request->cpu,
           kernel, ours);
    return 1;
}

/* Another type, in place: the kernel lets the slot go and takes it again. */
static int modify(struct tl_slots *slots, struct held *held)
{
    struct tl_slot_request other = held->request;
    struct perf_event_attr attr = attributes(other.type);
    int kernel = ioctl(held->fd, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &attr) ? -errno : 0;
    int wrong = compare("modify", &other, kernel, tl_slots_modify(slots, &held->request, &other));
    held->request = other;
    return wrong;
}

struct tally {
    unsigned admitted, refused, closed, modified;
};

static int run(struct tl_slots *slots, unsigned cpus, struct tally *tally)
{
    static struct held held[HELD_MAX];
    size_t count = 0;
    int wrong = 0;
    for (unsigned i = 0; i < OPERATIONS && !wrong; i++) {
        unsigned what = below(8);
        if (what < 5 && count < HELD_MAX) {
            struct tl_slot_request request = random_request(cpus);
            int fd = kernel_open(&request);
            wrong = compare("open", &request, fd, tl_slots_reserve(slots, &request));
            if (fd >= 0)
                held[count++] = (struct held){fd, request};
            *(fd >= 0 ? &tally->admitted : &tally->refused) += 1;
        } else if (what < 7 && count) {
            size_t which = below((unsigned)count);
            close(held[which].fd);
            wrong = compare("close", &held[which].request, 0, tl_slots_release(slots, &held[which].request));
            held[which] = held[--count];
            tally->closed++;
        } else if (count) {
            wrong = modify(slots, &held[below((unsigned)count)]);
            tally->modified++;
        }
    }
    while (count)
        close(held[--count].fd);
    return wrong;
}

int main(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned cpus = online > CPUS_MAX ? CPUS_MAX : (unsigned)online;
    const char *why = obstacle(cpus);
    if (why) {
        printf("skipped: %s\n", why);
        return SKIPPED;
    }
    pthread_t threads[THREADS];
    pthread_barrier_init(&started, NULL, THREADS + 1);
    pthread_barrier_init(&finished, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, wait_until_finished, (void *)i))
            return 1;
    pthread_barrier_wait(&started);
    const struct tl_slots_machine machine = {.cpus = cpus, .slots = {SLOTS}, .shared = true};
    const struct tl_slots_host host = {.allocate = allocate, .release = release};
    struct tl_slots slots;
    struct tally tally = {0};
    int wrong = tl_slots_init(&slots, &machine, &host);
    if (!wrong)
        wrong = run(&slots, cpus, &tally);
    pthread_barrier_wait(&finished);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    tl_slots_destroy(&slots);
    printf("%u operations: %u opened, %u refused, %u closed, %u modified; all as the accounting says: %s\n", OPERATIONS,
           tally.admitted, tally.refused, tally.closed, tally.modified, wrong ? "no" : "yes");
    return wrong || tally.refused < OPERATIONS / 100;
}
