/* SPDX-License-Identifier: MIT */
#include "trapline/trapline.h"

const char *tl_version(void)
{
    return TRAPLINE_VERSION;
}
