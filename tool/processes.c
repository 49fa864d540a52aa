/* SPDX-License-Identifier: MIT
 *
 * Without -f there is one process, and no tracer stays with it: it is only polled. With -f each fork and exec comes as
 * an event, its process held: a fork child gets the probes of its parent by its parent's plan, a new program gets them
 * as the first one did. A program whose probes cannot be placed runs on without.
 */
#include "processes.h"

#include "base/now.h"
#include "symbol/symbol.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* END_WAIT_MS: a signal may come between the look and the wait. */
enum { ABANDON_MS = 1000, END_WAIT_MS = 200, LEAVE_PATIENCE_NS = 2000000000 };

static struct process *add(struct processes *processes, struct tl_remote *remote)
{
    struct process *process = calloc(1, sizeof *process);
    if (!process)
        return NULL;
    process->placed.remote = remote;
    process->changes =
        (struct changes){.options = processes->options, .placed = &process->placed, .specs = processes->specs};
    process->next = processes->list;
    processes->list = process;
    return process;
}

static struct process *find(const struct processes *processes, const struct tl_remote *remote)
{
    struct process *process = processes->list;
    while (process && (!remote || process->placed.remote != remote))
        process = process->next;
    return process;
}

/* The first of all is the last of the list. */
static struct process *first(const struct processes *processes)
{
    struct process *process = processes->list;
    while (process && process->next)
        process = process->next;
    return process;
}

/* It is said to be in place once all that is needed of the program is had: it may end at any moment. */
static int add_source(struct processes *processes, struct process *process)
{
    int status = report_add(processes->report, &process->source, &process->placed,
                            processes->watches ? &process->watches : NULL);
    if (!status && processes->watches)
        report_watches(processes->report, &process->placed);
    return status;
}

/* A command that we launched and whose probes could not be placed never runs. Its memory goes a moment before it does:
 * wait for that, within reason, or taking out probes would complain of what is missing. */
static void abandon(struct tl_remote *remote)
{
    bool gone;
    int status;
    if (!tl_remote_facts(remote)->launched)
        return;
    kill(tl_remote_facts(remote)->pid, SIGKILL);
    tl_remote_poll(remote, ABANDON_MS, &gone, &status);
}

/* There may be many of them, with a few files each. A command that was launched has the old limit. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* What the kernel does not execute, or not for long, may be a file of which more can be told. */
static void explain(const char *command, int failed, struct tl_error *error)
{
    struct tl_object *object;
    struct tl_error found;
    if ((failed != -ENOEXEC && failed != -ESRCH) || !strchr(command, '/'))
        return;
    int result = tl_object_open(command, NULL, &object, &found);
    if (!result)
        tl_object_close(object);
    else if (result == -ENOEXEC || result == -EINVAL)
        *error = found;
}

int processes_begin(struct processes *processes)
{
    const struct options *options = processes->options;
    struct tl_remote *remote;
    struct tl_error error;
    int failed = options->pid ? tl_remote_open(options->pid, &remote, &error)
                              : tl_remote_launch(options->command, &remote, &error);
    if (failed && !options->pid)
        explain(options->command[0], failed, &error);
    if (!failed && options->follow && tl_follow_begin(remote, &processes->follow, &error)) {
        tl_remote_close(remote);
        failed = -1;
    }
    if (failed) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    if (options->follow)
        raise_descriptor_limit();
    struct process *process = add(processes, remote);
    processes->fates = calloc(options->spec_count, sizeof *processes->fates);
    int status = EXIT_FAILED;
    if (process && processes->fates)
        status = process_place_first(processes, process);
    else
        complain("out of memory");
    if (status)
        abandon(remote);
    if (!process)
        tl_remote_close(remote);
    return status;
}

int processes_release(struct processes *processes)
{
    struct process *process = processes->list;
    struct tl_error error;
    if (process->placed.region.area) {
        int status = add_source(processes, process);
        if (status)
            return status;
    }
    if (tl_remote_release(process->placed.remote, &error)) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    return 0;
}

/* In the end those that are born yet only get rid of what they inherited. */
static void came_late(struct tl_remote *remote)
{
    tl_remote_remove(remote, NULL);
    tl_follow_leave(remote);
    tl_remote_close(remote);
}

