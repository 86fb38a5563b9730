//! The vendor's result codes and their classes. They were put together from the vendor's pages and
//! public code; the classes are our judgement. The codes say themselves what they mean; for those
//! that a newcomer meets it is said what to do.

use crate::domain::outcome::Class::{
    Accepted, AccountDisabled, AuthFailed, BadRequest, BalanceExhausted, BlockedNumber,
    ContentRejected, InvalidNumber, ProviderError, QuotaExhausted, RateLimitedAccount,
    RateLimitedNumber, TemplateRejected, UnknownOutcome, UnsupportedDestination,
};
use crate::providers::codes::{self, Entry, plain};

/// What a code means; `None` for one that is not on the list.
pub fn lookup(code: &str) -> Option<&'static Entry> {
    codes::lookup(TABLE, code)
}

/// Every known code, sorted.
pub(super) const TABLE: &[Entry] = &[
    plain("Forbidden.RAM", AuthFailed),
    plain("IncompleteSignature", AuthFailed),
    plain("InternalError", UnknownOutcome),
    plain("InvalidAccessKeyId.Inactive", AuthFailed).hint("enable the access key in the console"),
    plain("InvalidAccessKeyId.NotFound", AuthFailed)
        .hint("copy access_key_id again: there is no such key"),
    plain("InvalidAction.NotFound", BadRequest),
    plain("InvalidTimeStamp.Expired", AuthFailed)
        .hint("set this server's clock (NTP): a signature is good for 15 minutes"),
    plain("InvalidTimeStamp.Format", AuthFailed),
    plain("InvalidVersion", BadRequest),
    plain("MissingPhoneNumbers", BadRequest),
    plain("MissingSignName", BadRequest),
    plain("MissingTemplateCode", BadRequest),
    plain("NoPermission", AuthFailed),
    plain("OK", Accepted),
    plain("ServiceUnavailable", ProviderError),
    plain("SignatureDoesNotMatch", AuthFailed).hint("copy access_key_secret again, without spaces"),
    plain("SignatureNonceUsed", AuthFailed),
    plain("Throttling", RateLimitedAccount),
    plain("Throttling.Api", RateLimitedAccount),
    plain("Throttling.User", RateLimitedAccount),
    plain("isp.GATEWAY_ERROR", ProviderError),
    plain("isp.RAM_PERMISSION_DENY", AuthFailed)
        .hint("grant the key's user the policy AliyunDysmsFullAccess"),
    plain("isp.SYSTEM_ERROR", UnknownOutcome),
    plain("isp.UNKNOWN", UnknownOutcome),
    plain("isv.ACCOUNT_ABNORMAL", AccountDisabled),
    plain("isv.ACCOUNT_NOT_EXISTS", AuthFailed),
    plain("isv.AMOUNT_NOT_ENOUGH", BalanceExhausted)
        .hint("top up the account, or buy a package of messages"),
    plain("isv.BLACK_KEY_CONTROL_LIMIT", ContentRejected),
    plain("isv.BLACK_LIST", BlockedNumber),
    plain("isv.BUSINESS_LIMIT_CONTROL", RateLimitedNumber)
        .hint("wait: this number had its messages of the minute (1), hour (5) or day (10)"),
    plain("isv.COUNTRY_RESTRICTED", UnsupportedDestination),
    plain("isv.DAY_LIMIT_CONTROL", QuotaExhausted)
        .hint("raise the day's limit in the console, or wait until tomorrow (Shanghai)"),
    plain("isv.DENY_IP_RANGE", AuthFailed)
        .hint("the vendor refuses callers outside mainland China: move or proxy the server"),
    plain("isv.DOMESTIC_NUMBER_NOT_SUPPORTED", UnsupportedDestination),
    plain("isv.EXTEND_CODE_ERROR", TemplateRejected),
    plain("isv.FLOW_LIMIT", RateLimitedAccount),
    plain("isv.INVALID_JSON_PARAM", TemplateRejected),
    plain("isv.INVALID_PARAMETERS", BadRequest),
    plain("isv.MOBILE_COUNT_OVER_LIMIT", BadRequest),
    plain("isv.MOBILE_NUMBER_ILLEGAL", InvalidNumber)
        .hint("check the number; one abroad needs a template for international messages"),
    plain("isv.MONTH_LIMIT_CONTROL", QuotaExhausted).hint("raise the month's limit in the console"),
    plain("isv.NOT_SUPPORTED_COUNTRY", UnsupportedDestination),
    plain("isv.OUT_OF_SERVICE", BalanceExhausted).hint("the account is in arrears: top it up"),
    plain("isv.PARAM_LENGTH_LIMIT", ContentRejected),
    plain("isv.PARAM_NOT_SUPPORT_URL", ContentRejected),
    plain("isv.PHONE_NUMBER_BLACKLIST", BlockedNumber),
    plain("isv.PHONE_NUMBER_ILLEGAL", InvalidNumber),
    plain("isv.PRODUCT_UNSUBSCRIBE", AccountDisabled),
    plain("isv.PRODUCT_UN_SUBSCRIPT", AccountDisabled)
        .hint("enable the short message service in the console"),
    plain("isv.SIGN_NAME_ILLEGAL", TemplateRejected)
        .hint("check sign_name: an approved signature's text, without 【】"),
    plain("isv.SIGN_STATE_ILLEGAL", TemplateRejected),
    plain("isv.SMS_CONTENT_ILLEGAL", ContentRejected),
    plain("isv.SMS_SIGNATURE_ILLEGAL", TemplateRejected)
        .hint("check sign_name: an approved signature's text, without 【】"),
    plain("isv.SMS_SIGNATURE_SCENE_ILLEGAL", TemplateRejected)
        .hint("signature and template must be for the same purpose: verification codes"),
    plain("isv.SMS_SIGN_ILLEGAL", TemplateRejected),
    plain("isv.SMS_TEMPLATE_ILLEGAL", TemplateRejected)
        .hint("check template_code in the console: it must exist and be approved"),
    plain("isv.TEMPLATE_MISSING_PARAMETERS", TemplateRejected)
        .hint("name every variable of the template in template_params"),
    plain("isv.TEMPLATE_PARAMS_ILLEGAL", TemplateRejected)
        .hint("template_params must have the template's variables, no more and no less"),
];
