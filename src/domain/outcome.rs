//! What came of a call to a provider, and what a receipt says.
//!
//! Vendors have hundreds of codes. What is done next depends only on the [`Class`], so each
//! dialect maps its codes to classes, and nothing above a dialect knows a vendor's code.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::phone::Phone;

/// The class of an outcome, as in `docs/providers.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The provider took the message (which is not yet: delivered).
    Accepted,
    /// The provider has seen this very message before: treated as accepted.
    Duplicate,
    /// Too many messages to this number.
    RateLimitedNumber,
    /// The number does not exist or has a form that the provider does not take.
    InvalidNumber,
    /// The number is on a list: opted out, complained, blocked.
    BlockedNumber,
    /// The provider or account does not serve this country.
    UnsupportedDestination,
    /// The text is refused.
    ContentRejected,
    /// The request is malformed: our fault or the configuration's.
    BadRequest,
    /// The account's daily or monthly quota is used up.
    QuotaExhausted,
    /// Template or signature missing, unapproved, or not fitting the parameters.
    TemplateRejected,
    /// No money left.
    BalanceExhausted,
    /// Key, signature, clock, address list or permission.
    AuthFailed,
    /// Account or application suspended, not launched, or product not enabled.
    AccountDisabled,
    /// Too many requests of this account at the moment.
    RateLimitedAccount,
    /// A definite refusal by a fault on the provider's side.
    ProviderError,
    /// The request never reached the provider: no connection, no TLS, no name.
    NotSent,
    /// The request went out and its outcome is not known: the message may arrive.
    UnknownOutcome,
}

/// What is done about a class of outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Done: the provider has it.
    Done,
    /// Final for this phone, whoever carries the message: another provider must not be asked.
    RefuseNumber,
    /// Final for this provider: the next one's turn, and an operator must look.
    NextProvider,
    /// Try the same provider again a little later, then the next.
    Later,
    /// Nothing was sent: the next provider at once.
    NextAtOnce,
    /// Wait for a receipt, then at most one more message.
    Wait,
}

impl Class {
    /// What is done about it.
    pub fn action(self) -> Action {
        match self {
            Self::Accepted | Self::Duplicate => Action::Done,
            Self::RateLimitedNumber | Self::InvalidNumber | Self::BlockedNumber => {
                Action::RefuseNumber
            }
            Self::UnsupportedDestination
            | Self::ContentRejected
            | Self::BadRequest
            | Self::QuotaExhausted
            | Self::TemplateRejected
            | Self::BalanceExhausted
            | Self::AuthFailed
            | Self::AccountDisabled => Action::NextProvider,
            Self::RateLimitedAccount | Self::ProviderError => Action::Later,
            Self::NotSent => Action::NextAtOnce,
            Self::UnknownOutcome => Action::Wait,
        }
    }

