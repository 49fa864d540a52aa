/* SPDX-License-Identifier: MIT
 *
 * Probes or watches into a program, whichever the run is about: for the first time, or as its parent has them.
 */
#include "processes.h"

static int place_watched(struct processes *processes, struct process *process)
{
    const struct options *options = processes->options;
    struct placed *placed = &process->placed;
    program_watches_begin(&process->watches, processes->watches, options->follow ? processes->fates : NULL);
    int status = place_watches(placed, options, &process->watches.place);
    if (status && process->watches.place.room.tid)
        watches_no_room(&process->watches, placed->trouble, sizeof placed->trouble);
    return status;
}

static int place_probed(struct processes *processes, struct process *process)
{
    const struct options *options = processes->options;
    struct placed *placed = &process->placed;
    bool count = processes->report->work == WORK_COUNT;
    return options->follow
               ? place_probes_followed(placed, options, processes->specs, options->spec_count, count, processes->fates)
               : place_probes(placed, options, processes->specs, options->spec_count, count);
}

int process_place_first(struct processes *processes, struct process *process)
{
    struct placed *placed = &process->placed;
    int status = processes->watches ? place_watched(processes, process) : place_probed(processes, process);
    if (!status)
        return processes->watches ? 0 : report_refusals(processes->report, placed);
    if (*placed->trouble)
        complain("%s", placed->trouble);
    return status;
}

/* By the plan of the process that it was forked from. */
static bool place_like(struct processes *processes, struct process *process, struct process *parent)
{
    if (!processes->watches)
        return place_copy(&process->placed, &parent->placed) == 0;
    if (!program_watches_fit(&parent->watches, &process->placed))
        return false;
    program_watches_copy(&process->watches, &parent->watches);
    return place_watches_copy(&process->placed, &parent->placed, &process->watches.place) == 0;
}

int process_place(struct processes *processes, struct process *process, struct process *parent)
{
    if (parent && place_like(processes, process, parent))
        return 0;
    if (processes->watches)
        return place_watched(processes, process);
    int status = place_probed(processes, process);
    if (!status && process->placed.selection.probe_count)
        report_refusals(processes->report, &process->placed);
    return status;
}
