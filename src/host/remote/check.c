/* SPDX-License-Identifier: MIT
 *
 * May this process be attached to? Every "no" is found before the target is touched, and says in one line what is in
 * the way and which single thing would change it.
 */
#include "host/remote/internal.h"

#include "base/texts.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DESCRIPTORS_NEEDED = 16 };

/* Nearly everything here is read from /proc; where a file cannot be opened it looks as if the process were gone. */
int tl_check_descriptors(struct tl_error *error)
{
    struct rlimit limit;
    int fd = open("/", O_PATH | O_CLOEXEC), code = -errno;
    if (fd >= 0)
        close(fd); /* it was the lowest free one */
    if (fd < 0 && code == -ENFILE)
        return tl_fail(error, code, "no file can be opened: fs.file-max is exhausted");
    if (fd < 0 || (getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd + DESCRIPTORS_NEEDED > limit.rlim_cur))
        return tl_fail(error, -EMFILE, TL_NO_DESCRIPTORS);
    return 0;
}

static void command_name(pid_t pid, char name[32])
{
    char *text = tl_proc_file(pid, "comm", NULL);
    snprintf(name, 32, "%s", text ? text : "?");
    name[strcspn(name, "\n")] = 0;
    free(text);
}

int tl_explain_refusal(pid_t pid, int code, struct tl_error *error)
{
    char path[64];
    struct stat owner;
    snprintf(path, sizeof path, "/proc/%d", pid);
    if (stat(path, &owner) != 0)
        return tl_fail(error, -ESRCH, "no process %d", pid);
    char *status = tl_proc_file(pid, "status", NULL);
    const char *line = status ? strstr(status, "\nUid:") : NULL;
    long uid = line ? strtol(line + 5, NULL, 10) : (long)owner.st_uid;
    free(status);
    if (geteuid() != 0 && uid != (long)geteuid())
        return tl_fail(error, -EPERM, "process %d belongs to user %ld: run trapline as that user or as root", pid, uid);
    /* Nobody has this number: where ptrace is allowed at all, that is what it says. */
    if (ptrace(PTRACE_SEIZE, INT32_MAX, NULL, NULL) != 0 && errno != ESRCH)
        return tl_fail(error, -EPERM,
                       "ptrace is forbidden to trapline itself (seccomp): in a container, allow it with "
                       "--cap-add SYS_PTRACE");
    long scope = tl_kernel_setting("kernel/yama/ptrace_scope", 0);
    if (scope == 3)
        return tl_fail(error, -EPERM, "ptrace is switched off until the next boot (kernel.yama.ptrace_scope is 3)");
    if (scope > 0)
        return tl_fail(error, -EPERM,
                       "ptrace of process %d is forbidden: run as root, or once: sysctl kernel.yama.ptrace_scope=0",
                       pid);
    if (geteuid() == 0)
        return tl_fail(error, -EPERM, "ptrace of process %d is forbidden here: give trapline CAP_SYS_PTRACE (%s)", pid,
                       tl_errno_name(-code));
    return tl_fail(error, -EPERM, "process %d has more privileges than we, or is not dumpable: run trapline as root",
                   pid);
}

static int check_tracer(const char *status, pid_t pid, struct tl_error *error)
{
    long long tracer = tl_status_number(status, "TracerPid", 10);
    if (tracer <= 0)
        return 0;
    char name[32];
    command_name((pid_t)tracer, name);
    return tl_fail(error, -EBUSY, "process %d is already traced by process %lld (%s)", pid, tracer, name);
}

static int check_machine(pid_t pid, struct tl_error *error)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/exe", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* the registers of the first stop will tell */
    Elf64_Ehdr header;
    ssize_t n = pread(fd, &header, sizeof header, 0);
    close(fd);
    if (n != (ssize_t)sizeof header || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return 0;
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
        return tl_fail(error, -ENOEXEC, "process %d is not a 64-bit x86 program", pid);
    return 0;
}

struct modes {
    pid_t pid;
    long long worst, best;
};

static int one_mode(void *context, int tid)
{
    struct modes *m = context;
    char name[32];
    snprintf(name, sizeof name, "task/%d/status", tid);
    char *status = tl_proc_file(m->pid, name, NULL);
    long long mode = status ? tl_status_number(status, "Seccomp", 10) : 0;
    free(status);
    m->worst = mode > m->worst ? mode : m->worst;
    m->best = mode == 1 ? 1 : m->best;
    return 0;
}

/* With seccomp an injected call may end the target, unless the filters sleep meanwhile, which takes CAP_SYS_ADMIN. */
int tl_check_seccomp(struct tl_remote *r, struct tl_error *error)
{
    char path[64];
    struct modes modes = {.pid = r->pid};
    snprintf(path, sizeof path, "/proc/%d/task", r->pid);
    tl_each_number(path, one_mode, &modes);
    r->facts.no_syscalls = modes.worst > 0;
    r->facts.no_clock = modes.best == 1;
    r->suspend_seccomp = modes.worst > 0;
    char *own = tl_proc_file(getpid(), "status", NULL);
    bool capable = own && (tl_status_number(own, "CapEff", 16) >> 21 & 1) && tl_status_number(own, "Seccomp", 10) == 0;
    free(own);
    if (modes.worst > 0 && !capable)
        return tl_fail(error, -EPERM,
                       "process %d confines itself with seccomp: run trapline as root, outside of seccomp", r->pid);
    return 0;
}

/* It may have confined itself since then. */
int tl_suspend_seccomp(struct tl_remote *r, pid_t tid)
{
    char *status = tl_proc_file(tid, "status", NULL);
    long long mode = status ? tl_status_number(status, "Seccomp", 10) : 0;
    free(status);
    if (mode <= 0)
        return 0;
    r->suspend_seccomp = true;
    return ptrace(PTRACE_SETOPTIONS, tid, NULL, tl_trace_options(r)) == 0 ? 0 : -EPERM;
}

int tl_check_target(struct tl_remote *r, struct tl_error *error)
{
    char *status = r->pid > 0 ? tl_proc_file(r->pid, "status", NULL) : NULL;
    if (!status)
        return tl_fail(error, -ESRCH, "no process %d", r->pid);
    long long group = tl_status_number(status, "Tgid", 10);
    if (group > 0)
        r->pid = (pid_t)group;
    int result = check_tracer(status, r->pid, error);
    const char *features = strstr(status, "\nx86_Thread_features:");
    size_t features_length = features ? strcspn(features + 1, "\n") : 0;
    if (r->pid == getpid())
        result = tl_fail(error, -EINVAL, "process %d is trapline itself", r->pid);
    else if (tl_live_task(r->pid) == 0)
        result = tl_fail(error, -ESRCH, "process %d has ended and waits for its parent (a zombie)", r->pid);
    else if (tl_live_task(r->pid) == r->pid && tl_status_number(status, "VmSize", 10) < 0)
        result = tl_fail(error, -EPERM, "process %d is a kernel thread", r->pid);
    else if (features && memmem(features, features_length, "shstk", 5))
        result = tl_fail(error, -ENOTSUP, "process %d uses a shadow stack, which trapline does not support", r->pid);
    free(status);
    if (result == 0)
        result = check_machine(r->pid, error);
    if (result == 0)
        result = tl_check_seccomp(r, error);
    return result;
}
