//! Challenges: what they cost, where they end, and who needs them.

use std::num::NonZeroU32;

use ipnet::IpNet;

use super::typed::{Challenge, TypedTenant};
use super::{Check, network};
use crate::domain::policy::{Audio, Challenges, WORK_COST, WORK_TRIES};
use crate::domain::risk::Counts;
use crate::http::auth::{Demand, Offer};

/// The numbers, and the networks that are not counted.
pub(super) fn resolve(typed: &Challenge, check: &mut Check<'_>) -> (Challenges, Vec<IpNet>) {
    let mut within = |key: &str, value: u32, low: u32, high: u32| {
        let fits = (low..=high).contains(&value);
        check(fits, format!("challenge.{key}: {value} is not within {low} to {high}"));
    };
    within("work_cost", typed.work_cost, *WORK_COST.start(), *WORK_COST.end());
    within("work_tries", typed.work_tries, *WORK_TRIES.start(), *WORK_TRIES.end());
    within("asked_per_10_minutes", typed.asked_per_10_minutes, 1, u32::MAX);
    within("network_asked_per_10_minutes", typed.network_asked_per_10_minutes, 1, u32::MAX);
    within("wrong_per_10_minutes", typed.wrong_per_10_minutes, 1, u32::MAX);
    within("audio_answers_per_10_minutes", typed.audio_answers_per_10_minutes, 1, u32::MAX);
    within("audio_clips_per_10_minutes", typed.audio_clips_per_10_minutes, 1, u32::MAX);
    let exempt = typed.exempt.iter().filter_map(|text| {
        let read = network("challenge.exempt", text);
        read.map_err(|mistake| check(false, mistake)).ok()
    });
    let exempt = exempt.collect();
    let challenges = Challenges {
        work_cost: NonZeroU32::new(typed.work_cost).unwrap_or(NonZeroU32::MIN),
        work_tries: typed.work_tries,
        altcha_v1: typed.altcha_v1,
        limits: Counts {
            wrong: typed.wrong_per_10_minutes,
            asked: typed.asked_per_10_minutes,
            prefix: typed.network_asked_per_10_minutes,
        },
        audio: Audio {
            answers: typed.audio_answers_per_10_minutes,
            clips: typed.audio_clips_per_10_minutes,
        },
    };
    (challenges, exempt)
}

/// Who of a tenant needs a challenge.
pub(super) fn demand(tenant: &TypedTenant, at: &str, check: &mut Check<'_>) -> Demand {
    match tenant.challenge.as_str() {
        "browsers" => Demand::Browsers,
        "always" => Demand::Always,
        "when-risky" => Demand::WhenRisky,
        "never" => {
            check(
                tenant.publishable_key.is_none(),
                format!("{at}.challenge: \"never\" is for servers: leave publishable_key out"),
            );
            Demand::Never
        }
        _ => {
            let known = "\"browsers\", \"always\", \"when-risky\" or \"never\"";
            check(false, format!("{at}.challenge: {known}"));
            Demand::Browsers
        }
    }
}

/// The kinds of challenge that a tenant's callers may ask for.
pub(super) fn kinds(typed: &[String], at: &str, check: &mut Check<'_>) -> Vec<Offer> {
    let known = [Offer::Image, Offer::Work, Offer::Audio];
    let found: Vec<_> = typed
        .iter()
        .filter_map(|text| known.into_iter().find(|offer| offer.as_str() == text))
        .collect();
    check(
        found.iter().any(|offer| *offer != Offer::Audio) && found.len() == typed.len(),
        format!(
            "{at}.challenge_kinds: at least one of \"image\" and \"proof-of-work\"; beside them \
             \"audio\""
        ),
    );
    found
}
