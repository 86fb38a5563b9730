#!/usr/bin/env python3
"""Measures Countersign beside its peer in one run, on this machine, over 127.0.0.1 only.  See README.md.

    bench/run.py                  everything but the million (an estimated 15 minutes on 2 cores)
    bench/run.py --quick          a look: one short repetition of each figure
    bench/run.py --long           also 10^6 live verifications
    bench/run.py --only peer      one side alone
    bench/run.py redis            the Redis store, many nodes and shards: see redis_store.py (about 5 minutes)
"""

import argparse
import datetime
import json
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import tools
from sides import PHONES, Countersign, Peer, check_line, fresh_folder, send_line, uuids
from tools import REPO, TARGET, Http, Load, MemoryWatch, disk_flushes, memory_mb, say

# What is measured: name, the unit it is told in, requests per unit, the answer that counts, the goal of SPEC §5 (× the peer).
METRICS = {
    "images": ("images/s", 1, None, 25),
    "sends": ("sends/s", 1, "0", 12),
    "checks": ("checks/s", 1, "0", 15),
    "wrong-checks": ("checks/s", 1, "4008", None),
    "flows": ("flows/s", 3, None, None),
}
PREPARE = {"images": "images", "sends": "sends", "checks": "checks", "wrong-checks": "wrongs", "flows": "flows"}
NEEDS_DEV = {"checks", "wrong-checks", "flows"}  # the codes are read from the developer's inbox
SERVER = str(REPO / "target" / "release" / "countersign")
GUESS = {"peer": 3000, "countersign": 20000, "countersign-redis": 20000}  # requests/s before the warm-up has told


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="length of one repetition")
    parser.add_argument("--warm-up", type=float, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="threads of wrk")
    parser.add_argument("--metrics", default=",".join(METRICS), help="comma-separated: " + ", ".join(METRICS))
    parser.add_argument("--only", choices=["peer", "countersign"])
    parser.add_argument("--quick", action="store_true", help="one repetition of 4 s, growth to 10^4")
    parser.add_argument("--long", action="store_true", help="growth to 10^6")
    parser.add_argument("--no-growth", action="store_true")
    parser.add_argument("--no-redis", action="store_true", help="leave out Countersign on a Redis store")
    parser.add_argument("--no-build", action="store_true", help="take target/release as it is")
    parser.add_argument("--peer-worker", choices=["auto", "sync", "gthread"], default="auto",
                        help="auto: whichever is faster here")
    parser.add_argument("--codes-max", type=int, default=100_000, help="at most so many codes are made for one repetition")
    parser.add_argument("--binary", default=SERVER,
                        help="the server, or a command line")
    parser.add_argument("--keys", help="key file for examples/seed_answers (else the only *.keys beside the store)")
    parser.add_argument("--keep", action="store_true", help="leave stores and logs in target/bench/scratch")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.repetitions, chosen.seconds, chosen.warm_up = 1, min(chosen.seconds, 4), 1
    chosen.metrics = [name for name in METRICS if name in chosen.metrics.split(",")]
    return chosen


def median(values):
    return round(statistics.median(values), 3) if values else None


# One figure.


def repetition(side, metric, chosen, load, scratch):
    """Starts the side on a fresh store, warms it up, loads it, stops it."""
    unit, per_unit, good, _ = METRICS[metric]
    folder, mode = fresh_folder(scratch, f"{side.name}-{metric}"), "plain" if metric == "images" else "count"
    ready_ms = side.start(folder, dev=metric in NEEDS_DEV)
    try:
        time.sleep(0.3)
        idle_rss, idle_pss = memory_mb(side.pids())
        make = getattr(side, PREPARE[metric])
        limit = chosen.codes_max * {"flows": 3, "wrong-checks": 3}.get(metric, 1) if metric in NEEDS_DEV else 10**7
        guess = GUESS[side.name]
        first = load.run(side.port, make(min(limit, round(guess * chosen.warm_up))), chosen.warm_up, mode)
        lines = make(min(limit, round(first["per_second"] * chosen.seconds * 1.4) + 1000))
        with MemoryWatch(side.pids) as memory:
            result = load.run(side.port, lines, chosen.seconds, mode)
    finally:
        side.stop()
    errors, answers = result["errors"], result["answers"]
    bad = errors["connect"] + errors["timeout"] + errors["status"]
    if good is not None:
        bad += sum(answers.values()) - answers.get(good, 0)
    elif metric == "flows":
        bad += sum(count for code, count in answers.items() if code not in ("0", "http-200"))
    return {
        "per_second": round((result["requests"] - bad) / per_unit / result["seconds"], 1), "p50_ms": result["p50_ms"],
        "p90_ms": result["p90_ms"], "p99_ms": result["p99_ms"], "max_ms": result["max_ms"],
        "seconds": round(result["seconds"], 2), "requests": result["requests"], "not_as_wanted": bad,
        "bytes_per_answer": round(result["bytes"] / max(1, result["requests"])), "answers": answers, "errors": errors,
        "ready_ms": ready_ms, "idle_rss_mb": idle_rss, "idle_pss_mb": idle_pss, "load_rss_mb": memory.rss,
        "load_pss_mb": memory.pss, "dev_door": getattr(side, "dev", None)}


