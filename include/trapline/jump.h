/* SPDX-License-Identifier: MIT
 *
 * Jump probes: a handler with the signature of the probed function, which runs before it and sees its arguments.
 *
 *     static ssize_t see_write(int fd, const void *bytes, size_t size) { …; return 0; }
 *     struct tl_jump_probe probe = {.size = sizeof probe, .symbol = "write", .handler = TL_JUMP_HANDLER(see_write)};
 *
 * The handler is called with all argument registers, integer and vector, as they are, and with a copy of the stack
 * arguments. What it returns, and what it does to its arguments, is dropped: then the function runs, with registers and
 * stack exactly as they were. What the arguments point to is the program's own, of course.
 *
 * What probe.h says of structs, handlers and threads holds here too.
 */
#ifndef TRAPLINE_JUMP_H
#define TRAPLINE_JUMP_H

#include "trapline/probe.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* A function of any signature. */
typedef void tl_jump_handler(void);
#define TL_JUMP_HANDLER(function) ((tl_jump_handler *)(void (*)(void))(function))

enum { TL_JUMP_DISABLED = TL_PROBE_DISABLED, TL_JUMP_INT3 = TL_PROBE_INT3, TL_JUMP_JUMP = TL_PROBE_JUMP };
enum { TL_JUMP_STACK_DEFAULT = 256, TL_JUMP_STACK_MAX = 4096 };

struct tl_jump_probe {
    size_t size;    /* sizeof(struct tl_jump_probe) */
    uint64_t flags; /* TL_JUMP_… */
    void *address;  /* as in struct tl_probe; it has to be the first instruction of a function */
    const char *symbol;
    const char *module;
    uint64_t offset;
    tl_jump_handler *handler;
    uint32_t stack_bytes; /* of stack arguments, to copy: 0 means TL_JUMP_STACK_DEFAULT; at most TL_JUMP_STACK_MAX.
                             Only as much as is there is read */
    uint32_t reserved;    /* 0 */
    void *context;        /* yours */
};

/* As tl_probe_register and so on; moreover -EINVAL: stack_bytes too large; -EILSEQ: not the first instruction of a
 * function. */
int tl_jump_probe_register(struct tl_jump_probe *probe, struct tl_error *error);
int tl_jump_probe_unregister(struct tl_jump_probe *probe);
int tl_jump_probes_register(struct tl_jump_probe *const *probes, size_t count, size_t *failed, struct tl_error *error);
int tl_jump_probes_unregister(struct tl_jump_probe *const *probes, size_t count, size_t *failed);
int tl_jump_probe_enable(struct tl_jump_probe *probe);
int tl_jump_probe_disable(struct tl_jump_probe *probe);
/* Calls that the handler did not see because a handler ran on the thread already. 0, -ENOENT, -EDEADLK. */
int tl_jump_probe_missed(const struct tl_jump_probe *probe, uint64_t *missed);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
