//! The vendor's result codes and their classes. The codes and what they mean were put together
//! from the vendor's pages; the classes are our judgement.

use crate::domain::outcome::Class::{
    Accepted, AccountDisabled, AuthFailed, BadRequest, ProviderError, QuotaExhausted,
    RateLimitedAccount, TemplateRejected,
};
use crate::providers::codes::{self, Entry, one, range};

/// What a code means; `None` for one that is not on the list.
pub fn lookup(code: &str) -> Option<&'static Entry> {
    codes::lookup(TABLE, code)
}

const KEY: &str = "copy app_key and app_secret from the application's page again";

/// Every known code, sorted. Those from `E000001` to `E000045` are about the headers that prove
/// who calls, which are ours to make.
pub(super) const TABLE: &[Entry] = &[
    one("000000", Accepted, "the message was taken"),
    one("E000000", ProviderError, "a fault at the vendor, or a request that it cannot read")
        .hint("check template_params first: as many as the template has variables"),
    range("E000001", "E000008", AuthFailed, "the Authorization header is not as it must be")
        .hint("try the other value of auth: \"aksk\" or \"wsse\""),
    range("E000020", "E000027", AuthFailed, "the X-WSSE header is not as it must be")
        .hint("try auth = \"aksk\", or \"wsse_hex\""),
    range("E000040", "E000042", BadRequest, "the content type or length is not as it must be"),
    one("E000045", AuthFailed, "the signature is wrong").hint(KEY),
    one("E000101", AuthFailed, "the caller is not who it says").hint(KEY),
    one("E000102", AuthFailed, "there is no such app_key").hint(KEY),
    one("E000103", AuthFailed, "the app_key cannot be used").hint(KEY),
    one("E000104", AuthFailed, "the app_secret is wrong").hint(KEY),
    one("E000105", AuthFailed, "the digest of the password is wrong").hint(KEY),
    one("E000106", AuthFailed, "the app_key may not use this call"),
    one("E000109", AccountDisabled, "the account is not activated"),
    one("E000110", AuthFailed, "the request is too old")
        .hint("set this server's clock (NTP): a signature is good for 15 minutes"),
    one("E000111", AuthFailed, "the app_key belongs to no account").hint(KEY),
    one("E000112", AccountDisabled, "the account is frozen")
        .hint("pay what is owed, or ask the vendor what rule was broken"),
    one("E000503", BadRequest, "a parameter has the wrong form"),
    one("E000510", ProviderError, "the message was not sent, and no reason was given"),
    one("E000620", AuthFailed, "this server's address is not on the application's list")
        .hint("add the address to the application's IP list"),
    one("E000623", QuotaExhausted, "the quota of messages is used up"),
    one("E200015", RateLimitedAccount, "too many messages wait at the vendor"),
    one("E200018", TemplateRejected, "the channel is not the application's")
        .hint("copy `from` from the signature's page: the channel number of this application"),
    one("E200028", TemplateRejected, "the variables do not fit the template")
        .hint("as many in template_params as the template has, none longer than it says there"),
    one("E200029", TemplateRejected, "the template's type is wrong"),
    one("E200030", TemplateRejected, "the template is not active")
        .hint("check template_id in the console: it must be approved and active"),
    one("E200031", BadRequest, "the protocol is not the one of the channel"),
    one("E200033", TemplateRejected, "the template is for another type of message")
        .hint("signature, channel and template must all be for verification codes"),
    one("E200041", BadRequest, "the same number twice in a request"),
];
