/* SPDX-License-Identifier: MIT
 *
 * What the files of the remote host share. Lowest first: proc (what /proc says), check (may we?), tracer (the thread
 * that owns ptrace), stop, frame + gadget + session (one system call in the target), core (our memory there), batch
 * (many calls), log (what has to be undone), then the port's functions and the life of a handle.
 * All of it is for the thread of the handle or its tracer; functions that return int return 0 or -errno, unless they
 * say otherwise.
 */
#ifndef TRAPLINE_REMOTE_INTERNAL_H
#define TRAPLINE_REMOTE_INTERNAL_H

#include <linux/futex.h>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "base/now.h"
#include "hit/broker.h"
#include "host/remote/layout.h"
#include "host/remote/remote.h"

/* Tests hang on here to end the tool between any two steps that the target could notice. NULL otherwise. */
extern void (*tl_remote_step_hook)(const char *name);
static inline void tl_remote_step(const char *name)
{
    if (tl_remote_step_hook)
        tl_remote_step_hook(name);
}

enum { TL_PAGE = 4096 };
static inline uint64_t tl_page_up(uint64_t n)
{
    return (n + TL_PAGE - 1) & ~(uint64_t)(TL_PAGE - 1);
}

/* A task that shares the target's memory, while it is stopped. */
struct tl_task {
    pid_t tid;
    bool outside; /* not of the target's thread group: a CLONE_VM child, for one */
    bool stopped;
    struct user_regs_struct regs; /* what it goes on with: what was found at the stop, EINTR mended */
};

/* Code of the target's own that an injected call runs on: `syscall; ret` and a `rax = 15; syscall` to return to. */
struct tl_gadgets {
    uint64_t call, restorer;
    uint64_t stub; /* not 0: written by us over zeros at this address, to be zeroed again */
};

struct tl_segment {
    struct tl_log *log; /* mapped here */
    uint64_t addr, size;
    uint64_t used; /* records written: our own count, since the target can write to the log's */
};

/* Our memory in the target: see layout.h. */
struct tl_core {
    struct tl_core_page *page; /* mapped here; NULL: there is none */
    uint64_t addr, inode;
    struct tl_segment segments[TL_SEGMENTS];
    size_t segment_count;
};

/* See tracer.c. */
struct tl_tracer {
    unsigned users; /* handles */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool alive, condemned, ready;
    pid_t tid;
    int (*work)(struct tl_remote *, void *);
    struct tl_remote *remote;
    void *argument;
    int result;
    struct robust_list_head robust;
};

/* A place that was patched, and what stood there first. Our own copy: the log can be written by the target. */
struct tl_undo {
    uint64_t addr; /* 0: free */
    struct tl_record *record;
    uint8_t length, old_bytes[15];
};

/* A mapping that port->map made. */
struct tl_made {
    uint64_t addr, size;
    bool gate;
    struct tl_record *record; /* gates only */
};

struct tl_remote {
    pid_t pid;
    int pidfd, mem;
    struct tl_remote_facts facts;
    struct tl_port port;
    struct tl_error last;
    struct tl_tracer *tracer;
    bool suspend_seccomp;
    struct tl_follow *follow; /* NULL: no tracer stays with it */
    bool loading;             /* runs on to its gate: see launch.c */
    bool replaced;            /* another program runs in the process by now */
    bool told;                /* follow.c: the caller knows of it */
    uint64_t entry;           /* of the program, while it is loading */

    unsigned stops;      /* how deep port->stop is nested */
    uint64_t stop_began; /* tl_now, of the outermost one; 0: it came held */
    bool held;           /* a launched command that was not released: one of those stops */
    bool unstopped;      /* the last stop did not come off in time: worth another try */
    struct tl_task *tasks;
    size_t task_count, task_room;

    struct tl_gadgets gadgets;
    struct tl_core core;
    struct tl_made *made;
    size_t made_count, made_room;
    struct tl_undo *undo; /* by address: a hash table of a power of two */
    size_t undo_count, undo_room;
    uint64_t broker;         /* address of struct tl_broker; 0: not armed */
    uint64_t asleep;         /* where a thread stands that a guard has sent to sleep; 0: none does */
    struct tl_record *armed; /* that says so */
    pid_t sender;            /* the task that has to make the next calls; 0: any */

    void *area, *pool;
    uint64_t area_addr;
    size_t area_size, pool_size;
    size_t area_room; /* of our side, which stays when the target's is gone */

    struct tl_identity *known;
    size_t known_count;

    bool reaped;
    int status;
};

/* proc.c: what the kernel says of a process. All bounded, all tolerant of a process that goes away meanwhile (-ESRCH).
 */
