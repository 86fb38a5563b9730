//! A `submit_sm`, judged field by field.

use crate::domain::phone::Phone;
use crate::message;
use crate::providers::smpp::pdu::Fields;
use crate::simulate::Account;

/// The statuses of what is wrong with a message.
const LENGTH: u32 = 0x01;
const COMMAND_LENGTH: u32 = 0x02;
const PRIORITY: u32 = 0x06;
const RECEIPT: u32 = 0x07;
const SOURCE: u32 = 0x0a;
const DESTINATION: u32 = 0x0b;
const SERVICE: u32 = 0x15;
const CLASS: u32 = 0x43;
const SOURCE_TYPE: u32 = 0x48;
const TYPE: u32 = 0x50;
const PLAN: u32 = 0x51;
const SCHEDULE: u32 = 0x61;
const VALIDITY: u32 = 0x62;
const TLVS: u32 = 0xc0;
/// A text that stands in an optional field.
const MESSAGE_PAYLOAD: u16 = 0x0424;
/// A header stands before the text.
const WITH_HEADER: u8 = 0x40;

/// A message, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Submitted {
    /// To whom.
    pub(super) phone: Phone,
    /// The number as it was written.
    pub(super) written: String,
    /// The sender.
    pub(super) source: String,
    /// The text.
    pub(super) text: String,
    /// Which part of which message, if it is one of several.
    pub(super) part: Option<Part>,
    /// Whether a receipt is wanted: always, or only if it fails.
    pub(super) receipt: Wanted,
}

/// A part of a message: the reference, how many there are, and which this is.
pub(super) type Part = (u8, u8, u8);

/// Which receipts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None.
    No,
    /// Whatever comes of it.
    Any,
    /// Only of a failure.
    Failure,
}

/// Goes on if `holds`, and refuses with this status otherwise.
fn ensure(holds: bool, status: u32) -> Result<(), u32> {
    if holds { Ok(()) } else { Err(status) }
}

/// Reads and judges the body of a `submit_sm`; an error is the status that it is refused with.
pub(super) fn read(account: &Account, body: &[u8]) -> Result<Submitted, u32> {
    let mut fields = Fields(body);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let service = fields.text();
    ensure(service.len() <= 5, SERVICE)?;
    let (source_ton, _) = (fields.byte().ok_or(COMMAND_LENGTH)?, fields.byte());
    let source = text(fields.text());
    ensure(source == account.get("source"), SOURCE)?;
    let named = source.bytes().any(|byte| !byte.is_ascii_digit());
    ensure(source_ton <= 6 && named == (source_ton == 5), SOURCE_TYPE)?;
    let (ton, npi) = (fields.byte().ok_or(COMMAND_LENGTH)?, fields.byte());
    ensure(ton == 1, TYPE)?;
    ensure(npi.ok_or(COMMAND_LENGTH)? == 1, PLAN)?;
    let written = text(fields.text());
    let digits = written.bytes().all(|byte| byte.is_ascii_digit());
    let phone = Phone::from_e164(&format!("+{written}")).filter(|_| digits).ok_or(DESTINATION)?;
    let class = fields.byte().ok_or(COMMAND_LENGTH)?;
    ensure(class & !WITH_HEADER == 0, CLASS)?;
    let _protocol = fields.byte().ok_or(COMMAND_LENGTH)?;
    ensure(fields.byte().ok_or(COMMAND_LENGTH)? <= 3, PRIORITY)?;
    ensure([0, 16].contains(&fields.text().len()), SCHEDULE)?;
    ensure([0, 16].contains(&fields.text().len()), VALIDITY)?;
    let receipt = match fields.byte().ok_or(COMMAND_LENGTH)? {
        0 => Wanted::No,
        1 => Wanted::Any,
        2 => Wanted::Failure,
        _ => return Err(RECEIPT),
    };
    let _replace = fields.byte().ok_or(COMMAND_LENGTH)?;
    let coding = fields.byte().ok_or(COMMAND_LENGTH)?;
    let _default = fields.byte().ok_or(COMMAND_LENGTH)?;
    let length = usize::from(fields.byte().ok_or(COMMAND_LENGTH)?);
    ensure(length <= 254, LENGTH)?;
    let short = fields.take(length).ok_or(LENGTH)?;
    let payload = tlvs(&mut fields)?;
    let octets = match payload {
        Some(_) if length > 0 => return Err(LENGTH),
        Some(payload) => payload,
        None => short,
    };
    let (part, octets) = header(class, octets)?;
    let text = decoded(coding, octets, part.is_some(), payload.is_some())?;
    Ok(Submitted { phone, written, source, text, part, receipt })
}

/// The text in its optional field, if it stands there; the other fields are passed over.
fn tlvs<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a [u8]>, u32> {
    let mut payload = None;
    while !fields.0.is_empty() {
        let tag = fields.number().ok_or(TLVS)?;
        let length = fields.number().ok_or(TLVS)?;
        let value = fields.take(usize::from(length)).ok_or(TLVS)?;
        payload = payload.or((tag == MESSAGE_PAYLOAD).then_some(value));
    }
    Ok(payload)
}

/// The header that says which part it is, where the class says that there is one.
fn header(class: u8, octets: &[u8]) -> Result<(Option<Part>, &[u8]), u32> {
    if class & WITH_HEADER == 0 {
        return Ok((None, octets));
    }
    match octets {
        [5, 0, 3, reference, total, place, rest @ ..] if (1..=*total).contains(place) => {
            Ok((Some((*reference, *total, *place)), rest))
        }
        _ => Err(CLASS),
    }
}

/// The text in a coding: the centre's own (GSM 03.38), ASCII, Latin-1, or UTF-16.
fn decoded(coding: u8, octets: &[u8], is_part: bool, is_payload: bool) -> Result<String, u32> {
    let most = match (coding, is_part) {
        (8, false) => 140,
        (8, true) => 134,
        (_, false) => 160,
        (_, true) => 153,
    };
    ensure(is_payload || octets.len() <= most, LENGTH)?;
    match coding {
        0 => message::gsm_text(octets).ok_or(LENGTH),
        1 if octets.is_ascii() => Ok(String::from_utf8_lossy(octets).into_owned()),
        3 => Ok(octets.iter().map(|octet| char::from(*octet)).collect()),
        8 if octets.len().is_multiple_of(2) => {
            let units = octets.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            // A part that ends within a character is not made whole here.
            char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| LENGTH)
        }
        _ => Err(LENGTH),
    }
}
