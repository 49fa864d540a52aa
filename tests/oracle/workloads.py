# SPDX-License-Identifier: MIT
"""Commands that do the same each time, short enough to be counted by traps.

None runs another program in its own process (a second exec would be counted by the kernel only), makes children that
share its memory (trapline counts these with their parent, the kernel does not), or waits for what takes its time.
"""
import os
import shutil
import subprocess
from dataclasses import dataclass, field


@dataclass
class Workload:
    command: list
    modules: list                 # (name in specs, path)
    least: int                    # so many functions have to be hit, and counted alike, in each module
    known: dict = field(default_factory=dict)   # {function: hits}, known by construction
    exits: bool = False           # of the first module's functions, compared too, but
    left_otherwise: set = field(default_factory=set)   # these are not left by an exit each time


def which(program):
    return os.path.realpath(shutil.which(program))


def library(program, name):
    """The file that a program's library is loaded from."""
    listed = subprocess.run(["ldd", which(program)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return os.path.realpath(next(line.split()[2] for line in listed.splitlines() if line.split()[0].startswith(name)))


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def bash():
    script = write("script.sh", r"""
f() { local x=$1; [ "$x" -le 0 ] && return 0; f $((x - 1)); }
f 50
declare -A map; for k in a b c d e; do map[$k]="${k^^}$((RANDOM * 0))"; done; echo "${map[@]}"
for i in {1..300}; do s="$i.$((i * i))"; case $s in *7*) t=${s//7/seven};; *) t=${s%%.*};; esac; a+=("$t"); done
echo "${#a[@]} ${a[*]:5:10}"
while read -r word rest; do printf '%-8s|%s\n' "$word" "${rest:-none}"; done <<'EOF'
some words here
more
EOF
trap 'echo leaving' EXIT
eval 'g() { echo "$@" | read x; }'; g x; [[ abcde =~ b(.)d ]] && echo "${BASH_REMATCH[1]}"
exit 7
""")
    modules = [("EXE", which("bash")), ("libc", library("bash", "libc.so"))]
    return Workload([which("bash"), "--norc", script], modules, 60)


def sqlite():
    script = write("script.sql", """
create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 300)
insert into t select i, 'name' || (i * 7919 % 10007), i * 1.5 from n;
create index t_name on t(name);
select count(*), sum(value), max(name) from t;
select name, count(*) from t group by name order by 2 desc, 1 limit 5;
delete from t where id % 3 = 0;
select count(*) from t where name like '%99%';
pragma integrity_check;
""")
    modules = [("libsqlite3", library("sqlite3", "libsqlite3")), ("libc", library("sqlite3", "libc.so"))]
    return Workload([which("sqlite3"), ":memory:", f".read {script}"], modules, 40,
                    exits=True, left_otherwise={"sqlite3WhereSplit"})  # which jumps to its own beginning


def perl():
    script = write("script.pl", r"""
my %h; my @words = map { join '', map { chr(97 + ($_ * 7) % 26) } ($_ .. $_ + 5) } 1 .. 200;
$h{$_}++ for @words;
for my $w (sort { $h{$b} <=> $h{$a} || $a cmp $b } keys %h) {
    (my $x = $w) =~ s/([aeiou])/<$1>/g; print "$x $h{$w}\n";
}
eval { die "thrown\n" }; print "caught $@"; print sprintf("%.3f\n", sqrt(2)); exit 3;
""")
    modules = [("EXE", which("perl")), ("libc", library("perl", "libc.so"))]
    return Workload([which("perl"), script], modules, 60)


# Functions of several shapes: straight; a jump table; two exits that are jumps to another function; a cold part.
SHAPES = [
    "return x + {k};",
    "switch (x & 15) {{ case 0: return 3; case 1: return sink; case 2: sink = x; return 9; case 5: return x / 3;"
    " case 9: return x; default: return x * {k}; }}",
    "if (x == 12345678) return f{straight}(x - 1); return f{straight}(x ^ 1);",
    "if (__builtin_expect(x < 0, 0)) {{ sink++; abort(); }}"
    " for (int i = 0; i < (x & 3); i++) sink = i; return sink + x;",
]


def threads():
    """4 threads, 64 functions, each called a number of times that is known; a child that calls them uncounted."""
    functions, calls, known = [], [], {}
    for k in range(64):
        times, shape, straight = 3 * k + 1, k % len(SHAPES), k - k % len(SHAPES)
        body = SHAPES[shape].format(k=k, straight=straight)
        functions.append(f"__attribute__((noipa)) long f{k}(long x) {{ {body} }}")
        calls.append(f"for (int i = 0; i < {times}; i++) sum += f{k}(i + seed);")
        known[f"f{k}"] = 4 * times
        if shape == 2:
            known[f"f{straight}"] += 4 * times
    write("shapes.c", "\n".join([
        "#include <stdlib.h>", "static __thread volatile long sink;", *functions,
        "long run(long seed) { long sum = 0;", *calls, "return sum; }"]))
    write("threads.c", r"""
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
long run(long seed);
static void *start(void *argument) { return (void *)run((long)argument); }
int main(void)
{
    pthread_t t[4];
    int status;
    if (!fork()) { run(9); _exit(0); }
    wait(&status);
    for (long i = 0; i < 4; i++) pthread_create(&t[i], NULL, start, (void *)i);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    return 5;
}
""")
    subprocess.run(["gcc", "-O2", "-fPIC", "-shared", "-Wl,-Bsymbolic", "-o", "libshapes.so", "shapes.c"], check=True)
    subprocess.run(["gcc", "-O2", "-pthread", "-o", "threads", "threads.c", "-L.", "-lshapes", "-Wl,-rpath,$ORIGIN"],
                   check=True)
    return Workload([os.path.abspath("threads")], [("libshapes", os.path.abspath("libshapes.so"))], 64, known,
                    exits=True)
