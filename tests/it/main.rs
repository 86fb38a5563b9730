//! What a caller lives through: the real binary, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod tidy;
mod world;
