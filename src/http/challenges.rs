//! Challenges at the native door: made, shown, and answered.

use axum::Json;
use axum::extract::{Extension, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::IpAddr;
use utoipa::ToSchema;

use super::auth::{Caller, Demand, KeyKind, Offer};
use super::body::PathText;
use super::client_ip::Peer;
use super::native::listed_purpose;
use super::problem::{Kind, Problem};
use super::{Doors, body};
use crate::captcha::Language;
use crate::domain::challenge::Picture;
use crate::domain::minted::{Kind as Wish, Version};
use crate::domain::risk::Hint;
use crate::speech;
use crate::verifier::{Answered, Ask, Minting, Reply, Verifier};

/// What is asked for; an empty body asks for the tenant's first kind.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChallengeBody {
    /// `image`, `proof-of-work` or the kind of a third party (`turnstile`, `hcaptcha`,
    /// `recaptcha-v2`, `recaptcha-v3`, `geetest`, `tencent-captcha`, `cap`): one of the tenant's
    /// `challenge_kinds`; the first by default.
    kind: Option<String>,
    /// What the challenge shall be good for: one of the tenant's `purposes`; any by default.
    purpose: Option<String>,
    /// The version of a proof of work: 2, or 1 where the configuration takes it.
    version: Option<u8>,
    /// What the application knows about who asks: secret keys only.
    risk: Option<Risk>,
}

/// What an application's server knows about who asks.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Risk {
    /// Nothing against it.
    Low,
    /// Something is odd.
    Elevated,
    /// Much speaks against it.
    High,
}

impl Risk {
    /// The hint in it, which only a server's word is worth.
    pub(super) fn of_servers(given: Option<Self>, caller: &Caller) -> Result<Hint, Problem> {
        let Some(given) = given else { return Ok(Hint::Low) };
        if caller.kind == KeyKind::Publishable {
            return Err(Problem::invalid("risk", "only the secret key may say so"));
        }
        Ok(match given {
            Self::Low => Hint::Low,
            Self::Elevated => Hint::Elevated,
            Self::High => Hint::High,
        })
    }
}

/// A challenge.
#[derive(Serialize, ToSchema)]
pub(super) struct Challenge {
    /// Its id, for the answer.
    id: String,
    /// `image`, `proof-of-work`, or the kind of a third party.
    kind: &'static str,
    /// Where its picture is.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<String>,
    /// Where the same challenge is spoken, for people who cannot see the picture; answer with
    /// `audio_length` digits in place of what the picture says.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_url: Option<String>,
    /// How many digits are spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_length: Option<usize>,
    /// How its picture is read: show it beside the picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    instruction: Option<Instruction>,
    /// The work, as ALTCHA's widget and libraries take it: a challenge of version 2, or 1. The
    /// payload that they make is the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    altcha: Option<crate::verifier::Work>,
    /// What the third party's widget is shown with. The token that it gives is the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    third_party: Option<Widget>,
    /// When it ends (RFC 3339).
    expires_at: String,
}

/// What a page tells a third party's widget.
#[derive(Serialize, ToSchema)]
pub(super) struct Widget {
    /// The public key (at some vendors: the captcha's or the application's id).
    site_key: String,
    /// The action to name to it, where its vendor reports one: a token for another is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
}

impl Widget {
    /// For this kind, if a third party judges it.
    fn of(kind: Wish, doors: &Doors) -> Option<Self> {
        let Wish::ThirdParty(vendor, place) = kind else { return None };
        let member = doors.verifier.third_party(vendor, place)?;
        let action = member.action().map(str::to_owned);
        Some(Self { site_key: member.site_key().to_owned(), action })
    }
}

/// A sentence in each language.
#[derive(Serialize, ToSchema)]
pub(super) struct Instruction {
    /// 中文.
    zh: &'static str,
    /// English.
    en: &'static str,
}

/// An answer to a challenge.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChallengeAnswer {
    /// The challenge's id; a payload of ALTCHA's carries it, so it may be left out there.
    id: Option<String>,
    /// What the person read, the payload, or the third party's token (where its widget gives an
    /// object: that as JSON).
    answer: String,
}

/// Where a challenge's picture is.
pub(super) fn image_url(doors: &Doors, id: &str) -> String {
    format!("{}/v1/challenges/{id}/image", doors.settings.public_url.trim_end_matches('/'))
}

/// Where a challenge is spoken.
pub(super) fn audio_url(doors: &Doors, id: &str) -> String {
    format!("{}/v1/challenges/{id}/audio", doors.settings.public_url.trim_end_matches('/'))
}

