/* SPDX-License-Identifier: MIT
 *
 * A library with variables that each thread has for itself: one in the block that is there from the start, and one that
 * is found by the thread's table.
 */
__thread long by_table = 100;
static __thread __attribute__((tls_model("initial-exec"))) long by_offset = 200;

void library_add(void);
void library_add(void)
{
    *(volatile long *)&by_table += 1;
    *(volatile long *)&by_offset += 2;
}
