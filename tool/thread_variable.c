/* SPDX-License-Identifier: MIT
 *
 * A thread-local variable has as many places as there are threads, and a spec has no word for one of them. In a process
 * of a single thread there is no doubt; of several, each one's place is told as a spec of its own.
 */
#include "watches.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static int read_target(void *host, uint64_t addr, void *bytes, size_t size)
{
    return tl_remote_read(host, addr, bytes, size);
}

static int find_in_thread(const struct placed *placed, const struct tl_variable *variable,
                          const struct tl_identity *thread, uint64_t *addr, struct tl_error *error)
{
    if (!thread->fs_base)
        return tl_fail(error, -ENOENT, "its thread-local memory has not been set up yet");
    return tl_modules_thread_local(&placed->modules, variable, thread->fs_base, read_target, placed->remote, addr,
                                   error);
}

static const char *access_of(const struct tl_watch *spec)
{
    static const char *const names[] = {
        [TL_WATCH_R] = "r", [TL_WATCH_W] = "w", [TL_WATCH_R | TL_WATCH_W] = "rw", [TL_WATCH_X] = "x"};
    return names[spec->access];
}

/* A line for each thread. NULL: out of memory. */
static char *list_places(const struct tl_watch *spec, const struct placed *placed, const struct tl_variable *variable,
                         const struct tl_identity *threads, size_t count)
{
    char *text = NULL;
    size_t size;
    uint64_t length = variable->size > spec->offset ? variable->size - spec->offset : 0;
    FILE *out = open_memstream(&text, &size);
    if (spec->length)
        length = spec->length;
    for (size_t i = 0; out && i < count; i++) {
        struct tl_error error;
        uint64_t addr;
        fprintf(out, "\n  thread %d: ", threads[i].tid);
        if (find_in_thread(placed, variable, &threads[i], &addr, &error)) {
            fputs(error.text, out);
            continue;
        }
        fprintf(out, "mem:0x%" PRIx64, addr + spec->offset);
        if (length && spec->access != TL_WATCH_X)
            fprintf(out, "/%" PRIu64, length);
        fprintf(out, ":%s", access_of(spec));
    }
    if (out)
        fclose(out);
    return text;
}

int thread_variable_find(const struct tl_watch *spec, const struct placed *placed, struct watched *watched,
                         struct tl_error *error)
{
    struct tl_identity *threads;
    size_t count;
    int result = tl_remote_threads(placed->remote, &threads, &count, error);
    if (!result && count == 1) {
        struct tl_error why;
        watched->tid = threads[0].tid;
        watched->fs_base = threads[0].fs_base;
        result = find_in_thread(placed, &watched->variable, &threads[0], &watched->variable.addr, &why);
        if (result)
            tl_fail(error, result, "it is thread-local, and where thread %d has it, cannot be told: %s", watched->tid,
                    why.text);
    } else if (!result) {
        watched->places = list_places(spec, placed, &watched->variable, threads, count);
        result = tl_fail(
            error, -ENOTUNIQ,
            "it is thread-local, and there are %zu threads, each with one of its own: watch one by its address", count);
    }
    free(threads);
    return result;
}
