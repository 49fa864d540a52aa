/* SPDX-License-Identifier: MIT
 *
 * A library that is opened late.
 */
long late_function(long x);
__attribute__((noipa)) long late_function(long x)
{
    return x * 2 + 2;
}
