//! What clients are told.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::{HOUR, Millis};
use countersign::domain::token::Claims;
use countersign::verifier::{Approval, View};

use super::{Oracle, Who, case_name, last};
use crate::invariants::Invariant;

/// A message that was asked for.
pub(crate) struct Asked {
    /// When.
    pub(crate) begun: Millis,
    /// The tenant, for its keys.
    pub(crate) tenant: String,
    /// From where, where that counts.
    pub(crate) address: Option<IpAddr>,
    /// Under which `Idempotency-Key`.
    pub(crate) key: Option<String>,
    /// With the answer to which challenge.
    pub(crate) challenge: Option<String>,
}

impl Oracle {
    /// A message was accepted: who asked for it was told so.
    pub(crate) fn accepted(&mut self, now: Millis, asked: &Asked, view: &View) {
        let name = case_name(&view.id);
        // The name of this message, among all: no code of a verification ends as another does.
        let message = format!("{name}/{}", view.expires_at);
        let durable = self.cases.get(&name).is_some_and(|case| !case.codes.is_empty());
        self.hold(durable, Invariant::CallUnderClaim, || {
            format!("v{} is accepted and not in the store", last(&name))
        });
        if let Some(key) = &asked.key {
            let key = (asked.tenant.clone(), key.clone());
            let told = self.by_key.entry(key).or_insert_with(|| name.clone()).clone();
            self.hold(told == name, Invariant::OnePerKey, || {
                format!("one key: v{}, then v{}", last(&told), last(&name))
            });
        }
        if let Some(challenge) = &asked.challenge {
            let passed = self.by_challenge.entry(challenge.clone()).or_default();
            passed.insert(name.clone());
            let passed = passed.len();
            self.hold(passed == 1, Invariant::ChallengeSpent, || {
                format!("one challenge let {passed} verifications through")
            });
        }
        if let Some(address) = asked.address {
            let most = self.plan.policy.address_per_hour as usize;
            let since = now + self.plan.apart() - HOUR;
            let messages = self.by_address.entry(address).or_default();
            messages.entry(message).or_insert(asked.begun);
            let lately = messages.values().filter(|begun| **begun > since).count();
            self.hold(lately <= most, Invariant::HourAndDay, || {
                format!("{lately} messages within an hour for {address}")
            });
        }
    }

    /// 2: somebody was told that a guess is right, or wrong.
    pub(crate) fn answered(&mut self, who: &Who) {
        let failures = self.failures.entry(who.clone()).or_default();
        failures.answered += 1;
        let (answered, judged) = (failures.answered, failures.judged);
        self.hold(answered <= judged, Invariant::FewJudgements, || {
            format!("{answered} guesses were answered, {judged} judgements are in the store")
        });
    }

    /// 1 and 12: somebody holds a token.
    pub(crate) fn approved(
        &mut self,
        begun: Millis,
        who: &Who,
        phone: &str,
        guess: &str,
        it: &Approval,
    ) {
        let name = case_name(&it.view.id);
        let (ttl, apart) = (self.plan.policy.code_ttl, self.plan.apart());
        let Some(case) = self.cases.get_mut(&name) else {
            self.breach(Invariant::TokenIsPaidFor, format!("v{} is not there", last(&name)));
            return;
        };
        case.tokens += 1;
        let (tokens, approved_with) = (case.tokens, case.approved_with.clone());
        let issued = case.codes.iter().rev().find(|issued| issued.code == guess);
        let landed_at = issued.map(|issued| issued.landed_at);
        let theirs = case.who == *who;
        self.hold(tokens == 1, Invariant::OneSuccess, || {
            format!("v{} gave {tokens} tokens", last(&name))
        });
        self.hold(
            theirs && approved_with.as_deref() == Some(guess),
            Invariant::TokenIsPaidFor,
            || format!("v{} is not approved with this code in the store", last(&name)),
        );
        let in_time = landed_at.is_some_and(|at| begun < at + ttl + apart);
        self.hold(in_time, Invariant::CodeEnds, || {
            format!("a code of v{} is good {ttl} ms after it was sent", last(&name))
        });
        let claims = it.token.split('.').nth(1).and_then(|it| URL_SAFE_NO_PAD.decode(it).ok());
        let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
        let fits = claims.is_some_and(|claims| {
            let meant = claims.phone_number == phone && claims.aud == who.1;
            meant && claims.purpose == who.2 && self.tokens.insert(claims.jti)
        });
        self.hold(fits, Invariant::TokenIsPaidFor, || {
            format!("the token of v{} is not what was proved", last(&name))
        });
    }
}