def figure(runs):
    """The median repetition, field by field, with the repetitions beside it."""
    keys = ("per_second", "p50_ms", "p90_ms", "p99_ms", "ready_ms", "idle_rss_mb", "idle_pss_mb", "load_rss_mb",
            "load_pss_mb", "not_as_wanted")
    return {**{key: median([run[key] for run in runs]) for key in keys}, "runs": runs}


def measure(sides, chosen, load, scratch, failed):
    figures = {}
    for metric in chosen.metrics:
        runs = {side.name: [] for side in sides}
        for number in range(chosen.repetitions):
            for side in sides:
                if side.name == "countersign-redis" and metric != "sends":
                    continue
                try:
                    run = repetition(side, metric, chosen, load, scratch)
                except (RuntimeError, OSError) as error:
                    say(f"  {metric:13} {side.name:18} failed: {error}")
                    failed.append(f"{metric}, {side.name}: {error}")
                    continue
                runs[side.name].append(run)
                note = "" if run["seconds"] > 0.9 * chosen.seconds else f"   (all spent in {run['seconds']} s)"
                if run["not_as_wanted"]:
                    note += f"   NOT AS WANTED: {run['not_as_wanted']} {run['answers']} {run['errors']}"
                say(f"  {metric:13} {side.name:18} {run['per_second']:>10,.0f} {METRICS[metric][0]:9}"
                    f" p50 {run['p50_ms']:8.2f} ms  p99 {run['p99_ms']:8.2f} ms  {run['load_rss_mb']:6.1f} MB{note}")
        figures[metric] = {name: figure(found) for name, found in runs.items() if found}
    return figures


def choose_worker(chosen, load, scratch):
    """sync or gthread: a short look at sends, the busiest of the views, with each."""
    if chosen.peer_worker != "auto":
        return chosen.peer_worker, None
    rates = {}
    for worker in ("sync", "gthread"):
        side = Peer(worker)
        side.start(fresh_folder(scratch, "peer-choice"))
        try:
            load.run(side.port, side.sends(2000), 1)
            rates[worker] = load.run(side.port, side.sends(20000), 4)["per_second"]
        finally:
            side.stop()
    best = max(rates, key=rates.get)
    say(f"peer's workers: {best} (sends/s: {rates})")
    return best, rates


# A person's walk through the three calls, one after the other.


def walk(side, scratch, times):
    """Proves that the whole flow works, and how long its three answers take together when nobody else is there."""
    side.start(fresh_folder(scratch, f"{side.name}-walk"), dev=True)
    http, steps = Http(side.port), {"image": [], "send": [], "check": [], "together": []}
    try:
        for number in range(times + 10):
            image, phone = uuids(1)[0], PHONES.take(1)[0]
            spent = []

            def call(line):
                started = time.perf_counter()
                status, body = http.one(line)
                spent.append((time.perf_counter() - started) * 1000)
                return status, body

            status, picture = call(f"/image_codes/{image}/")
            assert status == 200 and picture[:4] == b"\x89PNG", f"image: {status} {picture[:80]!r}"
            for name, line in (("send", lambda: send_line(phone, image, side.answer_for(image))),
                               ("check", lambda: check_line(phone, side.code_for(phone)))):
                status, body = call(line())
                said = json.loads(body) if status == 200 else {}
                assert said.get("code") == side.ok, f"{name}: {status} {body[:200]!r}"
            assert said.get("token"), f"check gave no token: {said}"
            if number >= 10:
                for name, value in zip(steps, [*spent, sum(spent)]):
                    steps[name].append(value)
    finally:
        http.close()
        side.stop()
    return {name: {"p50_ms": median(values), "max_ms": round(max(values), 3)} for name, values in steps.items()}


