//! Prints `uuid answer` for so many fresh names of the seed's door, in the current window of time:
//! what a load generator needs to send solved pictures. It takes the server's key file, which
//! whoever asks must be allowed to read.

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use countersign::captcha::Level;
use countersign::chance::{Chance, OsChance};
use countersign::clock::Clock;
use countersign::domain::challenge::{Picture, Subject, window_at};
use countersign::keys;

#[derive(Parser)]
struct Arguments {
    /// The server's key file.
    #[arg(long)]
    keys: PathBuf,
    /// How many.
    #[arg(long)]
    count: usize,
    /// The tenant of the seed's door.
    #[arg(long, default_value = "default")]
    tenant: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let now = Clock::machine().wall();
    let ring = keys::load(&arguments.keys, now)?;
    let key = ring.challenge().next().expect("a ring holds a challenge key");
    let (tenant, window) = (arguments.tenant.as_str(), window_at(now));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for _ in 0..arguments.count {
        let mut bytes = [0; 16];
        OsChance.fill(&mut bytes);
        let name = hex::encode(bytes);
        let named = Subject::Named { tenant, name: &name, window };
        let picture = Picture::derive(key, &named, Level::Plain);
        writeln!(out, "{name} {}", picture.text)?;
    }
    Ok(())
}
