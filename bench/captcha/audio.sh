#!/usr/bin/env bash
# Measures what programs make of our audio clips, and what speaking them costs: about ten minutes of a core.
# Attackers go into a throw-away environment in target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=target/attack
python=$out/audio-venv/bin/python
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

mkdir -p "$out"
[[ -x $python ]] || python3 -m venv "$out/audio-venv"
$python -m pip install --quiet --disable-pip-version-check numpy==2.4.6 pocketsphinx==5.1.1
cargo build --locked --release --example audio_clips
clips="${CARGO_TARGET_DIR:-target}/release/examples/audio_clips"

for language in en zh; do
    "$clips" time --language $language --count 1000
    rm -rf "$out/clips-$language" "$out/clips-$language-known"
    "$clips" files --language $language --count 300 --out "$out/clips-$language"
    "$clips" files --language $language --first 100000 --count 4000 --out "$out/clips-$language-known"
    $python -u bench/captcha/audio_attack.py "$out/clips-$language" --language $language --train "$out/clips-$language-known"
done
