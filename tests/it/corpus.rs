//! P5, P15: what the fuzzer runs, and what it once found, on every check: each committed input and
//! some neighbours of it, by seed (`just fuzz` searches further). `NEIGHBOURS` says how many for
//! each target, usually 2 000, and `SEED` which.

use std::path::Path;

use countersign::chance::{Chance, SeededChance};

use crate::world::times;

#[path = "../../fuzz/targets.rs"]
#[expect(unreachable_pub, reason = "for the fuzzer this file is a library")]
mod targets;

/// Bytes that mean something to somebody.
const TELLING: &[u8] = b"\0\n\r\"'{}[]<>,;:+-()&%/\\=~ 0189aZ\x7f\x80\xe2\xff";

/// The committed inputs of a target, in the order of their names.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let listed = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A neighbour of an input: a few bytes changed, added or gone, or another's end put behind it.
fn neighbour(inputs: &[Vec<u8>], chance: &mut dyn Chance) -> Vec<u8> {
    let mut pick = |below: usize| usize::try_from(chance.below(below as u64)).unwrap();
    let mut input = inputs[pick(inputs.len())].clone();
    for _ in 0..=pick(4) {
        let at = pick(input.len() + 1);
        match (pick(4), at < input.len()) {
            (0, true) => input[at] = TELLING[pick(TELLING.len())],
            (1, true) => drop(input.remove(at)),
            (2, _) => {
                let other = &inputs[pick(inputs.len())];
                let from = pick(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            _ => input.insert(at, TELLING[pick(TELLING.len())]),
        }
    }
    input
}

/// Runs one input; says which it was if it breaks something.
fn run(name: &str, target: fn(&[u8]), input: &[u8]) {
    let ran = std::panic::catch_unwind(|| target(input));
    let shown = String::from_utf8_lossy(input);
    assert!(ran.is_ok(), "{name}: put this into fuzz/seeds/{name}: {shown:?} ({input:x?})");
}

#[test]
fn no_input_that_the_fuzzer_has_breaks_anything() {
    let (neighbours, seed) = (times("NEIGHBOURS", 2000), times("SEED", 41));
    for (name, target) in targets::ALL {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "fuzz/seeds/{name} is empty");
        for input in &inputs {
            run(name, target, input);
        }
        let mut chance = SeededChance(seed);
        for _ in 0..neighbours {
            run(name, target, &neighbour(&inputs, &mut chance));
        }
        eprintln!("{name}: {} inputs and {neighbours} neighbours", inputs.len());
    }
}

#[test]
fn every_target_is_one_that_the_fuzzer_knows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let listed = |folder: &str| {
        let entries = root.join(folder).read_dir().unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".rs", ""))
            .collect();
        names.sort();
        names
    };
    let mut names: Vec<_> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(listed("fuzz_targets"), names);
    assert_eq!(listed("seeds"), names);
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")), "{name}");
    }
}
