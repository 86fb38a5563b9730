"""The Redis store: sends and checks beside what redis-benchmark reaches with the same script on the same server in the same
run, beside the peer, on 1, 2, 3 nodes and 1, 2, 3 and 6 shards; CPU per request on both sides, calls and commands per send, how
evenly they fall on the shards; what each part of the strict mode costs; and from these figures a day of 10^8 sends on paper.

    bench/run.py redis [--quick] [--binary PATH] [--no-peer] [--no-prices] [--seconds N]

Every server keeps an append-only file, flushed once a second, and has no replica, but for the prices of the strict mode: there one
replica follows, in every row, so that only the settings of the node differ; they are measured in turns. All of it and the load
share this machine's cores, so more nodes or shards show that nothing is lost by them, and how evenly the work is spread, not what
machines of their own would bring: CPU per request says that.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import threading
import time

import tools
from sides import Countersign, Peer, fresh_folder
from tools import REPO, TARGET, Load, Redis, end, free_port, say

SCRIPT = REPO / "src" / "store" / "redis" / "commit.lua"
TICK = os.sysconf("SC_CLK_TCK")
# What a node may be told to go without, by name: lines of [store].
MANNERS = {
    "nothing": "replicas = 0\nbind_codes = false\nhold_after_failover = false",
    "bind_codes": "replicas = 0\nhold_after_failover = false",
    "bind, hold": "replicas = 0",
    "all (WAIT 1)": "replicas = 1",
}
DAY = 100_000_000  # sends, for the paper
PEAK = 5  # times the average


def options(arguments):
    parser = argparse.ArgumentParser(prog="bench/run.py redis", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--binary", default=str(REPO / "target" / "release" / "countersign"))
    parser.add_argument("--setups", default="1x1,2x1,3x1,1x2,1x3,3x3,1x6,3x6", help="nodes x shards")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--no-checks", action="store_true")
    parser.add_argument("--no-prices", action="store_true", help="leave out what the strict mode costs")
    parser.add_argument("--quick", action="store_true", help="one repetition of 3 s")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.seconds, chosen.repetitions = 3, 1
    return chosen


def cpu_seconds(pids):
    spent = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / TICK


class Servers:
    """One server, with a replica or without, or a cluster of so many masters."""

    def __init__(self, folder, shards, replica=False):
        self.ports, self.processes = [free_port() for _ in range(shards)], []
        for number, port in enumerate(self.ports):
            cluster = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())] if shards > 1 else []
            self.launch(folder / f"redis-{number}", port, cluster)
        self.masters = len(self.processes)
        if shards > 1:
            self.join()
        if replica:
            self.launch(folder / "replica", free_port(), ["--replicaof", f"127.0.0.1 {self.ports[0]}", "--repl-diskless-sync-delay", "0"])
            self.until(lambda: b"state=online" in Redis(self.ports[0]).pipeline([("INFO", "replication")])[0])
        scheme, places = ("redis", self.ports[:1]) if shards == 1 else ("redis+cluster", self.ports)
        self.url = f"{scheme}://" + ",".join(f"127.0.0.1:{port}" for port in places)

    def launch(self, home, port, more):
        home.mkdir(parents=True)
        self.processes.append(subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(home), "--save", "",
             "--appendonly", "yes", "--appendfsync", "everysec", *more],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        self.until(lambda: Redis(port).pipeline([("PING",)]) == ["PONG"])

    def join(self):
        each = 16384 // len(self.ports)
        for number, port in enumerate(self.ports):
            last = 16383 if port == self.ports[-1] else (number + 1) * each - 1
            bus = Redis(self.ports[number]).pipeline([("CONFIG", "GET", "cluster-port")])[0][1].decode()
            Redis(port).pipeline([("CLUSTER", "ADDSLOTSRANGE", number * each, last),
                                  ("CLUSTER", "SET-CONFIG-EPOCH", number + 1)])
            if number:
                Redis(self.ports[0]).pipeline([("CLUSTER", "MEET", "127.0.0.1", port, bus)])
        for port in self.ports:
            self.until(lambda port=port: b"cluster_state:ok" in Redis(port).pipeline([("CLUSTER", "INFO")])[0])

    @staticmethod
    def until(true, seconds=15):
        deadline = time.time() + seconds
        while True:
            try:
                if true():
                    return
            except OSError:
                pass
            if time.time() > deadline:
                raise RuntimeError("redis-server did not come up")
            time.sleep(0.02)

    def pids(self):
        """The masters'."""
        return [process.pid for process in self.processes[:self.masters]]

    def calls(self):
        """By server and command, how often it was called."""
        found = []
        for port in self.ports:
            text = Redis(port).pipeline([("INFO", "commandstats")])[0].decode()
            found.append({name: int(calls) for name, calls in re.findall(r"cmdstat_(\S+?):calls=(\d+)", text)})
        return found

    def bytes(self):
        """Of memory and of append-only files, over all servers."""
        memory = file = 0
        for port in self.ports:
            texts = [text.decode() for text in Redis(port).pipeline([("INFO", "memory"), ("INFO", "persistence")])]
            memory += int(re.search(r"used_memory:(\d+)", texts[0])[1])
            file += int(re.search(r"aof_current_size:(\d+)", texts[1])[1])
        return memory, file

    def stop(self):
        for process in self.processes:
            process.kill()  # nothing in it is worth a flush
            process.wait()


