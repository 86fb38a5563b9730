"""A whole login: has a code sent, asks for it, and checks the proof. pip install "pyjwt[crypto]"."""
import json, os, sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import jwt

ISSUER = os.environ.get("VERIFY_URL", "http://127.0.0.1:8000")  # the server's `public_url`
KEY = os.environ.get("VERIFY_KEY", "sk_dev_demo")               # your tenant's secret key
TENANT = os.environ.get("VERIFY_TENANT", "demo")                # your tenant's id
KEYS = jwt.PyJWKClient(f"{ISSUER}/.well-known/jwks.json")         # remembers the keys


def call(path, **body):
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    try:
        with urlopen(Request(ISSUER + path, json.dumps(body).encode(), headers), timeout=10) as answer:
            return json.load(answer)
    except HTTPError as refused:
        sys.exit(json.load(refused)["detail"])                  # says what to do


def proof(token, purpose):
    key = KEYS.get_signing_key_from_jwt(token).key
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience=TENANT, issuer=ISSUER)
    if claims["purpose"] != purpose:
        raise jwt.InvalidTokenError("a proof for something else")
    return claims


started = call("/v1/verifications", phone=sys.argv[1])
code = input(f"The code that was sent to {started['phone']}: ")
checked = call(f"/v1/verifications/{started['id']}/check", code=code)
print("proved:", proof(checked["token"], "login")["phone_number"])
