/* SPDX-License-Identifier: MIT
 *
 * Every form of instruction in the subjects, and some that are rare there, run bare and through its copies.
 *
 * `insn_execute_test [seed [rounds]]`: the same seed runs the same trials. The forms are run by child processes, so
 * that one which takes its process along is noted and the rest still run.
 */
#include <err.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compare.h"
#include "rare_forms.h"

enum { WORKERS = 2, SHOWN = 40 };

/* What became of a form. */
enum fate {
    FATE_NONE,
    FATE_COMPLETED, /* ended on one of its ways out, at least once */
    FATE_FAULTED,   /* never did, but faulted in the same way */
    FATE_ABSENT,    /* this processor does not have it */
    FATE_REFUSED,
    FATE_FAILED,
    FATE_COUNT
};

struct shared {
    size_t next[WORKERS];
    size_t runs, marks, emulated, failures;
    uint8_t fates[1 << 15], why[1 << 15];
    bool no_far_copy[1 << 15];
};
static struct shared *shared;
static uint64_t seed = 20240229;
static int rounds = 1;

static bool is_undefined_on_purpose(const struct form *form)
{
    return form->key.mnemonic == ZYDIS_MNEMONIC_UD0 || form->key.mnemonic == ZYDIS_MNEMONIC_UD1 ||
           form->key.mnemonic == ZYDIS_MNEMONIC_UD2;
}

static void tell_failure(const struct form *form, const struct trial *trial, const struct verdict *verdict)
{
    char text[128];
    if (__atomic_fetch_add(&shared->failures, 1, __ATOMIC_RELAXED) >= SHOWN)
        return;
    form_text(form, text, sizeof text);
    printf("  FAILED %s (place %d, variant %d):", text, (int)(trial->place - places), (int)trial->variant);
    for (size_t i = 0; i < trial->insn.length; i++)
        printf(" %02x", trial->insn.bytes[i]);
    printf(": %s\n", verdict->difference);
}

static enum fate run_form(const struct form *form, size_t index)
{
    static struct trial trial;
    struct verdict verdict = {0};
    bool completed = false, illegal = true, failed = false;
    for (int place = 0; place < PLACE_COUNT; place++)
        for (int round = 0; round < rounds * VARIANT_COUNT; round++) {
            trial_make(form, &places[place], (enum variant)(round % VARIANT_COUNT),
                       seed ^ (index * PLACE_COUNT + (size_t)place) << 20 ^ (uint64_t)round << 8, &trial);
            trial_run(&trial, &verdict);
            if (verdict.why[ROOM_NEAR] != TL_WHY_NONE) {
                shared->why[index] = (uint8_t)verdict.why[ROOM_NEAR];
                return FATE_REFUSED;
            }
            shared->no_far_copy[index] |= verdict.why[ROOM_FAR] != TL_WHY_NONE;
            completed |= verdict.signal == SIGTRAP;
            illegal &= verdict.signal == SIGILL && !is_undefined_on_purpose(form);
            failed |= verdict.failed;
            if (verdict.failed)
                tell_failure(form, &trial, &verdict);
            __atomic_fetch_add(&shared->runs, verdict.runs, __ATOMIC_RELAXED);
            __atomic_fetch_add(&shared->emulated, verdict.emulated, __ATOMIC_RELAXED);
            __atomic_fetch_add(&shared->marks, verdict.marks, __ATOMIC_RELAXED);
        }
    return failed ? FATE_FAILED : completed ? FATE_COMPLETED : illegal ? FATE_ABSENT : FATE_FAULTED;
}

/* One processor only: cpuid, rdpid and rdtscp tell which. */
static void stay_here(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* A form that never ends is ended. By processor time: the kernel makes locked accesses across cache lines wait. */
static void limit_time(void)
{
    const struct itimerval limit = {.it_value = {.tv_sec = 60}};
    setitimer(ITIMER_PROF, &limit, NULL);
}

static pid_t start_worker(const struct form_set *set, size_t worker)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    stay_here();
    machine_start();
    while (shared->next[worker] < set->count) {
        size_t index = shared->next[worker];
        limit_time();
        shared->fates[index] = (uint8_t)run_form(&set->forms[index], index);
        shared->next[worker] += WORKERS;
    }
    fflush(stdout);
    _exit(0);
}

static void worker_died(const struct form_set *set, size_t worker, int status)
{
    char text[128];
    size_t index = shared->next[worker];
    form_text(&set->forms[index], text, sizeof text);
    printf("  FAILED %s took its process along (status %#x)\n", text, (unsigned)status);
    shared->fates[index] = FATE_FAILED;
    shared->next[worker] += WORKERS;
}

static void run_all(const struct form_set *set)
{
    pid_t pids[WORKERS];
    int status;
    for (size_t i = 0; i < WORKERS; i++) {
        shared->next[i] = i;
        pids[i] = start_worker(set, i);
    }
    for (size_t i = 0; i < WORKERS; i++)
        while (pids[i] > 0 && waitpid(pids[i], &status, 0) == pids[i] && status != 0) {
            if (shared->next[i] >= set->count)
                errx(1, "a worker failed (status %#x)", (unsigned)status);
            worker_died(set, i, status);
            pids[i] = start_worker(set, i);
        }
}

static void list(const struct form_set *set, enum fate fate, const char *title)
{
    char text[128];
    size_t shown = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (shared->fates[i] != fate)
            continue;
        form_text(&set->forms[i], text, sizeof text);
        if (shown++ == 0)
            printf("%s:\n", title);
        printf("    %s%s%s\n", text, fate == FATE_REFUSED ? ": " : "",
               fate == FATE_REFUSED ? tl_why_text((enum tl_why)shared->why[i]) : "");
    }
}

int main(int argc, char **argv)
{
    struct form_set set;
    size_t counts[FATE_COUNT] = {0}, no_far_copy = 0;
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        rounds = atoi(argv[2]);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        err(1, "mmap");
    forms_init(&set);
    for (const char *const *name = tl_subjects; *name; name++)
        forms_add_subject(&set, *name);
    size_t found = set.count;
    rare_forms_add(&set);
    printf("seed %llu; %zu forms found in the subjects, %zu more\n", (unsigned long long)seed, found,
           set.count - found);
    run_all(&set);
    for (size_t i = 0; i < set.count; i++) {
        counts[shared->fates[i]]++;
        no_far_copy += shared->no_far_copy[i];
    }
    list(&set, FATE_REFUSED, "refused");
    list(&set, FATE_ABSENT, "not run: this processor does not have them");
    list(&set, FATE_FAULTED, "only faulted");
    printf("forms executed: %zu (%zu to an end, %zu only to the same fault); skipped: %zu not on this processor, %zu "
           "refused; "
           "%zu without a far copy\n",
           counts[FATE_COMPLETED] + counts[FATE_FAULTED], counts[FATE_COMPLETED], counts[FATE_FAULTED],
           counts[FATE_ABSENT], counts[FATE_REFUSED], no_far_copy);
    printf("%zu runs, %zu stops at a mark, %zu transfers worked out; forms that differ: %zu\n", shared->runs,
           shared->marks, shared->emulated, counts[FATE_FAILED]);
    bool good =
        shared->emulated > 500 && counts[FATE_FAILED] == 0 && counts[FATE_NONE] == 0 && counts[FATE_COMPLETED] > 1000;
    forms_free(&set);
    return good ? 0 : 1;
}
