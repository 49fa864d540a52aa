/* SPDX-License-Identifier: MIT
 *
 * SIGTRAP as a signal of the program's own, each use of it checked by itself; the answer is the same with probes and
 * without.
 *
 *     blocked N      one thread blocks it, another does not
 *     all N          all threads block everything
 *     ignored N      it is ignored, and sent
 *     own N          a handler of its own, sent by raise, kill, sigqueue and int3
 *     flags          handlers that last once, that nest, that restart calls
 *     waited N       it is blocked, pending, waited for with and without a time limit
 *     descriptor N   it comes through a signalfd
 *     suspended N    it is let in by sigsuspend, ppoll, pselect, epoll_pwait
 *     storm N        threads come and go
 *     hold N         waits inside a handler (of signal N, else SIGUSR1) for a line, then goes on
 *     install, send  a handler to stay, and a signal for it
 *     keep, give     a thread that has one pending and blocked, and lets it in
 *     die            raise(SIGTRAP), nobody there
 */
#include "obey.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

long work(long x);
PROBED long work(long x)
{
    volatile long low[4];
    long sum = 0;
    for (int i = 0; i < 4; i++)
        low[i] = x + i;
    for (int i = 0; i < 4; i++)
        sum += low[i] & 0xff;
    return sum;
}

static long works(long rounds)
{
    long sum = 0;
    for (long i = 0; i < rounds; i++)
        sum += work(i);
    return sum;
}

/* What the program sees of its mask: a letter for each of a few signals. */
static const char *mask(void)
{
    static __thread char text[8];
    static const struct {
        int signal;
        char letter;
    } known[] = {{SIGTRAP, 't'}, {SIGSEGV, 's'}, {SIGUSR1, 'u'}, {SIGALRM, 'a'}};
    sigset_t set;
    char *to = text;
    pthread_sigmask(SIG_SETMASK, NULL, &set);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (sigismember(&set, known[i].signal))
            *to++ = known[i].letter;
    *to = 0;
    return text;
}

static sigset_t only(int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    return set;
}

static void block(int how)
{
    sigset_t set = only(SIGTRAP);
    pthread_sigmask(how, &set, NULL);
}

static volatile long seen, last_code, last_value, depth, deepest;
static volatile long within; /* what works() gave in a handler */
static char mask_within[8];

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)context;
    seen++;
    last_code = info->si_code;
    last_value = info->si_value.sival_int;
    if (++depth > deepest)
        deepest = depth;
    within = works(3) + number;
    strcpy(mask_within, mask());
    depth--;
}

static void handle(int number, int flags, const sigset_t *also, struct sigaction *old)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | flags};
    if (also)
        action.sa_mask = *also;
    sigaction(number, &action, old);
}

static void *blocking(void *arg)
{
    block(SIG_BLOCK);
    long sum = works(*(long *)arg);
    printf("%ld with %s; ", sum, mask());
    return NULL;
}

static void blocked(long rounds)
{
    pthread_t thread;
    pthread_create(&thread, NULL, blocking, &rounds);
    pthread_join(thread, NULL);
    printf("%ld with [%s]", works(rounds), mask());
}

static void *plainly(void *arg)
{
    long *rounds = arg;
    *rounds = works(*rounds) + (long)strlen(mask());
    return NULL;
}

static void all(long rounds)
{
    sigset_t full, old;
    pthread_t threads[4];
    long sums[4] = {rounds, rounds + 1, rounds + 2, rounds + 3};
    sigfillset(&full);
    pthread_sigmask(SIG_SETMASK, &full, &old);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, plainly, &sums[i]);
    long own = works(rounds);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("%ld %ld %ld %ld %ld with %s", own, sums[0], sums[1], sums[2], sums[3], mask());
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    printf(", then [%s]", mask());
}

static void ignored(long rounds)
{
    struct sigaction old;
    void (*before)(int) = signal(SIGTRAP, SIG_IGN);
    long sum = works(rounds);
    raise(SIGTRAP);
    kill(getpid(), SIGTRAP);
    sigaction(SIGTRAP, NULL, &old);
    printf("%ld %d %d", sum, before == SIG_DFL, old.sa_handler == SIG_IGN);
    signal(SIGTRAP, SIG_DFL);
}

