//! What a verdict's word means to an operator, and what to do about it.

use crate::domain::third_party::{Vendor, Verdict};

/// What asking about a made-up token tells: whether the vendor knows us, in words.
pub fn explain(vendor: Vendor, verdict: Verdict) -> Result<&'static str, String> {
    let why = match verdict {
        // Nobody was given this token.
        Verdict::Passed => {
            return Err("it vouches for a token that we made up: are these test keys, or does \
                        base_url point to something else?"
                .to_owned());
        }
        Verdict::Refused(why) | Verdict::Unfit(why) | Verdict::Down(why) => why,
    };
    let known = match (vendor, why) {
        (Vendor::Geetest, "vendor-error" | "wrong-token" | "late-or-used") => {
            "it answers; whether site_key and secret_key are right shows only with a person's token"
        }
        (_, "wrong-token" | "late-or-used" | "no-token" | "no-reason") => "it knows the secret",
        _ => return Err(format!("{why} — {}", advice(vendor, why))),
    };
    Ok(known)
}

fn advice(vendor: Vendor, why: &str) -> &'static str {
    match (why, vendor) {
        ("wrong-secret", Vendor::Turnstile) => {
            "the vendor does not know this secret: dash.cloudflare.com, Turnstile, the widget, \
             Settings, Secret key; it differs from the site key and changes when it is rotated"
        }
        ("wrong-secret", Vendor::Hcaptcha) => {
            "the vendor does not know this secret: dashboard.hcaptcha.com, Settings, Secret; it \
             belongs to the account and begins with ES_ or 0x"
        }
        ("wrong-secret", Vendor::RecaptchaV2 | Vendor::RecaptchaV3) => {
            "the vendor does not know this secret: google.com/recaptcha/admin, the site, Settings, \
             reCAPTCHA keys, Secret key; keys of version 2 and 3 differ"
        }
        ("wrong-secret", _) => {
            "the server does not know this pair of site_key and secret_key: Cap's dashboard shows \
             the secret once, when the key is made; make another if it is lost"
        }
        ("key-mismatch", Vendor::TencentCaptcha) => {
            "site_key (CaptchaAppId) and secret_key (AppSecretKey) do not belong together, or the \
             vendor means only our made-up ticket: compare them in the console, 验证管理, 基础配置"
        }
        ("key-mismatch", _) => {
            "site_key and secret_key belong to different accounts or widgets: copy both anew"
        }
        ("wrong-api-key", _) => {
            "the cloud refuses api_id and api_key: console.cloud.tencent.com/cam/capi; the key \
             must be active, and the clock right within five minutes"
        }
        ("account", _) => {
            "the key is known, but the account may not do this: is the captcha product opened, \
             paid for, and QcloudCaptchaReadOnlyAccess granted to the key?"
        }
        ("test-secret", _) => "a real token came with the vendor's test secret: copy the real one",
        ("no-connection", _) => {
            "no connection: is base_url right, and may this machine call out by HTTPS?"
        }
        ("timeout", _) => "no answer within timeout_ms: try again, or give it more time",
        ("redirect", _) => {
            "base_url leads elsewhere; redirects are not followed: name the last one"
        }
        ("http-429", _) => "the vendor says: too many requests. Ask for a larger quota there",
        ("garbled" | "http-4xx" | "answer-too-long", _) => {
            "what answers there does not speak this vendor's dialect: is base_url right?"
        }
        ("http-5xx" | "http-other" | "vendor-fault" | "broken-off", _) => {
            "a fault of the vendor's: try again later, and look at its status page"
        }
        _ => "not a word that is expected here: docs/third-party-checks.md",
    }
}