char *tl_proc_file(pid_t pid, const char *name, size_t *length);           /* malloc'ed, NUL-terminated; NULL */
long long tl_status_number(const char *status, const char *key, int base); /* -1: no such line */
pid_t tl_innermost_pid(pid_t pid);                                         /* in its own pid name space; 0: gone */
char tl_task_state(pid_t tid);                                             /* 'R', 'Z'…; 0: gone */
uint64_t tl_start_time(pid_t pid);                                         /* 0: gone */
uint64_t tl_auxv(pid_t pid, uint64_t type);                                /* 0: absent */
int tl_each_number(const char *directory, int (*visit)(void *context, int number), void *context);
pid_t tl_live_task(pid_t pid); /* a thread that still has its memory: the leader may be gone */
int tl_read_areas(pid_t pid, struct tl_remote_area **areas, size_t *count);
bool tl_is_ours(const struct tl_remote_area *area); /* a mapping of a memfd of this name */
const struct tl_remote_area *tl_area_at(const struct tl_remote_area *areas, size_t count, uint64_t addr);
void tl_nap(unsigned microseconds);

/* check.c */
int tl_check_descriptors(struct tl_error *error); /* our own */
int tl_check_target(struct tl_remote *r, struct tl_error *error);
int tl_check_seccomp(struct tl_remote *r, struct tl_error *error);
/* Before a task, which is stopped, makes calls for us. -EPERM: it may not. */
int tl_suspend_seccomp(struct tl_remote *r, pid_t tid);
int tl_explain_refusal(pid_t pid, int code, struct tl_error *error);

/* tracer.c: run `work` on the thread that traces. Nested calls run at once. */
int tl_on_tracer(struct tl_remote *r, int (*work)(struct tl_remote *, void *), void *argument);
struct tl_tracer *tl_tracer_create(void); /* with one user; NULL: out of memory */
struct tl_tracer *tl_tracer_share(struct tl_tracer *t);
void tl_tracer_drop(struct tl_tracer *t); /* the last user ends the thread */
/* On the tracer thread: let go of every task, stopped or not, by ending this thread when the work is done. */
void tl_tracer_condemn(struct tl_remote *r);

/* On the tracer thread: from here on the core can tell whether this thread lives. */
void tl_tracer_hold(struct tl_remote *r);
void tl_tracer_forget(struct tl_remote *r); /* nobody there waits for us any more */

/* stop.c, on the tracer thread. tl_stop_all adds to what is stopped already. */
int tl_stop_all(struct tl_remote *r);
int tl_stop(struct tl_remote *r, struct tl_error *error);
void tl_resume(struct tl_remote *r);
int tl_wait(struct tl_remote *r, pid_t tid, uint64_t deadline, int *status); /* -ETIMEDOUT, -ESRCH (ended) */
int tl_get_regs(pid_t tid, struct user_regs_struct *regs);                   /* -ENOEXEC: 32-bit */
int tl_set_regs(pid_t tid, const struct user_regs_struct *regs);
/* Bring a task that runs, or is `stopped` elsewhere, to the trap that PTRACE_INTERRUPT asks for, before any more of its
 * code. */
int tl_interrupt(struct tl_remote *r, pid_t tid, bool stopped, uint64_t deadline);
/* Go on with `request` after a stop that was not what we wait for, passing on what must be: 0, or -errno. */
int tl_go_on(pid_t tid, int request, int status);
struct tl_task *tl_add_task(struct tl_remote *r, pid_t tid);
void tl_mend_restart(struct user_regs_struct *regs);
bool tl_in_restartable_call(const struct user_regs_struct *regs);

/* frame.c: the signal frame by which a task goes back by itself to its registers, signal mask and vector state
 * included. */
enum { TL_FRAME_MAX = 16384 - 512 };
int tl_frame_build(struct tl_remote *r, const struct tl_task *task, uint64_t mask, uint64_t addr, uint64_t restorer,
                   uint8_t frame[TL_FRAME_MAX], size_t *size);
bool tl_frame_is(const uint8_t *bytes); /* it begins like one of these */

/* gadget.c */
int tl_gadgets_find(struct tl_remote *r, struct tl_error *error);
void tl_gadgets_drop(struct tl_remote *r); /* takes the stub out again where there is one */
bool tl_stub_left(struct tl_remote *r);    /* by a run that was killed */
void tl_stub_clear(struct tl_remote *r);
/* Dead memory on a stack, for a frame of `size` bytes with room below it. */
int tl_scratch_find(struct tl_remote *r, size_t size, struct tl_task **worker, uint64_t *addr, struct tl_error *error);
bool tl_in_flight(struct tl_remote *r);