# From acceptance to the provider.


def handoff(side, scratch, seconds):
    """How long accepted messages wait for their first call while two callers send, some 1 000 to 2 000 a second. The server
    counts whole milliseconds in buckets, so these are upper bounds."""
    load = Load(scratch, connections=2, threads=2)
    side.start(fresh_folder(scratch, "handoff"), dev=False)
    try:
        load.run(side.port, side.sends(2000), 1)
        before = side.buckets("countersign_handoff_seconds")
        result = load.run(side.port, side.sends(round(seconds * 4000)), seconds)
        after = side.buckets("countersign_handoff_seconds")
    finally:
        side.stop()
    counts = {bound: count - before.get(bound, 0) for bound, count in after.items()}
    total = max(counts.values(), default=0)
    if total < 1000:
        raise RuntimeError(f"only {total} messages went to the provider: {result['answers']}")

    def bound(share):
        least = min(bound for bound, count in counts.items() if count >= share * total)
        return int(min(least, 3600) * 1000) + 1

    return {"sends_per_second": round(result["per_second"]), "messages": total, "p50_ms": bound(0.5), "p99_ms": bound(0.99)}


# Growth.


def grow(side, levels, load, scratch, seconds):
    """Sends/s and p99 on top of N live verifications, memory with them, and a restart with that store."""
    rows = []
    for level in levels:
        tries = []
        for _ in range(3 if level <= 10**4 else 1):
            folder = fresh_folder(scratch, "growth")
            side.start(folder, dev=False, code_seconds=600)
            try:
                accepted, since = 0, time.time()
                while accepted < level:
                    lines = side.sends(min(100_000, level - accepted))
                    answers = load.run(side.port, lines, 120, "drain")["answers"]
                    if answers.get(side.ok, 0) < 0.5 * len(lines):
                        raise RuntimeError(f"growth: sends were refused: {answers}")
                    accepted += answers[side.ok]
                filled = time.time() - since
                rss, _ = memory_mb(side.pids())
                with MemoryWatch(side.pids) as memory:
                    result = load.run(side.port, side.sends(min(max(2000, level), round(seconds * GUESS["countersign"]))),
                                      seconds)
                time.sleep(1)
                store = side.disk_mb()
                tools.end(side.process)
                again_ms = side.start(folder, dev=side.dev, code_seconds=600)
                again_rss, _ = memory_mb(side.pids())
            finally:
                side.stop()
            tries.append({"live": accepted, "fill_seconds": round(filled, 1), "oldest_seconds_left": round(600 - filled),
                          "sends_per_second": round(result["answers"].get(side.ok, 0) / result["seconds"], 1),
                          "p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"], "rss_mb": rss, "load_rss_mb": memory.rss,
                          "store_mb": store, "restart_ready_ms": again_ms, "restart_rss_mb": again_rss,
                          "dev_door": side.dev})
        row = {key: median([one[key] for one in tries]) for key in tries[0] if key != "dev_door"}
        row.update({"level": level, "dev_door": tries[0]["dev_door"], "tries": len(tries)})
        rows.append(row)
        say(f"  growth {level:>9,} live: {row['sends_per_second']:>9,.0f} sends/s  p99 {row['p99_ms']:7.2f} ms  "
            f"{row['rss_mb']:6.1f} MB  store {row['store_mb']:7.1f} MB  restart {row['restart_ready_ms']:7.1f} ms"
            f"  {row['restart_rss_mb']:6.1f} MB")
    return rows


# The report.


