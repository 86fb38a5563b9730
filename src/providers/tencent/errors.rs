//! The vendor's result codes and their classes: those of the vendor's own client, and the common
//! ones. The classes are our judgement. The codes say themselves what they mean; for those that a
//! newcomer meets it is said what to do.

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
    plain("AuthFailure.InvalidAuthorization", AuthFailed),
    plain("AuthFailure.InvalidSecretId", AuthFailed),
    plain("AuthFailure.MFAFailure", AuthFailed),
    plain("AuthFailure.SecretIdNotFound", AuthFailed)
        .hint("copy secret_id again: there is no such key"),
    plain("AuthFailure.SignatureExpire", AuthFailed)
        .hint("set this server's clock (NTP): it may be wrong by five minutes at most"),
    plain("AuthFailure.SignatureFailure", AuthFailed).hint("copy secret_key again, without spaces"),
    plain("AuthFailure.TokenFailure", AuthFailed),
    plain("AuthFailure.UnauthorizedOperation", AuthFailed),
    plain("FailedOperation", UnknownOutcome),
    plain("FailedOperation.ContainSensitiveWord", ContentRejected),
    plain("FailedOperation.FailResolvePacket", BadRequest),
    plain("FailedOperation.ForbidAddMarketingTemplates", BadRequest),
    plain("FailedOperation.InsufficientBalanceInSmsPackage", BalanceExhausted)
        .hint("buy a package of messages"),
    plain("FailedOperation.JsonParseFail", BadRequest),
    plain("FailedOperation.MarketingSendTimeConstraint", ContentRejected),
    plain("FailedOperation.MissingSignature", TemplateRejected),
    plain("FailedOperation.MissingSignatureList", TemplateRejected),
    plain("FailedOperation.MissingSignatureToModify", BadRequest),
    plain("FailedOperation.MissingTemplateList", TemplateRejected),
    plain("FailedOperation.MissingTemplateToModify", BadRequest),
    plain("FailedOperation.NotEnterpriseCertification", BadRequest),
    plain("FailedOperation.OtherError", BadRequest),
    plain("FailedOperation.ParametersOtherError", BadRequest),
    plain("FailedOperation.PhoneNumberInBlacklist", BlockedNumber),
    plain("FailedOperation.PhoneNumberParseFail", InvalidNumber),
    plain("FailedOperation.ProhibitSubAccountUse", BadRequest),
    plain("FailedOperation.QualificationIdNotApproved", BadRequest),
    plain("FailedOperation.SignIdNotExist", BadRequest),
    plain("FailedOperation.SignNumberLimit", BadRequest),
    plain("FailedOperation.SignatureIncorrectOrUnapproved", TemplateRejected)
        .hint("check sign_name: an approved signature's text (not its id), without 【】"),
    plain("FailedOperation.TemplateAlreadyPassedCheck", BadRequest),
    plain("FailedOperation.TemplateIdNotExist", TemplateRejected)
        .hint("check template_id in the console: there is no such template"),
    plain("FailedOperation.TemplateIncorrectOrUnapproved", TemplateRejected)
        .hint("check template_id in the console: it must exist and be approved"),
    plain("FailedOperation.TemplateNumberLimit", BadRequest),
    plain("FailedOperation.TemplateParamSetNotMatchApprovedTemplate", TemplateRejected)
        .hint("template_params must have as many words as the template has variables"),
    plain("FailedOperation.TemplateUnapprovedOrNotExist", TemplateRejected)
        .hint("check template_id in the console: it must exist and be approved"),
    plain("InternalError", UnknownOutcome),
    plain("InternalError.JsonParseFail", BadRequest),
    plain("InternalError.OtherError", UnknownOutcome),
    plain("InternalError.ParseBackendResponseFail", UnknownOutcome),
    plain("InternalError.RequestTimeException", AuthFailed).hint("set this server's clock (NTP)"),
    plain("InternalError.RestApiInterfaceNotExist", BadRequest),
    plain("InternalError.SendAndRecvFail", UnknownOutcome),
    plain("InternalError.SigFieldMissing", AuthFailed),
    plain("InternalError.SigVerificationFail", AuthFailed),
    plain("InternalError.Timeout", UnknownOutcome),
    plain("InternalError.UnknownError", UnknownOutcome),
    plain("InvalidParameter", BadRequest),
    plain("InvalidParameter.AppidAndBizId", AuthFailed),
    plain("InvalidParameter.DirtyWordFound", ContentRejected),
    plain("InvalidParameter.InvalidParameters", BadRequest),
    plain("InvalidParameterValue.BeginTimeVerifyFail", BadRequest),
    plain("InvalidParameterValue.ContentLengthLimit", ContentRejected),
    plain("InvalidParameterValue.EndTimeVerifyFail", BadRequest),
    plain("InvalidParameterValue.ImageInvalid", BadRequest),
    plain("InvalidParameterValue.IncorrectPhoneNumber", InvalidNumber),
    plain("InvalidParameterValue.InvalidDocumentType", BadRequest),
    plain("InvalidParameterValue.InvalidInternational", BadRequest),
    plain("InvalidParameterValue.InvalidSignPurpose", BadRequest),
    plain("InvalidParameterValue.InvalidSmsType", BadRequest),
    plain("InvalidParameterValue.InvalidStartTime", BadRequest),
    plain("InvalidParameterValue.InvalidTemplateFormat", TemplateRejected),
    plain("InvalidParameterValue.InvalidUsedMethod", BadRequest),
    plain("InvalidParameterValue.LimitVerifyFail", BadRequest),
    plain("InvalidParameterValue.MarketingTemplateWithoutUnsubscribe", BadRequest),
    plain("InvalidParameterValue.MultiSmsInfoSetEmpty", BadRequest),
    plain("InvalidParameterValue.OffsetVerifyFail", BadRequest),
    plain("InvalidParameterValue.ProhibitedUseUrlInTemplateParameter", ContentRejected),
    plain("InvalidParameterValue.QualificationIdNotFound", BadRequest),
    plain("InvalidParameterValue.SdkAppIdNotExist", AuthFailed)
        .hint("copy sdk_app_id again: there is no such application"),
    plain("InvalidParameterValue.SignAlreadyPassedCheck", BadRequest),
    plain("InvalidParameterValue.SignExistAndUnapproved", BadRequest),
    plain("InvalidParameterValue.SignNameLengthTooLong", BadRequest),
    plain("InvalidParameterValue.TemplateParameterFormatError", TemplateRejected)
        .hint("a variable of a verification template takes digits only, at most six"),
    plain("InvalidParameterValue.TemplateParameterLengthLimit", TemplateRejected)
        .hint("a variable of a verification template takes digits only, at most six"),
    plain("InvalidParameterValue.TemplateWithDirtyWords", ContentRejected),
    plain("InvalidParameterValue.UnsupportedTemplateVariable", TemplateRejected),
    plain("IpInBlacklist", AuthFailed),
    plain("IpNotInWhitelist", AuthFailed),
    plain("LimitExceeded.AppCountryOrRegionDailyLimit", QuotaExhausted),
    plain("LimitExceeded.AppCountryOrRegionInBlacklist", UnsupportedDestination),
    plain("LimitExceeded.AppDailyLimit", QuotaExhausted),
    plain("LimitExceeded.AppGlobalDailyLimit", QuotaExhausted),
    plain("LimitExceeded.AppMainlandChinaDailyLimit", QuotaExhausted),
    plain("LimitExceeded.DailyLimit", QuotaExhausted),
    plain("LimitExceeded.DeliveryFrequencyLimit", RateLimitedNumber),
    plain("LimitExceeded.GlobalSmsSendingRateLimit", RateLimitedAccount),
    plain("LimitExceeded.PhoneNumberCountLimit", BadRequest),
    plain("LimitExceeded.PhoneNumberDailyLimit", RateLimitedNumber)
        .hint("wait until tomorrow (Shanghai), or raise the limit in the console"),
    plain("LimitExceeded.PhoneNumberOneHourLimit", RateLimitedNumber)
        .hint("wait: this number had its messages of the hour"),
    plain("LimitExceeded.PhoneNumberSameContentDailyLimit", RateLimitedNumber)
        .hint("wait until tomorrow (Shanghai): the same text to the same number"),
    plain("LimitExceeded.PhoneNumberThirtySecondLimit", RateLimitedNumber)
        .hint("wait: this number had a message within 30 s"),
    plain("MissingParameter", BadRequest),
    plain("MissingParameter.EmptyPhoneNumberSet", BadRequest),
    plain("Ok", Accepted),
    plain("RequestLimitExceeded", RateLimitedAccount),
    plain("RequestLimitExceeded.GlobalRegionUinLimitExceeded", RateLimitedAccount),
    plain("RequestLimitExceeded.IPLimitExceeded", RateLimitedAccount),
    plain("RequestLimitExceeded.UinLimitExceeded", RateLimitedAccount),
    plain("ResourceInsufficient", ProviderError),
    plain("ServiceUnavailable", ProviderError),
    plain("UnauthorizedOperation", AuthFailed),
    plain("UnauthorizedOperation.IndividualUserMarketingSmsPermissionDeny", AccountDisabled),
    plain("UnauthorizedOperation.RequestIpNotInWhitelist", AuthFailed)
        .hint("add this server's public address to the application's list"),
    plain("UnauthorizedOperation.RequestPermissionDeny", AuthFailed)
        .hint("grant the key's user the policy QcloudSMSFullAccess"),
    plain("UnauthorizedOperation.SdkAppIdIsDisabled", AccountDisabled)
        .hint("enable the SMS application in the console"),
    plain("UnauthorizedOperation.ServiceSuspendDueToArrears", BalanceExhausted)
        .hint("the account is in arrears: top it up"),
    plain("UnauthorizedOperation.SmsSdkAppIdVerifyFail", AuthFailed)
        .hint("copy sdk_app_id again: it is the number of the SMS application"),
    plain("UnsupportedOperation", BadRequest),
    plain("UnsupportedOperation.ChineseMainlandTemplateToGlobalPhone", UnsupportedDestination),
    plain("UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber", BadRequest),
    plain("UnsupportedOperation.ContainDomesticPhoneNumber", UnsupportedDestination),
    plain("UnsupportedOperation.GlobalTemplateToChineseMainlandPhone", UnsupportedDestination),
    plain("UnsupportedOperation.UnsupportedRegion", UnsupportedDestination),
];
