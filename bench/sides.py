"""The two sides: how each is started, ended, and given what the load will spend.

Both offer the same: `start`, `stop`, `pids`, and the request lines for a metric:

    images(n)   a picture for a fresh uuid
    sends(n)    a fresh phone with a solved image
    checks(n)   the right code of a phone that has one: each can be spent once
    wrongs(n)   a wrong code for a phone that has one, at most three times each
    flows(n)    images, sends and checks in turn: three lines are one flow
"""

import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import time
import urllib.parse
import uuid

from tools import BENCH, REPO, Http, Redis, children, end, free_port, say, wait_ready

PREFIXES = (138, 139, 150, 151, 158, 159, 186, 187, 188, 199)
EVERY_PHONE = len(PREFIXES) * 10**8
STRIDE = 618_033_989  # shares no factor with 10**9, so a walk by it meets every phone before it meets one again


class Phones:
    """Mainland mobiles in national form, scattered over the number space, never the same twice in a run."""

    def __init__(self):
        self.at = random.randrange(EVERY_PHONE)

    def take(self, count):
        taken = []
        for _ in range(count):
            self.at = (self.at + STRIDE) % EVERY_PHONE
            taken.append(f"{PREFIXES[self.at // 10**8]}{self.at % 10**8:08d}")
        return taken


PHONES = Phones()


def uuids(count):
    return [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(count)]


def send_line(phone, image, answer):
    return f"/sms_codes/{phone}/?image_code_id={image}&image_code={urllib.parse.quote(answer)}"


def check_line(phone, code):
    return f"/sms_login/\tmobile={phone}&sms_code={code}"


