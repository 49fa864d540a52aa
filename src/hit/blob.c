/* SPDX-License-Identifier: MIT */
#include "hit/blob.h"

#include <string.h>

void tl_blob_prepare(uint8_t *copy, uint64_t area)
{
    memcpy(copy + offsetof(struct tl_blob_head, area), &area, sizeof area);
}

void tl_blob_set_broker(uint8_t *copy, uint64_t broker)
{
    memcpy(copy + offsetof(struct tl_blob_head, broker), &broker, sizeof broker);
}

static struct tl_blob_head head(void)
{
    struct tl_blob_head head;
    memcpy(&head, tl_blob, sizeof head);
    return head;
}

uint32_t tl_blob_enter(void)
{
    return head().enter;
}

uint32_t tl_blob_claim(void)
{
    return head().claim;
}

uint32_t tl_blob_broker_entry(void)
{
    return head().broker_entry;
}

uint32_t tl_blob_broker_pass(void)
{
    return head().broker_pass;
}

uint32_t tl_blob_broker_restorer(void)
{
    return head().broker_restorer;
}

uint32_t tl_blob_guard_entry(void)
{
    return head().guard_entry;
}

uint32_t tl_blob_guard_asleep(void)
{
    return head().guard_asleep;
}

uint32_t tl_blob_watch(void)
{
    return head().watch;
}
