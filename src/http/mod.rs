//! The front doors. Every route is on this page; handlers translate, and hold no rule.

mod altcha;
mod audio;
pub mod auth;
mod body;
mod challenges;
pub mod client_ip;
mod dev;
mod easel;
mod frame;
mod health;
mod native;
mod pages;
pub mod problem;
pub mod receipts;
mod seed;
pub mod server;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{any, get};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::phone::PhoneRules;
use crate::providers::Providers;
use crate::providers::simulated::Simulator;
use crate::store::Store;
use crate::verifier::Verifier;

pub use seed::{Codes, PURPOSE as SEED_PURPOSE, Settings as SeedSettings};

/// What the doors go by.
#[derive(Clone)]
pub struct Settings {
    /// Which numbers are taken.
    pub phones: PhoneRules,
    /// How others reach the server.
    pub public_url: String,
    /// Whose forwarding headers are believed.
    pub proxies: client_ip::TrustedProxies,
    /// Who may use the native door.
    pub tenants: auth::Tenants,
    /// The seed's door, where it is open.
    pub seed: Option<seed::Settings>,
    /// The developer's door, where it is open.
    pub dev: Option<Dev>,
}

/// What the developer's door needs.
#[derive(Clone)]
pub struct Dev {
    /// The simulator whose inbox it shows.
    pub simulator: Arc<Simulator>,
    /// The publishable key of the demo page.
    pub publishable_key: Option<String>,
}

/// What every handler may use.
#[derive(Clone)]
pub struct Doors {
    inner: Arc<Inner>,
    easel: easel::Easel,
    booth: easel::Easel,
}

/// The parts of [`Doors`].
pub struct Inner {
    /// The verbs.
    pub verifier: Verifier,
    /// The store, for readiness.
    pub store: Arc<dyn Store>,
    /// The providers, for their receipts.
    pub providers: Providers,
    /// The metrics.
    pub metrics: PrometheusHandle,
    /// What the doors go by.
    pub settings: Settings,
}

impl std::ops::Deref for Doors {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Doors {
    /// The doors over these parts.
    pub fn new(inner: Inner) -> Self {
        let (easel, booth) = (easel::Easel::new(), easel::Easel::for_clips());
        Self { inner: Arc::new(inner), easel, booth }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Countersign",
        description = "Proves that a person holds a phone number. Refusals are RFC 9457 problems."
    ),
    components(schemas(native::ProblemBody)),
    security(("key" = []))
)]
struct Document;

/// The documented routes.
fn documented() -> OpenApiRouter<Doors> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(challenges::create))
        .routes(routes!(challenges::image))
        .routes(routes!(audio::clip))
        .routes(routes!(altcha::challenge, altcha::challenge_by_post))
        .routes(routes!(altcha::verify))
        .routes(routes!(native::start))
        .routes(routes!(native::look, native::cancel))
        .routes(routes!(native::resend))
        .routes(routes!(native::check))
        .routes(routes!(native::timeline))
        .routes(routes!(native::jwks))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
}

/// The OpenAPI document, made from the code.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = documented().split_for_parts().1;
    let key = utoipa::openapi::security::SecurityScheme::Http(
        utoipa::openapi::security::Http::new(utoipa::openapi::security::HttpAuthScheme::Bearer),
    );
    if let Some(components) = &mut document.components {
        components.add_security_scheme("key", key);
    }
    document
}

/// All routes.
pub fn router(doors: Doors) -> Router {
    let (native, _) = documented().split_for_parts();
    // Before the layer: a preflight is a method that no route here takes.
    let mut router = native
        .method_not_allowed_fallback(frame::method_not_allowed)
        .route("/openapi.json", get(pages::openapi))
        .route("/problems/{kind}", get(pages::problem))
        .route("/receipts/{provider}/{secret}", any(receipts::receive));
    if doors.settings.seed.as_ref().is_some_and(|seed| seed.audio) {
        router = router
            .route("/audio_codes/{uuid}", get(audio::named_clip))
            .route("/audio_codes/{uuid}/", get(audio::named_clip));
    }
    if doors.settings.seed.is_some() {
        router = router
            .route("/image_codes/{uuid}", get(seed::image))
            .route("/image_codes/{uuid}/", get(seed::image))
            .route("/sms_codes/{mobile}", any(seed::send))
            .route("/sms_codes/{mobile}/", any(seed::send))
            .route("/sms_login", any(seed::login))
            .route("/sms_login/", any(seed::login));
    }
    if doors.settings.dev.is_some() {
        router = router
            .route("/", get(pages::demo))
            .route("/demo/{file}", get(pages::asset))
            .route("/dev", get(pages::to_inbox))
            .route("/dev/", get(pages::inbox))
            .route("/dev/inbox.js", get(pages::inbox_script))
            .route("/dev/demo", get(dev::demo))
            .route("/dev/messages", get(dev::messages))
            .route("/dev/image_codes/{uuid}", get(dev::named_answer))
            .route("/dev/image_codes/{uuid}/", get(dev::named_answer))
            .route("/dev/challenges/{id}", get(dev::minted_answer))
            .route("/dev/simulator", get(dev::script).post(dev::set_script).put(dev::set_script));
    }
    router
        .fallback(frame::not_found)
        .method_not_allowed_fallback(frame::method_not_allowed)
        .layer(CatchPanicLayer::custom(frame::panicked))
        .layer(middleware::from_fn_with_state(doors.clone(), auth::cors))
        .layer(middleware::from_fn(frame::frame))
        .with_state(doors)
}
