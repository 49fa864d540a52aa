/* SPDX-License-Identifier: MIT
 *
 * trapline/jump.h.
 */
#include "trapline/jump.h"

#include "frontend.h"
#include "structs.h"

enum { FLAGS = TL_JUMP_DISABLED | TL_JUMP_INT3 | TL_JUMP_JUMP, FIRST_SIZE = sizeof(struct tl_jump_probe) };

static int check(const void *theirs, struct entry *entry, struct tl_error *error)
{
    struct tl_jump_probe *probe = &entry->jump;
    int code = structs_copy(theirs, probe, sizeof *probe, FIRST_SIZE, "tl_jump_probe", error);
    if (code)
        return code;
    if (!probe->handler)
        return tl_fail(error, -EINVAL, "a jump probe without a handler");
    if (probe->stack_bytes > TL_JUMP_STACK_MAX)
        return tl_fail(error, -EINVAL, "stack_bytes %u: at most %d", probe->stack_bytes, TL_JUMP_STACK_MAX);
    if (probe->reserved)
        return tl_fail(error, -EINVAL, "`reserved` is not 0");
    return frontend_check_flags(probe->flags, FLAGS, error);
}

static const struct frontend probes = {ENTRY_JUMP, check};

int tl_jump_probe_register(struct tl_jump_probe *probe, struct tl_error *error)
{
    return frontend_register(&probes, (void *const *)&probe, 1, NULL, error);
}

int tl_jump_probe_unregister(struct tl_jump_probe *probe)
{
    return frontend_unregister(&probes, (void *const *)&probe, 1, NULL);
}

int tl_jump_probes_register(struct tl_jump_probe *const *list, size_t count, size_t *failed, struct tl_error *error)
{
    return frontend_register(&probes, (void *const *)list, count, failed, error);
}

int tl_jump_probes_unregister(struct tl_jump_probe *const *list, size_t count, size_t *failed)
{
    return frontend_unregister(&probes, (void *const *)list, count, failed);
}

int tl_jump_probe_enable(struct tl_jump_probe *probe)
{
    return frontend_switch(&probes, probe, true);
}

int tl_jump_probe_disable(struct tl_jump_probe *probe)
{
    return frontend_switch(&probes, probe, false);
}

int tl_jump_probe_missed(const struct tl_jump_probe *probe, uint64_t *missed)
{
    return frontend_missed(&probes, probe, missed);
}
