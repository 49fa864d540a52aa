/* SPDX-License-Identifier: MIT
 *
 * Checks that it was started as any program is: arguments, environment, auxiliary vector, registers that _start relies
 * on.
 */
#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

extern char _start[];
static int exits;
static void at_exit(void)
{
    exits++;
}

int main(int argc, char **argv, char **envp)
{
    const char *mark = getenv("HELLO_MARK");
    char **end = envp;
    while (*end)
        end++;
    const uint64_t *auxv = (const uint64_t *)(end + 1);
    while (auxv[0] != AT_NULL && auxv[0] != AT_ENTRY)
        auxv += 2;
    atexit(at_exit); /* through ld.so's own finishing function, which _start got in a register */
    if (argc != 3 || strcmp(argv[1], "one") != 0 || strcmp(argv[2], "two words") != 0)
        return 10;
    if (!mark || strcmp(mark, "here") != 0)
        return 11;
    if (getauxval(AT_ENTRY) != (uintptr_t)_start)
        return 12;
    if (auxv[0] != AT_ENTRY || auxv[1] != (uintptr_t)_start)
        return 13;
    return 42;
}
