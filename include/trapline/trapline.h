/* SPDX-License-Identifier: MIT
 *
 * libtrapline: dynamic probes in your own process. All of its public headers.
 *
 *     probe.h    handlers before and after any instruction
 *     return.h   handlers at a function's entry and return
 *     jump.h     a handler with the function's own signature
 *     hwbp.h     who touches this variable, without patching anything
 *     notify.h   the chain of those who are asked about exceptions
 *     regs.h     the registers that handlers see
 *     error.h    every reason to say no
 *
 * The library takes over the dispositions of SIGTRAP, SIGSEGV, SIGBUS, SIGILL and SIGFPE with the first registration,
 * and keeps them. The program notices nothing of it: sigaction, sigprocmask and their like show and do what they would
 * without.
 */
#ifndef TRAPLINE_TRAPLINE_H
#define TRAPLINE_TRAPLINE_H

#include "trapline/hwbp.h"
#include "trapline/jump.h"
#include "trapline/notify.h"
#include "trapline/probe.h"
#include "trapline/return.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The version of the library that runs, "MAJOR.MINOR.PATCH". Static text. Any thread; async-signal-safe. */
const char *tl_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
