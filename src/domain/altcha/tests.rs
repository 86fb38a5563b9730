//! The protocol's own vectors, and what must not pass.

use serde_json::{Value, json};

use super::*;

const ID: &str = "shop~sealed";

fn keys() -> Keys {
    Keys::new(b"a", b"b")
}

fn cost(rounds: u32) -> NonZeroU32 {
    NonZeroU32::new(rounds).unwrap()
}

fn puzzle(counter: u32) -> Puzzle {
    Puzzle { nonce: [1; 16], salt: [2; 16], counter }
}

fn encoded(payload: &Value) -> Payload {
    Payload::decode(&STANDARD.encode(payload.to_string())).unwrap()
}

fn claim(payload: &Value) -> Option<Claim> {
    encoded(payload).claim(&[&keys()])
}

fn is_right(payload: &Value) -> bool {
    match claim(payload) {
        Some(Claim::Solution { right, .. } | Claim::SolutionV1 { right, .. }) => right,
        Some(Claim::Vouched { .. }) | None => false,
    }
}

/// Tries one counter after the other, as a browser does.
fn solve(challenge: &Challenge<'_>) -> Value {
    let (mut nonce, mut salt) = ([0; 16], [0; 16]);
    hex::decode_to_slice(challenge.parameters.nonce.as_bytes(), &mut nonce).unwrap();
    hex::decode_to_slice(challenge.parameters.salt.as_bytes(), &mut salt).unwrap();
    let rounds = cost(challenge.parameters.cost);
    let mut tries = (0..).map(|counter| (counter, derive(rounds, &salt, &nonce, counter)));
    let begins = |key: &[u8; 32]| hex::encode(key).starts_with(&*challenge.parameters.key_prefix);
    let (counter, key) = tries.find(|(_, key)| begins(key)).unwrap();
    let solution = json!({"counter": counter, "derivedKey": hex::encode(key), "time": 1.5});
    json!({"challenge": challenge, "solution": solution})
}

fn solve_v1(challenge: &ChallengeV1) -> Value {
    let number = (0..=u64::from(challenge.maxnumber))
        .find(|number| hash_v1(&challenge.salt, *number) == challenge.challenge)
        .unwrap();
    json!({"algorithm": challenge.algorithm, "challenge": challenge.challenge, "number": number,
        "salt": challenge.salt, "signature": challenge.signature, "took": 3})
}

/// Made with npm altcha-lib 2.8.0, secrets `a` and `b`, counter 400.
fn vector() -> Value {
    let key_signature = "b378bfe0435447038ad8af644305d1045f3e941517ff907543b0021c0fe628da";
    let parameters = json!({"algorithm": ALGORITHM, "cost": 1000, "keyLength": 32,
        "keyPrefix": "d965e479b8c0255ae938eb7045f892bb", "keySignature": key_signature,
        "nonce": "c912dc201a2faf1a968c2ff6699f15a1", "salt": "28f906acb63cf6c35443a43450b40f93"});
    let derived = "d965e479b8c0255ae938eb7045f892bb6fa3a69663470857226491f47a373fd7";
    let signature = "82ef9de6837b0efefad83e9646cbd16ba7fe0411d6063fc6f5c6f2138ac6620c";
    json!({"challenge": {"parameters": parameters, "signature": signature},
        "solution": {"counter": 400, "derivedKey": derived, "time": 1}})
}

#[test]
fn the_official_library_and_we_agree_on_pbkdf2() {
    let vector = vector().to_string();
    let solved: Solved<'_> = serde_json::from_str(&vector).unwrap();
    assert!(solved.holds(&keys()));
    assert!(!solved.holds(&Keys::new(b"b", b"a")));
    let bytes = |text: &str| hex::decode(text).unwrap();
    let parameters = &solved.challenge.parameters;
    let key = derive(cost(1000), &bytes(&parameters.salt), &bytes(&parameters.nonce), 400);
    assert_eq!(hex::encode(key), solved.solution.derived_key);
    // It carries no id, so no door could take it.
    assert!(Payload(vector.clone().into_bytes()).claim(&[&keys()]).is_none());
}

