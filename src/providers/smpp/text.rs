//! Texts as they go over SMPP: GSM 03.38 with one octet per septet, or UTF-16, in one part or in
//! several that the phone puts together.

use serde::Deserialize;

use crate::message;

/// How many octets one part takes, and each of several, in GSM 03.38 and in UTF-16.
const GSM_PART: (usize, usize) = (160, 153);
const UCS2_PART: (usize, usize) = (140, 134);
/// The most parts of a text.
const PARTS_MAX: usize = 255;

/// What the message centre takes `data_coding` 0 for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alphabet {
    /// GSM 03.38.
    Gsm,
    /// ISO 8859-1.
    Latin1,
}

/// A text, ready to be sent.
#[derive(PartialEq, Eq)]
pub(super) struct Encoded {
    /// 0 or 8.
    pub(super) data_coding: u8,
    /// The parts, without headers.
    pub(super) parts: Vec<Vec<u8>>,
}

/// Encodes a text; `None` if it is longer than any message can be.
pub(super) fn encode(text: &str, alphabet: Alphabet) -> Option<Encoded> {
    let simple: Option<Vec<_>> = text.chars().map(|character| plain(character, alphabet)).collect();
    let (data_coding, atoms, (one, several)) = match simple {
        Some(atoms) => (0, atoms, GSM_PART),
        None => (8, text.chars().map(utf16).collect(), UCS2_PART),
    };
    let size = |atoms: &[Atom]| atoms.iter().map(|atom| atom.size).sum::<usize>();
    let most = if size(&atoms) <= one { one } else { several };
    let mut parts = vec![(0, Vec::new())];
    for atom in atoms {
        if parts.last().is_some_and(|(taken, _)| taken + atom.size > most) {
            parts.push((0, Vec::new()));
        }
        if let Some((taken, part)) = parts.last_mut() {
            *taken += atom.size;
            part.extend(atom.octets);
        }
    }
    let parts: Vec<_> = parts.into_iter().map(|(_, part)| part).collect();
    (parts.len() <= PARTS_MAX).then_some(Encoded { data_coding, parts })
}

/// A character, which no part may end within.
struct Atom {
    octets: Vec<u8>,
    /// What it takes of a part's room.
    size: usize,
}

/// A character of GSM 03.38.
fn plain(character: char, alphabet: Alphabet) -> Option<Atom> {
    let (escaped, code) = message::gsm_code(character)?;
    let size = 1 + usize::from(escaped);
    let octets = match alphabet {
        Alphabet::Gsm if escaped => vec![message::GSM_ESCAPE, code],
        Alphabet::Gsm => vec![code],
        // The centre makes GSM 03.38 of it, which is what counts.
        Alphabet::Latin1 => vec![u8::try_from(u32::from(character)).ok()?],
    };
    Some(Atom { octets, size })
}

fn utf16(character: char) -> Atom {
    let mut units = [0; 2];
    let units = character.encode_utf16(&mut units);
    let octets: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
    Atom { size: octets.len(), octets }
}

/// A part of several with its header: which message's, how many there are, and which this is.
pub(super) fn with_header(part: &[u8], reference: u8, total: usize, place: usize) -> Vec<u8> {
    let small = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
    let header = [5, 0, 3, reference, small(total), small(place + 1)];
    [&header, part].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, alphabet: Alphabet) -> (u8, Vec<usize>) {
        let encoded = encode(text, alphabet).unwrap();
        (encoded.data_coding, encoded.parts.iter().map(Vec::len).collect())
    }

    #[test]
    fn parts_are_as_many_as_carriers_count_and_never_end_within_a_character() {
        for (text, expected) in [
            (String::new(), (0, vec![0])),
            ("a".repeat(160), (0, vec![160])),
            ("a".repeat(161), (0, vec![153, 8])),
            ("€".repeat(80), (0, vec![160])),
            ("a".to_owned() + &"€".repeat(80), (0, vec![153, 8])),
            ("€".repeat(81), (0, vec![152, 10])),
            ("验".repeat(70), (8, vec![140])),
            ("验".repeat(71), (8, vec![134, 8])),
            ("😀".repeat(36), (8, vec![132, 12])),
            ("验".repeat(66) + "😀😀😀", (8, vec![132, 12])),
            ("a`".to_owned(), (8, vec![4])),
        ] {
            assert_eq!(parts(&text, Alphabet::Gsm), expected, "{text}");
            assert_eq!(expected.1.len(), message::segments(&text), "{text}");
        }
        assert!(encode(&"a".repeat(153 * 255), Alphabet::Gsm).is_some());
        assert!(encode(&"a".repeat(153 * 255 + 1), Alphabet::Gsm).is_none());
    }

    #[test]
    fn another_default_alphabet_has_other_octets() {
        let octets = |text: &str, alphabet| encode(text, alphabet).unwrap().parts.concat();
        assert_eq!(octets("@_é[", Alphabet::Gsm), [0, 0x11, 5, 0x1b, 0x3c]);
        assert_eq!(octets("@_é[", Alphabet::Latin1), [0x40, 0x5f, 0xe9, 0x5b]);
        // In GSM 03.38, but not in Latin-1.
        assert_eq!(parts("€", Alphabet::Latin1), (8, vec![2]));
        assert_eq!(parts("Δ", Alphabet::Latin1), (8, vec![2]));
        assert_eq!(parts(&"[".repeat(81), Alphabet::Latin1), (0, vec![76, 5]), "two septets each");
    }
}
