/* SPDX-License-Identifier: MIT
 *
 * Blocks SIGTRAP and unblocks it, and looks each time whether the kernel says what it should. With `value` not 0 it
 * does so no more. With an argument it makes the system call by itself, behind an instruction of five bytes
 * (progress->probe), for SIGUSR1.
 */
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "five_bytes.h"
#include "progress.h"

__asm__(".pushsection .text\n"
        ".globl own_call\n"
        ".type own_call, @function\n"
        "own_call:\n"
        "    mov %rcx, %r10\n"
        "own_number:\n"
        "    mov $14, %eax\n"
        "    syscall\n"
        "    ret\n"
        ".size own_call, . - own_call\n"
        ".popsection\n");
extern const char own_number[];
long own_call(int how, const uint64_t *set, uint64_t *old, long size);

static struct progress *p;

static int by_libc(int how, const uint64_t *set, uint64_t *old)
{
    sigset_t given, was;
    sigemptyset(&given);
    for (int i = 1; i < 32; i++)
        if (*set >> (i - 1) & 1)
            sigaddset(&given, i);
    int result = pthread_sigmask(how, &given, &was);
    *old = 0;
    for (int i = 1; i < 32; i++)
        *old |= (uint64_t)(sigismember(&was, i) == 1) << (i - 1);
    return result;
}

static void expect(int good, unsigned what)
{
    if (good)
        return;
    p->errors++;
    p->where = what;
}

int main(int argc, char **argv)
{
    (void)argv;
    p = mmap(NULL, PROGRESS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, PROGRESS_FD, 0);
    int own = argc > 1;
    uint64_t set = 1ull << ((own ? SIGUSR1 : SIGTRAP) - 1), none = 0, old;
#define CHANGE(how, given) (own ? (int)own_call(how, given, &old, 8) : by_libc(how, given, &old))
    p->probe = (uintptr_t)(own ? own_number : (const char *)five_bytes);
    p->loops[0] = 1;
    p->ready = 1;
    while (!p->stop) {
        if (!p->value) {
            expect(CHANGE(SIG_BLOCK, &set) == 0 && !(old & set), 1);
            expect(CHANGE(SIG_BLOCK, &none) == 0 && old & set, 2);
            expect(five_bytes() == 0x12345678, 3);
            expect(CHANGE(SIG_UNBLOCK, &set) == 0 && old & set, 4);
            expect(CHANGE(SIG_SETMASK, &none) == 0 && !(old & set), 5);
        } else {
            usleep(100);
        }
        p->loops[0]++;
    }
    return 0;
}