/* A process that is only known to us so that it can be let go in the end has nothing in place. */
static void came(struct processes *processes, const struct tl_follow_event *event)
{
    struct tl_remote *remote = event->remote;
    if (processes->removed) {
        came_late(remote);
        return;
    }
    struct process *parent = find(processes, event->forked_from), *process = add(processes, remote);
    bool failed = !process || event->failed || process_place(processes, process, parent);
    if (failed && !processes->options->quiet && !tl_follow_is_dying(remote))
        complain("process %d goes on without %s: %s", tl_remote_facts(remote)->pid,
                 processes->watches ? "watches" : "probes",
                 event->failed ? event->error.text
                 : process     ? process->placed.trouble
                               : "out of memory");
    if (process && process->placed.in_place)
        add_source(processes, process);
    else
        tl_remote_remove(remote, NULL); /* what it took to come to its entry */
    tl_remote_release(remote, NULL);
    if (!process)
        tl_remote_close(remote);
}

/* What was kept for borrowers goes when they have gone; the first stays, to be waited for. */
static void sweep(struct processes *processes)
{
    struct process **at = &processes->list;
    while (*at && (*at)->next) {
        struct process *process = *at;
        if (!process->ended || process->placed.borrowers) {
            at = &process->next;
            continue;
        }
        *at = process->next;
        changes_free(&process->changes);
        place_free(&process->placed);
        program_watches_free(&process->watches);
        free(process);
    }
}

static void finish(struct processes *processes, struct process *process)
{
    report_end(processes->report, &process->source);
    place_leave(&process->placed);
    processes->stuck |= process->placed.stuck;
    process->ended = true;
}

static void went(struct processes *processes, struct tl_remote *remote)
{
    struct process *process = find(processes, remote);
    if (process) {
        process->placed.in_place = false; /* it went with the memory */
        finish(processes, process);
        process->placed.remote = NULL;
    }
    tl_remote_close(remote);
    sweep(processes);
}

static bool any_left(const struct processes *processes)
{
    for (const struct process *process = processes->list; process; process = process->next) {
        if (!process->ended)
            return true;
    }
    return false;
}

/* Without -f an exec is the end: what comes behind it has no probes. */
static int poll_one(struct processes *processes, int wait_ms, bool *gone)
{
    struct process *process = processes->list;
    bool ended;
    int status, result = tl_remote_poll(process->placed.remote, wait_ms, &ended, &status);
    *gone = ended || (result == 0 && changes_exec(&process->changes));
    return result;
}

static int poll_all(struct processes *processes, int wait_ms, bool *gone)
{
    int result = tl_follow_wait(processes->follow, wait_ms * 1000);
    struct tl_follow_event event;
    while (tl_follow_next(processes->follow, &event)) {
        if (event.kind == TL_FOLLOW_CAME)
            came(processes, &event);
        else
            went(processes, event.remote);
    }
    *gone = !any_left(processes) && tl_follow_idle(processes->follow);
    return result;
}

/* Watches may take turns, and have new threads: how long it may take until somebody looks again. */
static int turn_watches(struct processes *processes, int wait_ms)
{
    for (struct process *process = processes->list; process; process = process->next) {
        uint64_t within = process->placed.watching ? place_watches_turn(&process->placed) / 1000000 : UINT64_MAX;
        if (within < (uint64_t)wait_ms)
            wait_ms = (int)within;
    }
    return wait_ms;
}

static void say_taken_out(const struct processes *processes, const struct process *process, uint64_t began,
                          uint64_t stopped_before)
{
    uint64_t stopped = tl_remote_facts(process->placed.remote)->stopped_ns - stopped_before;
    if (processes->options->verbose && stopped)
        complain("taken out within %.1f ms; the program was stopped for %.1f ms of it",
                 (double)(tl_now() - began) / 1e6, (double)stopped / 1e6);
}

static void take_out(struct processes *processes, struct process *process)
{
    uint64_t began = tl_now(), stopped = tl_remote_facts(process->placed.remote)->stopped_ns;
    bool was_in_place = process->placed.in_place;
    place_remove(&process->placed);
    finish(processes, process);
    if (was_in_place)
        say_taken_out(processes, process, began, stopped);
}

/* All in one stop: what is born of it from here on has nothing of ours, and is not ours. False: it has to run on first,
 * still followed, or will not be rid of our probes so easily. */
static bool leave(struct processes *processes, struct process *process)
{
    struct tl_remote *remote = process->placed.remote;
    const struct tl_port *port = tl_remote_port(remote);
    uint64_t began = tl_now(), stopped = tl_remote_facts(remote)->stopped_ns;
    bool was_in_place = process->placed.in_place;
    int error = port->stop(port->host);
    if (error)
        return false;
    error = place_withdraw(&process->placed);
    if (!error)
        tl_follow_leave(remote);
    port->resume(port->host);
    if (!error && was_in_place)
        say_taken_out(processes, process, began, stopped);
    if (!error)
        finish(processes, process);
    process->stubborn = error && error != -EAGAIN;
    return !error;
}