def ratios(report):
    """Countersign against the peer; above 1 is better for Countersign everywhere."""
    rows = []
    figures = report["figures"]

    def row(what, peer, ours, better, goal, met):
        ratio = None
        if peer and ours:
            ratio = round(ours / peer if better == "more" else peer / ours, 2)
        rows.append({"what": what, "peer": peer, "countersign": ours, "ratio": ratio, "goal": goal,
                     "met": met(ours, ratio) if goal and ours is not None else None})

    def at_least(times):
        return lambda _, ratio: None if ratio is None else ratio >= times

    def at_most(limit):
        return lambda ours, _: ours <= limit

    for metric, found in figures.items():
        unit, _, _, goal = METRICS[metric]
        peer = found.get("peer", {})
        for name in ("countersign", "countersign-redis"):
            if name == "countersign-redis" and name not in found:
                continue
            ours = found.get(name, {})
            label = metric + (" (Redis store)" if name.endswith("redis") else "")
            row(f"{label}, {unit}", peer.get("per_second"), ours.get("per_second"), "more",
                goal and f">= {goal} x", at_least(goal))
            row(f"{label}, p50 ms", peer.get("p50_ms"), ours.get("p50_ms"), "less", None, None)
            row(f"{label}, p99 ms", peer.get("p99_ms"), ours.get("p99_ms"), "less", None, None)

    def over(side, key, pick, only_lean=False):
        """Over all metrics; for memory under load only runs without the developer's inbox, when there are any."""
        runs = [run for found in figures.values() for run in found.get(side, {}).get("runs", [])]
        if only_lean:
            runs = [run for run in runs if run["dev_door"] is False] or runs
        return round(pick([run[key] for run in runs]), 1) if runs else None

    for what, key, pick, goal, limit in (
            ("start to ready, ms", "ready_ms", statistics.median, "<= 100 ms", 100),
            ("memory idle, RSS MB", "idle_rss_mb", statistics.median, "<= 30 MB", 30),
            ("memory idle, PSS MB", "idle_pss_mb", statistics.median, None, None),
            ("memory under load, RSS MB", "load_rss_mb", max, "<= 60 MB", 60),
            ("memory under load, PSS MB", "load_pss_mb", max, None, None)):
        row(what, over("peer", key, pick), over("countersign", key, pick, True), "less", goal, at_most(limit))
    for step, found in report["walk"].get("countersign", {}).items():
        peer = report["walk"].get("peer", {}).get(step, {})
        row(f"one person, {step}, p50 ms", peer.get("p50_ms"), found["p50_ms"], "less", None, None)
    for share, limit in (("p50", 3), ("p99", 25)) if report["handoff"] else ():
        waited = report["handoff"][f"{share}_ms"]
        row(f"accepted to first call, {share} below ms", None, waited, "less", f"<= {limit} ms", at_most(limit))
    if "countersign" not in report["walk"]:
        for step, found in report["walk"].get("peer", {}).items():
            row(f"one person, {step}, p50 ms", found["p50_ms"], None, "less", None, None)
    return rows


def table(report):
    def number(value):
        if value is None:
            return "-"
        return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"

    lines = [f"{'':36}{'peer':>12}{'countersign':>14}{'ratio':>9}   goal"]
    for row in report["table"]:
        verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        lines.append(f"{row['what']:36}{number(row['peer']):>12}{number(row['countersign']):>14}{ratio:>9}   "
                     f"{row['goal'] or '':10} {verdict}".rstrip())
    flushes = report["disk_flushes_per_second"]
    lines.append("")
    lines.append(f"fdatasync/s of 4 kB, before and after: {flushes['before']} {flushes['after']}")
    lines.append(f"load average before and after: {report['machine']['load_average']} {report['load_average_after']}")
    return "\n".join(lines)


def build(chosen):
    """True when there is a server to measure."""
    if not chosen.no_build:
        subprocess.run(["cargo", "build", "--release"], cwd=REPO, check=True)
        if (REPO / "examples" / "seed_answers.rs").exists():
            subprocess.run(["cargo", "build", "--release", "--example", "seed_answers"], cwd=REPO, check=True)
    program = shlex.split(chosen.binary)[0]
    return shutil.which(program) is not None