#[test]
fn the_official_rust_crate_and_we_agree_on_what_is_signed() {
    // From its tests: secret `test-secret`, iterated SHA-256, counter 42 as text.
    let key = "3cf4a48a065fa0fa96d3a80630e73733599ed4d57580fa9084baa52ef8694ea9";
    let parameters = Parameters {
        algorithm: ALGORITHM_V1.into(),
        cost: 10,
        data: None,
        expires_at: None,
        key_length: 32,
        key_prefix: key[..32].into(),
        key_signature: None,
        nonce: "647e028a083e3d738d7de0ed42793083".into(),
        salt: "c6c46275373795af264b50063419ef11".into(),
    };
    let signature = "257709e6715640be1d1568a3c1b68e99f5ea19aa320f9b1d7dfaea893a915f66";
    let keys = Keys::new(b"test-secret", b"");
    assert!(coded(&keys.signature, &canonical(&parameters), signature));
    // But it is not taken: the algorithm is another, and nothing says what the whole key is.
    let challenge = Challenge { parameters, signature: signature.into() };
    let solved = Solved { challenge, solution: Solution { derived_key: key.into() } };
    assert!(!solved.holds(&keys));
}

#[test]
fn the_official_library_and_we_agree_on_version_1() {
    let keys = Keys::new(b"test-hmac-key", b"");
    let vectors = [
        (
            "0123456789abcdef01234567&",
            "42df3d1f2988ae1e31fcb9b2a8a885a36cd7e217f8e370b924c92f53febe168d",
            "fae041ebf6c35466e186501bc76b2e9e0cf245faa18be923df7c361c70c6e0e7",
        ),
        (
            "0123456789abcdef01234567?expires=4102444800&",
            "b31d7a519ea9b9ec018755785e7621ed56a2e74c3d3b4840e2b894e1f47b5c48",
            "d0dde3b1aacb14b218f4f2ea634d6bcbad8cfe59e9e1f2d9faec059ac9f21d9f",
        ),
    ];
    for (salt, challenge, signature) in vectors {
        let solved = |number| SolvedV1 {
            algorithm: ALGORITHM_V1.into(),
            challenge: challenge.into(),
            number,
            salt: salt.into(),
            signature: signature.into(),
        };
        assert!(solved(12345).holds(&keys), "{salt}");
        assert!(!solved(12346).holds(&keys), "{salt}");
        assert_eq!(solved(12345).id(), None);
    }
}

#[test]
fn a_solution_is_right_and_another_is_not() {
    let keys = keys();
    let solved = solve(&challenge(&keys, &puzzle(37), cost(3), ID, 1_735_749_345));
    assert_eq!(solved["solution"]["counter"], 37);
    assert_eq!(claim(&solved), Some(Claim::Solution { id: ID.to_owned(), right: true }));
    let near = hex::encode(derive(cost(3), &[2; 16], &[1; 16], 38));
    for wrong in [near.as_str(), "", "00", &"0".repeat(64), &"g".repeat(64), &"0".repeat(66)] {
        let mut other = solved.clone();
        other["solution"]["derivedKey"] = json!(wrong);
        assert!(!is_right(&other), "{wrong}");
    }
    // The half that is given away is not enough.
    let mut half = solved.clone();
    let prefix = solved["challenge"]["parameters"]["keyPrefix"].as_str().unwrap();
    half["solution"]["derivedKey"] = json!(format!("{prefix}{}", "0".repeat(32)));
    assert!(!is_right(&half));
    // A key that was rotated out signs nothing any more, and one in its overlap does.
    let other = || Keys::new(b"c", b"d");
    assert!(matches!(
        encoded(&solved).claim(&[&other()]),
        Some(Claim::Solution { right: false, .. })
    ));
    let both = encoded(&solved).claim(&[&other(), &keys]);
    assert!(matches!(both, Some(Claim::Solution { right: true, .. })));
}

