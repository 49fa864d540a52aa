/* SPDX-License-Identifier: MIT
 *
 * trapline/probe.h: checks what users hand in, and leads it to batch.c. The other two kinds do the same in return.c and
 * jump.c.
 */
#include "trapline/probe.h"

#include "frontend.h"
#include "structs.h"

enum {
    FLAGS = TL_PROBE_DISABLED | TL_PROBE_GENERAL | TL_PROBE_OWN_STACK | TL_PROBE_INT3 | TL_PROBE_JUMP,
    FIRST_SIZE = sizeof(struct tl_probe)
};

static int check(const void *theirs, struct entry *entry, struct tl_error *error)
{
    struct tl_probe *probe = &entry->probe;
    int code = structs_copy(theirs, probe, sizeof *probe, FIRST_SIZE, "tl_probe", error);
    if (code)
        return code;
    if (!probe->pre && !probe->post && !probe->fault && !probe->break_handler)
        return tl_fail(error, -EINVAL, "a probe without a handler");
    return frontend_check_flags(probe->flags, FLAGS, error);
}

static const struct frontend probes = {ENTRY_PROBE, check};

int tl_probe_register(struct tl_probe *probe, struct tl_error *error)
{
    return frontend_register(&probes, (void *const *)&probe, 1, NULL, error);
}

int tl_probe_unregister(struct tl_probe *probe)
{
    return frontend_unregister(&probes, (void *const *)&probe, 1, NULL);
}

int tl_probes_register(struct tl_probe *const *list, size_t count, size_t *failed, struct tl_error *error)
{
    return frontend_register(&probes, (void *const *)list, count, failed, error);
}

int tl_probes_unregister(struct tl_probe *const *list, size_t count, size_t *failed)
{
    return frontend_unregister(&probes, (void *const *)list, count, failed);
}

int tl_probe_enable(struct tl_probe *probe)
{
    return frontend_switch(&probes, probe, true);
}

int tl_probe_disable(struct tl_probe *probe)
{
    return frontend_switch(&probes, probe, false);
}

int tl_probe_missed(const struct tl_probe *probe, uint64_t *missed)
{
    return frontend_missed(&probes, probe, missed);
}

int tl_probe_place(const struct tl_probe *probe, void **address, const char **tactic)
{
    return frontend_place(&probes, probe, address, tactic);
}
