//! Receipts: what a message centre delivers about messages, and which message each is about. It
//! knows them by names of its own only, so they are remembered here until their receipts come. A
//! receipt of a message that this process did not send goes by the number that it names.

use std::collections::VecDeque;

use super::pdu::{self, Delivered};
use crate::domain::outcome::same_name;
use crate::domain::phone::Phone;
use crate::providers::{About, Receipt, wire};

/// Messages that are remembered, and receipts that wait to be fetched.
pub(super) const KEPT_MAX: usize = 10_000;
/// Receipts that came before the answer they belong to, or that another process waits for.
const EARLY_MAX: usize = 10_000;
/// How many digits from the end tell whether two spellings may be one number.
const TAIL: usize = 7;
/// The states of a message by their number, and whether it arrived, where that is settled.
const STATES: [(u8, &str); 8] = [
    (1, "ENROUTE"),
    (2, "DELIVRD"),
    (3, "EXPIRED"),
    (4, "DELETED"),
    (5, "UNDELIV"),
    (6, "ACCEPTD"),
    (7, "UNKNOWN"),
    (8, "REJECTD"),
];

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The centre's name for the message.
    pub(super) id: String,
    /// The phone as the centre writes it; empty where it does not.
    pub(super) phone: String,
    /// Whether it arrived.
    pub(super) arrived: bool,
    /// The state, and the network's error behind a colon.
    pub(super) code: String,
}

/// Reads a receipt. `None` for what is none, and for one that settles nothing.
pub(super) fn report(delivered: &Delivered<'_>) -> Option<Report> {
    let named = delivered.tlv(pdu::RECEIPTED_MESSAGE_ID).map(pdu::first_text);
    // Some centres leave the class out, and nobody else names a message.
    if delivered.esm_class & 0x3c != 0x04 && named.is_none() {
        return None;
    }
    let text = String::from_utf8_lossy(delivered.text);
    let id = named.map(String::from_utf8_lossy).map(|id| id.trim().to_owned());
    let id = id.filter(|id| !id.is_empty()).or_else(|| field(&text, "id"))?;
    let numbered = delivered.tlv(pdu::MESSAGE_STATE).and_then(|state| state.first().copied());
    let numbered = STATES.iter().find(|(number, _)| Some(*number) == numbered);
    let state = numbered.map(|(_, word)| (*word).to_owned());
    let state = state.or_else(|| field(&text, "stat").map(|word| word.to_ascii_uppercase()))?;
    let arrived = match state.as_str() {
        "DELIVRD" => true,
        "EXPIRED" | "DELETED" | "UNDELIV" | "REJECTD" => false,
        // It is on its way, or nobody knows: another receipt may follow.
        _ => return None,
    };
    let telling = |error: &String| !error.bytes().all(|byte| byte == b'0');
    let error = field(&text, "err").filter(telling).or_else(|| network_error(delivered));
    let error = error.filter(|error| !arrived && telling(error));
    let code = error.map_or_else(|| state.clone(), |error| format!("{state}:{error}"));
    let code = wire::word(&code.as_str().into(), 32).unwrap_or(state);
    let id = wire::word(&id.as_str().into(), 64)?;
    let phone = String::from_utf8_lossy(delivered.source);
    let phone = phone.chars().filter(|it| it.is_ascii_digit() || *it == '+').take(20).collect();
    Some(Report { id, phone, arrived, code })
}

/// The value of `name:` in a receipt's text: `id:1 sub:001 … stat:DELIVRD err:000 text:`.
fn field(text: &str, name: &str) -> Option<String> {
    // What stands behind `text:` is the message, which may hold anything.
    let lower = text.to_ascii_lowercase();
    let end = lower.find(" text:").unwrap_or(text.len());
    let key = format!("{name}:");
    let mut found = lower[..end].match_indices(&key).map(|(at, _)| at);
    let at = found.find(|at| *at == 0 || lower.as_bytes()[at - 1].is_ascii_whitespace())?;
    let value = text[at + key.len()..end].split_ascii_whitespace().next()?;
    (!value.contains(':')).then(|| value.trim_matches('\0').to_owned())
}

fn network_error(delivered: &Delivered<'_>) -> Option<String> {
    let [_, high, low] = delivered.tlv(pdu::NETWORK_ERROR_CODE)? else { return None };
    Some(u16::from_be_bytes([*high, *low]).to_string())
}

