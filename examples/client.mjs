// A whole login: has a code sent, asks for it, and checks the proof. Node 20, nothing else.
import { createPublicKey, verify } from "node:crypto";
import { createInterface } from "node:readline/promises";

const issuer = process.env.VERIFY_URL ?? "http://127.0.0.1:8000"; // the server's `public_url`
const secretKey = process.env.VERIFY_KEY ?? "sk_dev_demo";        // your tenant's secret key
const tenant = process.env.VERIFY_TENANT ?? "demo";               // your tenant's id

async function call(path, body) {
  const headers = { authorization: `Bearer ${secretKey}`, "content-type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(10_000) };
  const answer = await fetch(issuer + path, options);
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail); // says what to do
  return said;
}

async function proof(token, purpose) {
  const [head, body, signature] = token.split(".");
  const { alg, kid } = JSON.parse(Buffer.from(head, "base64url"));
  const { keys } = await (await fetch(`${issuer}/.well-known/jwks.json`)).json(); // may be cached
  const key = keys.find((key) => key.kid === kid);
  const signed = alg === "EdDSA" && key && verify(null, Buffer.from(`${head}.${body}`),
    createPublicKey({ key, format: "jwk" }), Buffer.from(signature, "base64url"));
  const claims = JSON.parse(Buffer.from(body, "base64url"));
  const fits = claims.iss === issuer && claims.aud === tenant && claims.purpose === purpose;
  if (!signed || !fits || claims.exp <= Date.now() / 1000) throw new Error("not a valid proof");
  return claims;
}

const started = await call("/v1/verifications", { phone: process.argv[2] });
const person = createInterface(process.stdin, process.stdout);
const code = await person.question(`The code that was sent to ${started.phone}: `);
person.close();
const { token } = await call(`/v1/verifications/${started.id}/check`, { code });
console.log("proved:", (await proof(token, "login")).phone_number);