/* A program that is about to forbid itself the return from signals, and waits for us to go. */
static bool wants_to_be_let_go(const struct process *process)
{
    const struct tl_hit_control *area = process->placed.in_place ? process->placed.region.area : NULL;
    return area && !process->ended && __atomic_load_n(&area->leave, __ATOMIC_ACQUIRE);
}

static void let_go_who_wants(struct processes *processes, bool *gone)
{
    bool any = false;
    for (struct process *process = processes->list; process; process = process->next) {
        if (!wants_to_be_let_go(process))
            continue;
        pid_t pid = tl_remote_facts(process->placed.remote)->pid;
        if (!processes->follow)
            take_out(processes, process);
        else if (!leave(processes, process))
            continue;
        any = true;
        complain("process %d confines itself, and could not return from signals any more: it was let go", pid);
    }
    if (any && !any_left(processes))
        *gone = !processes->follow || tl_follow_idle(processes->follow);
}

int processes_poll(struct processes *processes, int wait_ms, bool *gone)
{
    if (processes->watches)
        wait_ms = turn_watches(processes, wait_ms);
    int result = processes->follow ? poll_all(processes, wait_ms, gone) : poll_one(processes, wait_ms, gone);
    uint64_t now = tl_now();
    for (struct process *process = processes->list; process; process = process->next) {
        if (process->placed.in_place && !processes->watches)
            changes_libraries(&process->changes, now);
    }
    let_go_who_wants(processes, gone);
    return result;
}

static bool leave_one(struct processes *processes)
{
    struct process *process = processes->list;
    while (process && (process->ended || process->stubborn || !leave(processes, process)))
        process = process->next;
    return process != NULL;
}

static bool only_stubborn_left(const struct processes *processes)
{
    bool any = false;
    for (const struct process *process = processes->list; process; process = process->next) {
        if (!process->ended && !process->stubborn)
            return false;
        any |= !process->ended;
    }
    return any;
}

/* One after the other; the others go on, run other programs, end, and have children meanwhile. */
static void leave_all(struct processes *processes)
{
    uint64_t deadline = tl_now() + LEAVE_PATIENCE_NS;
    bool gone = false;
    while (!gone && !only_stubborn_left(processes) && tl_now() < deadline) {
        bool left = leave_one(processes);
        if (left)
            deadline = tl_now() + LEAVE_PATIENCE_NS;
        poll_all(processes, left ? 0 : 1, &gone);
    }
    tl_follow_abandon(processes->follow);
}

void processes_end(struct processes *processes)
{
    if (processes->removed)
        return;
    processes->removed = true;
    if (processes->follow)
        leave_all(processes);
    for (struct process *process = processes->list; process; process = process->next) {
        if (!process->ended)
            take_out(processes, process);
    }
}

bool processes_await_first(struct processes *processes, int *status)
{
    bool gone = false;
    struct tl_remote *remote = first(processes)->placed.remote;
    if (processes->follow && tl_follow_first_ended(processes->follow, status))
        return true;
    if (processes->follow)
        return tl_follow_await_first(processes->follow, END_WAIT_MS * 1000, status);
    return tl_remote_poll(remote, END_WAIT_MS, &gone, status) == 0 && gone;
}

bool processes_all_matched(const struct processes *processes)
{
    bool all = true;
    for (size_t i = 0; processes->follow && i < processes->options->spec_count; i++) {
        const struct spec_fate *fate = &processes->fates[i];
        if (!fate->matched)
            complain("%s: %s", processes->options->specs[i],
                     *fate->why ? fate->why : "nothing of this name was in any of the programs");
        all &= fate->matched;
    }
    return all;
}

void processes_free(struct processes *processes)
{
    processes_end(processes);
    /* The youngest first: who borrows is younger than who lends. */
    while (processes->list) {
        struct process *process = processes->list;
        struct tl_remote *remote = process->placed.remote;
        processes->list = process->next;
        place_leave(&process->placed);
        changes_free(&process->changes);
        place_free(&process->placed);
        program_watches_free(&process->watches);
        tl_remote_close(remote);
        free(process);
    }
    tl_follow_end(processes->follow);
    free(processes->fates);
}
