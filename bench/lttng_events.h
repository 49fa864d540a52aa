/* SPDX-License-Identifier: MIT
 *
 * The tracepoints of event_bench.c: one that a session records, and one that stays off. Included several times, as
 * LTTng-UST's macros need.
 */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER bench

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng_events.h"

#if !defined(LTTNG_EVENTS_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define LTTNG_EVENTS_H

#include <lttng/tracepoint.h>

LTTNG_UST_TRACEPOINT_EVENT(bench, call, LTTNG_UST_TP_ARGS(long, first, long, second),
                           LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(long, first, first)
                                                   lttng_ust_field_integer(long, second, second)))

LTTNG_UST_TRACEPOINT_EVENT(bench, off, LTTNG_UST_TP_ARGS(long, first, long, second),
                           LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(long, first, first)
                                                   lttng_ust_field_integer(long, second, second)))

#endif

#include <lttng/tracepoint-event.h>
