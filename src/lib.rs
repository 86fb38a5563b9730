//! Countersign proves that a person holds a phone number.
//!
//! The modules, from the ground up. Each uses only those above it in this list; the test in
//! `tests/it/tidy.rs` holds that. `ARCHITECTURE.md` has the map and three walk-throughs.

pub mod chance;
pub mod clock;
pub mod captcha;
pub mod speech;
pub mod domain;
pub mod store;
pub mod keys;
pub mod message;
pub mod providers;
pub mod third_party;
pub mod routing;
pub mod signer;
pub mod verifier;
pub mod dispatcher;
pub mod telemetry;
pub mod http;
pub mod simulate;
pub mod config;
pub mod app;
pub mod cli;