/// Makes a challenge. Nothing is stored until it is answered.
#[utoipa::path(post, path = "/v1/challenges", request_body = Option<ChallengeBody>,
    responses((status = 201, body = Challenge), (status = 429, body = super::native::ProblemBody)))]
pub(super) async fn create(
    State(doors): State<Doors>,
    caller: Caller,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let bytes = body::read(request).await?;
    let asked: ChallengeBody =
        if bytes.trim_ascii().is_empty() { ChallengeBody::default() } else { body::json(&bytes)? };
    let offer = offered(&doors, &caller, asked.kind.as_deref())?;
    let wish = offer.wish(version(&doors, asked.version)?);
    let address = caller.counted_address(&doors, peer.ip(), &headers);
    let hint = Risk::of_servers(asked.risk, &caller)?;
    let minting = ask(&doors, &caller, asked.purpose.as_deref(), address, hint, wish)?;
    let picture = minting.minted.kind.has_picture();
    let audio = minting.minted.has_audio();
    let [zh, en] = Language::ALL.map(|language| minting.rule.instruction(language));
    let challenge = Challenge {
        kind: minting.minted.kind.as_str(),
        image_url: picture.then(|| image_url(&doors, &minting.id)),
        audio_url: audio.then(|| audio_url(&doors, &minting.id)),
        audio_length: audio.then_some(speech::LENGTH),
        instruction: picture.then_some(Instruction { zh, en }),
        altcha: doors.verifier.work(&minting),
        third_party: Widget::of(minting.minted.kind, &doors),
        expires_at: doors.verifier.clock().shown(minting.minted.expires_at).to_string(),
        id: minting.id,
    };
    Ok((StatusCode::CREATED, Json(challenge)).into_response())
}

/// Asks the ladder for a challenge.
pub(super) fn ask(
    doors: &Doors,
    caller: &Caller,
    purpose: Option<&str>,
    address: Option<IpAddr>,
    hint: Hint,
    wish: Wish,
) -> Result<Minting, Problem> {
    let tenant = &caller.tenant.id;
    let purpose = purpose.map(|purpose| listed_purpose(caller, Some(purpose))).transpose()?;
    let asked = Ask { tenant, purpose: purpose.as_deref(), address, hint, wish };
    let minting = doors
        .verifier
        .ask_challenge(&asked)
        .map_err(|refusal| Problem::refused(&refusal, doors.verifier.clock()))?;
    if caller.tenant.challenge_kinds.contains(&Offer::Audio) {
        return Ok(doors.verifier.with_audio(tenant, minting));
    }
    Ok(minting)
}

/// The kind that a caller may have: the one that is asked for, or the first. What takes the place
/// of a third party may be asked for while that is down.
pub(super) fn offered(
    doors: &Doors,
    caller: &Caller,
    asked: Option<&str>,
) -> Result<Offer, Problem> {
    let offers = &caller.tenant.challenge_kinds;
    // Audio comes with pictures, and not by itself.
    let alone: Vec<_> = offers.iter().copied().filter(|offer| *offer != Offer::Audio).collect();
    let substitutes = |asked: &str| {
        let substitute = |offer: &Offer| match *offer {
            Offer::ThirdParty(vendor, place) => doors.verifier.substitute(vendor, place),
            Offer::Image | Offer::Work | Offer::Audio => None,
        };
        let given = alone.iter().filter_map(substitute).any(|kind| kind.as_str() == asked);
        [Offer::Image, Offer::Work].into_iter().find(|offer| given && offer.as_str() == asked)
    };
    let found = match asked {
        Some(asked) => {
            let listed = alone.iter().find(|offer| offer.as_str() == asked).copied();
            listed.or_else(|| substitutes(asked))
        }
        None => alone.first().copied(),
    };
    found.ok_or_else(|| {
        let words: Vec<_> = alone.iter().map(|offer| offer.as_str()).collect();
        Problem::invalid("kind", format!("this tenant's kinds are: {}", words.join(", ")))
    })
}

/// The version of a proof of work that may be had.
pub(super) fn version(doors: &Doors, asked: Option<u8>) -> Result<Version, Problem> {
    match asked {
        None | Some(2) => Ok(Version::Two),
        Some(1) if doors.verifier.policy().challenges.altcha_v1 => Ok(Version::One),
        Some(_) => Err(Problem::invalid(
            "version",
            "2; or 1, where `challenge.altcha_v1` of the configuration takes it",
        )),
    }
}

/// How a picture is wanted.
#[derive(Deserialize)]
pub(super) struct Look {
    /// `zh` or `en`: with a line below that says how it is read.
    caption: Option<String>,
}

