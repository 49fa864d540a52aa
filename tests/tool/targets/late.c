/* SPDX-License-Identifier: MIT
 *
 * A library that is opened late.
 */
#include "obey.h"

long late_function(long x);
PROBED long late_function(long x)
{
    return x * 2 + 2;
}
