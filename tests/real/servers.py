#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Servers under load: they answer all along, what they hold stays right, and at the end they are as they were."""
import hashlib
import socket
import urllib.request

from live import *

RUNS = (["count", "-e", "EXE!*"], ["count", "-e", "libc!*"], ["count", "-e", "*"], ["count", "-e", "uretprobe:EXE:*"],
        ["trace", "-e", "libc!memcpy n=$arg3", "-e", "libc!malloc size=$arg1:u64"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def probe_in_turn(pid, runs, times, served, requests, check):
    """Each run lasts until the server has answered so many requests, by its own account in served()."""
    for i in range(times):
        command, *rest = runs[i % len(runs)]
        tool = Tool(command, "--json", "-q", *rest, "-p", pid)
        enough = served() + requests
        wait_until(lambda: served() >= enough, "the server has answered")
        done = tool.stop().expect(0)
        assert all(re.search("in place|taken out", line) for line in done.err.splitlines()), done.err
        assert done.summary()["hits"] >= requests, (command, rest, done.summary())
        check()
        check_gone(pid)


def test_redis():
    need("redis-server", "redis-cli", "redis-benchmark")
    port = str(free_port())
    server = background("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", WORK,
                        "--enable-debug-command", "local")
    wait_until(lambda: answers(int(port)), "redis answers")

    def ask(*words):
        return subprocess.run(["redis-cli", "-p", port, *words], stdout=subprocess.PIPE, text=True, check=True,
                              timeout=PATIENCE).stdout.strip()

    assert ask("debug", "populate", "5000") == "OK"
    digest = ask("debug", "digest")
    load = background("redis-benchmark", "-p", port, "--dbnum", "1", "-c", "8", "-q", "-n", "100000000", "-r", "1000", "-t",
                      "get,set,lrange_100", stderr=subprocess.DEVNULL)
    runs = RUNS + (["count", "--every-instruction", "-e", "EXE!processCommand", "-e", "EXE!lookupKey*", "-e", "EXE!dict*"],)

    def served():
        return int(re.search(r"total_commands_processed:(\d+)", ask("info", "stats")).group(1))

    def answer():
        assert ask("ping") == "PONG"

    probe_in_turn(server.pid, runs, 18, served, 1000, answer)
    load.kill()
    load.wait()
    ask("-n", "1", "flushdb")
    assert ask("debug", "digest") == digest
    server.terminate()
    assert server.wait(timeout=PATIENCE) == 0


NGINX = """daemon off; worker_processes 1; pid {work}/pid; error_log {work}/errors; events {{}}
http {{ access_log off; gzip on; gzip_types text/plain; client_body_temp_path {work}/1; proxy_temp_path {work}/2;
fastcgi_temp_path {work}/3; uwsgi_temp_path {work}/4; scgi_temp_path {work}/5;
server {{ listen 127.0.0.1:{port}; root {work}/pages; }} }}
"""


def test_nginx():
    need("nginx")
    port = free_port()
    os.chmod(WORK, 0o755)
    os.makedirs(f"{WORK}/pages")
    with open(f"{WORK}/pages/page.txt", "w") as file:
        file.write("line of a page\n" * 4000)
    with open(f"{WORK}/nginx.conf", "w") as file:
        file.write(NGINX.format(work=WORK, port=port))
    server = background("nginx", "-c", f"{WORK}/nginx.conf", stderr=subprocess.DEVNULL)
    wait_until(lambda: answers(port), "nginx listens")
    def page():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/page.txt", timeout=PATIENCE) as answer:
            return hashlib.sha256(answer.read()).hexdigest()

    right = page()
    (worker,) = children(server.pid)  # which there is once a page has come: the master listens before it
    gone, answered, wrong = threading.Event(), [], []

    def load():
        while not gone.is_set():
            if page() != right:
                wrong.append(1)
            answered.append(1)

    loads = [threading.Thread(target=load) for _ in range(3)]
    for thread in loads:
        thread.start()
    try:
        runs = RUNS[:4] + (["count", "--every-instruction", "-e", "EXE!ngx_http_*"],)
        probe_in_turn(worker, runs, 15, lambda: len(answered), 30, page)
    finally:
        gone.set()
        for thread in loads:
            thread.join()
        server.terminate()  # before a failed test kills it, which would leave its worker behind
        status = server.wait(timeout=PATIENCE)
    assert not wrong, len(wrong)
    assert status == 0, status


if __name__ == "__main__":
    main(globals())
