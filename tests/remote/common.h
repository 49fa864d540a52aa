/* SPDX-License-Identifier: MIT
 *
 * Targets for the tests: started with a shared page to report in, compared before and after, ended.
 */
#ifndef TESTS_REMOTE_COMMON_H
#define TESTS_REMOTE_COMMON_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <cmocka.h>

#include "../skip.h"

#include "host/remote/internal.h"
#include "targets/progress.h"

/* A function of the test that runs as a target brings the sanitizer's own habits along. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct target {
    pid_t pid;
    bool forked; /* runs a function of the test */
    struct progress *progress;
    int fd;
    char *maps, *signals;
    uint64_t text; /* a hash of all code */
};

/* The path of a program built for these tests, or NULL where it could not be built. Static storage. */
const char *program(const char *name);
#define ARGV(...) ((char *const *)(const char *const[]){__VA_ARGS__, NULL})

/* A fresh shared page as descriptor PROGRESS_FD, for a target that somebody else starts. */
void target_page(struct target *t);
void target_run(struct target *t, char *const argv[]);              /* with that page, and wait until it is ready */
void target_start(struct target *t, char *const argv[]);            /* both */
void target_fork(struct target *t, void (*run)(struct progress *)); /* the same with a function of the test */
void target_wait_ready(struct target *t);
void target_baseline(struct target *t);
void target_end(struct target *t);

/* All threads of the target go on, and none found anything wrong. */
void assert_goes_on(struct target *t);
/* Mappings, code, and each thread's signals are as at the baseline, no descriptor is left, nobody traces it. */
void assert_as_before(struct target *t);

struct tl_remote *open_target(struct target *t);

/* Wait for a condition, long; for a test "never" is a minute. */
#define eventually(condition)                                                                                          \
    for (int turns_ = 0; !(condition); turns_++) {                                                                     \
        if (turns_ > 60000)                                                                                            \
            fail_msg("never: %s", #condition);                                                                         \
        tl_nap(1000);                                                                                                  \
    }

/* A probe on progress->probe by hand: page, gate, jump, and all of it back. */
struct probe {
    struct tl_mapping mappings[2];
    struct tl_patch patch;
};
int probe_place(struct tl_remote *r, uint64_t addr, struct probe *p);
int probe_take_out(struct tl_remote *r, struct probe *p);

/* The same with an int3, and the broker with the runtime that it is in. */
struct trap {
    struct tl_mapping mappings[4];
    struct tl_patch patch;
};
int trap_place(struct tl_remote *r, uint64_t addr, struct trap *t);
int trap_take_out(struct tl_remote *r, struct trap *t);

/* Open, region, maybe a probe, and everything back. */
void come_and_go(struct target *t, bool with_probe);

#endif
