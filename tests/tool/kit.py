# SPDX-License-Identifier: MIT
"""What the scripts in this directory share: the tool and programs under it, started, watched and compared.

A script is run as SCRIPT TRAPLINE TARGETS: the tool's path and the directory of the small programs of targets/.
Each function whose name begins with test_ is a case; main() runs them all, or those named behind the two paths.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

TRAPLINE = os.path.abspath(sys.argv[1])
TARGETS = os.path.abspath(sys.argv[2])
PATIENCE = 60  # seconds after which something that does not come is taken to hang
NOBODY = 65534
WORK = tempfile.mkdtemp(prefix="trapline-test-")
optional = {"sleeper-musl", "tids-musl", "sleeper-go", "throws"}
started = []


class Skip(Exception):
    pass


def main(cases):
    """Run the test_ functions of a script's globals(). The exit status is the script's."""
    chosen = sys.argv[3:]
    failed = skipped = 0
    for number, action in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler),
                           (signal.SIGQUIT, signal.SIG_DFL)):
        signal.signal(number, action)  # whoever started us may have them ignored: nohup, a script's &
    tests = [name for name in cases if name.startswith("test_") and (not chosen or name in chosen)]
    for name in tests:
        begun = time.monotonic()
        try:
            cases[name]()
            verdict = "ok"
        except Skip as reason:
            skipped += 1
            verdict = f"skipped: {reason}"
        except Exception:
            failed += 1
            verdict = "FAILED\n" + traceback.format_exc()
        finally:
            end_all()
        print(f"{name}: {verdict} ({time.monotonic() - begun:.1f} s)", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    sys.exit(1 if failed or not tests else 77 if skipped == len(tests) else 0)


def end_all():
    for process in started:
        if process.poll() is None:
            process.kill()
    for process in started:
        process.wait()
    started.clear()


def target(name):
    """The path of a program of targets/; those that need a compiler that may be missing are in `optional`."""
    path = os.path.join(TARGETS, "target-" + name)
    if name in optional and not os.path.exists(path):
        raise Skip(f"{name} could not be built here")
    return path


def as_nobody():
    if os.geteuid():
        raise Skip("needs root")
    os.chmod(WORK, 0o755)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def public(path):
    """A copy that everybody may run."""
    copy = os.path.join(WORK, os.path.basename(path))
    if not os.path.exists(copy):
        shutil.copy(path, copy)
        os.chmod(copy, 0o755)
    return copy


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"in vain waited until {what}"
        time.sleep(0.005)


class Done:
    """A run of the tool that has ended."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def lines(self):
        """The JSON objects of the output; each line must be one."""
        assert self.out.endswith("\n") or not self.out, self.out[-200:]
        return [json.loads(line) for line in self.out.splitlines()]

    def hits(self, probe=None):
        return [line for line in self.lines() if line["type"] == "hit" and probe in (None, line["probe"])]

    def watches(self, name=None):
        return [line for line in self.lines() if line["type"] == "watch" and name in (None, line["watch"])]

    def watched(self):
        """What became of each watch, by its name."""
        return {line["watch"]: line for line in self.lines() if line["type"] == "watched"}

    def counts(self):
        return {line["probe"]: line["hits"] for line in self.lines() if line["type"] == "count"}

    def summary(self):
        last = self.lines()[-1]
        assert last["type"] == "summary", last
        return last

    def expect(self, status, pattern=""):
        assert self.status == status, f"exit status {self.status}, not {status}: {self.err}"
        assert re.search(pattern, self.err), f"not {pattern!r}: {self.err!r}"
        return self


def run(*arguments, **options):
    """Run the tool to its end; what the traced command writes goes elsewhere: give -o to separate them."""
    options.setdefault("stdin", subprocess.DEVNULL)
    command = options.pop("before", []) + [TRAPLINE, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                          timeout=PATIENCE * 2, **options)
    return Done(done.returncode, done.stdout, done.stderr)


def run_with_file(command, *arguments, **options):
    """As run(), with the events taken from a file: .out has them, .program what the traced command wrote."""
    path = tempfile.mktemp(dir=WORK)
    done = run(command, "-o", path, *arguments, **options)
    done.program = done.out
    done.out = ""
    if os.path.exists(path):
        with open(path) as file:
            done.out = file.read()
    return done


