//! What a message is made of, while its delivery waits.

use serde::{Deserialize, Serialize};

/// What a delivery carries under its seal.
#[derive(Serialize, Deserialize)]
pub struct Letter {
    /// The number, E.164.
    pub phone: String,
    /// The code.
    pub code: String,
    /// The code's life, in whole minutes.
    pub minutes: u32,
    /// The language.
    pub locale: String,
}

impl Letter {
    /// What letters are sealed for.
    pub const PURPOSE: &'static [u8] = b"letter";
}
