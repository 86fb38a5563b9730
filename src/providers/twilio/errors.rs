//! The vendor's result codes and their classes, of answers and of receipts. The classes are our
//! judgement; some codes were not seen in a source of the vendor's.

use crate::domain::outcome::Class::{
    AccountDisabled, AuthFailed, BadRequest, BlockedNumber, ContentRejected, InvalidNumber,
    ProviderError, QuotaExhausted, RateLimitedAccount, RateLimitedNumber, TemplateRejected,
    UnknownOutcome, UnsupportedDestination,
};
use crate::providers::codes::{self, Entry, one};

/// What a code means; `None` for one that is not on the list.
pub fn lookup(code: &str) -> Option<&'static Entry> {
    codes::lookup(TABLE, code)
}

/// Every known code, sorted.
pub(super) const TABLE: &[Entry] = &[
    one("14107", RateLimitedAccount, "SMS send rate limit exceeded"),
    one("20001", BadRequest, "Unknown parameters"),
    one("20003", AuthFailed, "Authenticate / permission denied")
        .hint("copy account_sid and auth_token again; an API key needs its own secret"),
    one("20005", AuthFailed, "Account not active"),
    one("20006", AuthFailed, "Access denied"),
    one("20008", AuthFailed, "Resource not accessible with Test Account Credentials"),
    one("20403", AuthFailed, "Forbidden"),
    one("20404", BadRequest, "Not found (Verify check: expired, approved, or too many checks)")
        .hint("check account_sid, or verify_service_sid: there is no such thing"),
    one("20429", RateLimitedAccount, "Too Many Requests"),
    one("20500", UnknownOutcome, "Internal Server Error"),
    one("20503", ProviderError, "Service unavailable"),
    one("21211", InvalidNumber, "Invalid `To` Phone Number").hint("check the number"),
    one("21214", InvalidNumber, "`To` phone number cannot be reached"),
    one("21217", InvalidNumber, "Phone number does not appear to be valid"),
    one("21265", InvalidNumber, "`To` number cannot be a Short Code"),
    one(
        "21408",
        UnsupportedDestination,
        "Permission to send has not been enabled for the region of `To`",
    )
    .hint("allow this country under Messaging, Settings, Geo permissions"),
    one("21603", TemplateRejected, "`From` is required"),
    one("21604", BadRequest, "`To` is required"),
    one(
        "21606",
        TemplateRejected,
        "`From` is not a message-capable Twilio number for this destination/account",
    )
    .hint("check `from`: a number of this account that can send messages to this country"),
    one("21608", AccountDisabled, "Trial account: `To` number is unverified")
        .hint("verify the number in the console, or upgrade the trial account"),
    one("21609", BadRequest, "Invalid StatusCallback URL (the message is still sent)")
        .hint("check public_url: the receipts' address cannot be reached from outside"),
    one("21610", BlockedNumber, "Attempt to send to unsubscribed recipient")
        .hint("the person wrote STOP to this sender and has to write START"),
    one(
        "21611",
        RateLimitedAccount,
        "From number has exceeded the maximum number of queued messages",
    ),
    one(
        "21612",
        UnsupportedDestination,
        "Message cannot be sent with the current combination of To and/or From",
    ),
    one("21614", InvalidNumber, "`To` number is not a valid mobile number"),
    one("21617", ContentRejected, "Body exceeds the 1600 character limit"),
    one("21619", ContentRejected, "Body, media or content sid is required"),
    one("21659", TemplateRejected, "`From` is not a Twilio phone number")
        .hint("check `from`: it is no number of Twilio's"),
    one("21660", TemplateRejected, "Mismatch between the `From` number and the account")
        .hint("check `from`: the number is another account's"),
    one("21703", TemplateRejected, "Messaging Service has no senders")
        .hint("add a sender to the messaging service"),
    one("21730", ProviderError, "System under maintenance"),
    one("30001", RateLimitedAccount, "Queue overflow (receipt)"),
    one("30002", AccountDisabled, "Account suspended"),
    one(
        "30003",
        ProviderError,
        "Unreachable destination handset (receipt): often temporary, user may retry",
    ),
    one("30004", BlockedNumber, "Message blocked (receipt)"),
    one("30005", InvalidNumber, "Unknown destination handset (receipt)"),
    one("30006", InvalidNumber, "Landline or unreachable carrier (receipt)"),
    one("30007", ContentRejected, "Message filtered (receipt)"),
    one("30008", UnknownOutcome, "Unknown error (receipt)"),
    one("30010", QuotaExhausted, "Message price exceeds max price"),
    one("30017", ProviderError, "Carrier network congestion (receipt)"),
    one("30021", UnknownOutcome, "Internal failure with messaging service orchestrator"),
    one("30022", RateLimitedAccount, "US A2P 10DLC rate limits exceeded (receipt)"),
    one("30024", TemplateRejected, "Numeric Sender ID not provisioned on carrier"),
    one("30027", QuotaExhausted, "T-Mobile daily message limit reached (receipt)"),
    one("30032", TemplateRejected, "Toll-free number not verified")
        .hint("have the toll-free number verified"),
    one("30034", TemplateRejected, "US A2P 10DLC: unregistered number")
        .hint("register the number for A2P 10DLC"),
    one("30036", ProviderError, "Validity period expired (receipt)"),
    one("30037", AccountDisabled, "Outbound Messaging Disabled"),
    one("30038", ContentRejected, "OTP Message Body Filtered (receipt)"),
    one("30040", UnsupportedDestination, "Destination carrier requires Sender ID pre-registration"),
    one("30450", BlockedNumber, "Message delivery blocked (SMS pumping protection, receipt)"),
    one("30454", QuotaExhausted, "Account exceeded the messages limit"),
    one("30485", UnknownOutcome, "Message couldn't be delivered"),
    one("60200", InvalidNumber, "Verify: Invalid parameter (often To)"),
    one("60201", TemplateRejected, "Verify: template translation not approved"),
    one("60202", RateLimitedNumber, "Verify: max check attempts reached (5)"),
    one("60203", RateLimitedNumber, "Verify: max send attempts reached (5 starts per 10 min)"),
    one("60204", AccountDisabled, "Verify: Service does not support this feature"),
    one("60205", InvalidNumber, "Verify: SMS is not supported by landline phone number"),
    one("60207", RateLimitedAccount, "Verify: max rate limits per service reached"),
    one("60212", RateLimitedNumber, "Verify: too many concurrent requests for phone number"),
    one("60217", TemplateRejected, "Verify: invalid Service configuration")
        .hint("check verify_service_sid, and ask Twilio to enable custom codes for the service"),
    one("60220", UnsupportedDestination, "Verify: Messages to China require use case vetting")
        .hint("messages to China need Twilio's vetting: ask the vendor"),
    one("60223", AccountDisabled, "Verify: Delivery channel disabled")
        .hint("enable the channel in the Verify service"),
    one("60238", UnsupportedDestination, "Verify: creation attempt blocked by Twilio"),
    one("60410", BlockedNumber, "Verify: destination temporarily blocked (fraud guard, prefix)"),
    one("60605", UnsupportedDestination, "Verify: blocked by Verify Geo-Permissions")
        .hint("allow this country under Verify, Geo permissions"),
    one("63038", QuotaExhausted, "Account exceeded the daily messages limit"),
];
