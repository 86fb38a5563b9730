//! What somebody else says about who asks: a vendor judged its own challenge, and we judge its
//! report. A vendor that cannot be asked never counts as a yes.

use serde::{Deserialize, Serialize};

use crate::clock::{MINUTE, Millis, SECOND};

/// The vendors whose challenges are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vendor {
    /// Cloudflare Turnstile.
    Turnstile,
    /// hCaptcha.
    Hcaptcha,
    /// Google's reCAPTCHA, version 2.
    RecaptchaV2,
    /// Google's reCAPTCHA, version 3.
    RecaptchaV3,
    /// 极验 (`GeeTest`), version 4.
    Geetest,
    /// 腾讯云验证码 (Tencent Captcha).
    TencentCaptcha,
    /// Cap, on a server of one's own.
    Cap,
}

impl Vendor {
    /// All of them, in the order of their numbers in a seal.
    pub const ALL: [Self; 7] = [
        Self::Turnstile,
        Self::Hcaptcha,
        Self::RecaptchaV2,
        Self::RecaptchaV3,
        Self::Geetest,
        Self::TencentCaptcha,
        Self::Cap,
    ];

    /// The word in the configuration, on the wire, in metrics and timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Turnstile => "turnstile",
            Self::Hcaptcha => "hcaptcha",
            Self::RecaptchaV2 => "recaptcha-v2",
            Self::RecaptchaV3 => "recaptcha-v3",
            Self::Geetest => "geetest",
            Self::TencentCaptcha => "tencent-captcha",
            Self::Cap => "cap",
        }
    }

    /// The vendor of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vendor| vendor.as_str() == word)
    }
}

/// What came of asking a vendor. The words are ours and few: they are in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It vouches for the token, and its report is as expected.
    Passed,
    /// The token is worth nothing.
    Refused(&'static str),
    /// The vendor does not know us: our settings are wrong, not the token.
    Unfit(&'static str),
    /// Nobody can tell: no answer, or none that can be read.
    Down(&'static str),
}

impl Verdict {
    /// Its own word, and why.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Passed => ("passed", "passed"),
            Self::Refused(why) => ("refused", why),
            Self::Unfit(why) => ("unfit", why),
            Self::Down(why) => ("down", why),
        }
    }
}

/// What a vendor reported about a token that it vouches for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The host of the page, or the name of the app.
    pub host: Option<String>,
    /// What the page said it was for.
    pub action: Option<String>,
    /// From 0 (a program) to 1 (a person).
    pub score: Option<f64>,
}

/// What a report must say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// The hosts of which one must be reported; empty: any, or none.
    pub hosts: Vec<String>,
    /// The action that must be reported; none: any, or none.
    pub action: Option<String>,
    /// The least score; none: the vendor must not report any, since it would go unread.
    pub score_min: Option<f64>,
}

/// Stands in a list of hosts for all of them.
pub const ANY_HOST: &str = "*";

impl Expected {
    /// Judges the report about a token that the vendor vouches for.
    pub fn judge(&self, report: &Report) -> Verdict {
        let listed = |host: &str| {
            let same = |known: &String| known == ANY_HOST || known.eq_ignore_ascii_case(host);
            self.hosts.iter().any(same)
        };
        if !self.hosts.is_empty() && !listed(report.host.as_deref().unwrap_or_default()) {
            return Verdict::Refused("other-host");
        }
        if self.action.is_some() && report.action != self.action {
            return Verdict::Refused("other-action");
        }
        match (self.score_min, report.score) {
            (None, None) => Verdict::Passed,
            (Some(least), Some(score)) if (least..=1.0).contains(&score) => Verdict::Passed,
            (Some(_), Some(_)) => Verdict::Refused("low-score"),
            // Keys of the one version with settings of the other.
            (Some(_), None) => Verdict::Refused("no-score"),
            (None, Some(_)) => Verdict::Refused("unread-score"),
        }
    }
}

/// What is done while a vendor cannot be asked. Letting everybody through is not on the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// Nothing goes out.
    #[default]
    Refuse,
    /// A picture of ours takes its place.
    Image,
    /// Work takes its place.
    Work,
}

/// Failures in a row after which a vendor is left alone for a while.
const FAILURES_MAX: u32 = 3;
/// For how long; then one token tries it again.
pub const PAUSE: Millis = 5 * SECOND;
/// How long after a failure what takes the vendor's place is given out and taken: long enough to
/// be asked for, shown and answered.
const TAKEN: Millis = 5 * MINUTE;

/// How a vendor has done of late, as this node has seen it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures: u32,
    failed_at: Option<Millis>,
}

impl Health {
    /// Whether it is left alone at the moment, and until when.
    pub fn rests_until(&self, now: Millis) -> Option<Millis> {
        let until = self.failed_at.filter(|_| self.failures >= FAILURES_MAX)? + PAUSE;
        (now < until).then_some(until)
    }

