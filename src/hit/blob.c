/* SPDX-License-Identifier: MIT */
#include "hit/blob.h"

#include <string.h>

void tl_blob_prepare(uint8_t *copy, uint64_t area)
{
    memcpy(copy + offsetof(struct tl_blob_head, area), &area, sizeof area);
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