    /// The name in metrics, timelines and documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::RateLimitedNumber => "rate_limited_number",
            Self::InvalidNumber => "invalid_number",
            Self::BlockedNumber => "blocked_number",
            Self::UnsupportedDestination => "unsupported_destination",
            Self::ContentRejected => "content_rejected",
            Self::BadRequest => "bad_request",
            Self::QuotaExhausted => "quota_exhausted",
            Self::TemplateRejected => "template_rejected",
            Self::BalanceExhausted => "balance_exhausted",
            Self::AuthFailed => "auth_failed",
            Self::AccountDisabled => "account_disabled",
            Self::RateLimitedAccount => "rate_limited_account",
            Self::ProviderError => "provider_error",
            Self::NotSent => "not_sent",
            Self::UnknownOutcome => "unknown_outcome",
        }
    }

    /// What an operator is told to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Accepted => "nothing to do: the provider took the message",
            Self::Duplicate => "nothing to do: the provider already has this message",
            Self::RateLimitedNumber => {
                "this number got too many messages: wait; another provider is not asked on purpose"
            }
            Self::InvalidNumber => "the provider does not take this number: check it",
            Self::BlockedNumber => {
                "the number is blocked or opted out: ask the provider to lift it"
            }
            Self::UnsupportedDestination => "ask the provider to enable this country",
            Self::ContentRejected => "change the template's text: the provider refuses its content",
            Self::BadRequest => "check the configuration: the provider cannot read the request",
            Self::QuotaExhausted => "raise the account's quota or wait until it is reset",
            Self::TemplateRejected => {
                "check template_id and the template's approval and variables at the provider"
            }
            Self::BalanceExhausted => "top up the account",
            Self::AuthFailed => {
                "check the account id, token, application id, clock and address list"
            }
            Self::AccountDisabled => {
                "launch or re-enable the application, or register the number as a test number"
            }
            Self::RateLimitedAccount => "too many requests at once: it is tried again by itself",
            Self::ProviderError => "a fault at the provider: it is tried again by itself",
            Self::NotSent => "no connection to the provider: check base_url, network, DNS and TLS",
            Self::UnknownOutcome => "the message may have been sent: look it up at the provider",
        }
    }

    /// Whether an operator has to mend something before the provider works again.
    pub fn needs_operator(self) -> bool {
        self.action() == Action::NextProvider
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of one call to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The class, which decides what is done.
    pub class: Class,
    /// The vendor's own code or our word for what happened (`"160038"`, `"timeout"`); short, and
    /// never a text of the vendor's, which may quote phone and code.
    pub vendor_code: String,
    /// The provider's name for the message, where it took it.
    pub message_id: Option<String>,
    /// More about it in our own words, for the timeline.
    pub note: Option<String>,
}

impl Outcome {
    /// The provider took the message under this name.
    pub fn accepted(message_id: impl Into<String>) -> Self {
        let message_id = Some(message_id.into());
        Self { class: Class::Accepted, vendor_code: "ok".to_owned(), message_id, note: None }
    }

    /// Anything else.
    pub fn of(class: Class, vendor_code: impl Into<String>) -> Self {
        Self { class, vendor_code: vendor_code.into(), message_id: None, note: None }
    }
}

/// A provider's report on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which message it is about.
    pub about: About,
    /// The provider's name for the message.
    pub message_id: String,
    /// Whether it arrived.
    pub arrived: bool,
    /// The vendor's code (`"DELIVRD"`).
    pub vendor_code: String,
}

/// Which message a receipt is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// Our reference, as the provider gave it back: the delivery's id.
    Reference(String),
    /// To whom the message went, where the provider gives nothing of ours back. Which one it is
    /// tells its own name for it, and that alone.
    Phone(Phone),
}

impl<T: Into<String>> From<T> for About {
    fn from(reference: T) -> Self {
        Self::Reference(reference.into())
    }
}

/// What a provider says about a message that it was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It knows no such message, or not yet.
    Nothing,
    /// It took the message, and what became of it is not settled.
    Taken {
        /// Its name for it; empty where it does not tell.
        message_id: String,
    },
    /// What became of it.
    Settled(Receipt),
}

/// Whether two names of a message may be one: protocols write the same number in decimal in one
/// place and in hexadecimal in the other, with and without zeros before it.
pub fn same_name(one: &str, other: &str) -> bool {
    let bare = |text: &str| text.trim_start_matches('0').to_ascii_lowercase();
    let decimal = |text: &str| text.parse::<u128>().ok();
    let hexadecimal = |text: &str| u128::from_str_radix(text, 16).ok();
    let crossed = |one: Option<u128>, other: Option<u128>| one.is_some() && one == other;
    bare(one) == bare(other)
        || crossed(decimal(one), hexadecimal(other))
        || crossed(hexadecimal(one), decimal(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_decimal_and_hexadecimal() {
        for (one, other, same) in [
            ("0000A1", "a1", true),
            ("255", "ff", true),
            ("FF", "0255", true),
            ("255", "256", false),
            ("m-1", "m-2", false),
            ("", "0", true),
        ] {
            assert_eq!(
                (same_name(one, other), same_name(other, one)),
                (same, same),
                "{one} {other}"
            );
        }
    }
}
