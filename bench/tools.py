"""What both sides of the benchmark need: load, memory, disk, and three tiny clients. Standard library only."""

import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

BENCH = pathlib.Path(__file__).resolve().parent
REPO = BENCH.parent
TARGET = REPO / "target" / "bench"


def say(text):
    print(text, flush=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def install_missing():
    """wrk, redis-server and venv from the distribution, only what is not there."""
    wanted = {"wrk": shutil.which("wrk"), "redis-server": shutil.which("redis-server")}
    probe = subprocess.run(["python3", "-c", "import venv, ensurepip"], capture_output=True)
    wanted["python3-venv"] = probe.returncode == 0
    missing = [name for name, there in wanted.items() if not there]
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run([*sudo, "apt-get", "update", "-qq"], check=True)
    # The package may start a Redis of its own on 6379; it is not used, every port here is a free one.
    subprocess.run([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq",
                    "--no-install-recommends", *missing], check=True, stdout=subprocess.DEVNULL)


# Processes: each is started here and ended here, by its own pid.


def end(process, seconds=15):
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def children(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    found = [int(child) for child in text.split()]
    return found + [deeper for child in found for deeper in children(child)]


def memory_mb(pids):
    """(RSS, PSS) in MB, summed. PSS counts a page shared by two workers once: the fairer figure for the peer."""
    rss = pss = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Rss:"):
                rss += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss += int(line.split()[1])
    return round(rss / 1024, 1), round(pss / 1024, 1)


class MemoryWatch:
    """The largest memory seen while the `with` block runs."""

    def __init__(self, pids):
        self.pids, self.rss, self.pss, self.over = pids, 0.0, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while True:
            rss, pss = memory_mb(self.pids())
            self.rss, self.pss = max(self.rss, rss), max(self.pss, pss)
            if self.over.wait(0.25):
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


# Load.


class Load:
    """One way of loading: connections and threads of wrk, and the folder for its request files."""

    def __init__(self, folder, connections=64, threads=2):
        self.folder, self.connections, self.threads, self.serial = folder, connections, threads, 0

    def run(self, port, lines, seconds, mode="count"):
        """Sends `lines` once, for at most `seconds`; what wrk saw, with `per_second` added. Modes: see replay.lua."""
        self.serial += 1
        prefix = self.folder / f"load-{self.serial}"
        files = [pathlib.Path(f"{prefix}.{n}") for n in range(self.threads)]
        for n, file in enumerate(files):
            file.write_text("\n".join(lines[n::self.threads]) + "\n")
        command = ["wrk", "-t", str(self.threads), "-c", str(self.connections), "-d", f"{max(1, round(seconds))}s",
                   "--timeout", "10s", "-s", str(BENCH / "replay.lua"), f"http://127.0.0.1:{port}", "--", str(prefix), mode]
        wrk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ends = [pathlib.Path(f"{file}.end") for file in files]
        exhausted = False
        try:
            while wrk.poll() is None:
                if all(mark.exists() for mark in ends):
                    exhausted = True
                    wrk.send_signal(signal.SIGINT)
                    break
                time.sleep(0.01)
            output, _ = wrk.communicate(timeout=seconds + 30)
        finally:
            end(wrk)
            for file in files + ends:
                file.unlink(missing_ok=True)
        marked = [line for line in output.splitlines() if line.startswith("RESULT ")]
        if not marked:
            raise RuntimeError(f"wrk gave no result:\n{output}")
        result = json.loads(marked[0][len("RESULT "):])
        result["exhausted"] = exhausted
        result["per_second"] = round(result["requests"] / result["seconds"], 1)
        return result


# Clients.


class Redis:
    """Enough of the Redis protocol to load and read many keys at once."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.reader = self.socket.makefile("rb")

    def pipeline(self, commands, batch=2000):
        """Sends all commands, gives all answers."""
        answers = []
        for start in range(0, len(commands), batch):
            part = commands[start:start + batch]
            self.socket.sendall(b"".join(self.encode(command) for command in part))
            answers.extend(self.answer() for _ in part)
        return answers

    @staticmethod
    def encode(words):
        out = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            out.append(b"$%d\r\n%s\r\n" % (len(word), word))
        return b"".join(out)

    def answer(self):
        line = self.reader.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.reader.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b"-" or not line:
            raise RuntimeError(f"redis: {rest.decode() or 'closed'}")
        return rest.decode()


class Http:
    """A keep-alive HTTP/1.1 client that may send many GETs before it reads."""

    def __init__(self, port, timeout=60):
        self.port, self.timeout, self.socket = port, timeout, None

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def close(self):
        if self.socket:
            self.reader.close()
            self.socket.close()
            self.socket = None

    def one(self, line):
        """A line as in replay.lua; (status, body). A server closes a connection that rests for seconds: it is opened again."""
        path, _, form = line.partition("\t")
        head = f"{'POST' if form else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        if form:
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n"
        if self.socket is None or self.closed_by_server():
            self.close()
            self.connect()
        self.socket.sendall(f"{head}\r\n{form}".encode())
        return self.read()

    def closed_by_server(self):
        """Nothing is owed between two requests, so whatever can be read is the end (or a 408, which is followed by it)."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def many(self, paths, batch=50):
        """The bodies for all paths, in order, `batch` at a time on the wire. On a fresh connection: a server closes one that rests for seconds."""
        self.close()
        self.connect()
        bodies = []
        for start in range(0, len(paths), batch):
            part = paths[start:start + batch]
            self.socket.sendall(b"".join(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for path in part))
            for path in part:
                status, body = self.read()
                if status != 200:
                    raise RuntimeError(f"GET {path} answered {status}: {body[:200]!r}")
                bodies.append(body)
        return bodies

    def read(self):
        status_line = self.reader.readline()
        if not status_line:
            self.close()
            raise ConnectionError("closed before the answer")
        length, chunked, closing = 0, False, False
        while (line := self.reader.readline().strip().lower()):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
            elif line.startswith(b"transfer-encoding:"):
                chunked = True
            elif line == b"connection: close":
                closing = True
        if chunked:
            parts = []
            while (size := int(self.reader.readline().split(b";")[0], 16)):
                parts.append(self.reader.read(size))
                self.reader.readline()
            self.reader.readline()
            body = b"".join(parts)
        else:
            body = self.reader.read(length)
        if closing:
            self.close()
        return int(status_line.split()[1]), body


def wait_ready(port, path, process, started, seconds=30):
    """Milliseconds from `started` until `path` answers 200."""
    while time.perf_counter() - started < seconds:
        if process.poll() is not None:
            raise RuntimeError(f"ended with {process.returncode} before it was ready")
        client = Http(port, timeout=5)
        try:
            if client.one(path)[0] == 200:
                return round((time.perf_counter() - started) * 1000, 1)
        except OSError:
            pass
        finally:
            client.close()
        time.sleep(0.002)
    raise RuntimeError(f"not ready after {seconds} s")


# The machine.


def disk_flushes(folder, seconds=3.0):
    """Writes of 4 kB, each followed by fdatasync, per second: what bounds a store that is durable before it answers.

    `append` grows a file, as a log does the first time; `overwrite` goes round in 4 MB that already exist, as a
    write-ahead log does after its first checkpoint.
    """
    block = os.urandom(4096)
    figures = {}
    for kind in ("append", "overwrite"):
        path = folder / f"flush-{kind}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if kind == "overwrite":
                os.write(handle, block * 1024)
                os.fsync(handle)
                os.lseek(handle, 0, os.SEEK_SET)
            count, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                if kind == "overwrite" and count % 1024 == 0:
                    os.lseek(handle, 0, os.SEEK_SET)
                os.write(handle, block)
                os.fdatasync(handle)
                count += 1
            figures[kind] = round(count / (time.perf_counter() - started))
        finally:
            os.close(handle)
            path.unlink()
    return figures


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else None


def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(open("/proc/meminfo").readline().split()[1])
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gb": round(memory / 1048576, 1), "kernel": os.uname().release,
            "load_average": [round(value, 2) for value in os.getloadavg()], "wrk": first_line(["wrk", "-v"]),
            "redis": first_line(["redis-server", "--version"])}
