//! The developer's door: what the simulated provider delivered, and the answers to challenges.
//! It exists only when it is opened by configuration, and then only on loopback.

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Doors;
use super::body::{JsonBody, PathText};
use super::problem::{Kind, Problem};
use crate::captcha::Language;
use crate::domain::challenge::is_name;
use crate::providers::simulated::{INBOX_MAX, Script};

/// Messages that are shown where no `limit` is asked for.
const SHOWN: usize = 1000;

#[derive(Serialize)]
pub(super) struct Message {
    phone: String,
    text: String,
    code: String,
    provider: String,
    reference: String,
    at: String,
}

#[derive(Deserialize)]
pub(super) struct Filter {
    phone: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn demo(State(doors): State<Doors>) -> Json<Value> {
    let key = doors.settings.dev.as_ref().and_then(|dev| dev.publishable_key.clone());
    Json(json!({"publishable_key": key}))
}

pub(super) async fn messages(
    State(doors): State<Doors>,
    Query(filter): Query<Filter>,
) -> Json<Vec<Message>> {
    let Some(dev) = &doors.settings.dev else { return Json(Vec::new()) };
    let max = filter.limit.unwrap_or(SHOWN).min(INBOX_MAX);
    let clock = doors.verifier.clock();
    let shown = dev.simulator.inbox(filter.phone.as_deref(), max).into_iter().map(|message| {
        let at = clock.shown(message.at).to_string();
        let (phone, text, code) = (message.phone, message.text, message.code);
        Message { phone, text, code, provider: message.provider, reference: message.reference, at }
    });
    Json(shown.collect())
}

pub(super) async fn named_answer(
    State(doors): State<Doors>,
    PathText(uuid): PathText,
) -> Result<Json<Value>, Problem> {
    let seed = doors.settings.seed.as_ref().filter(|_| is_name(&uuid));
    let seed = seed.ok_or_else(|| Problem::of(Kind::NotFound))?;
    let picture = doors.verifier.named_picture(&seed.tenant, &uuid, seed.level);
    let heard = |language| doors.verifier.named_clip(&seed.tenant, &uuid, language).text;
    let [zh, en] = Language::ALL.map(heard);
    Ok(Json(json!({"answer": picture.text, "audio": {"zh": zh, "en": en}})))
}

pub(super) async fn minted_answer(
    State(doors): State<Doors>,
    PathText(id): PathText,
) -> Result<Json<Value>, Problem> {
    let minted = doors.verifier.open_challenge(&id).filter(|minted| minted.kind.has_picture());
    let minted = minted.ok_or_else(|| Problem::of(Kind::NotFound))?;
    let heard = |language| doors.verifier.minted_clip(&minted, language).map(|clip| clip.text);
    let [zh, en] = Language::ALL.map(heard);
    let answer = doors.verifier.minted_picture(&minted).text;
    Ok(Json(json!({"answer": answer, "audio": {"zh": zh, "en": en}})))
}

pub(super) async fn script(State(doors): State<Doors>) -> Json<Script> {
    Json(doors.settings.dev.as_ref().map(|dev| dev.simulator.script()).unwrap_or_default())
}

pub(super) async fn set_script(
    State(doors): State<Doors>,
    body: JsonBody<Script>,
) -> Result<Json<Script>, Problem> {
    let dev = doors.settings.dev.as_ref().ok_or_else(|| Problem::of(Kind::NotFound))?;
    dev.simulator.set_script(body.value);
    Ok(Json(dev.simulator.script()))
}