def together(nodes, load_of, metric, seconds, mode):
    """Loads all nodes at once; the sum of what their loads saw."""
    with concurrent.futures.ThreadPoolExecutor(len(nodes)) as pool:
        lines = [getattr(node, metric)(round(12000 * (seconds + 1) / len(nodes))) for node in nodes]
        return list(pool.map(lambda at: load_of[at].run(nodes[at].port, lines[at], seconds, mode), range(len(nodes))))


def measure(chosen, scratch, shape, metric, mode, manner=None, connections=None):
    """One row. With a `manner`, a replica follows."""
    nodes_many, shards = shape
    connections = connections or chosen.connections
    folder = fresh_folder(scratch, f"{nodes_many}x{shards}-{metric}")
    servers, nodes = Servers(folder, shards, replica=manner is not None), []
    try:
        for number in range(nodes_many):
            home = fresh_folder(folder, f"node-{number}")
            load = Load(home, max(1, connections // nodes_many), min(connections, 2 if nodes_many == 1 else 1))
            node = Countersign([chosen.binary], load, folder / "nodes.keys", "redis", servers.url, MANNERS[manner or "bind, hold"])
            node.start(home, dev=metric == "checks")
            nodes.append(node)
        loads = [node.load for node in nodes]
        together(nodes, loads, "sends", 1, mode)
        if metric == "checks":
            lines = [node.checks(round(8000 * chosen.seconds / nodes_many)) for node in nodes]
            for node, ready in zip(nodes, lines):
                node.checks = lambda _, ready=ready: ready
        before, (memory, file) = servers.calls(), servers.bytes()
        cpu_nodes, cpu_servers = cpu_seconds([node.process.pid for node in nodes]), cpu_seconds(servers.pids())
        seen = together(nodes, loads, metric, chosen.seconds, "count" if metric == "checks" else mode)
        cpu_nodes = cpu_seconds([node.process.pid for node in nodes]) - cpu_nodes
        cpu_servers = cpu_seconds(servers.pids()) - cpu_servers
        after, (memory_after, file_after) = servers.calls(), servers.bytes()
        sizes = record_sizes(servers) if shape == (1, 1) and metric == "sends" else None
    finally:
        for node in nodes:
            node.stop()
        servers.stop()
    good = sum(one["answers"].get("0", 0) for one in seen)
    bad = {key: count for one in seen for key, count in one["answers"].items() if key != "0"}
    made = [{name: then[name] - first.get(name, 0) for name in then} for first, then in zip(before, after)]
    scripts = [one.get("evalsha", 0) for one in made]
    return {"nodes": nodes_many, "shards": shards, "metric": metric, "mode": mode, "manner": manner, "connections": connections,
            "per_second": good / max(one["seconds"] for one in seen), "p50_ms": max(one["p50_ms"] for one in seen),
            "p99_ms": max(one["p99_ms"] for one in seen),
            "node_us": cpu_nodes / good * 1e6, "redis_us": cpu_servers / good * 1e6,
            "scripts": sum(scripts) / good, "commands": sum(sum(one.values()) for one in made) / good,
            "spread": [min(scripts) / sum(scripts) * shards, max(scripts) / sum(scripts) * shards],
            "memory_b": (memory_after - memory) / good, "file_b": (file_after - file) / good, "bad": bad, "sizes": sizes}


def record_sizes(servers):
    """By kind, the length of a record as a send leaves it."""
    redis, sizes, cursor = Redis(servers.ports[0]), {}, "0"
    while True:
        cursor, keys = redis.pipeline([("SCAN", cursor, "COUNT", "1000")])[0]
        for key in keys:
            kind = re.match(rb"[^{]*\{\d+\}:(\d+):", key)
            if kind and int(kind[1]) < 100:
                sizes.setdefault(int(kind[1]), (key, redis.pipeline([("STRLEN", key)])[0]))
        cursor = cursor.decode()
        if cursor == "0" or len(sizes) >= 7:
            return {kind: (len(key), int(length)) for kind, (key, length) in sizes.items()}


def reference(chosen, scratch, sizes):
    """redis-benchmark with the script of one send, alone on a fresh server: no decision, no second commit, no HTTP."""
    servers = Servers(fresh_folder(scratch, "reference"), 1)
    try:
        script = Redis(servers.ports[0]).pipeline([("SCRIPT", "LOAD", SCRIPT.read_bytes())])[0].decode()
        order = [kind for kind in (1, 2, 3, 4, 5, 8, 6) if kind in sizes]
        keys, touches = [], []
        for kind in order:
            name, length = sizes[kind]
            due = kind == 6
            keys.append(f"countersign:{{1}}:{kind}:__rand_int__".ljust(name, "k"))
            head = f"1{'0' * 16}{int(time.time() * 1000) + 10**8:014d}{'d' if due else '-'}-"
            # A send finds none of its records but the address's, which it shares with others.
            touches += [("-" * 16 if kind in (1, 3, 4, 5) else "*" * 16) + ("1" if due else ""), head.ljust(length, "v"), 10**8]
        arguments = [int(time.time() * 1000), "", 10**14 - 1, 0, len(order), *touches]
        found = {}
        for depth in (1, 16):
            count = round(15000 * chosen.seconds)
            before = cpu_seconds(servers.pids())
            done = subprocess.run(
                ["redis-benchmark", "-p", str(servers.ports[0]), "-c", str(chosen.connections), "-n", str(count), "-P", str(depth),
                 "-r", "1000000000", "--csv", "EVALSHA", script, str(len(keys)), *keys, *map(str, arguments)],
                capture_output=True, text=True, check=True)
            rate = float(done.stdout.strip().splitlines()[-1].split('","')[1].strip('"'))
            found[depth] = {"per_second": rate, "redis_us": (cpu_seconds(servers.pids()) - before) / count * 1e6}
        return found
    finally:
        servers.stop()


def peer_sends(chosen, scratch):
    side, load = Peer("sync"), Load(scratch, chosen.connections)
    side.prepare()
    side.start(fresh_folder(scratch, "peer"))
    try:
        load.run(side.port, side.sends(2000), 1)
        spent = cpu_seconds(side.pids())
        found = load.run(side.port, side.sends(round(3000 * chosen.seconds)), chosen.seconds)
        spent = cpu_seconds(side.pids()) - spent
        found["cpu_us"] = spent / found["requests"] * 1e6
        checked = load.run(side.port, side.checks(round(4000 * chosen.seconds)), chosen.seconds)
        return {"sends": found["per_second"], "checks": checked["per_second"], "cpu_us": found["cpu_us"]}
    finally:
        side.stop()


def best(runs):
    """The middle run by speed."""
    return sorted(runs, key=lambda run: run["per_second"])[len(runs) // 2]


def main(arguments):
    chosen = options(arguments)
    tools.install_missing()
    TARGET.mkdir(parents=True, exist_ok=True)
    scratch = fresh_folder(TARGET, "scratch-redis")
    report = {"machine": tools.machine(), "settings": vars(chosen), "rows": []}
    say(str(report["machine"]))
    shapes = [tuple(map(int, shape.split("x"))) for shape in chosen.setups.split(",")]
    plans = [(shapes[0], "sends", "count")] + [(shape, "sends", "spread") for shape in shapes]
    if not chosen.no_checks:
        plans += [(shape, "checks", "count") for shape in shapes if shape[0] == 1]
    if not chosen.no_peer:
        report["peer"] = peer_sends(chosen, scratch)
        say(f"peer: {report['peer']['sends']:,.0f} sends/s, {report['peer']['checks']:,.0f} checks/s, "
            f"{report['peer']['cpu_us']:.0f} us of CPU per send")
    for shape, metric, mode in plans:
        rows = several(chosen, lambda: measure(chosen, scratch, shape, metric, mode))
        if not rows:
            report["failed"] = True
            continue
        row = best(rows)
        report["rows"].append(row)
        say(line(row, report.get("peer")))
        if row["sizes"] and "reference" not in report:
            report["reference"] = reference(chosen, scratch, row["sizes"])
            for depth, found in report["reference"].items():
                share = row["per_second"] / found["per_second"]
                say(f"redis-benchmark, the script of one send, -c {chosen.connections} -P {depth}: {found['per_second']:,.0f}/s, "
                    f"{found['redis_us']:.1f} us of Redis each; the sends above are {share:.0%} of it")
    if not chosen.no_prices:
        report["prices"] = prices(chosen, scratch)
    day(report["rows"])
    (TARGET / "redis-latest.json").write_text(json.dumps(report, indent=1, default=str) + "\n")
    say(f"{TARGET / 'redis-latest.json'}   load average: {tools.machine()['load_average']}")
    return 1 if report.get("failed") or any(row["bad"] for row in report["rows"]) else 0


def several(chosen, run):
    """The repetitions of a row that came to an end: one that fails is told, and does not end the rest."""
    rows = []
    for _ in range(chosen.repetitions):
        try:
            rows.append(run())
        except (RuntimeError, OSError, ZeroDivisionError) as error:
            say(f"  a repetition failed: {error}")
    return rows


def prices(chosen, scratch):
    """What each part of the strict mode costs a send: one node, one server, one replica; all manners in turns."""
    found = []
    for connections in (chosen.connections, 1):
        runs = {manner: [] for manner in MANNERS}
        for manner in list(MANNERS) * chosen.repetitions:
            once = argparse.Namespace(**{**vars(chosen), "repetitions": 1})
            runs[manner] += several(once, lambda manner=manner: measure(chosen, scratch, (1, 1), "sends", "spread", manner, connections))
        for manner, rows in runs.items():
            if not rows:
                continue
            row = best(rows)
            found.append(row)
            say(f"strict mode: {manner:12} {connections:3} connections {row['per_second']:8,.0f}/s  p50 {row['p50_ms']:6.2f} ms"
                f"  p99 {row['p99_ms']:6.1f} ms  node {row['node_us']:5.0f} us  redis {row['redis_us']:5.1f} us"
                + (f"  REFUSED OR LATE: {row['bad']}" if row["bad"] else ""))
    return found


def day(rows):
    """What 10^8 sends a day, each with a check, would need by these rows."""
    average, peak = DAY / 86400, DAY / 86400 * PEAK
    say(f"on paper: {DAY:,} sends a day and as many checks: {average:,.0f}/s on average, {peak:,.0f}/s at the peak ({PEAK} x)")
    for nodes, shards in sorted({(row["nodes"], row["shards"]) for row in rows}):
        of = {row["metric"]: row for row in rows if (row["nodes"], row["shards"]) == (nodes, shards) and row["mode"] != "plain"}
        if "checks" not in of or "sends" not in of:
            continue
        cores = {side: peak * (of["sends"][f"{side}_us"] + of["checks"][f"{side}_us"]) / 1e6 for side in ("node", "redis")}
        memory, file = of["sends"]["memory_b"] * DAY / 1e9, (of["sends"]["file_b"] + of["checks"]["file_b"]) * DAY / 1e9
        say(f"  by the rows of {nodes} node, {shards} shards: nodes {cores['node']:.1f} cores, Redis {cores['redis']:.1f} cores"
            f" ({cores['redis'] / shards:.2f} of each shard's one); memory {memory:,.0f} GB"
            f" ({of['sends']['memory_b']:,.0f} B a send, for a day); append-only files {file:,.0f} GB a day")


def line(row, peer):
    times = f" {row['per_second'] / peer[row['metric']]:5.1f} x peer" if peer else ""
    addresses = {"count": "one address", "spread": "many addresses"}[row["mode"]]
    bad = f"  NOT AS WANTED: {row['bad']}" if row["bad"] else ""
    return (f"{row['nodes']} nodes, {row['shards']} shards, {row['metric']:6} {addresses:14} {row['per_second']:8,.0f}/s{times}"
            f"  p99 {row['p99_ms']:6.1f} ms  node {row['node_us']:5.0f} us  redis {row['redis_us']:5.1f} us"
            f"  scripts {row['scripts']:.3f}  commands {row['commands']:.1f}"
            + (f"  of a shard's even share {row['spread'][0]:.2f} to {row['spread'][1]:.2f}" if row["shards"] > 1 else "") + bad)