static void own(long rounds)
{
    struct sigaction first, second, third;
    sigset_t also = only(SIGUSR1);
    sigaddset(&also, SIGSEGV);
    sigaction(SIGTRAP, NULL, &first);
    handle(SIGTRAP, SA_RESTART, &also, &second);
    sigaction(SIGTRAP, NULL, &third);
    printf("%d %d %d %x %d%d%d; ", first.sa_handler == SIG_DFL, second.sa_handler == SIG_DFL,
           third.sa_sigaction == on_trap, (unsigned)third.sa_flags & ~0x04000000u, sigismember(&third.sa_mask, SIGUSR1),
           sigismember(&third.sa_mask, SIGSEGV), sigismember(&third.sa_mask, SIGTRAP));
    seen = 0;
    long sum = 0;
    for (long i = 0; i < rounds; i++) {
        raise(SIGTRAP);
        sum += works(10) + last_code;
        kill(getpid(), SIGTRAP);
        sum += works(10) + last_code;
        sigqueue(getpid(), SIGTRAP, (union sigval){.sival_int = (int)i});
        sum += last_value + last_code;
        __asm__ volatile("int3");
        sum += last_code;
    }
    printf("%ld %ld %ld in %s, then [%s]; ", seen, sum, (long)within, mask_within, mask());
    sigaction(SIGTRAP, &second, &third);
    printf("%d", third.sa_sigaction == on_trap);
}

static void flags(void)
{
    struct sigaction now;
    deepest = seen = 0;
    handle(SIGTRAP, (int)SA_RESETHAND, NULL, NULL);
    raise(SIGTRAP);
    sigaction(SIGTRAP, NULL, &now);
    printf("%ld %d; ", seen, now.sa_handler == SIG_DFL);
    handle(SIGTRAP, SA_NODEFER, NULL, NULL);
    raise(SIGTRAP);
    printf("[%s]; ", mask_within);
    handle(SIGTRAP, 0, NULL, NULL);
    raise(SIGTRAP);
    printf("[%s] [%s] %ld", mask_within, mask(), deepest);
    signal(SIGTRAP, SIG_DFL);
}

static void waited(long rounds)
{
    sigset_t set = only(SIGTRAP), pending;
    struct timespec none = {0, 0}, brief = {0, 1000000};
    siginfo_t info = {0};
    long sum = 0;
    int number;
    block(SIG_BLOCK);
    for (long i = 0; i < rounds; i++) {
        i % 2 ? raise(SIGTRAP) : kill(getpid(), SIGTRAP);
        sigpending(&pending);
        sum += sigismember(&pending, SIGTRAP) + works(5);
        sum += sigwait(&set, &number) + number;
        sigqueue(getpid(), SIGTRAP, (union sigval){.sival_int = 77});
        sum += works(5);
        sum += sigtimedwait(&set, &info, &none) + info.si_value.sival_int;
        sum += sigtimedwait(&set, &info, &brief) == -1 && errno == EAGAIN;
        sigpending(&pending);
        sum += sigismember(&pending, SIGTRAP);
    }
    handle(SIGTRAP, 0, NULL, NULL);
    seen = 0;
    raise(SIGTRAP);
    raise(SIGTRAP);
    long before = seen;
    block(SIG_UNBLOCK);
    printf("%ld; %ld, then %ld [%s]", sum, before, seen, mask());
    signal(SIGTRAP, SIG_DFL);
}

static void descriptor(long rounds)
{
    sigset_t set = only(SIGTRAP);
    struct signalfd_siginfo info;
    long sum = 0;
    block(SIG_BLOCK);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    for (long i = 0; i < rounds; i++) {
        sum += works(5);
        kill(getpid(), SIGTRAP);
        struct pollfd poll_for = {.fd = fd, .events = POLLIN};
        sum += poll(&poll_for, 1, 1000);
        sum += read(fd, &info, sizeof info) == sizeof info ? (long)info.ssi_signo : -1000;
        sum += read(fd, &info, sizeof info) == -1 && errno == EAGAIN;
    }
    close(fd);
    block(SIG_UNBLOCK);
    printf("%ld [%s]", sum, mask());
}

