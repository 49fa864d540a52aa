#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts of every function of a program, by trapline and by the kernel's uprobes in other runs of the same command.

usage: counts.py TRAPLINE UPROBE_COUNT WORKLOAD

The workloads do the same in each run as far as a program can. What still differs between two runs that the kernel
counted is not compared; neither are functions that trapline refused, or whose first instruction the kernel is known to
handle wrongly. All of these are counted and printed.

Address randomisation stays on: without it libraries lie so near the end of the address space that many jumps of theirs
have nowhere to lead.
"""
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import elf  # noqa: E402
import workloads  # noqa: E402

SKIP = 77
UNSTABLE, UNSTABLE_MOST = "differs between the kernel's runs", 0.02
trapline, uprobe_count = (os.path.abspath(path) for path in sys.argv[1:3])
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/", "PERL_HASH_SEED": "0"}


def run(command):
    return subprocess.run(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=600)


def kernel_counts(command, modules):
    """{(module, offset): hits}, from the entry of the program's own code on, as trapline counts."""
    if os.path.exists("counts"):
        os.unlink("counts")
    arguments = ["-w", "counts", "-s", "%s:%#x" % elf.entry(workloads.which(command[0]))]
    for number, module in enumerate(modules):
        with open(f"offsets{number}", "w") as file:
            file.writelines(f"{offset:#x}\n" for offset in module.offsets())
        arguments += ["-b", module.path, "-o", f"offsets{number}"]
    done = run([uprobe_count, *arguments, "--", *command])
    if done.returncode == SKIP:
        print(done.stderr.strip())
        sys.exit(SKIP)
    if not os.path.exists("counts"):
        sys.exit(done.stderr.strip())
    by_path = {module.path: module for module in modules}
    counts = {}
    for line in open("counts"):
        path, offset, hits = line.rsplit(" ", 2)
        counts[by_path[path], int(offset, 16)] = int(hits)
    return counts, done.returncode


def trapline_counts(command, spec):
    """({name: hits}, {refused name}) of one run."""
    done = run([trapline, "count", "-q", "--json", "-o", "table", "-e", spec, "--", *command])
    hits, refused = {}, set()
    for row in elf.json_lines(open("table")):
        if row["type"] == "count":
            hits[row["probe"]] = hits.get(row["probe"], 0) + row["hits"]
        elif row["type"] == "refused":
            refused.add(row["probe"].removesuffix("%return"))
    assert row["type"] == "summary" and not row["missed"] and not row["lost"], row
    return hits, refused, done.returncode


class Tally:
    """What was compared, what was not and why, what differed."""

    def __init__(self):
        self.equal, self.hits, self.left_out, self.wrong = 0, 0, {}, []

    def leave_out(self, why, what):
        self.left_out.setdefault(why, []).append(what)

    def compare(self, what, ours, kernels):
        if ours != kernels:
            self.wrong.append(f"{what}: trapline counted {ours}, the kernel {kernels}")
        elif ours:
            self.equal += 1
            self.hits += ours

    def show(self, title):
        print(f"{title}: {self.equal} functions hit {self.hits} times, counted alike; {len(self.wrong)} differ")
        for why, names in sorted(self.left_out.items()):
            some = " ".join(sorted(names)[:6]) + (" ..." if len(names) > 6 else "")
            print(f"  not compared, {why}: {len(names)} ({some})")
        for line in self.wrong[:40]:
            print("  " + line)


def compare_module(module, ours, refused, runs):
    """`runs` are the kernel's."""
    tally, seen = Tally(), set()
    for group in module.groups:
        seen |= group.names
        name = min(group.names)
        kernels = {sum(run.get((module, offset), 0) for offset in group.offsets) for run in runs}
        mine = sum(ours.get(alias, 0) for alias in group.names)
        if not any(kernels) and not mine:
            continue
        if group.trouble:
            tally.leave_out(group.trouble, name)
        elif (group.names | group.resolves) & refused:
            tally.leave_out("refused by trapline", name)
        elif len(kernels) > 1:
            tally.leave_out(UNSTABLE, name)
        else:
            tally.compare(name, mine, *kernels)
    for name in ours.keys() - seen:
        tally.wrong.append(f"{name}: counted {ours[name]} times, but in no list of functions")
    return tally


class Comparison:
    """A workload's runs, and what they say."""

    def __init__(self, name):
        self.name, self.workload, self.good = name, getattr(workloads, name)(), True
        self.modules = [elf.Module(trapline, module, path) for module, path in self.workload.modules]
        self.runs, self.status = [], None
        self.run_kernel()
        self.run_kernel()

    def run_kernel(self):
        counts, self.status = kernel_counts(self.workload.command, self.modules)
        self.runs.append(counts)

    def compare(self, title, module, ours, left_out):
        tally = compare_module(module, ours, left_out, self.runs)
        if tally.wrong:  # is it the workload itself? Ask the kernel again.
            self.run_kernel()
            self.run_kernel()
            tally = compare_module(module, ours, left_out, self.runs)
        tally.show(f"{self.name}, {title}")
        unstable = len(tally.left_out.get(UNSTABLE, []))
        self.good &= not tally.wrong and tally.equal >= self.workload.least
        self.good &= unstable <= UNSTABLE_MOST * (tally.equal + unstable)

    def entries(self, module):
        ours, refused, status = trapline_counts(self.workload.command, f"{module.name}!*")
        self.compare(f"entries of {module.name}!*", module, ours, refused)
        if status != self.status:
            print(f"  exit status {status}, and {self.status} under the kernel's probes")
            self.good = False
        for function, hits in self.workload.known.items():
            if ours.get(function) != hits:
                print(f"  {function}: called {hits} times, counted {ours.get(function)}")
                self.good = False

    def exits(self, module):
        """As many as the kernel counted entries, but in functions that are known to be left in other ways."""
        ours, refused, _ = trapline_counts(self.workload.command, f"uretprobe:{module.path}:*")
        ours = {name.removesuffix("%return"): hits for name, hits in ours.items()}
        self.compare(f"exits of {module.name}!*", module, ours, refused | self.workload.left_otherwise)


def main():
    with tempfile.TemporaryDirectory(prefix="trapline-oracle-") as work:
        os.chdir(work)
        comparison = Comparison(sys.argv[3])
        for module in comparison.modules:
            comparison.entries(module)
        if comparison.workload.exits:
            comparison.exits(comparison.modules[0])
        os.chdir("/")
    sys.exit(0 if comparison.good else 1)


if __name__ == "__main__":
    main()
