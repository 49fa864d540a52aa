#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Output: JSON with the documented fields and no others, readers that go away, Ctrl-C at any moment."""
import random

from kit import *

FIELDS = {
    "hit": {"type", "probe", "pid", "tid", "time_ns", "comm", "addr"},
    "count": {"type", "probe", "hits", "missed", "how"},
    "refused": {"type", "probe", "error", "why"},
    "summary": {"type", "hits", "missed", "lost", "refused"},
}


def check_fields(lines, with_args=False):
    for line in lines:
        expected = FIELDS[line["type"]] | ({"args"} if with_args and line["type"] == "hit" else set())
        assert set(line) == expected, line
    assert [line["type"] for line in lines].count("summary") == 1 and lines[-1]["type"] == "summary"


def test_json_lines_have_the_documented_fields():
    single = [target("calls"), "single", 5]
    done = run_with_file("trace", "--json", "-e", "EXE!f00", "--", *single)
    check_fields(done.lines())
    hit = done.hits()[0]
    assert hit["probe"] == "f00" and hit["comm"] == "target-calls" and hit["pid"] == hit["tid"] > 1
    assert re.fullmatch("0x[0-9a-f]+", hit["addr"]) and isinstance(hit["time_ns"], int)
    check_fields(run_with_file("trace", "--json", "-e", "EXE!f00 x=$arg1", "--", *single).lines(), with_args=True)
    check_fields(run_with_file("count", "--json", "-e", "EXE!f*", "--tactic", "jump", "--", *single).lines())
    for row in run_with_file("count", "--json", "-e", "EXE!f00", "-e", "r EXE:factorial", "--", *single).lines():
        assert row["type"] == "summary" or row["how"] in ("nop", "jump", "jump-punned"), row


def test_the_summary_is_last_even_where_probes_are_refused():
    done = run_with_file("count", "--json", "-e", "uprobe:EXE:f00+1", "--", target("calls"), "single", 1).expect(1)
    check_fields(done.lines())
    assert done.summary() == {"type": "summary", "hits": 0, "missed": 0, "lost": 0, "refused": 1}


def test_time_is_that_of_the_machine():
    program = Program("calls")
    tool = Tool("trace", "--json", "-e", "EXE!f00", "-p", program.pid)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    program.ask("single 10")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    times = [hit["time_ns"] for hit in tool.stop().hits()]
    slack = 1000000  # two clocks are compared
    assert len(times) == 10 and before - slack <= times[0] and times[-1] <= after + slack, (before, times, after)


def test_names_with_odd_characters_stay_on_their_line():
    path = os.path.join(WORK, 'odd "na\nme\\\udcff')
    shutil.copy(target("calls"), path)
    done = run_with_file("trace", "--json", "-e", "EXE!f00", "--", path, "single", 3)
    assert len(done.hits()) == 3 and done.hits()[0]["comm"].startswith('odd "na\nme\\'), done.out
    assert len(run_with_file("trace", "-e", "EXE!f00", "--", path, "single", 3).out.splitlines()) == 4
    shutil.copy(target("calls"), os.path.join(WORK, "with blank"))
    assert len(run_with_file("trace", "--json", "-e", "EXE!f00", "--", os.path.join(WORK, "with blank"), "single",
                             3).hits()) == 3


def test_a_reader_that_goes_away_ends_the_run_and_leaves_nothing():
    for command in (["trace"], ["trace", "--json"], ["trace", "--block"]):
        program = Program("calls")
        program.ask("run 4 1")
        with Untouched(program.pid):
            read, write = os.pipe()
            tool = Tool(*command, "-e", "EXE!f[0-7][0-7]", "-p", program.pid, stdout=write)
            os.close(write)
            program.tell("run 4 10")
            os.read(read, 100)
            os.close(read)
            done = tool.end().expect(0)
            assert "Broken pipe" not in done.err, done.err
            assert program.answer()
        program.ask("single 10")
        program.quit()


def test_a_reader_that_never_was_is_no_trouble():
    for command in ("trace", "count"):
        program = Program("calls")
        with Untouched(program.pid):
            read, write = os.pipe()
            os.close(read)
            tool = Tool(command, "-e", "EXE!f00", "-p", program.pid, stdout=write)
            os.close(write)
            program.ask("single 100")
            if command == "count":
                tool.process.send_signal(signal.SIGINT)
            tool.end().expect(0)


