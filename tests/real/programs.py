#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs, bare and with every function of theirs and of libc probed: same output, same exit status.

usage: programs.py TRAPLINE BUILD_DIR WORKLOAD [int3]

With int3, breakpoints alone are used, on less work, and hits are counted as they are with jumps.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

trapline, build, name = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
less = sys.argv[4:] == ["int3"]
work = tempfile.mkdtemp(prefix="trapline-real-")
os.chdir(work)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def compile_c(source, output, *flags, compiler="gcc"):
    subprocess.run([compiler, "-O2", "-o", output, source, *flags], check=True)
    return "./" + output


def bash():
    script = write("script.sh", r"""
set -u
trap 'echo usr1 caught' USR1
trap 'echo leaving' EXIT
for i in $(seq 1 30); do (echo "sub $i $((i * i))"; exit $((i % 3))); echo "status $?"; done
seq 1 2000 | sort -rn | head -n 5 | while read -r n; do echo "line $n"; done
kill -USR1 $$
f() { local x=$1; [ "$x" -le 0 ] && return 0; f $((x - 1)); }
f 200 && echo recursed
declare -A map; for k in a b c; do map[$k]=$(printf '%s' "$k" | tr a-c x-z); done; echo "${map[a]}${map[b]}${map[c]}"
echo "here $(cat <<EOF
document
EOF
)"
sleep 0.01 & wait $!; echo "waited $?"
exit 7
""")
    return ["bash", script]


def sqlite():
    rows = 20000 if less else 100000
    write("script.sql", f"""
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
insert into t select i, 'name' || (i * 7919 % 10007), i * 1.5 from n;
create index t_name on t(name);
select count(*), sum(value), max(name) from t;
select name, count(*) from t group by name order by 2 desc, 1 limit 5;
delete from t where id % 3 = 0;
select count(*) from t where name like '%99%';
pragma integrity_check;
""")
    return ["sqlite3", ":memory:", ".read script.sql"]


def xz():
    if not os.path.exists("data"):
        with open("data", "wb") as file:
            state = 12345
            block = bytearray()
            while len(block) < 1 << 20:
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                block += b"line %d of the data\n" % (state >> 8)
            for i in range(4 if less else 50):
                file.write(block[i:] + block[:i])
    return ["xz", "-T1" if less else "-T2", "-0", "--block-size=4MiB", "-c", "data"]


def unxz():
    subprocess.run(xz() + ["-k"], stdout=open("data.xz", "wb"), check=True)
    return ["xz", "-dc", "data.xz"]


def python():
    return ["python3.11" if os.path.exists("/usr/bin/python3.11") else "python3", "-m", "test", *(["test_generators"] if less else ["test_json", "test_struct", "test_generators"])]


HELLO = r"""
#include <stdio.h>
#include <string.h>
struct s { int a[64]; };
static int work(struct s *s, int n) { for (int i = 0; i < 64; i++) s->a[i] = i * n; return s->a[n & 63]; }
int main(void) { struct s s; int sum = 0; for (int i = 0; i < 1000; i++) sum += work(&s, i); printf("%d\n", sum); return 0; }
"""


def gcc():
    write("hello.c", HELLO)
    return ["gcc", "-O2", "-o", "made", "hello.c"]


