/* SPDX-License-Identifier: MIT
 *
 * What is said once probes or watches are in place, and why some are not.
 */
#include "report.h"

#include <stdio.h>

static size_t refused_probes(const struct placed *placed)
{
    size_t refused = 0;
    for (size_t i = 0; i < placed->selection.probe_count; i++)
        refused += placed->selection.probes[i].why != TL_WHY_NONE;
    return refused;
}

static enum tl_why first_refusal(const struct tl_selection *selection)
{
    enum tl_why why = TL_WHY_NONE;
    for (size_t i = 0; i < selection->probe_count && why == TL_WHY_NONE; i++)
        why = selection->probes[i].why;
    return why;
}

static size_t count_breakpoints(const struct tl_selection *selection)
{
    size_t count = 0;
    for (size_t i = 0; i < selection->site_count; i++)
        count += selection->sites[i].why == TL_WHY_NONE && selection->sites[i].tactic == TL_TACTIC_INT3;
    return count;
}

static void say_placed(const struct report *report, const struct placed *placed, size_t probes)
{
    size_t breakpoints = count_breakpoints(&placed->selection);
    if (breakpoints && report->options->follow)
        complain("%zu places take a breakpoint: with -f each of their hits waits for trapline", breakpoints);
    uint64_t stopped = tl_remote_facts(placed->remote)->stopped_ns;
    if (placed->arming.refused)
        complain("no breakpoints, and faults are seen where they happen: %s", placed->arming.why);
    char still[64] = "held";
    if (stopped)
        snprintf(still, sizeof still, "stopped for %.1f ms of it", (double)stopped / 1e6);
    complain("%zu probes at %zu places in place, within %.1f ms; the program was %s", probes, placed->arming.places,
             (double)placed->placing_ns / 1e6, still);
}

void report_watches(const struct report *report, const struct placed *placed)
{
    struct tl_watching_facts facts;
    if (!report->options->verbose || !placed->watching)
        return;
    tl_watching_facts(placed->watching, &facts);
    uint64_t stopped = tl_remote_facts(placed->remote)->stopped_ns;
    char still[64] = "held";
    if (stopped)
        snprintf(still, sizeof still, "stopped for %.1f ms of it", (double)stopped / 1e6);
    complain("%zu watch%s in place, within %.1f ms; the program was %s", placed->watches->wish_count,
             placed->watches->wish_count == 1 ? "" : "es", (double)placed->placing_ns / 1e6, still);
    complain("by %ss: %s %u register%s of each of %zu thread%s", facts.mechanism,
             facts.multiplexed ? "they take turns on" : "they have", facts.registers, facts.registers == 1 ? "" : "s",
             facts.threads, facts.threads == 1 ? "" : "s");
    if (*facts.why)
        complain("not by perf events: %s", facts.why);
}

int report_refusals(struct report *report, const struct placed *placed)
{
    const struct options *options = report->options;
    const struct tl_selection *selection = &placed->selection;
    size_t refused = refused_probes(placed), left = selection->probe_count - refused;
    bool named = false;
    report->refused += refused;
    for (size_t i = 0; i < selection->probe_count; i++) {
        const struct tl_probe *probe = &selection->probes[i];
        if (probe->why == TL_WHY_NONE)
            continue;
        bool of_glob = probe->spec->is_glob || options->every_instruction;
        named |= !of_glob;
        if (options->json)
            report->format->refused(report->out, probe->name, tl_why_errno(probe->why), tl_why_text(probe->why));
        else if (!of_glob || options->verbose)
            report->format->refused(stderr, probe->name, tl_why_errno(probe->why), tl_why_text(probe->why));
    }
    if (refused && !named && !options->verbose && !options->quiet && !options->json)
        complain("%zu of %zu probes refused (-v says why)", refused, selection->probe_count);
    if (options->verbose)
        say_placed(report, placed, left);
    if ((left || options->follow) && !named)
        return 0;
    if (!named)
        complain("no probe is left to place: %s", tl_why_text(first_refusal(selection)));
    if (options->json)
        report_finish(report);
    return EXIT_FAILED;
}
