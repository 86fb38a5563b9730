#!/bin/sh
# A whole login: has a code sent, asks for it, and checks the proof. With curl, jq and openssl.
set -eu

issuer=${VERIFY_URL:-http://127.0.0.1:8000} # the server's `public_url`
key=${VERIFY_KEY:-sk_dev_demo}              # your tenant's secret key
tenant=${VERIFY_TENANT:-demo}               # your tenant's id

# The key goes through a pipe: what stands in a command line is seen by everybody on the machine.
call() {
    printf 'Authorization: Bearer %s\n' "$key" |
        curl -sS --max-time 10 -H @- --json "$2" "$issuer$1" |
        jq 'if .detail then .detail + "\n" | halt_error(1) else . end' # says what to do
}

proof() {
    part() { printf %s "$1" | cut -d. -f"$2" | tr '_-' '/+'; }
    kid=$(part "$1" 1 | jq -Rr '@base64d | fromjson | select(.alg == "EdDSA") | .kid')
    public=$(curl -sS --max-time 10 "$issuer/.well-known/jwks.json" |
        jq -er --arg kid "$kid" '.keys[] | select(.kid == $kid) | .x' | tr '_-' '/+')
    # An Ed25519 key in DER is twelve fixed bytes and the key; a signature has always 64 bytes.
    { printf '\060\052\060\005\006\003\053\145\160\003\041\000' && printf '%s=' "$public" | base64 -d; } \
        >"$files/key"
    printf '%s==' "$(part "$1" 3)" | base64 -d >"$files/signature"
    printf %s "${1%.*}" >"$files/signed"
    openssl pkeyutl -verify -pubin -keyform DER -inkey "$files/key" -rawin -in "$files/signed" \
        -sigfile "$files/signature" >&2
    part "$1" 2 | jq -Rer --arg iss "$issuer" --arg aud "$tenant" --arg purpose "$2" '@base64d | fromjson |
        select(.iss == $iss and .aud == $aud and .purpose == $purpose and .exp > now) | .phone_number'
}

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
started=$(call /v1/verifications "$(jq -n --arg phone "$1" '{$phone}')")
printf 'The code that was sent to %s: ' "$(printf %s "$started" | jq -r .phone)"
read -r code
path=/v1/verifications/$(printf %s "$started" | jq -r .id)/check
checked=$(call "$path" "$(jq -n --arg code "$code" '{$code}')")
proved=$(proof "$(printf %s "$checked" | jq -r .token)" login) || { echo "not a valid proof" >&2; exit 1; }
echo "proved: $proved"