class Side:
    """What the two have in common."""

    ok = "0"
    sent = ()

    def images(self, count):
        return [f"/image_codes/{image}/" for image in uuids(count)]

    def sends(self, count):
        self.sent = PHONES.take(count)
        return [send_line(phone, *pair) for phone, pair in zip(self.sent, self.answers(count))]

    def checks(self, count):
        return [check_line(phone, code) for phone, code in self.codes(count)]

    def wrongs(self, count):
        """A code that is right for one phone in a million: noise, and counted as what it is."""
        phones = [phone for phone, _ in self.codes(-(-count // 3))]
        return [check_line(phone, "000000") for _ in range(3) for phone in phones][:count]

    def flows(self, count):
        each = -(-count // 3)
        checks = self.checks(each)  # first, because making codes takes longer than making answers
        trios = zip(self.images(each), self.sends(each), checks)
        return [line for trio in trios for line in trio]


class Peer(Side):
    name = "peer"
    ready_path = "/sms_codes/0/"

    def __init__(self, worker="sync", workers=None):
        self.worker, self.workers, self.process = worker, workers or os.cpu_count(), None

    def prepare(self):
        subprocess.run([BENCH / "peer" / "run.sh", "--prepare"], check=True)

    def start(self, folder, **_):
        self.port, self.redis_port = free_port(), free_port()
        environment = {**os.environ, "PEER_HTTP_PORT": str(self.port), "PEER_REDIS_PORT": str(self.redis_port),
                       "PEER_WORKER": self.worker, "PEER_WORKERS": str(self.workers), "PEER_DATA": str(folder)}
        started = time.perf_counter()
        self.process = subprocess.Popen([BENCH / "peer" / "run.sh"], env=environment, stdout=subprocess.DEVNULL)
        ready_ms = wait_ready(self.port, self.ready_path, self.process, started)
        self.redis = Redis(self.redis_port)
        self.redis_pid = int(self.info("server", "process_id"))
        return ready_ms

    def stop(self):
        if self.process:
            self.redis.socket.close()
            # What is in it is not worth a snapshot, and writing one would disturb the other side's next run.
            Redis(self.redis_port).pipeline([("FLUSHALL",), ("CONFIG", "SET", "save", "")])
            end(self.process)
            self.process = None

    def pids(self):
        """gunicorn's master and workers, and Redis; not the shell that started them."""
        return children(self.process.pid) if self.process else []

    def info(self, section, field):
        text = self.redis.pipeline([("INFO", section)])[0].decode()
        return re.search(rf"^{field}:(.*?)\r?$", text, re.MULTILINE).group(1)

    def answers(self, count):
        """Texts put into Redis as `GET /image_codes/…` would: the load then only spends them."""
        pairs = [(image, "%04X" % random.randrange(65536)) for image in uuids(count)]
        self.redis.pipeline([("SETEX", f"img_{image}", 300, text) for image, text in pairs])
        return pairs

    def codes(self, count):
        pairs = [(phone, f"{random.randrange(1, 10**6):06d}") for phone in PHONES.take(count)]
        self.redis.pipeline([("SETEX", f"sms_{phone}", 300, code) for phone, code in pairs])
        return pairs

    def answer_for(self, image):
        return self.redis.pipeline([("GET", f"img_{image}")])[0].decode()

    def code_for(self, phone):
        return self.redis.pipeline([("GET", f"sms_{phone}")])[0].decode()


class Countersign(Side):
    name = "countersign"
    ready_path = "/health/ready"
    seed_answers = REPO / "target" / "release" / "examples" / "seed_answers"

    def __init__(self, binary, load, keys=None, store="embedded", url=None, manner="replicas = 0"):
        """`url` names a Redis that somebody else starts and ends; `manner` is what [store] says besides."""
        self.binary, self.load, self.keys, self.store, self.url, self.manner = binary, load, keys, store, url, manner
        self.process = self.redis_process = self.dev_http = None
        self.lean_works = None  # not yet known whether the simulated provider is allowed without [dev]
        if store == "redis":
            self.name = "countersign-redis"

    def prepare(self):
        pass

    def buckets(self, metric):
        """A histogram's counts by their upper bounds; each includes those below."""
        _, text = self.dev_http.one("/metrics")
        found = re.findall(rf'^{metric}_bucket{{.*?le="([^"]+)"}} (\d+)$', text.decode(), re.MULTILINE)
        return {float(bound): int(count) for bound, count in found}

    # Start and stop.

    def start(self, folder, dev=True, code_seconds=300, redis_folder=None):
        """`dev=False` asks for a server without the developer's door (its inbox of messages is memory nobody pays for in
        production); it is honoured when the answers can be had without that door and the server agrees to start."""
        self.folder = pathlib.Path(folder)
        lean = not dev and self.can_answer_without_dev() and self.lean_works is not False
        if self.store == "redis" and not self.url:
            self.start_redis(redis_folder or self.folder)
        try:
            ready_ms = self.launch(not lean, code_seconds)
        except RuntimeError:
            if not lean:
                self.stop()
                raise
            say("countersign does not start without [dev]: its memory figures include the inbox of the simulated provider")
            self.lean_works, lean = False, False
            ready_ms = self.launch(True, code_seconds)
        if lean:
            self.lean_works = True
        self.dev = not lean
        self.dev_http = Http(self.port)
        return ready_ms

    def launch(self, dev, code_seconds):
        self.port = free_port()
        config = self.folder / "countersign.toml"
        config.write_text(self.config(dev, code_seconds))
        with open(self.folder / "countersign.log", "ab") as log:
            started = time.perf_counter()
            self.process = subprocess.Popen([*self.binary, "serve", "--config", str(config)], cwd=self.folder,
                                            stdout=log, stderr=log)
        try:
            return wait_ready(self.port, self.ready_path, self.process, started)
        except RuntimeError as error:
            end(self.process)
            tail = (self.folder / "countersign.log").read_text(errors="replace").splitlines()[-12:]
            raise RuntimeError("\n  ".join([f"countersign: {error}", *tail])) from None

    def config(self, dev, code_seconds):
        url = f'url = "{self.url or f"redis://127.0.0.1:{self.redis_port}"}"' if self.store == "redis" else ""
        url += f"\n{self.manner}" if self.url else ""
        keys = f'[keys]\nfile = "{self.keys}"' if self.url else ""
        return f"""\
listen = "127.0.0.1:{self.port}"
public_url = "http://127.0.0.1:{self.port}"
trusted_proxies = ["127.0.0.1/32"]

[store]
kind = "{self.store}"
path = "{self.folder / 'countersign.db'}"
{url}

{keys}

[dev]
enabled = {str(dev).lower()}

[code]
ttl_seconds = {code_seconds}

[limits]
address_per_hour = 1000000000

[log]
filter = "warn"

[seed_api]
enabled = true

[[providers]]
name = "sim"
kind = "simulated"
"""

    def start_redis(self, folder):
        """With an append-only file besides the peer's snapshots: without, Countersign refuses to start on it."""
        if self.redis_process:
            return
        self.redis_port = free_port()
        with open(folder / "redis.log", "ab") as log:
            self.redis_process = subprocess.Popen(
                ["redis-server", "--bind", "127.0.0.1", "--port", str(self.redis_port), "--dir", str(folder),
                 "--appendonly", "yes", "--appendfsync", "everysec", "--save", "3600 1 300 100 60 10000"], stdout=log, stderr=log)
        for _ in range(500):
            try:
                Redis(self.redis_port).pipeline([("PING",)])
                return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError("redis-server did not come up")

    def stop(self):
        if self.dev_http:
            self.dev_http.close()
        end(self.process)
        self.process = None
        if self.redis_process:
            try:
                Redis(self.redis_port).pipeline([("FLUSHALL",), ("CONFIG", "SET", "save", "")])
            except (OSError, RuntimeError):
                pass
            end(self.redis_process)
            self.redis_process = None

    def pids(self):
        processes = [process for process in (self.process, self.redis_process) if process]
        return [process.pid for process in processes]

    def disk_mb(self):
        return round(sum(file.stat().st_size for file in self.folder.glob("countersign.db*")) / 1048576, 1)

    # What the load spends.

    def key_file(self):
        """Given by --keys, else the only *.keys the server left beside its store."""
        if self.keys:
            return pathlib.Path(self.keys)
        found = sorted(self.folder.glob("**/*.keys"))
        return found[0] if found else None

    def can_answer_without_dev(self):
        return self.seed_answers.exists()

    def answers(self, count):
        """Solved images of the current time window, by the helper when it is there, else from the developer's door."""
        if self.seed_answers.exists():
            command = [self.seed_answers, "--count", str(count)]
            if keys := self.key_file():
                command += ["--keys", str(keys)]
            done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
            if done.returncode == 0:
                return [tuple(line.split()) for line in done.stdout.splitlines()[:count]]
            raise RuntimeError(f"seed_answers: {done.stderr.strip()[-500:]}")
        images = uuids(count)
        bodies = self.dev_http.many([f"/dev/image_codes/{image}" for image in images])
        return [(image, json.loads(body)["answer"]) for image, body in zip(images, bodies)]

    def codes(self, count):
        """Sends through the front door, then reads what the simulated provider delivered. Works in rounds as large as
        the inbox turns out to be."""
        found, round_size = {}, count
        while len(found) < count:
            lines = self.sends(min(round_size, count - len(found)))
            phones = set(self.sent)
            result = self.load.run(self.port, lines, 120, "drain")
            accepted = result["answers"].get(self.ok, 0)
            if accepted < 0.5 * len(lines):
                raise RuntimeError(f"preparing codes: {accepted} of {len(lines)} sends were accepted: {result['answers']}")
            fresh = self.inbox(phones, accepted)
            if not fresh:
                raise RuntimeError("preparing codes: nothing in /dev/messages")
            if len(fresh) < 0.9 * accepted:
                if round_size == count:
                    say(f"  /dev/messages holds {len(fresh)} of {accepted} messages: preparing in rounds")
                round_size = max(100, len(fresh))
            found.update(fresh)
        return list(found.items())

    def inbox(self, phones, expected):
        """{phone: code} of the wanted phones, once the deliveries have settled."""
        fresh, size, deadline = {}, -1, time.time() + 60
        while len(fresh) < expected and time.time() < deadline:
            fresh = {}
            for message in self.messages():
                phone = message["phone"][-11:]
                if phone in phones:
                    fresh.setdefault(phone, message["code"])
            if len(fresh) == size:
                break
            size = len(fresh)
            if size < expected:
                time.sleep(1)
        return fresh

    def messages(self, query=""):
        status, body = self.dev_http.one(f"/dev/messages{query or '?limit=10000000'}")
        if status != 200 and not query:
            status, body = self.dev_http.one("/dev/messages")
        if status != 200:
            raise RuntimeError(f"/dev/messages answered {status}")
        return json.loads(body)

    def answer_for(self, image):
        return json.loads(self.dev_http.one(f"/dev/image_codes/{image}")[1])["answer"]

    def code_for(self, phone):
        deadline = time.time() + 5
        while time.time() < deadline:
            if found := self.messages(f"?phone=%2B86{phone}"):
                return found[0]["code"]
            time.sleep(0.001)
        raise RuntimeError(f"no message for {phone} within 5 s")


def fresh_folder(base, name):
    folder = base / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