class Tool:
    """The tool, running; its probes are in place once the constructor returns."""

    def __init__(self, command, *arguments, ready=r"places? in place", **options):
        self.out = open(tempfile.mktemp(dir=WORK), "w+")
        options.setdefault("stdout", self.out)
        before = options.pop("before", [])
        self.process = subprocess.Popen(before + [TRAPLINE, command, "-v", *map(str, arguments)],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
        started.append(self.process)
        self.err, self.ready = "", threading.Event()
        self.reader = threading.Thread(target=self.read, args=(ready,), daemon=True)
        self.reader.start()
        assert self.ready.wait(PATIENCE) and re.search(ready, self.err), f"the tool is not ready: {self.err}"

    def read(self, ready):
        for line in self.process.stderr:
            self.err += line
            if re.search(ready, line):
                self.ready.set()
        self.ready.set()

    def end(self):
        """Wait for the end, which something has brought about."""
        self.process.wait(timeout=PATIENCE)
        self.reader.join()
        with open(self.out.name) as file:
            return Done(self.process.returncode, file.read(), self.err)

    def stop(self, sig=signal.SIGINT):
        self.process.send_signal(sig)
        return self.end()


class Program:
    """A program of targets/ that obeys commands: a line in, a line out."""

    def __init__(self, name, *arguments, before=(), **options):
        path = name if "/" in name else target(name)
        self.process = subprocess.Popen([*before, path, *map(str, arguments)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, **options)
        started.append(self.process)
        self.pid = self.process.pid
        assert self.answer() == "ready"

    def answer(self):
        return self.process.stdout.readline().strip()

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def ask(self, command):
        self.tell(command)
        answer = self.answer()
        assert answer, f"{command!r} was not answered; exit status {self.process.poll()}"
        return answer

    def ask_nothing(self, command):
        """The same of a command whose answer is empty."""
        self.tell(command)
        assert self.answer() == "" and self.process.poll() is None, f"{command!r} was not answered"

    def quit(self):
        """Let it end by itself, and see that nothing is wrong with it."""
        self.process.stdin.close()
        status = self.process.wait(timeout=PATIENCE)
        assert status == 0, f"the program ended with {status}"


def areas(pid):
    """The mappings, without what grows or comes by itself."""
    found = []
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            fields = line.split(None, 5)
            path = fields[5].strip() if len(fields) > 5 else ""
            if path not in ("[heap]", "[stack]", "[uprobes]"):
                found.append((fields[0], fields[1], fields[2], path))
    return found


def changed_text(pid):
    """Executable mappings of files whose bytes are not their file's: how many bytes of each."""
    changed = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for span, prot, offset, path in areas(pid):
            if "x" not in prot or not path.startswith("/") or path.startswith("/memfd:trapline"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            live = memory.read(end - start)
            with open(path if os.path.exists(path) else f"/proc/{pid}/root{path}", "rb") as file:
                file.seek(int(offset, 16))
                saved = file.read(end - start)
            if live[:len(saved)] != saved or any(live[len(saved):]):
                changed[path] = sum(map(int.__ne__, live, saved.ljust(len(live), b"\0")))
    return changed


def tracer(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"TracerPid:\s*(\d+)", file.read()).group(1))


class Untouched:
    """with Untouched(pid): at the end nothing is left in the process of what was done to it meanwhile."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        self.before = areas(self.pid)

    def __exit__(self, kind, *rest):
        if kind is None:
            check_clean(self.pid, self.before)


def check_clean(pid, before):
    after = areas(pid)
    assert after == before, f"mappings differ: {sorted(set(after) ^ set(before))}"
    assert not changed_text(pid), f"text differs: {changed_text(pid)}"
    assert tracer(pid) == 0, f"still traced by {tracer(pid)}"
    descriptors = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert not any("trapline" in name for name in descriptors), descriptors


def read_lines(read):
    """JSON lines from a pipe, by a thread: it, and the list that has them all once it has ended."""
    lines = []

    def slowly():
        with open(read) as file:
            lines.extend(json.loads(line) for line in file)

    reader = threading.Thread(target=slowly)
    reader.start()
    return reader, lines