def test_closed_standard_streams_stay_closed():
    for close in ("1>&-", "2>&-", "0<&-", "0<&- 1>&- 2>&-"):
        program = Program("calls")
        with Untouched(program.pid):
            line = f'"$0" trace -n 5 -e "EXE!f00" -p {program.pid} {close}'
            tool = subprocess.Popen(["sh", "-c", line, TRAPLINE], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    text=True)
            started.append(tool)
            while tool.poll() is None:
                program.ask("single 10")
            out, err = tool.communicate()
            assert len(out.splitlines()) == (0 if "1>" in close else 6), out
            assert ("standard output: Bad file descriptor" in err) == (close == "1>&-"), err
        program.quit()
    for close in ("1>&-", "2>&-", "0<&-"):
        fd = close[0]
        done = run("count", "-o", os.path.join(WORK, "table"), "-e", "EXE!main", "--", "bash", "-c",
                   f"test -e /proc/$$/fd/{fd}", before=["sh", "-c", f'exec "$@" {close}', "sh"])
        done.expect(1)


def test_signals_detach_and_print_what_there_is():
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        program = Program("calls")
        with Untouched(program.pid):
            tool = Tool("trace", "--json", "-e", "EXE!f00", "-p", program.pid)
            program.ask("single 12")
            done = tool.stop(sig).expect(0)
            assert len(done.hits()) == 12 and done.summary()["hits"] == 12
        program.ask("single 1")
        program.quit()


def test_what_is_ignored_stays_ignored():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)

    def ignore():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    look = ["grep", "SigIgn", "/proc/self/status"]
    bare = subprocess.run(look, stdout=subprocess.PIPE, text=True, preexec_fn=ignore).stdout
    assert all(int(bare.split()[1], 16) >> number - 1 & 1 for number in numbers), bare
    done = run_with_file("count", "-e", "libc!malloc", "--", *look, preexec_fn=ignore).expect(0)
    assert done.program == bare, done.program
    program = Program("calls")
    tool = Tool("trace", "--json", "-e", "EXE!f00", "-p", program.pid, preexec_fn=ignore)
    tool.process.send_signal(signal.SIGHUP)
    program.ask("single 3")
    assert len(tool.stop(signal.SIGTERM).expect(0).hits()) == 3
    program.quit()


def test_ctrl_c_on_the_tool_alone_lets_the_command_go_on():
    mark = os.path.join(WORK, "went-on")
    out = os.path.join(WORK, "table")
    go = os.path.join(WORK, "go")
    tool = Tool("count", "--json", "-o", out, "-e", "EXE!main", "--", "bash", "-c",
                f"until [ -e {go} ]; do sleep 0.01; done; echo yes > {mark}", stdout=subprocess.DEVNULL)
    tool.process.send_signal(signal.SIGINT)
    assert tool.process.wait(timeout=PATIENCE) == 130
    with open(out) as file:
        assert json.loads(file.read().splitlines()[-1])["type"] == "summary"
    assert not os.path.exists(mark)
    open(go, "w").close()
    wait_until(lambda: os.path.exists(mark), "the command has gone on")


def test_ctrl_c_on_both_ends_both():
    out = os.path.join(WORK, "table")
    tool = Tool("count", "--json", "-o", out, "-e", "EXE!main", "--", "bash", "-c", "sleep 1000; true",
                stdout=subprocess.DEVNULL, start_new_session=True)
    os.killpg(tool.process.pid, signal.SIGINT)
    tool.end().expect(130)
    with open(out) as file:
        assert json.loads(file.read().splitlines()[-1])["type"] == "summary"

    def gone():
        try:
            os.killpg(tool.process.pid, 0)
        except ProcessLookupError:
            return True

    wait_until(gone, "the command has ended as well")


def test_ctrl_c_while_attaching_leaves_nothing():
    program = Program("calls")
    program.ask("run 4 1")
    chance = random.Random(7)
    with Untouched(program.pid):
        for _ in range(60):
            tool = subprocess.Popen([TRAPLINE, "count", "-e", "EXE!*", "-e", "libc!*", "-p", str(program.pid)],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append(tool)
            time.sleep(chance.uniform(0.002, 0.15))
            for _ in range(chance.randint(1, 3)):
                tool.send_signal(chance.choice((signal.SIGINT, signal.SIGTERM)))
            assert tool.wait(timeout=PATIENCE) in (0, -signal.SIGINT, -signal.SIGTERM), tool.returncode
    program.ask("single 1")
    program.quit()


def test_verbose_says_more_and_quiet_less():
    command = ["-e", "EXE!f00", "--", target("calls"), "single", 1]
    run_with_file("count", "-v", *command).expect(0, r"1 places in place, within [\d.]+ ms; the program was held\n")
    program = Program("calls")
    tool = Tool("count", "-e", "EXE!f00", "-p", program.pid, ready=r"in place, within [\d.]+ ms; the program was stopped "
                r"for [\d.]+ ms of it\n")
    assert re.search(r"taken out within [\d.]+ ms; the program was stopped for [\d.]+ ms of it\n", tool.stop().err)
    program.quit()
    assert run_with_file("count", "-q", *command).expect(0).err == ""
    assert run_with_file("count", "-q", "-e", "memcpy", "--", "true").expect(0).err == ""


main(globals())
