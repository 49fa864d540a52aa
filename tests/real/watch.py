#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Watches of servers under load and of a C++ program: exact counts, no gap from one value to the next, and the programs go
on as they would."""
import socket
import struct
import urllib.request
from collections import Counter

from live import *
from servers import NGINX, answers, children, free_port

COMMANDS, REQUESTS = 4000, 300


def read_memory(pid, address, size):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(size)


def variable(pid, path, name):
    """Address and size of an exported variable of a running program."""
    out = subprocess.run(["nm", "-D", "-S", path], stdout=subprocess.PIPE, text=True, check=True).stdout
    (row,) = [line.split() for line in out.splitlines() if line.split()[-1] == name]
    with open(f"/proc/{pid}/maps") as file:
        base = min(int(line.split("-")[0], 16) for line in file if os.path.realpath(path) in line)
    return base + int(row[0], 16), int(row[1], 16)


def check_chain(done, name, first, last):
    """All hits of one writer were told, and nothing was between them."""
    hits, row, summary = done.watches(), done.watched()[name], done.summary()
    assert row["accesses"] == last - first, (row, first, last)
    assert len(hits) + summary["lost"] + summary["missed"] == last - first, summary
    if not summary["lost"] + summary["missed"]:
        assert [(hit["old"], hit["new"]) for hit in hits] == [(n, n + 1) for n in range(first, last)]
    assert {hit["watch"] for hit in hits} == {name}
    return hits


def redis():
    need("redis-server", "redis-cli", "redis-benchmark", "nm")
    port = free_port()
    server = background("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", WORK,
                        "--hz", "1")
    wait_until(lambda: answers(port), "redis answers")
    return server, port


def pings(port, count):
    """All at once, so that nothing else of the server's is as many."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(b"PING\r\n" * count)
        answer = b""
        while answer.count(b"PONG") < count:
            answer += peer.recv(1 << 16)


def find_command_counter(pid, port):
    """Where in its struct the server counts commands: what grows by as many as it gets, each time."""
    address, size = variable(pid, "/usr/bin/redis-server", "server")
    candidates = None
    for count in (37, 101, 53):
        before = struct.unpack(f"{size // 8}Q", read_memory(pid, address, size // 8 * 8))
        pings(port, count)
        after = struct.unpack(f"{size // 8}Q", read_memory(pid, address, size // 8 * 8))
        grown = {i * 8 for i in range(size // 8) if after[i] - before[i] == count}
        candidates = grown if candidates is None else candidates & grown
    assert candidates, "no counter of commands"
    offset = min(candidates)
    return address + offset, offset


def test_redis_counts_its_commands():
    server, port = redis()
    address, offset = find_command_counter(server.pid, port)

    def counter():
        return struct.unpack("Q", read_memory(server.pid, address, 8))[0]

    name = f"server+{offset:#x}"
    first = counter()
    tool = Tool("watch", "--json", "-k", f"mem:{name}/8", "-p", server.pid, ready="in place")
    pings(port, COMMANDS // 2)
    bench = subprocess.run(["redis-benchmark", "-p", str(port), "-c", "8", "-q", "-n", str(COMMANDS // 2), "-t", "set"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=PATIENCE)
    assert "requests per second" in bench.stdout, bench
    last = counter()
    done = tool.stop().expect(0)
    hits = check_chain(done, name, first, last)
    assert last - first >= COMMANDS and len({hit["symbol"] for hit in hits}) == 1
    assert all(hit["stack"][0] == hit["symbol"] and len(hit["stack"]) > 3 for hit in hits)
    check_gone(server.pid)
    pings(port, 10)
    assert counter() == last + 10
    server.terminate()
    assert server.wait(timeout=PATIENCE) == 0


def test_nginx_counts_its_connections():
    need("nginx", "nm")
    port = free_port()
    os.chmod(WORK, 0o755)
    os.makedirs(f"{WORK}/pages")
    page = b"line of a page\n" * 1000
    with open(f"{WORK}/pages/page.txt", "wb") as file:
        file.write(page)
    with open(f"{WORK}/nginx.conf", "w") as file:
        file.write(NGINX.format(work=WORK, port=port))
    master = background("nginx", "-c", f"{WORK}/nginx.conf", stderr=subprocess.DEVNULL)
    wait_until(lambda: answers(port), "nginx listens")

    def ask():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/page.txt", timeout=PATIENCE) as answer:
            assert answer.read() == page

    ask()  # after which there is a worker, and it has had the connection before as well
    (worker,) = children(master.pid)
    pointer, _ = variable(worker, "/usr/sbin/nginx", "ngx_connection_counter")
    (address,) = struct.unpack("Q", read_memory(worker, pointer, 8))

    def counter():
        return struct.unpack("Q", read_memory(worker, address, 8))[0]

    first = counter()
    tool = Tool("watch", "--json", f"mem:{address:#x}/8", "-p", worker, ready="in place")
    for _ in range(REQUESTS):
        ask()
    last = counter()
    done = tool.stop().expect(0)
    hits = check_chain(done, f"{address:#x}", first, last)
    assert last - first == REQUESTS and {hit["pid"] for hit in hits} == {worker}
    check_gone(worker)
    master.terminate()
    assert master.wait(timeout=PATIENCE) == 0


def test_sqlite_sets_what_it_is_told():
    need("sqlite3")
    statements = "".join(f"pragma temp_store_directory='/tmp{'/.' * n}';" for n in range(1, 30)) + "select 42;"
    command = ["--", "sqlite3", ":memory:", statements]
    bare = subprocess.run(command[1:], stdout=subprocess.PIPE, text=True).stdout
    done = run_with_file("watch", "--json", "--all-writes", "mem:libsqlite3.so.0:sqlite3_temp_directory/8",
                         *command).expect(0)
    assert done.program == bare == "42\n"
    hits = done.watches()
    assert len(hits) == 29 and all(hit["new"] for hit in hits), hits
    assert all(a["new"] == b["old"] for a, b in zip(hits, hits[1:]))


def test_a_program_in_cpp():
    threads, times = 3, 400
    command = ["--", target("accounts"), str(threads), str(times)]
    bare = subprocess.run(command[1:], stdout=subprocess.PIPE, text=True).stdout
    names = ["bank::state", "bank::total", "bank::ledger.balance", "bank::Account::opened"]
    done = run_with_file("watch", "--json", *names, *command).expect(0)
    assert done.program == bare
    accesses = {name: done.watched()[name]["accesses"] for name in names}
    assert accesses == {names[0]: 4, names[1]: threads * times, names[2]: times, names[3]: 3}, accesses
    assert [hit["new"] for hit in done.watches("bank::state")] == ["OPEN", "BUSY", "OPEN", "CLOSED"]
    balance = done.watches("bank::ledger.balance")
    assert [hit["new"] for hit in balance] == [n * (n + 1) // 2 for n in range(1, times + 1)]
    assert [hit["new"] for hit in done.watches("bank::Account::opened")] == [1, 2, 3]
    writers = {line["watch"]: (line["writer"], line["source"].split(":")[0])
               for line in done.lines() if line["type"] == "writer"}
    assert all(source == "accounts.cc" for _, source in writers.values()), writers
    assert writers["bank::total"][0] == "deposit", writers
    totals = Counter(hit["tid"] for hit in done.watches("bank::total"))
    assert len(totals) == threads and done.summary()["lost"] == 0


if __name__ == "__main__":
    main(globals())
