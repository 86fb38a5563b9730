//! The `command_status` of answers, and their classes. The names are the protocol's (SMPP 3.4,
//! 5.1.3); the classes are our judgement. What a message centre means by one is its own affair.

use crate::domain::outcome::Class::{
    Accepted, AuthFailed, BadRequest, ContentRejected, InvalidNumber, ProviderError,
    RateLimitedAccount, TemplateRejected,
};
use crate::domain::outcome::{Class, Outcome};
use crate::providers::codes::{self, Entry, one};

/// "Well."
pub(super) const OK: u32 = 0;
/// "I do not know this request."
pub(super) const UNKNOWN_REQUEST: u32 = 0x03;
/// "My queue is full": said to a centre whose receipts cannot be kept now, and by it.
pub(super) const QUEUE_FULL: u32 = 0x14;
/// "Too fast."
pub(super) const THROTTLED: u32 = 0x58;

/// A status as it is written down: `0x58`.
pub(super) fn code(status: u32) -> String {
    format!("{status:#04x}")
}

/// What a status means; `None` for one that is not on the list.
pub(super) fn lookup(code: &str) -> Option<&'static Entry> {
    codes::lookup(TABLE, code)
}

/// What a status other than 0 makes of a message. One that is not on the list is a refusal as
/// well: it was said in place of taking the message.
pub(super) fn refusal(status: u32) -> Outcome {
    let code = code(status);
    Outcome::of(lookup(&code).map_or(Class::ProviderError, |entry| entry.class), code)
}

/// Every status of the protocol that a client may hear, sorted as texts.
pub(super) const TABLE: &[Entry] = &[
    one("0x00", Accepted, "ESME_ROK, the message was taken"),
    one("0x01", ContentRejected, "ESME_RINVMSGLEN, the text has a wrong length"),
    one("0x02", BadRequest, "ESME_RINVCMDLEN, the PDU has a wrong length"),
    one("0x03", BadRequest, "ESME_RINVCMDID, the request is not known there"),
    one("0x04", ProviderError, "ESME_RINVBNDSTS, not bound for this request")
        .hint("ask the vendor whether the account may bind as transceiver"),
    one("0x05", ProviderError, "ESME_RALYBND, bound already").hint(
        "the account allows fewer sessions than are open: one for each server, and one more \
               for doctor and send-test",
    ),
    one("0x06", BadRequest, "ESME_RINVPRTFLG, the priority is wrong"),
    one("0x07", BadRequest, "ESME_RINVREGDLVFLG, receipts cannot be asked for like this"),
    one("0x08", ProviderError, "ESME_RSYSERR, a fault of the message centre"),
    one("0x0a", TemplateRejected, "ESME_RINVSRCADR, the sender is not allowed")
        .hint("check source: a number or name that the vendor has approved"),
    one("0x0b", InvalidNumber, "ESME_RINVDSTADR, the number is not taken"),
    one("0x0c", BadRequest, "ESME_RINVMSGID, the id is wrong"),
    one("0x0d", AuthFailed, "ESME_RBINDFAIL, the log-on failed")
        .hint("check system_id, password and system_type, and the vendor's list of addresses"),
    one("0x0e", AuthFailed, "ESME_RINVPASWD, the password is wrong").hint("copy password again"),
    one("0x0f", AuthFailed, "ESME_RINVSYSID, there is no such system_id")
        .hint("copy system_id again"),
    one("0x11", BadRequest, "ESME_RCANCELFAIL"),
    one("0x13", BadRequest, "ESME_RREPLACEFAIL"),
    one("0x14", RateLimitedAccount, "ESME_RMSGQFUL, the message centre's queue is full"),
    one("0x15", BadRequest, "ESME_RINVSERTYP, the service type is wrong")
        .hint("write service_type as the vendor says, or leave it out"),
    one("0x33", BadRequest, "ESME_RINVNUMDESTS"),
    one("0x34", BadRequest, "ESME_RINVDLNAME"),
    one("0x40", BadRequest, "ESME_RINVDESTFLAG"),
    one("0x42", BadRequest, "ESME_RINVSUBREP"),
    one("0x43", BadRequest, "ESME_RINVESMCLASS, this kind of message is not taken")
        .hint("a text of several parts is not taken: shorten it to one"),
    one("0x44", BadRequest, "ESME_RCNTSUBDL"),
    one("0x45", ProviderError, "ESME_RSUBMITFAIL, the message was not taken"),
    one("0x48", TemplateRejected, "ESME_RINVSRCTON, the sender's type is wrong")
        .hint("write source_ton as the vendor says"),
    one("0x49", TemplateRejected, "ESME_RINVSRCNPI, the sender's plan is wrong")
        .hint("write source_npi as the vendor says"),
    one("0x50", BadRequest, "ESME_RINVDSTTON, the number's type is wrong"),
    one("0x51", BadRequest, "ESME_RINVDSTNPI, the number's plan is wrong"),
    one("0x53", AuthFailed, "ESME_RINVSYSTYP, the system type is wrong")
        .hint("write system_type as the vendor says, or leave it out"),
    one("0x54", BadRequest, "ESME_RINVREPFLAG"),
    one("0x55", BadRequest, "ESME_RINVNUMMSGS"),
    one("0x58", RateLimitedAccount, "ESME_RTHROTTLED, faster than the account allows"),
    one("0x61", BadRequest, "ESME_RINVSCHED"),
    one("0x62", BadRequest, "ESME_RINVEXPIRY"),
    one("0x63", BadRequest, "ESME_RINVDFTMSGID"),
    one("0x64", ProviderError, "ESME_RX_T_APPN, a passing fault"),
    one("0x65", ProviderError, "ESME_RX_P_APPN, a lasting fault"),
    one("0x66", ProviderError, "ESME_RX_R_APPN, refused"),
    one("0x67", BadRequest, "ESME_RQUERYFAIL"),
    one("0xc0", BadRequest, "ESME_RINVOPTPARSTREAM"),
    one("0xc1", BadRequest, "ESME_ROPTPARNOTALLWD"),
    one("0xc2", BadRequest, "ESME_RINVPARLEN"),
    one("0xc3", BadRequest, "ESME_RMISSINGOPTPARAM"),
    one("0xc4", BadRequest, "ESME_RINVOPTPARAMVAL"),
    one("0xfe", ProviderError, "ESME_RDELIVERYFAILURE, the message was not delivered"),
    one("0xff", ProviderError, "ESME_RUNKNOWNERR, refused for a reason that was not told"),
];
