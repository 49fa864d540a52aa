/* SPDX-License-Identifier: MIT
 *
 * One run of trace or count: attach or launch, place, let go, read until there is a reason to stop, take out, report.
 */
#include "session.h"

#include "changes.h"
#include "place.h"
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum {
    BUSY_WAIT_MS = 1,
    IDLE_WAIT_MS = 4,
    ABANDON_MS = 1000,
    SIGNAL_EXIT = 128,
    END_WAIT_MS = 200 /* a signal may come between the look and the wait */
};

struct session {
    const struct options *options;
    bool count;
    struct tl_spec **specs;
    struct placed placed;
    struct report report;
    struct changes changes;
    bool gone;  /* the target has ended */
    int status; /* its wait status, if we launched it */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal)
{
    interrupted = signal;
}

/* Handlers rather than SIG_IGN: a command that is launched gets the default dispositions back. SA_RESTART: a line that
 * is being written to a slow reader is not torn; the wait for events ends at a signal all the same. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}

static int parse_specs(struct session *session)
{
    const struct options *options = session->options;
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

static int attach(struct session *session)
{
    const struct options *options = session->options;
    struct tl_error error;
    int failed = options->pid ? tl_remote_open(options->pid, &session->placed.remote, &error)
                              : tl_remote_launch(options->command, &session->placed.remote, &error);
    if (failed) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    return 0;
}

/* A command that we launched and whose probes could not be placed never runs. Its memory goes a moment before it does:
 * wait for that, within reason, or taking out probes would complain of what is missing. */
static void abandon(struct session *session)
{
    struct tl_remote *remote = session->placed.remote;
    if (!remote || !tl_remote_facts(remote)->launched)
        return;
    kill(tl_remote_facts(remote)->pid, SIGKILL);
    tl_remote_poll(remote, ABANDON_MS, &session->gone, &session->status);
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Read until the target ends, the limit or the time is reached, or a signal comes. */
static void watch(struct session *session)
{
    const struct options *options = session->options;
    uint64_t deadline = options->seconds > 0 ? now_ns() + (uint64_t)(options->seconds * 1e9) : UINT64_MAX;
    int wait = 0;
    while (!interrupted && !session->gone && !report_is_full(&session->report)) {
        uint64_t now = now_ns();
        if (now >= deadline)
            break;
        uint64_t left_ms = (deadline - now) / 1000000 + 1;
        if ((uint64_t)wait > left_ms)
            wait = (int)left_ms;
        if (tl_remote_poll(session->placed.remote, wait, &session->gone, &session->status) == -EINTR)
            break;
        if (!session->gone && changes_exec(&session->changes))
            break;
        changes_libraries(&session->changes, now);
        size_t events = report_poll(&session->report, &interrupted, deadline);
        /* A burst is followed closely; when nothing happens, looking costs nothing. */
        wait = events ? BUSY_WAIT_MS : wait * 2 > IDLE_WAIT_MS ? IDLE_WAIT_MS : wait * 2 + 1;
    }
}

/* A command that we launched goes on to its own end after its probes are gone; we wait for it, unless we were told to
 * go. */
static void await_end(struct session *session)
{
    while (session->options->command && !session->gone && !interrupted)
        tl_remote_poll(session->placed.remote, END_WAIT_MS, &session->gone, &session->status);
}

static int exit_status(const struct session *session)
{
    if (session->options->pid)
        return session->placed.stuck ? EXIT_FAILED : EXIT_FINE;
    if (!session->gone)
        return SIGNAL_EXIT + (interrupted ? interrupted : SIGINT);
    return WIFSIGNALED(session->status) ? SIGNAL_EXIT + WTERMSIG(session->status) : WEXITSTATUS(session->status);
}

static int run_placed(struct session *session)
{
    struct placed *placed = &session->placed;
    struct tl_error error;
    int status = report_start(&session->report);
    if (status)
        return status;
    if (tl_remote_release(placed->remote, &error)) {
        complain("%s", error.text);
        return EXIT_FAILED;
    }
    session->changes = (struct changes){
        .options = session->options, .placed = placed, .specs = (const struct tl_spec *const *)session->specs};
    watch(session);
    place_remove(placed);
    report_finish(&session->report);
    place_leave(placed);
    await_end(session);
    return exit_status(session);
}

int session_run(const struct options *options, bool count)
{
    struct session session = {.options = options, .count = count};
    catch_signals();
    int status = parse_specs(&session);
    if (!status)
        status = report_open(&session.report, options, &session.placed, count);
    if (!status)
        status = attach(&session);
    if (!status) {
        status = place_probes(&session.placed, options, (const struct tl_spec *const *)session.specs,
                              options->spec_count, count);
        if (!status)
            status = report_refusals(&session.report);
        if (!status)
            status = run_placed(&session);
        else
            abandon(&session);
        place_leave(&session.placed);
    }
    report_close(&session.report);
    changes_free(&session.changes);
    struct tl_remote *remote = session.placed.remote;
    place_free(&session.placed);
    tl_remote_close(remote);
    for (size_t i = 0; session.specs && i < options->spec_count; i++)
        tl_spec_free(session.specs[i]);
    free(session.specs);
    return status;
}