/* session.c: single calls, on the target's own stack and code. Between begin and end one task is ours. */
struct tl_session {
    struct tl_task *task;
    uint64_t frame, name; /* name: where "trapline" stands as a string */
    uint64_t mask;
    bool entered;
};
int tl_session_begin(struct tl_remote *r, struct tl_session *s, struct tl_error *error);
int tl_session_call(struct tl_remote *r, struct tl_session *s, long number, const uint64_t arguments[6],
                    int64_t *result);
void tl_session_end(struct tl_remote *r, struct tl_session *s);
struct tl_task *tl_worker(struct tl_remote *r);
void tl_leave_sequence(struct tl_remote *r, struct tl_task *task);
int tl_get_mask(pid_t tid, uint64_t *mask);
int tl_set_mask(pid_t tid, uint64_t mask);

/* core.c, on the tracer thread, target stopped. */
int tl_core_create(struct tl_remote *r, struct tl_error *error);
int tl_core_destroy(struct tl_remote *r, struct tl_error *error);
void tl_core_forget(struct tl_remote *r); /* our side only */
int tl_open_target_file(pid_t tid, int fd, int *out);
/* One call by the target: 0 or -errno says whether it was made at all. */
typedef int tl_caller(struct tl_remote *r, void *context, long number, const uint64_t arguments[6], int64_t *result);
/* A new memory file, named by what stands at `name` in the target: a descriptor of `tid`, by which the calls are made,
 * and one of ours. */
int tl_make_file(struct tl_remote *r, tl_caller *call, void *context, pid_t tid, uint64_t name, uint64_t *fd,
                 int *file);
int tl_explain_limit(struct tl_remote *r, int result, const char *what, struct tl_error *error);
/* Close descriptors of half-made memory; `had_core`: whatever has our name is ours. */
int tl_close_strays(struct tl_remote *r, bool had_core, struct tl_error *error);

/* batch.c: many calls in one go, by the runner in the core. Results of calls that were reached, in order. */
struct tl_call {
    int64_t number;
    uint64_t arguments[6];
    int64_t result;
};
int tl_batch(struct tl_remote *r, struct tl_call *calls, size_t count, bool stop_on_error, size_t *done);
/* tl_make_file by such a batch. */
int tl_batch_file(struct tl_remote *r, uint64_t *fd, int *file);
/* New shared memory: mapped here at *local, there at *addr. */
int tl_share(struct tl_remote *r, size_t size, void **local, uint64_t *addr, struct tl_error *error);
extern const uint8_t tl_runner_code[], tl_runner_code_end[];
extern const uint32_t tl_runner_gate; /* offset of the entry gate in the code */

/* log.c */
int tl_log_room(struct tl_remote *r, size_t records, struct tl_error *error); /* on the tracer thread, stopped */
struct tl_record *tl_log_add(struct tl_remote *r, const struct tl_record *record);
struct tl_undo *tl_undo_find(struct tl_remote *r, uint64_t addr); /* NULL: not patched now */
int tl_undo_room(struct tl_remote *r, size_t more);
struct tl_undo *tl_undo_put(struct tl_remote *r, uint64_t addr);

/* Each live record of a kind in our own log. */
void tl_each_own_record(struct tl_remote *r, uint32_t kind,
                        void (*visit)(struct tl_remote *, const struct tl_record *));

/* actions.c, target stopped. */
int tl_actions_read(struct tl_remote *r, struct tl_sigaction actions[TL_SIGNALS + 1]);
int tl_actions_set(struct tl_remote *r, const struct tl_sigaction *actions, const int *numbers, size_t count);
/* SIGTRAP, to a thread or (0) to the process. */
int tl_signal_queue(struct tl_remote *r, pid_t tid, const struct tl_siginfo *info);
/* An instruction has raised one of the five in this thread, and it is still on its way. */
bool tl_has_raised(pid_t tid);
/* A SIGTRAP waits for this thread, or for its process. */
bool tl_trap_pending(pid_t tid, bool shared, struct tl_siginfo *info);

/* arm.c, target stopped. */
int tl_port_arm(struct tl_remote *r, uint64_t broker, struct tl_error *error);
int tl_port_disarm(struct tl_remote *r, struct tl_error *error);
/* The same for what stands there, whoever has armed it. Nobody is in its code, and no signal raised is on its way. */
int tl_disarm(struct tl_remote *r, uint64_t broker, struct tl_error *error);
/* The first part of it: masks, and nothing else. */
int tl_masks_back(struct tl_remote *r, uint64_t broker);
/* Its guards leave everything to the kernel: it is not armed yet, or not any more. */
bool tl_is_dormant(struct tl_remote *r, uint64_t broker);
void tl_restore_mask(struct tl_remote *r, const struct tl_record *record);

