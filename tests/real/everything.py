#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every instruction of whole programs and libraries at once, and every function of every module: same output and exit
status as bare. Each instruction that is hit runs as its relocated copy, so this is a test of relocation by use.
"""
from live import *

KEY = ["-K", "00112233445566778899aabbccddeeff" * 2, "-iv", "000102030405060708090a0b0c0d0e0f"]
SQL = """create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500)
insert into t select i, 'x' || (i * 7919 % 1009), i * 1.5 from n; create index tb on t(b);
select b, count(*), sum(c) from t group by b order by 2 desc, 1 limit 5;
update t set b = upper(b) || printf('%5.2f', c) where a % 3 = 0; select max(b), avg(c) from t; pragma integrity_check;
"""


def data():
    path = f"{WORK}/data"
    if not os.path.exists(path):
        chance = random.Random(1)
        with open(path, "wb") as file:
            for i in range(3000):
                file.write(b"line %d %d\n" % (i, chance.getrandbits(30)))
            file.write(chance.randbytes(20000))
    return path


def probe(probes, command, *options):
    """A run under the tool: itself, and the hits of what was hit."""
    path = tempfile.mktemp(dir=WORK)
    probed = subprocess.run([TRAPLINE, "count", "-q", "--json", "-o", path, *options,
                             *(word for probe in probes for word in ("-e", probe)), "--", *command],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900)
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    hits = {row["probe"]: row["hits"] for row in rows if row["type"] == "count" and row["hits"]}
    print(f"{' '.join(command)[:60]!r}: {len(hits)} places hit, {rows[-1]['hits']} hits, {rows[-1]['refused']} refused", flush=True)
    return probed, hits


def same(probes, *command, options=("--every-instruction",), least=1000, traps=False):
    """The same output and status bare and probed; with `traps` also on breakpoints alone, hit as often."""
    need(command[0])
    bare = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    runs = [probe(probes, command, *options)]
    if traps:
        runs.append(probe(probes, command, *options, "--tactic", "int3"))
    for probed, hits in runs:
        assert probed.returncode == bare.returncode, f"{bare.returncode} became {probed.returncode}: {probed.stderr[-800:]}"
        assert probed.stdout == bare.stdout, f"{bare.stdout[-300:]} became {probed.stdout[-300:]}"
        assert len(hits) >= least, f"only {len(hits)} places were hit"
    if traps:
        (_, jumps), (_, breakpoints) = runs
        differ = [name for name in jumps if breakpoints.get(name) != jumps[name]]
        assert len(differ) < len(jumps) * 0.05, [(name, jumps[name], breakpoints.get(name)) for name in differ[:20]]


def test_bash():
    same(["EXE!*"], "bash", "-c", """for i in 1 2 3; do (echo $((i * i))); done | sort -r; a=(x y z); echo ${a[@]/y/w} ${#a[@]}
printf '%05d|%s\\n' 7 q; [[ abc =~ b(.) ]] && echo ${BASH_REMATCH[1]}; trap 'echo left' EXIT; exit 9""", traps=True)


def test_the_c_library():
    same(["libc!*", "libm!*"], target("strings"))


def test_a_static_program():
    same(["EXE!*"], target("strings-static"))


def test_digests_and_ciphers():
    for name in ("sha1", "sha256", "sha512", "sha3-256", "blake2b512"):
        same(["libcrypto!*"], "openssl", "dgst", "-" + name, data())
    same(["libcrypto!EVP_*", "libcrypto!SHA*"], "openssl", "dgst", "-sha256", data(), traps=True)
    for name in ("aes-256-cbc", "chacha20", "camellia-256-cbc"):
        same(["libcrypto!*"], "openssl", "enc", "-" + name, "-nosalt", "-in", data(), *KEY)


def test_a_database():
    with open(f"{WORK}/script.sql", "w") as file:
        file.write(SQL)
    same(["libsqlite3!*"], "sqlite3", ":memory:", f".read {WORK}/script.sql", least=10000)


def test_compressors():
    for program in ("gzip", "xz"):
        packed = subprocess.run([program, "-c", data()], stdout=subprocess.PIPE, check=True).stdout
        with open(f"{WORK}/data.{program[:2]}", "wb") as file:
            file.write(packed)
    os.replace(f"{WORK}/data.gz", f"{WORK}/packed.gz")
    same(["EXE!*"], "gzip", "-nc", data())
    with open(f"{WORK}/short", "wb") as file, open(data(), "rb") as whole:
        file.write(whole.read(3000))
    same(["EXE!*"], "gzip", "-nc", f"{WORK}/short", traps=True)
    same(["EXE!*"], "gzip", "-dc", f"{WORK}/packed.gz")
    same(["liblzma!*"], "xz", "-T1", "-1", "-c", data(), least=300)


def test_interpreters():
    same(["EXE!*"], "perl", "-e", r'my %h; $h{$_ % 97} .= chr(65 + $_ % 26) for 1 .. 3000; print map {"$_ $h{$_}\n"} sort keys %h;'
         r'printf "%.10f\n", exp(1); eval { die "thrown\n" }; print $@; exit 4')
    same(["EXE!*"], "perl", "-e", r'print join(",", map { sprintf "%x", $_ * 7919 } 1 .. 40), "\n"; exit 5', traps=True)
    python = "/usr/bin/python3"
    if os.path.exists(python):
        same(["EXE!*"], python, "-c", """import json, hashlib, re, struct
print(json.dumps({str(i): [i / 7, i ** 20] for i in range(100)})[-99:], hashlib.sha256(b'x' * 999).hexdigest())
print(re.sub(r'(\\d+)', r'<\\1>', 'a1b22'), struct.pack('>dQ', 2.5, 77), 2 ** 3000 % 10 ** 50); raise SystemExit(3)""")


ALL = ["*"], ["uretprobe:*:*"]


def test_every_function_and_every_exit_of_every_module():
    for probes in ALL:
        same(probes, "bash", "-c", "for i in 1 2 3; do (echo $((i * i))); done | sort -r; exit 3", options=(), least=100, traps=True)
        same(probes, "perl", "-e", "print join ',', map { $_ ** 2 } 1 .. 99; print `echo sub`; exit 2", options=(), least=100,
             traps=True)


GO = r"""package main
import ("crypto/sha256"; "fmt"; "os"; "sort"; "strconv"; "sync")
type node struct { l, r *node; v int; s string }
func build(d, v int) *node { if d == 0 { return &node{v: v, s: strconv.Itoa(v)} }
  return &node{build(d-1, v*2), build(d-1, v*2+1), v, fmt.Sprint(v)} }
func sum(n *node) int { if n == nil { return 0 }; return n.v + len(n.s) + sum(n.l) + sum(n.r) }
func work(id int) int { t := 0
  for i := 0; i < 10; i++ { m := map[string]int{}; keys := []string{}
    for k := 0; k < 200; k++ { m[strconv.Itoa(k*id)] = k }; for k := range m { keys = append(keys, k) }; sort.Strings(keys)
    h := sha256.Sum256([]byte(fmt.Sprint(keys))); t += int(h[0]) + sum(build(8, id))
    func() { defer func() { if recover() != nil { t += 3 } }(); panic("thrown") }() }
  return t }
func main() { total := 0; var all sync.WaitGroup; var lock sync.Mutex
  many := 40; if len(os.Args) > 1 { many = 2 }
  for i := 0; i < many; i++ { all.Add(1); go func(i int) { t := work(i); lock.Lock(); total += t; lock.Unlock(); all.Done() }(i) }
  all.Wait(); fmt.Println(total) }
"""


def test_go_with_much_garbage():
    """Goroutines on small stacks that move, and a signal to every thread at each collection."""
    need("go")
    with open(f"{WORK}/main.go", "w") as file:
        file.write(GO)
    subprocess.run(["go", "build", "-o", f"{WORK}/gone", f"{WORK}/main.go"], check=True,
                   env=dict(os.environ, GOCACHE=f"{WORK}/cache", GO111MODULE="off", CGO_ENABLED="0"))
    os.environ["GOGC"] = "10"
    same(["EXE!runtime.*"], f"{WORK}/gone", options=(), least=50)
    same(["uretprobe:EXE:*"], f"{WORK}/gone", options=(), least=50)
    same(["EXE!main.*"], f"{WORK}/gone", least=50)
    for probes in (["EXE!runtime.*"], ["uretprobe:EXE:*"]):
        probed, hits = probe(probes, [f"{WORK}/gone", "less"], "--tactic", "int3")
        bare = subprocess.run([f"{WORK}/gone", "less"], stdout=subprocess.PIPE)
        assert probed.stdout == bare.stdout and probed.returncode == 0 and len(hits) > 50, probed


def test_java():
    """A run-time compiler, pages that are protected to stop threads, and null pointers found by SIGSEGV."""
    need("java", "javac")
    with open(f"{WORK}/P.java", "w") as file:
        file.write("""import java.util.*; import java.util.concurrent.*;
public class P { static int[] none(int i) { return i % 3 == 0 ? null : new int[]{i}; }
 static int many = 20000;
 static long work(int seed) { long t = seed; Map<String, Integer> m = new HashMap<>();
  for (int i = 0; i < many; i++) { m.merge("k" + i * seed % 997, 1, Integer::sum);
   try { t += none(i)[0]; } catch (NullPointerException e) { t += 2; } byte[] g = new byte[200]; t += g[i % 200]; }
  return t * 31 + new TreeMap<>(m).hashCode(); }
 public static void main(String[] a) throws Exception { long total = 0; if (a.length > 0) many = 500; ExecutorService e = Executors.newFixedThreadPool(4);
  List<Future<Long>> f = new ArrayList<>(); for (int i = 0; i < 16; i++) { int k = i; f.add(e.submit(() -> work(k + 1))); }
  for (Future<Long> x : f) total += x.get(); e.shutdown(); System.gc(); System.out.println(total); System.exit(7); } }
""")
    subprocess.run(["javac", "-d", WORK, f"{WORK}/P.java"], check=True)
    same(["*"], "java", "-Xmx100m", "-cp", WORK, "P", options=(), least=100)
    same(["uretprobe:libc:*"], "java", "-Xmx100m", "-cp", WORK, "P", options=(), least=100)
    less = ["java", "-Xmx100m", "-cp", WORK, "P", "less"]
    probed, hits = probe(["EXE!*", "libc!*"], less, "--tactic", "int3")
    bare = subprocess.run(less, stdout=subprocess.PIPE)
    assert probed.stdout == bare.stdout and probed.returncode == 7 and len(hits) > 20, (probed, len(hits))


main(globals())