    /// Whether it may be asked now. After a pause one may, and the others wait for what comes of
    /// it, one pause more at most.
    pub fn may_be_asked(&mut self, now: Millis) -> bool {
        if self.rests_until(now).is_some() {
            return false;
        }
        if self.failures >= FAILURES_MAX {
            self.failed_at = Some(now);
        }
        true
    }

    /// It answered, whatever it said.
    pub fn answered(&mut self) {
        self.failures = 0;
    }

    /// It answered that it does not know us: there is no use in waiting, and what takes its place
    /// is given out meanwhile.
    pub fn refused_us(&mut self, now: Millis) {
        self.failures = 0;
        self.failed_at = Some(now);
    }

    /// It did not answer, or nothing that can be read.
    pub fn failed(&mut self, now: Millis) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
    }

    /// Whether it failed so recently that what takes its place is given out.
    pub fn failed_of_late(&self, now: Millis) -> bool {
        self.failed_at.is_some_and(|at| now < at + TAKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_taken_only_if_all_of_it_is_as_expected() {
        let report = |host: &str, action: &str, score: Option<f64>| Report {
            host: (!host.is_empty()).then(|| host.to_owned()),
            action: (!action.is_empty()).then(|| action.to_owned()),
            score,
        };
        let expected = |hosts: &[&str], action: &str, score_min: Option<f64>| Expected {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            action: (!action.is_empty()).then(|| action.to_owned()),
            score_min,
        };
        let shop = &["shop.example", "www.shop.example"][..];
        let refused = Verdict::Refused;
        let cases = [
            (expected(&[], "", None), report("", "", None), Verdict::Passed),
            (expected(&[], "", None), report("evil.example", "pay", None), Verdict::Passed),
            (expected(shop, "", None), report("shop.example", "", None), Verdict::Passed),
            (expected(shop, "", None), report("WWW.Shop.Example", "", None), Verdict::Passed),
            (expected(shop, "", None), report("evil.example", "", None), refused("other-host")),
            (expected(shop, "", None), report("a.shop.example", "", None), refused("other-host")),
            (expected(shop, "", None), report("", "", None), refused("other-host")),
            (expected(&["*"], "", None), report("evil.example", "", None), Verdict::Passed),
            (expected(&[], "sms", None), report("", "sms", None), Verdict::Passed),
            (expected(&[], "sms", None), report("", "SMS", None), refused("other-action")),
            (expected(&[], "sms", None), report("", "", None), refused("other-action")),
            (expected(&[], "", Some(0.5)), report("", "", Some(0.5)), Verdict::Passed),
            (expected(&[], "", Some(0.5)), report("", "", Some(1.0)), Verdict::Passed),
            (expected(&[], "", Some(0.5)), report("", "", Some(0.49)), refused("low-score")),
            (expected(&[], "", Some(0.5)), report("", "", Some(7.0)), refused("low-score")),
            (expected(&[], "", Some(0.0)), report("", "", Some(f64::NAN)), refused("low-score")),
            (expected(&[], "", Some(0.0)), report("", "", None), refused("no-score")),
            (expected(&[], "", None), report("", "", Some(0.9)), refused("unread-score")),
            (expected(shop, "sms", None), report("x.example", "sms", None), refused("other-host")),
        ];
        for (expected, report, verdict) in cases {
            assert_eq!(expected.judge(&report), verdict, "{expected:?} {report:?}");
        }
    }

    #[test]
    fn a_vendor_that_fails_three_times_is_left_alone_and_tried_by_one_at_a_time() {
        let mut health = Health::default();
        assert!(!health.failed_of_late(0));
        for failures in 0..FAILURES_MAX {
            assert!(health.may_be_asked(1_000), "{failures}");
            health.failed(1_000);
            assert!(health.failed_of_late(1_000));
        }
        assert_eq!(health.rests_until(1_000), Some(1_000 + PAUSE));
        assert!(!health.may_be_asked(999 + PAUSE));
        assert!(health.may_be_asked(1_000 + PAUSE), "one tries");
        assert!(!health.may_be_asked(1_000 + PAUSE), "and the others wait for it");
        health.answered();
        assert!(health.may_be_asked(1_000 + PAUSE) && health.may_be_asked(1_000 + PAUSE));
        assert!(health.failed_of_late(1_000 + PAUSE), "who was told so may still do the other");
        assert!(!health.failed_of_late(1_000 + PAUSE + TAKEN));
        health.failed(9_000_000);
        assert!(health.may_be_asked(9_000_000), "one failure is no reason to leave it alone");
        for _ in 0..5 {
            health.refused_us(9_000_000);
            assert!(health.may_be_asked(9_000_000) && health.failed_of_late(9_000_000));
        }
    }

    #[test]
    fn every_vendor_has_a_word_of_its_own() {
        for vendor in Vendor::ALL {
            assert_eq!(Vendor::named(vendor.as_str()), Some(vendor));
            let written = serde_json::to_value(vendor).unwrap();
            assert_eq!(written, vendor.as_str(), "records and configuration use one word");
        }
        assert_eq!(Vendor::named("recaptcha"), None);
    }
}