#[test]
fn nothing_in_a_puzzle_can_be_changed() {
    let solved = solve(&challenge(&keys(), &puzzle(5), cost(3), ID, 1_735_749_345));
    let changes = [
        ("algorithm", json!("PBKDF2/SHA-512")),
        ("cost", json!(2)),
        ("data", json!({"id": "bank~sealed"})),
        ("data", json!(null)),
        ("expiresAt", json!(4_102_444_800_i64)),
        ("expiresAt", json!(null)),
        ("keyLength", json!(16)),
        ("keyPrefix", json!("00")),
        ("keySignature", json!(null)),
        ("keySignature", json!("0".repeat(64))),
        ("nonce", json!("00")),
        ("salt", json!("00")),
        ("extra", json!(1)),
    ];
    assert!(is_right(&solved));
    for (name, value) in changes {
        let mut other = solved.clone();
        other["challenge"]["parameters"][name] = value.clone();
        assert!(!is_right(&other), "{name} {value}");
    }
    let mut unsigned = solved.clone();
    unsigned["challenge"]["signature"] = json!("");
    assert!(!is_right(&unsigned));
}

#[test]
fn a_digit_cannot_be_moved_from_the_number_into_the_salt() {
    let keys = keys();
    let solved = solve_v1(&challenge_v1(&keys, &puzzle(12345), 100_000, ID, 1_700_000_000));
    assert_eq!(claim(&solved), Some(Claim::SolutionV1 { id: ID.to_owned(), right: true }));
    // github.com/jmic/altcha-lib-rs issue 4: `…expires=1700000000` and 12345 hash like
    // `…expires=17000000001` and 2345. The `&` at the salt's end stands between them.
    let salt = solved["salt"].as_str().unwrap();
    assert!(salt.ends_with("id=shop~sealed&"), "{salt}");
    for (moved, number) in [("1", 2345), ("12", 345), ("123", 45), ("1234", 5)] {
        let mut spliced = solved.clone();
        spliced["salt"] = json!(format!("{salt}{moved}"));
        spliced["number"] = json!(number);
        let hash = hash_v1(spliced["salt"].as_str().unwrap(), number);
        assert_eq!(hash, solved["challenge"], "the hash alone does not tell");
        assert!(!is_right(&spliced), "{moved}");
    }
    // And a salt that was never closed is not ours, whoever signed it.
    let open = format!("00?id={ID}&expires=1700000000");
    let hash = hash_v1(&open, 12345);
    let signature = hex::encode(hmac::sign(&keys.signature, hash.as_bytes()));
    let unclosed = json!({"algorithm": ALGORITHM_V1, "challenge": hash, "number": 12345,
        "salt": open, "signature": signature});
    assert!(!is_right(&unclosed));
    for (name, value) in
        [("number", json!(12344)), ("algorithm", json!("SHA-1")), ("challenge", json!("00"))]
    {
        let mut other = solved.clone();
        other[name] = value;
        assert!(!is_right(&other), "{name}");
    }
    let mut two = solved.clone();
    two["salt"] = json!(format!("{salt}id=bank~sealed&"));
    assert_eq!(claim(&two), None, "which of the two would it be?");
}

#[test]
fn what_we_vouch_for_names_its_id_and_what_is_no_payload_claims_nothing() {
    let vouched = Payload::decode(&Payload::vouch(ID)).unwrap().claim(&[]);
    assert_eq!(vouched, Some(Claim::Vouched { id: ID.to_owned() }));
    assert!(Payload::decode("not base64!").is_none());
    assert!(Payload::decode(&STANDARD.encode("x".repeat(PAYLOAD_MAX))).is_none());
    for text in ["", "{}", "[]", "null", r#"{"id": 1}"#, r#"{"challenge": null, "test": true}"#] {
        assert!(Payload(text.into()).claim(&[&keys()]).is_none(), "{text}");
    }
}