/// The number that a centre means, where it writes the country's code.
fn international(text: &str) -> Option<Phone> {
    let digits = text.strip_prefix('+').or_else(|| text.strip_prefix("00")).unwrap_or(text);
    Phone::from_e164(&format!("+{digits}"))
}

/// The last digits of a number.
fn tail(number: &str) -> String {
    let digits: Vec<char> = number.chars().filter(char::is_ascii_digit).collect();
    digits[digits.len().saturating_sub(TAIL)..].iter().collect()
}

struct Part {
    id: String,
    arrived: bool,
}

struct Sent {
    reference: String,
    tail: String,
    parts: Vec<Part>,
}

/// A receipt of none of the messages that are remembered.
struct Early {
    report: Report,
    /// Whether receipts were fetched since it came: the answer that it may belong to is overdue.
    waited: bool,
}

/// Messages whose receipts have not come, and receipts that nobody has fetched.
#[derive(Default)]
pub(super) struct Memory {
    sent: VecDeque<Sent>,
    early: VecDeque<Early>,
    receipts: Vec<Receipt>,
}

impl Memory {
    /// Remembers a message that was taken under these names, one for each part.
    pub(super) fn sent(&mut self, reference: &str, phone: &str, ids: Vec<String>) {
        if self.sent.len() == KEPT_MAX {
            self.sent.pop_front();
        }
        let part = |id| Part { id, arrived: false };
        let parts = ids.into_iter().map(part).collect();
        self.sent.push_back(Sent { reference: reference.to_owned(), tail: tail(phone), parts });
        // A receipt may come before the answer.
        let (early, newest) = (std::mem::take(&mut self.early), self.sent.len() - 1);
        self.early = early.into_iter().filter_map(|it| self.settle(it, newest)).collect();
    }

    /// Settles a receipt, if its message is remembered, and not before this place; else gives it
    /// back.
    fn settle(&mut self, early: Early, from: usize) -> Option<Early> {
        let Some((message, part)) = self.find(&early.report, from) else { return Some(early) };
        let report = early.report;
        let sent = &mut self.sent[message];
        sent.parts[part].arrived = report.arrived;
        // It has arrived when all of it has.
        if report.arrived && !sent.parts.iter().all(|part| part.arrived) {
            return None;
        }
        let sent = self.sent.remove(message)?;
        let message_id = sent.parts.into_iter().next().map(|part| part.id).unwrap_or_default();
        self.receipts.push(receipt(sent.reference.into(), message_id, &report));
        None
    }

    /// Takes a receipt; `false` if there is no room for it now.
    pub(super) fn report(&mut self, report: Report) -> bool {
        if self.receipts.len() == KEPT_MAX {
            return false;
        }
        if let Some(early) = self.settle(Early { report, waited: false }, 0) {
            if self.early.len() == EARLY_MAX {
                self.early.pop_front();
            }
            self.early.push_back(early);
        }
        true
    }

    fn find(&self, report: &Report, from: usize) -> Option<(usize, usize)> {
        let place = |fits: &dyn Fn(&Sent, &Part) -> bool| {
            // The newest first: names come round again.
            self.sent.iter().enumerate().skip(from).rev().find_map(|(message, sent)| {
                let part = sent.parts.iter().position(|part| fits(sent, part))?;
                Some((message, part))
            })
        };
        place(&|_, part| part.id == report.id).or_else(|| {
            let told = tail(&report.phone);
            let may = |sent: &Sent| told.is_empty() || sent.tail == told;
            place(&|sent, part| may(sent) && same_name(&part.id, &report.id))
        })
    }

    /// The receipts that came since the last time. Those of messages that nobody here sent go by
    /// their numbers, once the answer that they may belong to had time to come.
    pub(super) fn fetch(&mut self) -> Vec<Receipt> {
        let mut receipts = std::mem::take(&mut self.receipts);
        self.early.retain_mut(|early| {
            let waited = std::mem::replace(&mut early.waited, true);
            let phone = international(&early.report.phone).filter(|_| waited);
            receipts.extend(
                phone.map(|phone| {
                    receipt(About::Phone(phone), early.report.id.clone(), &early.report)
                }),
            );
            !waited
        });
        receipts
    }
}

