/* SPDX-License-Identifier: MIT
 *
 * Does to itself what makes the life of a tracer hard.
 *
 *     call N         called(), N times
 *     filter | strict    confine itself with seccomp
 *     narrow         the same, and no signal handler may return
 *     note           write to `confinements`
 *     map SPARE      map single pages until only SPARE more mappings are allowed
 *     lock           keep all memory, also that to come, in core
 */
#include "obey.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

long called(const char *text);
PROBED long called(const char *text)
{
    __asm__ volatile("" : "+r"(text));
    return text[0];
}

volatile int confinements;

/* What it needs from now on, and nothing that a tracer would want to have called. */
static int confine(long also)
{
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
                                 ALLOW(SYS_read),
                                 ALLOW(SYS_write),
                                 ALLOW(SYS_exit_group),
                                 ALLOW((uint32_t)also),
                                 BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void fill_mappings(long spare)
{
    long limit = 0, used = 0, wanted;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (!file || fscanf(file, "%ld", &limit) != 1)
        limit = 65530;
    if (file)
        fclose(file);
    file = fopen("/proc/self/maps", "r");
    for (int c; file && (c = getc(file)) != EOF;)
        used += c == '\n';
    if (file)
        fclose(file);
    wanted = limit - used - spare;
    /* Every second page of another protection: each is a mapping. */
    char *pages = mmap(NULL, (size_t)wanted * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (long i = 0; pages != MAP_FAILED && i < wanted; i += 2)
        if (mprotect(pages + i * 4096, 4096, PROT_NONE) != 0)
            break;
    printf("%ld", wanted);
}

static void carry(char **words, int count)
{
    long number = count > 1 ? atol(words[1]) : 0;
    if (!strcmp(words[0], "call")) {
        long sum = 0;
        for (long i = 0; i < number; i++)
            sum += called("a");
        printf("%ld", sum);
    } else if (!strcmp(words[0], "filter")) {
        printf("%d", confine(SYS_rt_sigreturn));
    } else if (!strcmp(words[0], "narrow")) {
        printf("%d", confine(SYS_exit));
    } else if (!strcmp(words[0], "note")) {
        printf("%d", ++confinements);
    } else if (!strcmp(words[0], "strict")) {
        printf("%d", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
    } else if (!strcmp(words[0], "map")) {
        fill_mappings(number);
    } else if (!strcmp(words[0], "lock")) {
        printf("%d", mlockall(MCL_CURRENT | MCL_FUTURE));
    }
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