def cc1():
    write("hello.c", HELLO)
    path = subprocess.run(["gcc", "-print-prog-name=cc1"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return [path, "-quiet", "-O2", "-imultiarch", "x86_64-linux-gnu", "hello.c", "-o", "-"]


def ld():
    write("part.c", "int twice(int x) { return 2 * x; }\nint main(void) { return twice(0); }\n")
    subprocess.run(["gcc", "-O2", "-c", "part.c"], check=True)
    return ["ld", "-r", "-o", "made", "part.o"]


def perl():
    script = write("script.pl", r"""
use strict; my %h; my @words = map { join '', map { chr(97 + ($_ * 7) % 26) } ($_ .. $_ + 5) } 1 .. 3000;
$h{$_}++ for @words;
for my $w (sort { $h{$b} <=> $h{$a} || $a cmp $b } keys %h) { (my $x = $w) =~ s/([aeiou])/<$1>/g; print "$x $h{$w}\n"; }
eval { die "thrown\n" }; print "caught $@";
local $SIG{ALRM} = sub { print "alarm\n" }; kill 'ALRM', $$; print sprintf("%.3f\n", sqrt(2)); exit 3;
""")
    return ["perl", script]


def throws():
    write("throws.cc", r"""
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>
struct noisy { int n; explicit noisy(int n) : n(n) {} ~noisy() { total += n; } static long total; };
long noisy::total;
__attribute__((noinline)) int deep(int n) { noisy guard(n); if (n == 0) throw std::runtime_error("bottom"); return deep(n - 1) + 1; }
__attribute__((noinline)) int middle(int n) { try { return deep(n); } catch (const std::logic_error &) { return -1; } }
int main() {
    long caught = 0;
    for (int i = 0; i < 2000; i++) { try { middle(i % 40); } catch (const std::exception &e) { caught += std::string(e.what()).size(); } }
    try { std::vector<int>().at(3); } catch (const std::out_of_range &e) { std::puts(e.what()); }
    std::printf("%ld %ld\n", caught, noisy::total);
    return 5;
}
""")
    return [compile_c("throws.cc", "throws", compiler="g++")]


def threads():
    write("threads.c", ("#define ROUNDS 1" if less else "#define ROUNDS 5") + r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; static long total;
__attribute__((noinline)) static long step(long x) { return x * 31 + 7; }
static void *run(void *arg) {
    long x = (long)arg; char *texts[64];
    for (int i = 0; i < 3000; i++) {
        x = step(x); char buffer[40]; snprintf(buffer, sizeof buffer, "%ld", x); texts[i & 63] = strdup(buffer);
        if ((i & 63) == 63) for (int k = 0; k < 64; k++) { x += (long)strlen(texts[k]); free(texts[k]); }
    }
    for (int k = 0; k < (3000 & 63); k++) free(texts[k]);
    pthread_mutex_lock(&lock); total ^= x; pthread_mutex_unlock(&lock); return NULL;
}
int main(void) {
    for (int round = 0; round < ROUNDS; round++) { pthread_t t[16]; for (long i = 0; i < 16; i++) pthread_create(&t[i], NULL, run, (void *)(i + round)); for (int i = 0; i < 16; i++) pthread_join(t[i], NULL); }
    printf("%ld\n", total); return 9;
}
""")
    return [compile_c("threads.c", "threads", "-pthread")]


# With int3: how often functions are called by the source, where how often others are is up to the scheduler.
SAID = {"threads": {"run": 16, "step": 16 * 3000, "snprintf": 16 * 3000, "strdup": 16 * 3000}}

TIMES = re.compile(rb"\d+(\.\d+)? (sec|ms|min)\S*|\d+:\d+:\d+|load avg: \S+|pid \d+|seed: \d+|== .*")


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
    made = b""
    if os.path.exists("made"):  # what the workload leaves in a file counts as its output
        with open("made", "rb") as file:
            made = file.read()
        os.unlink("made")
    out = done.stdout if len(done.stdout) > 1 << 20 else TIMES.sub(b"", done.stdout)
    return out + made, TIMES.sub(b"", done.stderr), done.returncode


def probe(command, *options):
    """A run under the tool: what run() gives, without refusals on standard error; hits by function; the summary."""
    out, errors, status = run([trapline, "count", "-q", "--json", "-o", "table.json", *options, "-e", "EXE!*", "-e", "libc!*", "--",
                               *command])
    with open("table.json") as file:
        table = [json.loads(line) for line in file]
    errors = b"\n".join(line for line in errors.splitlines() if not line.startswith(b'{"type":"refused"'))
    assert table and table[-1]["type"] == "summary", (table[-1:], status, errors[-2000:])
    counts = {}
    for row in table:
        if row["type"] == "count":
            counts[row["probe"]] = counts.get(row["probe"], 0) + row["hits"]
            assert not options or row["how"] == options[-1] or not row["hits"], row
    return (out, errors, status), counts, table[-1]


command = globals()[name]()
bare = run(command)
probed, counts, summary = probe(command, *(["--tactic", "int3"] if less else []))
hits = sum(counts.values())
print(f"{name}: {len(counts)} functions hit, {hits} hits, {summary['refused']} refused, exit status {probed[2]}")
assert probed[2] == bare[2], f"exit status {bare[2]} became {probed[2]}: {probed[1][-2000:]}"
assert probed[0] == bare[0], f"the output differs: {bare[0][-500:]} {probed[0][-500:]}"
assert probed[1].strip() == bare[1].strip(), f"standard error differs: {probed[1][-2000:]}"
assert hits > 1000 and len(counts) > 20, "hardly anything was probed"
if less and name in SAID:
    wrong = {function: (times, counts.get(function, 0)) for function, times in SAID[name].items()}
    assert all(said == counted for said, counted in wrong.values()), wrong
elif less:
    # Some functions are called more or less often from run to run (names of files, addresses, time).
    (_, first, _), (_, second, _) = probe(command), probe(command)
    same = [function for function in first if first[function] == second.get(function)]
    wrong = {function: (first[function], counts.get(function, 0)) for function in same}
    wrong = {function: pair for function, pair in wrong.items() if pair[0] != pair[1]}
    print(f"{len(same)} of {len(first)} functions are called equally often each time")
    off = sum(abs(jump - trap) for jump, trap in wrong.values())
    assert len(same) > len(first) * 0.7 and len(wrong) <= len(first) * 0.1 and off < hits / 2000, wrong
