/* SPDX-License-Identifier: MIT
 *
 * Forks in handlers, while another thread takes out the very probe, and so waits for the handler.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit.h"

enum { ROUNDS = 40, YIELDS = 200, SECONDS = 60 };

static sem_t hit, ready;
static int status;

static int on_hit(struct tl_probe *probe, struct tl_regs *regs)
{
    (void)probe;
    (void)regs;
    sem_post(&hit);
    for (int i = 0; i < YIELDS; i++)
        sched_yield(); /* so that the other thread comes to wait for us, as a rule */
    pid_t pid = fork();
    if (pid == 0)
        return 0;
    waitpid(pid, &status, 0);
    return 0;
}

static void *take_out_and_in(void *argument)
{
    struct tl_probe *probe = argument;
    for (int i = 0; i < ROUNDS; i++) {
        sem_wait(&hit);
        if (tl_probe_unregister(probe) || tl_probe_register(probe, NULL))
            abort();
        sem_post(&ready);
    }
    return NULL;
}

/* The child: what it calls works, or says that it does not; nothing waits for anybody. */
static _Noreturn void be_child(const struct tl_probe *probe)
{
    uint64_t missed;
    alarm(SECONDS);
    int code = tl_probe_missed(probe, &missed);
    bool good = (code == 0 || code == -EDEADLK || code == -ENOENT) && kit_branch(2) == 1;
    _exit(good ? 0 : 1);
}

static void a_handler_forks_while_it_is_waited_for(void **state)
{
    struct tl_probe probe = {
        .size = sizeof probe, .flags = *(const uint64_t *)*state, .address = kit_add_entry, .pre = on_hit};
    pthread_t thread;
    pid_t self = getpid();
    sem_init(&hit, 0, 0);
    sem_init(&ready, 0, 0);
    kit_register(&probe);
    assert_int_equal(pthread_create(&thread, NULL, take_out_and_in, &probe), 0);
    for (int i = 0; i < ROUNDS; i++) {
        status = -1;
        assert_int_equal(kit_add(i, 2), i + 3);
        if (getpid() != self)
            be_child(&probe);
        assert_int_equal(status, 0);
        sem_wait(&ready);
    }
    pthread_join(thread, NULL);
    kit_unregister(&probe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {BOTH_WAYS(a_handler_forks_while_it_is_waited_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
