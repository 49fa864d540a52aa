/* SPDX-License-Identifier: MIT
 *
 * One run of trace, count or watch: attach or launch, place, let go, read until there is a reason to stop, take out,
 * report.
 */
#include "session.h"

#include "processes.h"

#include "base/now.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { BUSY_WAIT_MS = 1, IDLE_WAIT_MS = 4, SIGNAL_EXIT = 128 };

struct session {
    const struct options *options;
    enum work work;
    struct tl_spec **specs;
    struct watches watches;
    struct processes processes;
    struct report report;
    bool gone; /* the target has ended, and with -f all that came from it */
};

volatile sig_atomic_t session_interrupted;

static void on_signal(int signal)
{
    session_interrupted = signal;
}

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
enum { SIGNALS = sizeof signals / sizeof *signals };
static bool ignored[SIGNALS]; /* as we were started */

/* In a child, which is to become a command: it inherits what we were told to ignore. */
static void ignore_again(void)
{
    for (size_t i = 0; i < SIGNALS; i++)
        if (ignored[i])
            signal(signals[i], SIG_IGN);
}

/* Handlers rather than SIG_IGN: a command that is launched gets the default dispositions back. SA_RESTART: a line that
 * is being written to a slow reader is not torn; the wait for events ends at a signal all the same. A hangup that
 * somebody wants ignored (nohup) stays ignored. */
void session_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, old;
    for (size_t i = 0; i < SIGNALS; i++) {
        ignored[i] = sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN;
        if (!ignored[i] || signals[i] != SIGHUP)
            sigaction(signals[i], &action, NULL);
    }
    pthread_atfork(NULL, NULL, ignore_again);
}

static int parse_specs(struct session *session)
{
    const struct options *options = session->options;
    if (session->work == WORK_WATCH)
        return watches_parse(&session->watches, options);
    session->specs = calloc(options->spec_count, sizeof *session->specs);
    if (!session->specs) {
        complain("out of memory");
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < options->spec_count; i++) {
        struct tl_error error;
        if (tl_spec_parse(options->specs[i], &session->specs[i], &error)) {
            char text[4096];
            tl_spec_complain(options->specs[i], &error, text, sizeof text);
            fputs(text, stderr);
            return EXIT_USAGE;
        }
    }
    return 0;
}

/* Read until the target ends, the limit or the time is reached, or a signal comes. */
static void follow_events(struct session *session)
{
    const struct options *options = session->options;
    uint64_t deadline = options->seconds > 0 ? tl_now() + (uint64_t)(options->seconds * 1e9) : UINT64_MAX;
    int wait = 0;
    while (!session_interrupted && !session->gone && !report_is_full(&session->report)) {
        uint64_t now = tl_now();
        if (now >= deadline)
            break;
        uint64_t left_ms = (deadline - now) / 1000000 + 1;
        if ((uint64_t)wait > left_ms)
            wait = (int)left_ms;
        if (processes_poll(&session->processes, wait, &session->gone) == -EINTR)
            break;
        size_t events = report_poll(&session->report, &session_interrupted, deadline);
        /* A burst is followed closely; when nothing happens, looking costs nothing. */
        wait = events ? BUSY_WAIT_MS : wait * 2 > IDLE_WAIT_MS ? IDLE_WAIT_MS : wait * 2 + 1;
    }
}

/* A command that we launched goes on to its own end after its probes are gone; we wait for it, unless we were told to
 * go. */
static int exit_status(struct session *session)
{
    int status = 0;
    bool ended = false;
    if (session->options->pid)
        return session->processes.stuck ? EXIT_FAILED : EXIT_FINE;
    while (!ended && !session_interrupted)
        ended = processes_await_first(&session->processes, &status);
    if (!ended)
        return SIGNAL_EXIT + session_interrupted;
    return WIFSIGNALED(status) ? SIGNAL_EXIT + WTERMSIG(status) : WEXITSTATUS(status);
}

static int run_placed(struct session *session)
{
    int status = processes_release(&session->processes);
    if (status)
        return status;
    follow_events(session);
    processes_end(&session->processes);
    report_finish(&session->report);
    bool fine = processes_all_matched(&session->processes) && report_is_whole(&session->report);
    status = exit_status(session);
    return fine ? status : EXIT_FAILED;
}

int session_run(const struct options *options, enum work work)
{
    struct session session = {.options = options, .work = work};
    const struct watches *watches = work == WORK_WATCH ? &session.watches : NULL;
    session_catch_signals();
    int status = parse_specs(&session);
    session.processes = (struct processes){.options = options,
                                           .specs = (const struct tl_spec *const *)session.specs,
                                           .watches = watches,
                                           .report = &session.report};
    if (!status)
        status = report_open(&session.report, options, work, watches);
    if (!status)
        status = processes_begin(&session.processes);
    if (!status)
        status = run_placed(&session);
    report_close(&session.report);
    processes_free(&session.processes);
    for (size_t i = 0; session.specs && i < options->spec_count; i++)
        tl_spec_free(session.specs[i]);
    free(session.specs);
    watches_free(&session.watches);
    return status;
}
