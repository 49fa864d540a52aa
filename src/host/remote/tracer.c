/* SPDX-License-Identifier: MIT
 *
 * The thread that traces.
 *
 * The kernel ties a tracee to one thread, and lets go of a tracee that is not stopped only when that thread ends. A
 * task in uninterruptible sleep (a vfork parent whose child takes its time) does not stop when asked, and must not be
 * left with the request pending: it would stop later, with nobody there. So each handle has a thread of its own for all
 * that is ptrace; giving up on a stop ends the thread, and the next piece of work starts a new one. Processes that are
 * followed together (follow.c) share one thread: the children of a tracee belong to its tracer.
 */
#include "host/remote/internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The links of the list of held futexes lie in our own memory, where the target cannot reach them: at the beginning of
 * the page before our side of each core (core.c), for the kernel wants one distance from the link to the futex for all.
 */
enum { LINK_TO_HOLDER = TL_PAGE + TL_CORE_DATA + offsetof(struct tl_core_page, runner.holder) };

static void *tracer_main(void *context)
{
    struct tl_tracer *t = context;
    pthread_mutex_lock(&t->lock);
    t->tid = gettid();
    syscall(SYS_set_robust_list, &t->robust, sizeof t->robust); /* glibc's is for its mutexes; here there are none */
    while (!t->condemned) {
        while (!t->work && !t->condemned)
            pthread_cond_wait(&t->changed, &t->lock);
        if (!t->work)
            break;
        int (*work)(struct tl_remote *, void *) = t->work;
        struct tl_remote *r = t->remote;
        void *argument = t->argument;
        pthread_mutex_unlock(&t->lock);
        int result = work(r, argument);
        pthread_mutex_lock(&t->lock);
        t->work = NULL;
        t->result = result;
        t->ready = true;
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

struct tl_tracer *tl_tracer_create(void)
{
    struct tl_tracer *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    t->users = 1;
    t->robust = (struct robust_list_head){.list = {&t->robust.list}, .futex_offset = LINK_TO_HOLDER};
    return t;
}

struct tl_tracer *tl_tracer_share(struct tl_tracer *t)
{
    t->users++;
    return t;
}

static int tracer_begin(struct tl_tracer *t)
{
    if (t->alive)
        return 0;
    t->condemned = false;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&t->thread, NULL, tracer_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    t->alive = error == 0;
    return -error;
}

static void tracer_end(struct tl_tracer *t)
{
    if (!t->alive)
        return;
    pthread_mutex_lock(&t->lock);
    t->condemned = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    t->alive = false;
    /* It is joined a moment before the kernel takes its tracees from it, and gone from /proc a moment after. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d", t->tid);
    for (int i = 0; t->tid && i < 1000 && access(path, F_OK) == 0; i++)
        tl_nap(100);
    t->tid = 0;
}

void tl_tracer_drop(struct tl_tracer *t)
{
    if (--t->users)
        return;
    tracer_end(t);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->changed);
    free(t);
}

static struct robust_list *link_of(const struct tl_core_page *page)
{
    return (struct robust_list *)((char *)&page->runner.holder - LINK_TO_HOLDER);
}

void tl_tracer_hold(struct tl_remote *r)
{
    struct tl_tracer *t = r->tracer;
    struct robust_list *link = link_of(r->core.page);
    if (!link->next) {
        link->next = t->robust.list.next;
        t->robust.list.next = link;
    }
    r->core.page->runner.holder = (uint32_t)t->tid;
}

void tl_tracer_forget(struct tl_remote *r)
{
    struct robust_list *head = &r->tracer->robust.list, *at = head;
    struct robust_list *link = r->core.page ? link_of(r->core.page) : NULL;
    if (!link || !link->next)
        return;
    while (at->next != link)
        at = at->next;
    at->next = link->next;
    link->next = NULL;
}

void tl_tracer_condemn(struct tl_remote *r)
{
    r->tracer->condemned = true;
}

int tl_on_tracer(struct tl_remote *r, int (*work)(struct tl_remote *, void *), void *argument)
{
    struct tl_tracer *t = r->tracer;
    if (t->alive && pthread_equal(t->thread, pthread_self()))
        return work(r, argument);
    int result = tracer_begin(t);
    if (result)
        return result;
    pthread_mutex_lock(&t->lock);
    t->remote = r;
    t->argument = argument;
    t->ready = false;
    t->work = work;
    pthread_cond_broadcast(&t->changed);
    while (!t->ready)
        pthread_cond_wait(&t->changed, &t->lock);
    result = t->result;
    bool condemned = t->condemned;
    pthread_mutex_unlock(&t->lock);
    if (condemned)
        tracer_end(t);
    return result;
}
