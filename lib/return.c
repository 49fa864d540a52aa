/* SPDX-License-Identifier: MIT
 *
 * trapline/return.h.
 */
#include "trapline/return.h"

#include "frontend.h"
#include "structs.h"

enum {
    FLAGS = TL_RETURN_DISABLED | TL_RETURN_GENERAL | TL_RETURN_OWN_STACK | TL_RETURN_INT3 | TL_RETURN_JUMP |
            TL_RETURN_REWRITE,
    FIRST_SIZE = sizeof(struct tl_return_probe)
};

static int check(const void *theirs, struct entry *entry, struct tl_error *error)
{
    struct tl_return_probe *probe = &entry->returns;
    int code = structs_copy(theirs, probe, sizeof *probe, FIRST_SIZE, "tl_return_probe", error);
    if (code)
        return code;
    if (!probe->handler)
        return tl_fail(error, -EINVAL, "a return probe without a handler");
    if (probe->data_size > TL_RETURN_DATA_MAX)
        return tl_fail(error, -EINVAL, "data_size %zu: at most %d", probe->data_size, TL_RETURN_DATA_MAX);
    if (probe->max_active > TL_RETURN_ACTIVE_MAX)
        return tl_fail(error, -EINVAL, "max_active %u: at most %d", probe->max_active, TL_RETURN_ACTIVE_MAX);
    if (probe->reserved)
        return tl_fail(error, -EINVAL, "`reserved` is not 0");
    return frontend_check_flags(probe->flags, FLAGS, error);
}

static const struct frontend probes = {ENTRY_RETURN, check};

int tl_return_probe_register(struct tl_return_probe *probe, struct tl_error *error)
{
    return frontend_register(&probes, (void *const *)&probe, 1, NULL, error);
}

int tl_return_probe_unregister(struct tl_return_probe *probe)
{
    return frontend_unregister(&probes, (void *const *)&probe, 1, NULL);
}

int tl_return_probes_register(struct tl_return_probe *const *list, size_t count, size_t *failed, struct tl_error *error)
{
    return frontend_register(&probes, (void *const *)list, count, failed, error);
}

int tl_return_probes_unregister(struct tl_return_probe *const *list, size_t count, size_t *failed)
{
    return frontend_unregister(&probes, (void *const *)list, count, failed);
}

int tl_return_probe_enable(struct tl_return_probe *probe)
{
    return frontend_switch(&probes, probe, true);
}

int tl_return_probe_disable(struct tl_return_probe *probe)
{
    return frontend_switch(&probes, probe, false);
}

int tl_return_probe_missed(const struct tl_return_probe *probe, uint64_t *missed)
{
    return frontend_missed(&probes, probe, missed);
}
