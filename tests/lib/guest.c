/* SPDX-License-Identifier: MIT
 *
 * A library to be loaded and unloaded.
 */
long lib_guest(long n);
__attribute__((noinline)) long lib_guest(long n)
{
    __asm__ volatile("" : "+r"(n));
    return n + 1;
}
