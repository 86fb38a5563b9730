//! What a caller lives through: the real binary, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod browser;
mod flood;
mod hostile;
mod native_door;
mod races;
mod secrets;
mod seed_door;
mod tidy;
mod token;
mod world;
