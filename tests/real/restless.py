#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Coming and going at random moments, on programs that fork, make threads, load libraries or take signals all the time.

However the moment was, the probes are placed, the program goes on as if nothing had been there, and nothing is left in
it. The machine is made busy, so that stops take their time.
"""
from live import *

RUNS = (["count", "-e", "EXE!*"], ["count", "-e", "libc!*"], ["count", "-e", "*"], ["count", "-e", "uretprobe:libc:*"],
        ["count", "--every-instruction", "-e", "EXE!*"], ["count", "--every-instruction", "-e", "libc!*alloc*"],
        ["count", "-e", "ld-linux-x86-64.so.2!*"], ["trace", "-e", "libc!malloc size=$arg1", "-e", "r EXE:step x=$retval"],
        ["trace", "-e", "p libc.so.6:free ptr=%di s=+0(%di):u8"])


def come_and_go(kind, times, chance=random.Random(1)):
    program = background(target("restless"), kind, stdout=subprocess.PIPE, text=True)
    busy = [background("sh", "-c", "while :; do :; done") for _ in range(os.cpu_count())]
    wait_until(lambda: b"restless" in open(f"/proc/{program.pid}/cmdline", "rb").read(), "the program is loaded")
    hits = 0
    for i in range(times):
        command, *rest = RUNS[i % len(RUNS)]
        time.sleep(chance.uniform(0, 0.05))
        seconds = chance.uniform(0.01, 0.1)
        done = run(command, "--json", "-q", "-t", f"{seconds:.3f}", *rest, "-p", program.pid)
        done.expect(0, "^$")
        hits += done.summary()["hits"]
        check_gone(program.pid)
    for process in busy:
        process.kill()
    program.terminate()
    out, _ = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, f"{program.returncode}: {out}"
    print(f"{kind}: {out.strip()}; {times} runs, {hits} hits")
    assert hits > 0


def test_a_program_that_forks():
    come_and_go("forks", 18)


def test_a_program_that_makes_threads():
    come_and_go("threads", 18)


def test_a_program_that_loads_libraries():
    come_and_go("loads", 50)


def test_a_program_that_takes_a_signal_each_millisecond():
    come_and_go("ticks", 9)


main(globals())
