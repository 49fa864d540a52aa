# SPDX-License-Identifier: MIT
"""What a hit costs with other tools, on the same loop."""
import os
import re
import signal
import subprocess
import tempfile

from measure import Unavailable, figures, named, run

FAST_TRACEPOINTS = "/usr/lib/libinproctrace.so"
LTTNG_PIDS = ("/var/run/lttng/lttng-sessiond.pid", os.path.expanduser("~/.lttng/lttng-sessiond.pid"))


class Peers:
    def __init__(self, build, loop, fixed):
        self.build, self.loop, self.fixed = build, loop, fixed

    def uprobe(self, site, ours, calls, returns=False):
        """(the kernel's, ours): `ours` is the command that probes the site; the kernel probes its twin, in the same
        process and rounds."""
        lines = self.loop.measure(site, 2000, 301, ours, ["uretprobe" if returns else "uprobe", calls])
        return lines["twin"], lines["site"]

    def bpftrace(self, site, calls):
        """bpftrace runs the command itself, given as one word."""
        script = f"uprobe:{self.loop.program}:site_{site} {{ @ = count(); }}"
        command = " ".join(str(word) for word in self.loop.command(site, calls, 301))
        return figures(run(["bpftrace", "-e", script, "-c", command]))["site"]

    def gdb(self, site, calls):
        """By the wall: the time is spent in other processes."""
        before = ["gdb", "-nx", "-batch", "-ex", f"break *(&site_{site}) if 0", "-ex", "run", "--args"]
        return self.loop.measure(site, calls, 21, before, clock="wall")["site"]

    def fast_tracepoint(self, site, calls, collect=None):
        """In a program at fixed addresses: gdbserver's pads are out of reach from others."""
        if not os.path.exists(FAST_TRACEPOINTS):
            raise Unavailable(f"there is no {FAST_TRACEPOINTS}")
        actions = ["actions", f"collect {collect}", "end"] if collect else []
        command = " ".join(str(word) for word in self.fixed.command(site, calls, 101))
        with tempfile.NamedTemporaryFile("w", suffix=".gdb") as script:
            script.write("\n".join([
                "set pagination off", "set confirm off", "set sysroot /", "set circular-trace-buffer on",
                f"target remote | gdbserver --once --wrapper env LD_PRELOAD={FAST_TRACEPOINTS} -- - {command}",
                "break main", "continue", f"ftrace *(&site_{site})", *actions, "tstart", "delete 1", "continue"]))
            script.flush()
            # gdbserver shows its program's output on standard error: the protocol has the other one.
            return figures(run(["gdb", "-nx", "-batch", "-x", script.name, self.fixed.program],
                               errors=subprocess.STDOUT), "wall")["site"]

    def uftrace(self, site, calls):
        with tempfile.TemporaryDirectory() as work:
            before = ["uftrace", "record", "--no-pager", "-d", work + "/data", "-P", "site_" + site]
            per_hit = self.loop.measure(site, calls, 101, before)["site"]
            report = run(["uftrace", "report", "--no-pager", "-d", work + "/data"])
        if "site_" + site not in report:
            raise Unavailable(f"uftrace did not patch site_{site}")
        return per_hit

    def lttng(self):
        """({"event": ours, "lttng": LTTng's, "lost": ours}, LTTng's discarded events): in one process and its rounds."""
        program = f"{self.build}/bench/event_bench"
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
                lines = named(run([program], env=environment))
                run(["lttng", "stop"], env=environment)
                discarded = re.search(r"Discarded events: (\d+)", run(["lttng", "list", "bench"], env=environment))
                run(["lttng", "destroy", "bench"], env=environment)
            finally:
                os.kill(int(open(home + "/pid").read()), signal.SIGTERM)
        return lines, int(discarded.group(1)) if discarded else -1
