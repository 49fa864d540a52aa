/* SPDX-License-Identifier: MIT
 *
 * A family is followed, by a tool that comes, puts a probe into each member, and leaves; or that is killed at one of
 * its steps meanwhile. All children come to their right ends, and nothing is left in the first of them.
 */
#include "common.h"

#include "host/remote/follow.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMBERS = 16, BIRTHS = 4 };

static unsigned steps_left;

static void count_down(const char *name)
{
    (void)name;
    if (steps_left-- == 0)
        raise(SIGKILL);
}

struct life {
    struct target *t;
    struct tl_follow *follow;
    struct member {
        struct tl_remote *remote;
        struct probe probe;
    } members[MEMBERS];
    unsigned births, programs;
    bool leaving;
};

static struct member *find(struct life *life, const struct tl_remote *remote)
{
    for (int i = 0; i < MEMBERS; i++) {
        if (life->members[i].remote == remote)
            return &life->members[i];
    }
    fail_msg("not a member, or too many");
    return NULL;
}

static void put_probe(struct life *life, struct tl_remote *remote)
{
    struct member *member = find(life, NULL);
    struct tl_remote_region region;
    struct tl_error error = {0};
    *member = (struct member){.remote = remote};
    if (tl_remote_region(remote, 1 << 16, 1 << 14, &region, &error))
        fail_msg("region: %s", error.text);
    if (probe_place(remote, life->t->progress->probe, &member->probe))
        fail_msg("place: %s", tl_remote_last_error(remote));
}

static void came(struct life *life, const struct tl_follow_event *event)
{
    if (event->failed)
        fail_msg("%s", event->error.text);
    if (event->forked_from && !life->leaving) {
        life->births++;
        put_probe(life, event->remote);
        tl_remote_release(event->remote, NULL);
        return;
    }
    /* A program, or too late. */
    life->programs += !event->forked_from;
    assert_int_equal(tl_remote_remove(event->remote, NULL), 0);
    if (life->leaving) {
        tl_follow_leave(event->remote);
        tl_remote_close(event->remote);
    } else {
        *find(life, NULL) = (struct member){.remote = event->remote};
        tl_remote_release(event->remote, NULL);
    }
}

static void look(struct life *life)
{
    struct tl_follow_event event;
    tl_follow_wait(life->follow, 5000);
    while (tl_follow_next(life->follow, &event)) {
        if (event.kind == TL_FOLLOW_CAME) {
            came(life, &event);
        } else {
            find(life, event.remote)->remote = NULL;
            tl_remote_close(event.remote);
        }
    }
}

static bool leave(struct member *member)
{
    const struct tl_port *port = tl_remote_port(member->remote);
    if (port->stop(port->host))
        return false;
    bool out = (!member->probe.patch.length || probe_take_out(member->remote, &member->probe) == 0);
    out = out && tl_remote_remove(member->remote, NULL) == 0;
    if (out)
        tl_follow_leave(member->remote);
    port->resume(port->host);
    if (out) {
        tl_remote_close(member->remote);
        member->remote = NULL;
    }
    return out;
}

static void leave_all(struct life *life)
{
    life->leaving = true;
    for (int turns = 0; !tl_follow_idle(life->follow); turns++) {
        for (int i = 0; i < MEMBERS; i++) {
            if (life->members[i].remote)
                leave(&life->members[i]);
        }
        look(life);
        if (turns > 20000)
            fail_msg("the family cannot be left");
    }
}

static void whole_life(struct target *t)
{
    struct life life = {.t = t};
    struct tl_error error = {0};
    struct tl_remote *first = open_target(t);
    if (tl_follow_begin(first, &life.follow, &error))
        fail_msg("follow: %s", error.text);
    put_probe(&life, first);
    while (life.births < BIRTHS || life.programs < 2)
        look(&life);
    leave_all(&life);
    tl_follow_abandon(life.follow);
    tl_follow_end(life.follow);
}

/* 1: the tool was killed at this step; 0: it came to its end before. */
static int life_with_death(struct target *t, unsigned step)
{
    pid_t tool = fork();
    int status;
    if (tool == 0) {
        steps_left = step;
        tl_remote_step_hook = count_down;
        whole_life(t);
        _exit(0);
    }
    assert_int_equal(waitpid(tool, &status, 0), tool);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status);
}

static void start(struct target *t)
{
    char *hello = strdup(program("hello"));
    target_start(t, ARGV(program("family"), hello));
    free(hello);
    assert_int_equal(life_with_death(t, UINT32_MAX), 0); /* what is allocated once, is by now */
    target_baseline(t);
}

static void one_that_is_left(void **state)
{
    (void)state;
    struct target t;
    start(&t);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(life_with_death(&t, UINT32_MAX), 0);
        assert_as_before(&t);
        assert_goes_on(&t);
    }
    target_end(&t);
}

static void one_whose_tool_is_killed_at_many_steps(void **state)
{
    (void)state;
    struct target t;
    unsigned step = 0, deaths = 0;
    start(&t);
    for (; life_with_death(&t, step); step += 1 + step / 100, deaths++) {
        assert_goes_on(&t);
        tl_remote_close(open_target(&t));
        assert_as_before(&t);
    }
    assert_goes_on(&t);
    print_message("             killed %u times, at the latest at step %u\n", deaths, step);
    assert_true(deaths > 50);
    target_end(&t);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_is_left),
        cmocka_unit_test(one_whose_tool_is_killed_at_many_steps),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
