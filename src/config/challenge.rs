//! Challenges: what they cost, where they end, and who needs them.

use std::collections::HashSet;
use std::num::NonZeroU32;

use ipnet::IpNet;
use toml::Table;

use super::layers::{explain, third_party_at};
use super::typed::{Challenge, TypedTenant};
use super::{Check, network};
use crate::domain::policy::{Audio, Challenges, WORK_COST, WORK_TRIES};
use crate::domain::risk::Counts;
use crate::http::auth::{Demand, Offer};
use crate::providers::kind::Misfit;
use crate::third_party::MEMBERS_MAX;
use crate::third_party::settings::Settings;

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

/// The vendors whose own challenges are taken.
pub(super) fn third_parties(typed: Vec<Table>, check: &mut Check<'_>) -> Vec<Settings> {
    let most = format!("challenge.third_parties: {MEMBERS_MAX} at most");
    check(typed.len() <= MEMBERS_MAX, most);
    let (mut names, mut resolved) = (HashSet::new(), Vec::new());
    for (place, table) in typed.into_iter().enumerate() {
        let at = third_party_at(place);
        match Settings::read(table) {
            Ok(settings) => {
                let name = &settings.name;
                let own = [Offer::Image, Offer::Work, Offer::Audio]
                    .iter()
                    .all(|offer| offer.as_str() != name);
                check(own, format!("{at}.name: \"{name}\" is a kind of our own"));
                let fresh = names.insert(name.clone());
                check(fresh, format!("{at}.name: \"{name}\" is taken already; give it another"));
                resolved.push(settings);
            }
            Err(Misfit::Unfit(unfit)) => {
                for unfit in unfit {
                    check(false, format!("{at}.{unfit}"));
                }
            }
            Err(Misfit::Form { path, message }) => {
                let path = if path == "." { at } else { format!("{at}.{path}") };
                check(false, explain(&path, &message));
            }
        }
    }
    resolved
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

/// The kinds of challenge that a tenant's callers may ask for: ours, and third parties by name.
pub(super) fn kinds(
    typed: &[String],
    third_parties: &[Settings],
    at: &str,
    check: &mut Check<'_>,
) -> Vec<Offer> {
    let key = format!("{at}.challenge_kinds");
    let known: Vec<(&str, Offer)> = [Offer::Image, Offer::Work, Offer::Audio]
        .map(|offer| (offer.as_str(), offer))
        .into_iter()
        .chain((0..).zip(third_parties).map(|(place, settings)| {
            (settings.name.as_str(), Offer::ThirdParty(settings.vendor(), place))
        }))
        .collect();
    let words: Vec<_> = known.iter().map(|(word, _)| format!("\"{word}\"")).collect();
    let alone = typed.iter().any(|text| text != Offer::Audio.as_str());
    check(
        alone,
        format!("{key}: at least one of {}; \"audio\" only beside another", words.join(", ")),
    );
    let mut found: Vec<Offer> = Vec::new();
    for text in typed {
        let offer = known.iter().find(|(word, _)| word == text).map(|(_, offer)| *offer);
        let Some(offer) = offer else {
            check(false, format!("{key}: \"{text}\" is none of {}", words.join(", ")));
            continue;
        };
        // A page asks by the vendor's word, so two of one vendor could not be told apart.
        let fresh = found.iter().all(|other| other.as_str() != offer.as_str());
        check(fresh, format!("{key}: two of the kind {}; list one", offer.as_str()));
        found.push(offer);
    }
    found
}
