#!/usr/bin/env bash
# Starts the peer: redis-server and gunicorn on 127.0.0.1, each on a free port; prints where they are; stops both,
# by their own pid, when it ends.
#
#   run.sh             start and wait (Ctrl-C or SIGTERM ends it)
#   run.sh --prepare   only make the virtual environment
#
# Settings: PEER_WORKER=sync|gthread  PEER_WORKERS=<cores>  PEER_THREADS=4  PEER_REDIS_PORT=  PEER_HTTP_PORT=
#           PEER_DATA=<folder for the Redis snapshot and the logs>
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
bench=$(cd "$here/../.." && pwd)/target/bench
venv=$bench/peer-venv

prepare() {
    if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
        echo "peer: making $venv" >&2
        rm -rf "$venv"
        mkdir -p "$bench"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
        "$venv/bin/python" -m compileall -q "$venv/lib" >/dev/null || true
        cp "$here/requirements.txt" "$venv/installed.txt"
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

prepare
[ "${1:-}" = --prepare ] && exit 0

redis_port=${PEER_REDIS_PORT:-$(free_port)}
http_port=${PEER_HTTP_PORT:-$(free_port)}
worker=${PEER_WORKER:-sync}
workers=${PEER_WORKERS:-$(nproc)}
data=${PEER_DATA:-$bench/peer-data}
mkdir -p "$data"

redis_pid='' gunicorn_pid=''
stop() {
    trap - EXIT INT TERM
    for pid in $gunicorn_pid $redis_pid; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    exit 0
}
trap stop EXIT INT TERM

# Persistence as Debian's package leaves it: snapshots only (Redis' own default points), no append-only file.
redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$data" --daemonize no --appendonly no \
    --save "3600 1 300 100 60 10000" >"$data/redis.log" 2>&1 &
redis_pid=$!

threads=()
[ "$worker" = gthread ] && threads=(--threads "${PEER_THREADS:-4}")
export PEER_REDIS_PORT=$redis_port PYTHONDONTWRITEBYTECODE=1
"$venv/bin/gunicorn" wsgi:application --chdir "$here" --bind "127.0.0.1:$http_port" --workers "$workers" \
    --worker-class "$worker" "${threads[@]}" --log-level warning >"$data/gunicorn.log" 2>&1 &
gunicorn_pid=$!

echo "peer http=127.0.0.1:$http_port redis=127.0.0.1:$redis_port gunicorn_pid=$gunicorn_pid redis_pid=$redis_pid"
wait -n "$gunicorn_pid" "$redis_pid"
