//! `send-test`: one message through a provider, its answer explained.

use anyhow::Context;

use crate::app;
use crate::chance::{Chance, OsChance};
use crate::clock::Clock;
use crate::config::{Config, ProviderConfig};
use crate::domain::code::Code;
use crate::domain::outcome::Action;
use crate::domain::phone::Phone;
use crate::message;
use crate::providers::Message;

pub(super) async fn run(
    config: &Config,
    to: &str,
    name: Option<&str>,
    locale: &str,
) -> anyhow::Result<()> {
    let phone = Phone::parse(to, &config.phones).with_context(|| format!("--to {to}"))?;
    let mut candidates = config.providers.iter();
    let chosen = match name {
        None => candidates.next(),
        Some(name) => candidates.find(|provider| provider.name() == name),
    };
    let known: Vec<_> = config.providers.iter().map(ProviderConfig::name).collect();
    let chosen = chosen.with_context(|| format!("--provider: known are {}", known.join(", ")))?;
    let provider = app::provider(chosen, &Clock::machine())?;
    let code = Code::draw(config.policy.code_digits, &mut OsChance);
    let minutes = config.policy.code_minutes();
    let mut reference = [0; 16];
    OsChance.fill(&mut reference);
    let text = message::text(locale, &code, minutes, &config.texts);
    let reference = hex::encode(reference);
    println!("sending a test code to {} through {} …", phone.masked(), chosen.name());
    let message = Message { phone, code, minutes, text, reference };
    let outcome = provider.send(&message).await;
    provider.close().await;
    println!("  answer   {} (code {})", outcome.class, outcome.vendor_code);
    if let Some(id) = &outcome.message_id {
        println!("  message  {id}");
    }
    println!("  advice   {}", outcome.class.advice());
    if let Some(hint) = chosen.explain(&outcome.vendor_code) {
        println!("  vendor   {hint}");
    }
    let taken = outcome.class.action() == Action::Done;
    anyhow::ensure!(taken, "the provider did not take the message");
    Ok(())
}