fn receipt(about: About, message_id: String, report: &Report) -> Receipt {
    Receipt { about, message_id, arrived: report.arrived, vendor_code: report.code.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, arrived: bool) -> Report {
        let (id, phone, code) = (id.to_owned(), PHONE.to_owned(), "X".to_owned());
        Report { id, phone, arrived, code }
    }

    fn receipt(reference: &str, message_id: &str, arrived: bool) -> Receipt {
        Receipt {
            about: reference.into(),
            message_id: message_id.to_owned(),
            arrived,
            vendor_code: "X".to_owned(),
        }
    }

    const PHONE: &str = "+8613818138000";

    #[test]
    fn fields_are_found_and_a_message_cannot_forge_them() {
        let text = "id:7 sub:001 dlvrd:001 submit date:2501011630 done date:2501011631 \
                    stat:UNDELIV err:027 Text:id:8 stat:DELIVRD";
        assert_eq!(field(text, "id").as_deref(), Some("7"));
        assert_eq!(field(text, "stat").as_deref(), Some("UNDELIV"));
        assert_eq!(field(text, "err").as_deref(), Some("027"));
        assert_eq!(field("ID:7 STAT:delivrd", "stat").as_deref(), Some("delivrd"));
        for (text, name) in [("", "id"), ("id: stat:X", "id"), ("grid:7", "id"), ("验id:7", "id")]
        {
            assert_eq!(field(text, name), None, "{text}");
        }
    }

    #[test]
    fn a_receipt_finds_its_message_before_and_after_the_answer() {
        let mut memory = Memory::default();
        assert!(memory.report(report("ff", true)), "it came first");
        assert_eq!(memory.fetch(), []);
        memory.sent("r1", PHONE, vec!["255".to_owned()]);
        assert_eq!(memory.fetch(), [receipt("r1", "255", true)]);
        assert!(memory.report(report("ff", true)), "again");
        assert_eq!(memory.fetch(), []);
        assert_eq!(memory.fetch().len(), 1, "by its number, which changes nothing by then");
        memory.sent("r2", PHONE, vec!["16".to_owned()]);
        memory.sent("r3", PHONE, vec!["10".to_owned()]);
        memory.report(report("10", false));
        assert_eq!(memory.fetch(), [receipt("r3", "10", false)], "the very name goes first");
        let other = Report { phone: "999".to_owned(), ..report("010", true) };
        memory.report(other);
        assert_eq!(memory.fetch(), [], "another phone's");
        memory.report(report("10", true));
        assert_eq!(memory.fetch(), [receipt("r2", "16", true)]);
    }

    #[test]
    fn a_receipt_of_another_process_goes_by_its_number() {
        let mut memory = Memory::default();
        for (phone, known) in [
            ("8613818138000", true),
            ("+8613818138000", true),
            ("008613818138000", true),
            ("013818138000", false),
            ("", false),
            ("12345678901234567890", false),
        ] {
            memory.report(Report { phone: phone.to_owned(), ..report("7", true) });
            assert_eq!(memory.fetch(), [], "its answer may come");
            let about = About::Phone(Phone::from_e164(PHONE).unwrap());
            let expected = Receipt { about, ..receipt("", "7", true) };
            let fetched = memory.fetch();
            assert_eq!(fetched, if known { vec![expected] } else { vec![] }, "{phone}");
            assert_eq!(memory.fetch(), [], "once");
        }
    }

    #[test]
    fn a_message_of_several_parts_has_arrived_when_all_have() {
        let mut memory = Memory::default();
        let ids = || vec!["a".to_owned(), "b".to_owned()];
        memory.sent("r1", PHONE, ids());
        memory.report(report("b", true));
        assert_eq!(memory.fetch(), []);
        memory.report(report("a", true));
        assert_eq!(memory.fetch(), [receipt("r1", "a", true)]);
        memory.sent("r2", PHONE, ids());
        memory.report(report("b", false));
        assert_eq!(memory.fetch(), [receipt("r2", "a", false)]);
    }

    #[test]
    fn memory_has_bounds() {
        let mut memory = Memory::default();
        for number in 0..=KEPT_MAX {
            memory.sent(&format!("r{number}"), PHONE, vec![format!("m{number}")]);
        }
        assert!(memory.report(report("m0", true)), "forgotten");
        assert_eq!(memory.fetch(), []);
        assert!(matches!(memory.fetch()[..], [Receipt { about: About::Phone(_), .. }]));
        for number in 1..=KEPT_MAX {
            assert!(memory.report(report(&format!("m{number}"), true)));
        }
        assert!(!memory.report(report("one more", true)), "no room");
        assert_eq!(memory.fetch().len(), KEPT_MAX);
        assert!(memory.report(report("one more", true)));
    }
}
