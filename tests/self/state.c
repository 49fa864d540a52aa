/* SPDX-License-Identifier: MIT */
#include "state.h"

#include <dirent.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "kit.h"

static long (*real_call)(long number, long a, long b, long c, long d, long e, long f);
static struct {
    long number;
    unsigned occurrence, counts[INJECT_NUMBERS];
    int error;
    bool done;
} injection;

static int sum_text(struct dl_phdr_info *info, size_t size, void *context)
{
    uint64_t *sum = context;
    (void)size;
    if (!strstr(info->dlpi_name, "libc.so") && !strstr(info->dlpi_name, "ld-linux"))
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
            continue;
        const uint64_t *words = (const uint64_t *)(info->dlpi_addr + p->p_vaddr);
        for (size_t k = 0; k < p->p_filesz / 8; k++)
            *sum = *sum * 31 + words[k];
    }
    return 0;
}

static uint64_t blocked_by(int tid)
{
    char path[64], line[256];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "SigBlk: %llx", &mask) == 1)
            break;
    }
    if (file)
        fclose(file);
    return mask;
}

void state_take(struct state *state)
{
    long (*call)(long, long, long, long, long, long, long) = real_call ? real_call : tl_self_call;
    memset(state, 0, sizeof *state);
    for (int n = 1; n <= TL_SIGNALS; n++)
        call(SYS_rt_sigaction, n, 0, (long)&state->actions[n], 8, 0, 0);
    state->descriptors = (unsigned)count_descriptors();
    state->memory_files = (unsigned)count_lines("/proc/self/maps", "memfd:trapline");
    state->text_is_original = text_is_original();
    dl_iterate_phdr(sum_text, &state->text);
    DIR *directory = opendir("/proc/self/task");
    for (struct dirent *entry; directory && (entry = readdir(directory)) && state->task_count < STATE_TASKS;) {
        if (entry->d_name[0] == '.')
            continue;
        state->tasks[state->task_count].tid = atoi(entry->d_name);
        state->tasks[state->task_count].blocked = blocked_by(state->tasks[state->task_count].tid);
        state->task_count++;
    }
    if (directory)
        closedir(directory);
}

const char *state_differs(const struct state *a, const struct state *b)
{
    if (memcmp(a->actions, b->actions, sizeof a->actions))
        return "an action";
    if (memcmp(a->tasks, b->tasks, sizeof a->tasks) || a->task_count != b->task_count)
        return "threads, or their masks";
    if (a->descriptors != b->descriptors)
        return "the number of descriptors";
    if (a->memory_files != b->memory_files)
        return "what is mapped";
    if (a->text_is_original != b->text_is_original || a->text != b->text)
        return "the text";
    return NULL;
}

/* Those that only give back, and cannot fail where they did not fail before. */
static bool cannot_fail(long number, long a)
{
    return number == SYS_close || number == SYS_munmap || number == SYS_exit || number == SYS_getpid ||
           number == SYS_gettid || number == SYS_getppid || number == SYS_sched_yield ||
           (number == SYS_rt_sigprocmask && a == 2 /* SIG_SETMASK */);
}

static long call_or_fail(long number, long a, long b, long c, long d, long e, long f)
{
    if (number >= 0 && number < INJECT_NUMBERS && !cannot_fail(number, a)) {
        unsigned times = __atomic_add_fetch(&injection.counts[number], 1, __ATOMIC_SEQ_CST);
        if (number == injection.number && times == injection.occurrence && injection.error) {
            injection.done = true;
            return injection.error;
        }
    }
    return real_call(number, a, b, c, d, e, f);
}

void inject(long number, unsigned occurrence, int error)
{
    if (!real_call) {
        real_call = tl_self_call;
        tl_self_call = call_or_fail;
    }
    memset(&injection, 0, sizeof injection);
    injection.number = number;
    injection.occurrence = occurrence;
    injection.error = error;
}

bool injected(void)
{
    return injection.done;
}

unsigned times_called(long number)
{
    return injection.counts[number];
}