def main():
    if sys.argv[1:2] == ["redis"]:
        import redis_store
        sys.exit(redis_store.main(sys.argv[2:]))
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `finally` ends what it started
    tools.install_missing()
    sides, redis_side, ours = [], None, None
    TARGET.mkdir(parents=True, exist_ok=True)
    scratch = fresh_folder(TARGET, "scratch")
    load = Load(scratch, chosen.connections, chosen.threads)
    worker, worker_rates = None, None
    if chosen.only != "countersign":
        Peer().prepare()
        worker, worker_rates = choose_worker(chosen, load, scratch)
        sides.append(Peer(worker))
    if chosen.only != "peer":
        if not build(chosen):
            sys.exit(f"there is no {chosen.binary} to measure (--only peer measures the peer alone)")
        ours = Countersign(shlex.split(chosen.binary), load, chosen.keys)
        sides.append(ours)
        if not chosen.no_redis:
            redis_side = Countersign(shlex.split(chosen.binary), load, chosen.keys, store="redis")

    real = chosen.binary == SERVER and not chosen.only
    whole = real and not chosen.quick and chosen.metrics == list(METRICS)
    started = datetime.datetime.now(datetime.timezone.utc)
    report = {"at": started.isoformat(timespec="seconds"), "whole": whole, "machine": tools.machine(),
              "settings": {**vars(chosen), "peer_worker": worker, "peer_workers": Peer().workers,
                           "peer_worker_choice_sends_per_second": worker_rates,
                           "peer_redis_persistence": "Debian's default: save 3600 1 300 100 60 10000, appendonly no",
                           "countersign": tools.first_line([*shlex.split(chosen.binary), "--version"]) if ours else None,
                           "python": tools.first_line([TARGET / "peer-venv" / "bin" / "python", "--version"]),
                           "packages": (tools.BENCH / "peer" / "requirements.txt").read_text().split("\n#")[0].split()},
              "disk_flushes_per_second": {"before": disk_flushes(scratch)}, "walk": {}, "handoff": None, "growth": [],
              "failed": []}
    say(f"{report['machine']}\nfdatasync/s: {report['disk_flushes_per_second']['before']}")

    for side in sides:
        try:
            report["walk"][side.name] = walk(side, scratch, 30 if chosen.quick else 200)
            say(f"  one person    {side.name:18} {report['walk'][side.name]['together']['p50_ms']:.2f} ms for the three calls")
        except (RuntimeError, OSError, AssertionError) as error:
            say(f"  one person    {side.name:18} failed: {error}")
            report["failed"].append(f"walk, {side.name}: {error}")

    if ours:
        try:
            report["handoff"] = handoff(ours, scratch, min(5, chosen.seconds))
            say(f"  accepted to first call: {report['handoff']}")
        except (RuntimeError, OSError) as error:
            say(f"  accepted to first call: failed: {error}")
            report["failed"].append(f"handoff: {error}")

    report["figures"] = measure([*sides, *([redis_side] if redis_side else [])], chosen, load, scratch,
                                report["failed"])

    if ours and not chosen.no_growth:
        levels = [10**3, 10**4] if chosen.quick else [10**3, 10**4, 10**5]
        try:
            report["growth"] = grow(ours, levels + ([10**6] if chosen.long else []), load, scratch, min(5, chosen.seconds))
        except (RuntimeError, OSError) as error:
            say(f"  growth failed: {error}")
            report["failed"].append(f"growth: {error}")

    report["disk_flushes_per_second"]["after"] = disk_flushes(scratch)
    report["load_average_after"] = tools.machine()["load_average"]
    report["table"] = ratios(report)
    say("\n" + table(report) + "\n")
    save(report, started, whole)
    if not chosen.keep:
        shutil.rmtree(scratch)
    for failure in report["failed"]:
        say(f"FAILED {failure}")
    sys.exit(1 if report["failed"] else 0)


def save(report, started, whole):
    """Every run leaves its own file; only a whole run, of the real binary, becomes the latest figures."""
    names = [f"performance-{started:%Y%m%dT%H%M%SZ}"] + (["performance-latest"] if whole else [])
    for name in names:
        (TARGET / f"{name}.json").write_text(json.dumps(report, indent=1, ensure_ascii=False, default=str) + "\n")
        (TARGET / f"{name}.txt").write_text(table(report) + "\n")
    say(f"{TARGET / names[-1]}.json" + ("" if whole else "   (a partial run: performance-latest.json is left as it was)"))


if __name__ == "__main__":
    main()
