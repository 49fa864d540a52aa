/* SPDX-License-Identifier: MIT
 *
 * A program whose threads each have variables of their own.
 *
 *   add N               the main thread adds N times to each of its own   answers `own`
 *   bear N              a child of another thread does the same            answers what it has, and `own`
 *   begin T, end        T more threads, which stay                        answers the threads' ids and where `own` is
 *   all N               each of them adds N times                         answers what is in `own` of all
 *
 * With a library, that has some too: OWNER says so.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "obey.h"

enum { MOST = 8 };
enum mood { GLAD, SAD };
struct state {
    short low, high;
    enum mood mood;
};
static __thread char before[3];
__thread int own = 5;
_Alignas(64) __thread struct state mine = {.low = 1};
#ifdef OWNER
void library_add(void);
#endif

PROBED void add(void);
PROBED void add(void)
{
    *(volatile int *)&own += 1;
    ((volatile struct state *)&mine)->high -= 1;
    ((volatile struct state *)&mine)->mood = SAD;
    *(volatile char *)before = 1;
#ifdef OWNER
    library_add();
#endif
}

static struct {
    pthread_t thread;
    long tid;
    int *own;
} staying[MOST];
static int stay_count;
static long to_add; /* negative: end */
static pthread_barrier_t begun, done;

static void *stay(void *place)
{
    long me = (long)place;
    staying[me].tid = syscall(SYS_gettid);
    staying[me].own = &own;
    for (;;) {
        pthread_barrier_wait(&done);
        pthread_barrier_wait(&begun);
        if (to_add < 0)
            return NULL;
        for (long n = 0; n < to_add; n++)
            add();
    }
}

static void let_go(long n)
{
    to_add = n;
    pthread_barrier_wait(&begun);
    if (n >= 0)
        pthread_barrier_wait(&done);
}

/* A child of a thread that is not the first one. */
static void *bear(void *times)
{
    int status;
    pid_t child = fork();
    for (long n = *(long *)times; child == 0; n--) {
        if (n == 0)
            _exit(own);
        add();
    }
    waitpid(child, &status, 0);
    *(long *)times = WEXITSTATUS(status);
    return NULL;
}

static void carry(char **words, int count)
{
    long n = count > 1 ? atol(words[1]) : 0;
    if (!strcmp(words[0], "add")) {
        for (; n > 0; n--)
            add();
        printf("%d", own);
    } else if (!strcmp(words[0], "bear")) {
        pthread_t parent;
        pthread_create(&parent, NULL, bear, &n);
        pthread_join(parent, NULL);
        printf("%ld %d", n, own);
    } else if (!strcmp(words[0], "begin")) {
        stay_count = (int)n;
        pthread_barrier_init(&begun, NULL, (unsigned)n + 1);
        pthread_barrier_init(&done, NULL, (unsigned)n + 1);
        for (long i = 0; i < n; i++)
            pthread_create(&staying[i].thread, NULL, stay, (void *)i);
        pthread_barrier_wait(&done);
        printf("%ld %p", (long)getpid(), (void *)&own);
        for (int i = 0; i < stay_count; i++)
            printf(" %ld %p", staying[i].tid, (void *)staying[i].own);
    } else if (!strcmp(words[0], "end")) {
        let_go(-1);
        for (int i = 0; i < stay_count; i++)
            pthread_join(staying[i].thread, NULL);
        printf("ended");
    } else {
        let_go(n);
        for (int i = 0; i < stay_count; i++)
            printf("%d ", *staying[i].own);
    }
}

int main(int argc, char **argv)
{
    return obey(argc, argv, carry);
}
