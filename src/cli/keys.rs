//! `keys`: shows names, never values; rotates; makes API keys.

use clap::{Subcommand, ValueEnum};

use crate::chance::{Chance, OsChance};
use crate::clock::{Clock, timestamp};
use crate::config::Config;
use crate::http::receipts;
use crate::keys;

#[derive(Subcommand)]
pub(super) enum Action {
    /// Lists the keys by name.
    List,
    /// Puts a new key in an old one's place; the old one is accepted until what it made has
    /// ended. A running server takes it up within seconds.
    Rotate {
        /// Which.
        usage: Rotatable,
    },
    /// Prints a new pair of API keys for a `[[tenants]]` table.
    ApiKey,
    /// Prints the paths that providers push their receipts to. They are secret.
    Receipts,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Rotatable {
    /// Digests codes.
    Pepper,
    /// Derives pictures.
    Challenge,
    /// Seals numbers and letters.
    Sealing,
    /// Signs tokens.
    Token,
}

impl From<Rotatable> for keys::Use {
    fn from(usage: Rotatable) -> Self {
        match usage {
            Rotatable::Pepper => Self::Pepper,
            Rotatable::Challenge => Self::Challenge,
            Rotatable::Sealing => Self::Sealing,
            Rotatable::Token => Self::Token,
        }
    }
}

pub(super) fn run(
    action: &Action,
    config: impl FnOnce() -> anyhow::Result<Config>,
) -> anyhow::Result<()> {
    let wall = Clock::machine().wall();
    match action {
        Action::List => {
            let ring = keys::load(&config()?.key_path, wall)?;
            for key in ring.infos() {
                let state = if key.active { "in use" } else { "still accepted" };
                let made = timestamp(key.created_at).strftime("%Y-%m-%d %H:%M:%SZ");
                println!("{:<12} {:<24} {made}  {state}", key.usage.as_str(), key.id);
            }
        }
        Action::Rotate { usage } => {
            let id = keys::add_key(&config()?.key_path, (*usage).into(), wall, &mut OsChance)?;
            println!("{id} is in use now; the key before it is accepted until its work has ended.");
        }
        Action::ApiKey => {
            let mut secret = [0; 24];
            OsChance.fill(&mut secret);
            println!("secret_key = \"sk_{}\"", hex::encode(secret));
            OsChance.fill(&mut secret);
            println!("publishable_key = \"pk_{}\"", hex::encode(secret));
        }
        Action::Receipts => {
            let config = config()?;
            let ring = keys::load(&config.key_path, wall)?;
            for provider in &config.providers {
                println!("{}", receipts::url(&config.public_url, &ring, provider.name()));
            }
        }
    }
    Ok(())
}
