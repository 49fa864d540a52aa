# SPDX-License-Identifier: MIT
"""What a hit costs with other tools, on the same loop."""
import os
import re
import signal
import statistics
import subprocess
import tempfile

import elf
from measure import BARE_CALLS, RUNS, Unavailable, figure, run

FAST_TRACEPOINTS = "/usr/lib/libinproctrace.so"
LTTNG_PIDS = ("/var/run/lttng/lttng-sessiond.pid", os.path.expanduser("~/.lttng/lttng-sessiond.pid"))


def symbol(program, name):
    for line in run(["nm", program]).splitlines():
        if line.split()[-1] == name:
            return int(line.split()[0], 16)
    raise Unavailable(f"{program} has no {name}")


def offset(program, name):
    return elf.to_offset(elf.segments(program), symbol(program, name))


class Peers:
    def __init__(self, build, loop, fixed):
        self.build, self.loop, self.fixed = build, loop, fixed

    def uprobe(self, site, calls, returns=False):
        at = offset(self.loop.program, "site_" + site)
        flags = ["-r"] if returns else []
        return self.loop.per_hit(site, calls, [f"{self.build}/bench/uprobe_exec", *flags, self.loop.program, hex(at)])

    def bpftrace(self, site, calls):
        """bpftrace runs the command itself, given as one word."""
        figures = []
        for _ in range(3):
            script = f"uprobe:{self.loop.program}:site_{site} {{ @ = count(); }}"
            figures.append(figure(run(["bpftrace", "-e", script, "-c", f"{self.loop.program} {site} {calls}"])))
        return statistics.median(figures) - self.loop.once(site, BARE_CALLS)

    def gdb(self, site, calls):
        """By the wall: the time is spent in other processes."""
        before = ["gdb", "-nx", "-batch", "-ex", f"break *(&site_{site}) if 0", "-ex", "run", "--args"]
        return self.loop.per_hit(site, calls, before, runs=3, clock="wall")

    def fast_tracepoint(self, site, calls, collect=None):
        """In a program at fixed addresses: gdbserver's pads are out of reach from others."""
        if not os.path.exists(FAST_TRACEPOINTS):
            raise Unavailable(f"there is no {FAST_TRACEPOINTS}")
        actions = ["actions", f"collect {collect}", "end"] if collect else []
        figures = []
        for _ in range(3):
            with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
                script.write("\n".join([
                    "set pagination off", "set confirm off", "set sysroot /", "set circular-trace-buffer on",
                    f"target remote | gdbserver --once --wrapper env LD_PRELOAD={FAST_TRACEPOINTS} --"
                    f" - {self.fixed.program} {site} {calls}",
                    "break main", "continue", f"ftrace *(&site_{site})", *actions, "tstart", "delete 1", "continue"]))
                script.flush()
                # gdbserver shows its program's output on standard error: the protocol has the other one.
                figures.append(figure(run(["gdb", "-nx", "-batch", "-x", script.name, self.fixed.program],
                                          errors=subprocess.STDOUT), "wall"))
        return statistics.median(figures) - self.fixed.once(site, BARE_CALLS, clock="wall")

    def uftrace(self, site, calls):
        with tempfile.TemporaryDirectory() as work:
            before = ["uftrace", "record", "--no-pager", "-d", work + "/data", "-P", "site_" + site]
            per_hit = self.loop.per_hit(site, calls, before, runs=3)
            report = run(["uftrace", "report", "--no-pager", "-d", work + "/data"])
        if "site_" + site not in report:
            raise Unavailable(f"uftrace did not patch site_{site}")
        return per_hit

    def lttng(self, calls):
        """(nanoseconds an event, events discarded)"""
        program = f"{self.build}/bench/lttng_loop"
        if not os.path.exists(program):
            raise Unavailable("LTTng-UST's headers are not installed")
        for path in LTTNG_PIDS:
            if os.path.exists(path) and os.path.exists("/proc/" + open(path).read().strip()):
                raise Unavailable("somebody's lttng-sessiond is running; it is left alone")
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "LTTNG_HOME": home}
            run(["lttng-sessiond", "--daemonize", "--no-kernel", "--pidfile", home + "/pid"], env=environment)
            try:
                for words in (["create", "bench", "--output", home + "/trace"],
                              ["enable-channel", "-u", "--subbuf-size=4M", "--num-subbuf=8", "all"],
                              ["enable-event", "-u", "-c", "all", "bench:call"], ["start"]):
                    run(["lttng", *words], env=environment)
                figures = [figure(run([program, calls], env=environment)) for _ in range(RUNS)]
                run(["lttng", "stop"], env=environment)
                discarded = re.search(r"Discarded events: (\d+)", run(["lttng", "list", "bench"], env=environment))
                run(["lttng", "destroy", "bench"], env=environment)
            finally:
                os.kill(int(open(home + "/pid").read()), signal.SIGTERM)
        off = statistics.median(figure(run([program, calls])) for _ in range(RUNS))
        return statistics.median(figures) - off, int(discarded.group(1)) if discarded else -1