/// A challenge's picture: the same one every time. Needs no key: an `img` element sends none.
#[utoipa::path(get, path = "/v1/challenges/{id}/image",
    params(("id" = String, Path, description = "The challenge's id"),
        ("caption" = Option<String>, Query, description = "`zh` or `en`: a line below it")),
    responses((status = 200, content_type = "image/png", body = Vec<u8>), (status = 404),
        (status = 503)))]
pub(super) async fn image(
    State(doors): State<Doors>,
    PathText(id): PathText,
    uri: Uri,
) -> Result<Response, Problem> {
    let Query(look): Query<Look> =
        Query::try_from_uri(&uri).map_err(|_| Problem::invalid("caption", "`zh` or `en`, once"))?;
    let caption = look.caption.map(|language| match language.as_str() {
        "en" => Language::English,
        _ => Language::Chinese,
    });
    let minted = doors.verifier.open_challenge(&id).filter(|minted| minted.kind.has_picture());
    let minted = minted.ok_or_else(|| Problem::of(Kind::NotFound))?;
    png(&doors, doors.verifier.minted_picture(&minted), caption).await
}

/// An image response; with a line below the picture for front ends that show nothing else.
pub(super) async fn png(
    doors: &Doors,
    picture: Picture,
    caption: Option<Language>,
) -> Result<Response, Problem> {
    let headers = [(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, "no-store")];
    let file = doors.easel.draw(|| Verifier::draw(&picture, caption)).await?;
    Ok((headers, file).into_response())
}

/// What a start brings along: an answer, a waiver of the ladder, or nothing, where none is needed.
pub(super) fn answered(
    doors: &Doors,
    caller: &Caller,
    given: Option<ChallengeAnswer>,
    purpose: &str,
    address: Option<IpAddr>,
    hint: Hint,
) -> Result<Option<Answered>, Problem> {
    if let Some(ChallengeAnswer { id, answer }) = given {
        let reply = Reply { tenant: &caller.tenant.id, id: id.as_deref(), purpose, address };
        return Ok(Some(doors.verifier.answered(&reply, answer)));
    }
    match (caller.tenant.challenge, caller.kind) {
        (Demand::Browsers | Demand::Never, KeyKind::Secret) => Ok(None),
        (Demand::Always, _) | (Demand::Browsers | Demand::Never, KeyKind::Publishable) => {
            Err(Problem::of(Kind::ChallengeRequired))
        }
        (Demand::WhenRisky, _) => match doors.verifier.ask_waiver(address, hint) {
            Ok(Ok(waived)) => Ok(Some(waived)),
            Ok(Err(wanted)) => {
                let word = wanted_kind(&caller.tenant.challenge_kinds, wanted);
                Err(Problem::of(Kind::ChallengeRequired).with("kind", json!(word)))
            }
            Err(refusal) => Err(Problem::refused(&refusal, doors.verifier.clock())),
        },
    }
}

/// Which of a tenant's kinds is wanted where the ladder asks for work, or for a picture: work if
/// work is enough, or what comes first; a third party's is enough for either.
fn wanted_kind(offers: &[Offer], wanted: Wish) -> &'static str {
    let works = matches!(wanted, Wish::Work(_));
    if works && offers.contains(&Offer::Work) {
        return Offer::Work.as_str();
    }
    let mut alone = offers.iter().filter(|offer| **offer != Offer::Audio);
    let enough = alone.find(|offer| works || **offer != Offer::Work);
    enough.unwrap_or(&Offer::Image).as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::third_party::Vendor;

    #[test]
    fn what_is_wanted_is_enough_and_one_of_the_tenants_kinds_where_there_is_one() {
        const TURNSTILE: Offer = Offer::ThirdParty(Vendor::Turnstile, 0);
        let work = Wish::Work(Version::Two);
        let cases: [(&[Offer], Wish, &str); 11] = [
            (&[Offer::Image, Offer::Work], work, "proof-of-work"),
            (&[Offer::Image, Offer::Work], Wish::Image, "image"),
            (&[Offer::Image], work, "image"),
            (&[Offer::Audio, Offer::Image], Wish::Image, "image"),
            (&[Offer::Work], work, "proof-of-work"),
            (&[Offer::Work], Wish::Image, "image"),
            (&[TURNSTILE], work, "turnstile"),
            (&[TURNSTILE], Wish::Image, "turnstile"),
            (&[TURNSTILE, Offer::Image], Wish::Image, "turnstile"),
            (&[Offer::Image, TURNSTILE], Wish::Image, "image"),
            (&[TURNSTILE, Offer::Work], work, "proof-of-work"),
        ];
        for (offers, wanted, expected) in cases {
            assert_eq!(wanted_kind(offers, wanted), expected, "{offers:?} {wanted:?}");
        }
    }
}