static void suspended(long rounds)
{
    sigset_t empty, trap = only(SIGTRAP);
    struct timespec long_time = {5, 0};
    struct epoll_event event;
    int set = epoll_create1(EPOLL_CLOEXEC), early = 0;
    sigemptyset(&empty);
    handle(SIGTRAP, 0, NULL, NULL);
    block(SIG_BLOCK);
    seen = 0;
    for (long i = 0; i < rounds; i++) {
        raise(SIGTRAP);
        early += seen != 4 * i;
        early += sigsuspend(&empty) != -1 || errno != EINTR;
        works(3);
        raise(SIGTRAP);
        early += ppoll(NULL, 0, &long_time, &empty) != -1 || errno != EINTR;
        raise(SIGTRAP);
        early += pselect(0, NULL, NULL, NULL, &long_time, &empty) != -1 || errno != EINTR;
        raise(SIGTRAP);
        early += epoll_pwait(set, &event, 1, 5000, &empty) != -1 || errno != EINTR;
        early += ppoll(NULL, 0, &(struct timespec){0, 1000}, &trap) != 0;
    }
    close(set);
    printf("%ld %d %s in [%s]", seen, early, mask(), mask_within);
    block(SIG_UNBLOCK);
    signal(SIGTRAP, SIG_DFL);
}

static void storm(long rounds)
{
    long wrong = 0;
    for (long i = 0; i < rounds; i++) {
        pthread_t threads[8];
        long sums[8];
        if (i % 2)
            block(SIG_BLOCK);
        for (int k = 0; k < 8; k++) {
            sums[k] = 20;
            pthread_create(&threads[k], NULL, plainly, &sums[k]);
        }
        for (int k = 0; k < 8; k++) {
            pthread_join(threads[k], NULL);
            wrong += sums[k] != works(20) + i % 2;
        }
        block(SIG_UNBLOCK);
    }
    printf("%ld wrong [%s]", wrong, mask());
}

static void on_hold(int number)
{
    char line[64];
    long before = works(number);
    puts("holding");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        _exit(9);
    /* SIGTRAP is blocked here, but where it must not be it is not shown so either */
    printf("%ld %ld %s; ", before, works(number), mask() + (*mask() == 't'));
}

static void hold(long number)
{
    int held = number > 1 ? (int)number : SIGUSR1;
    struct sigaction action = {.sa_handler = on_hold, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    sigaction(held, &action, NULL);
    raise(held);
    printf("%ld [%s]", works(30), mask());
}

static sem_t kept, given;
static pthread_t keeper;

static void *keeping(void *arg)
{
    (void)arg;
    block(SIG_BLOCK);
    raise(SIGTRAP);
    sem_post(&kept);
    while (sem_wait(&given) != 0)
        ;
    block(SIG_UNBLOCK);
    return NULL;
}

static void keep(void)
{
    sem_init(&kept, 0, 0);
    sem_init(&given, 0, 0);
    pthread_create(&keeper, NULL, keeping, NULL);
    while (sem_wait(&kept) != 0)
        ;
    printf("%ld", seen);
}

static void give(void)
{
    sem_post(&given);
    pthread_join(keeper, NULL);
    printf("%ld", seen);
}

static void carry(char **words, int count)
{
    long number = count > 1 ? atol(words[1]) : 1;
    static const struct {
        const char *name;
        void (*with)(long);
        void (*without)(void);
    } commands[] = {
        {"blocked", blocked, 0}, {"all", all, 0},       {"ignored", ignored, 0},     {"own", own, 0},
        {"flags", 0, flags},     {"waited", waited, 0}, {"storm", storm, 0},         {"hold", hold, 0},
        {"keep", 0, keep},       {"give", 0, give},     {"suspended", suspended, 0}, {"descriptor", descriptor, 0}};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!strcmp(words[0], commands[i].name)) {
            if (commands[i].with)
                commands[i].with(number);
            else
                commands[i].without();
            return;
        }
    }
    if (!strcmp(words[0], "install")) {
        handle(SIGTRAP, SA_RESTART, NULL, NULL);
        seen = 0;
        printf("%ld", works(5));
    } else if (!strcmp(words[0], "send")) {
        raise(SIGTRAP);
        printf("%ld %ld %ld %s", seen, (long)within, works(5), mask_within);
    } else if (!strcmp(words[0], "block")) {
        block(SIG_BLOCK);
        printf("%ld %s", works(5), mask());
    } else if (!strcmp(words[0], "unblock")) {
        block(SIG_UNBLOCK);
        printf("%ld [%s] %ld", works(5), mask(), seen);
    } else if (!strcmp(words[0], "die")) {
        printf("%ld", works(5));
        fflush(stdout);
        raise(SIGTRAP);
    }
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