/* watch_registers.c: clear the debug registers that the record tells of. Target stopped. */
void tl_clear_registers(struct tl_remote *r, const struct tl_record *record);

/* The port: map.c, patch.c, evacuate.c. On the tracer thread. */
int tl_port_map(struct tl_remote *r, const struct tl_mapping *mappings, size_t count, struct tl_error *error);
int tl_port_unmap(struct tl_remote *r, const struct tl_mapping *mappings, size_t count, struct tl_error *error);
int tl_port_patch(struct tl_remote *r, const struct tl_patch *patches, size_t count, struct tl_error *error);
typedef int tl_locate(void *context, uint64_t pc, uint64_t *original, int *fix_rcx);
int tl_port_evacuate(struct tl_remote *r, tl_locate *locate, void *context);

/* stacks.c: contexts that signals have saved on a task's stacks. `word`: theirs from rcx on, `at`: where that stands.
 */
enum { TL_SAVED_CX, TL_SAVED_SP, TL_SAVED_IP, TL_SAVED_FLAGS, TL_SAVED_SEGMENTS, TL_SAVED_WORDS, TL_SAVED_MASK = 18 };
typedef bool tl_saved_visit(void *context, uint64_t at, const uint64_t *word); /* false: enough */
/* -E2BIG: there are more stacks than were looked at. */
int tl_saved_contexts(struct tl_remote *r, const struct tl_remote_area *areas, size_t area_count,
                      const struct tl_task *task, tl_saved_visit *visit, void *context);
bool tl_saved_plausible(struct tl_remote *r, uint64_t at); /* something of the kind stands there */

/* origin.c: where a thread belongs in the program that stands in code of ours of which nothing is known but what stands
 * in the target. 0 and *original, or -EAGAIN: it has to run on. */
struct tl_broker_tables *tl_tables_load(struct tl_remote *r, const struct tl_remote_area *areas, size_t count,
                                        uint64_t broker); /* malloc'ed; NULL: there are none */
int tl_origin_by_tables(const struct tl_broker_tables *tables, uint64_t pc, uint64_t *original, int *fix_rcx);
/* Behind a displaced system call; text restored. */
int tl_origin_behind_call(struct tl_remote *r, const struct tl_remote_area *areas, size_t count, uint64_t pc,
                          uint64_t *original);

/* residue.c: take out of the target all that a trapline left there. On the tracer thread; stops by itself. */
int tl_residue_clean(struct tl_remote *r, bool own, struct tl_error *error);
bool tl_residue_suspected(struct tl_remote *r);
bool tl_residue_rival(struct tl_remote *r); /* another tool, alive, works on this process */

/* launch.c */
int tl_launch(struct tl_remote *r, char *const argv[], struct tl_error *error);
/* The way of a new program from its exec stop to its entry, on the tracer thread. begin: r->loading says whether it has
 * to run on; then, once it has arrived, finish. */
int tl_load_begin(struct tl_remote *r, struct tl_error *error);
bool tl_load_arrived(struct tl_remote *r);
int tl_load_finish(struct tl_remote *r, struct tl_error *error);

/* remote.c */
/* Work that begins with a stop, on the tracer thread: again, as long as the stop does not come off. */
int tl_patiently(struct tl_remote *r, int (*work)(struct tl_remote *, void *), void *argument);
struct tl_remote *tl_remote_create(pid_t pid, struct tl_tracer *tracer); /* tracer: to share, or NULL */
void tl_learn_processor(struct tl_remote *r);

/* follow.c, on the tracer thread. */
/* The PTRACE_O_ options for tasks of this handle. */
long tl_trace_options(const struct tl_remote *r);
/* Whether a tracer stays attached, now and after the next resume. */
bool tl_stays(const struct tl_remote *r);
/* A task that is stopped goes on, or stays in its group stop; we stay. */
void tl_carry_on(struct tl_remote *r, pid_t tid);
/* A status came while something else was waited for. True: it is kept for the loop, and the task is none of ours now.
 */
bool tl_follow_keep(struct tl_remote *r, pid_t tid, int status);
void tl_follow_forget(struct tl_remote *r);
/* See to those who have to go on while somebody else is waited for: a new thread, or the child of a vfork. */
void tl_follow_attend(struct tl_remote *r);

/* thread.c: what the threads' fs bases tell. Target stopped. */
void tl_learn_threads(struct tl_remote *r);

/* memory.c: the target's memory through r->mem. */
int tl_mem_read(struct tl_remote *r, uint64_t addr, void *bytes, size_t size);
int tl_mem_write(struct tl_remote *r, uint64_t addr, const void *bytes, size_t size);
int tl_mem_open(struct tl_remote *r);

#endif
