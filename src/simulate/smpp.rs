//! A message centre (SMSC) for SMPP 3.4, on the port of the HTTP dialects: a PDU begins with a
//! zero byte, and no request of HTTP does.
//!
//! It judges a log-on and a message as strictly as the protocol lets a centre: a sender that is
//! allowed, a number in digits with its country's code, a coding and a length that fit, no more
//! messages at once than the window, and no more in a second than the account has. Receipts wait
//! until somebody is bound who takes them. A name behind `@` in the `system_id` does what
//! `/as/{name}` does for the others.

mod session;
mod submit;

use super::call::{Answer, Refusal};
use super::{Dialect, Table};

pub(super) use session::serve;

pub(super) const DIALECT: Dialect = Dialect {
    name: "smpp",
    account: &[
        ("system_id", "smpp1"),
        ("password", "secret08"),
        ("source", "Acme"),
        // How many messages may wait for an answer, and how many are taken in any second.
        ("window", "10"),
        ("rate", "100"),
        // What receipts call a message that was taken under a hexadecimal name: the same, or
        // the same in decimal, as some centres do.
        ("receipt_ids", "same"),
    ],
    tables: &[Table {
        name: "smpp",
        path: "",
        settings: &["system_id", "password", "source"],
        more: "",
    }],
    // Nothing of it comes over HTTP.
    speaks: |_| false,
    hear: |_, _, _| Err(Refusal::new("0x03", "this is spoken without HTTP")),
    each: false,
    id: |hex| hex[..8].to_owned(),
    taken: |_, _, _| nothing(),
    refused: |_, _| nothing(),
    push: None,
};

fn nothing() -> Answer {
    Answer::new(404, "text/plain; charset=utf-8", String::new())
}

#[cfg(test)]
mod tests;
