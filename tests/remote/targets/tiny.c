/* SPDX-License-Identifier: MIT
 *
 * A program of its own making: no libc, no ld.so, no signal restorer, no `syscall; ret` anywhere.
 */
#include "progress.h"

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall\n nop"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}

__asm__(".globl probe_me\n"
        "probe_me:\n"
        "    mov $0x12345678, %eax\n"
        "    nop\n"
        "    ret\n"
        ".globl _start\n"
        "_start:\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call begin\n");
unsigned probe_me(void);
void begin(const long *stack);

void begin(const long *stack)
{
    struct progress *progress = (struct progress *)call(9, 0, PROGRESS_BYTES, 3, 1, PROGRESS_FD, 0);
    progress->probe = (uint64_t)(uintptr_t)probe_me;
    progress->value = (uint64_t)stack[0]; /* argc */
    progress->ready = 1;
    while (!progress->stop) {
        long nap[2] = {0, 1000000};
        for (int i = 0; i < 1000; i++) {
            if (probe_me() != 0x12345678)
                progress->errors++;
        }
        if (call(35, (long)nap, 0, 0, 0, 0, 0) != 0)
            progress->errors++;
        progress->loops[0]++;
    }
    call(231, 0, 0, 0, 0, 0, 0);
    __builtin_unreachable();
}
