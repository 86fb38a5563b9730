//! The command line: serve, dev, check-config, doctor, send-test, simulate, keys, openapi.

mod doctor;
mod keys;
mod send_test;
mod simulate;

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::chance::{Chance, OsChance};
use crate::config::{Config, ProviderConfig, TenantConfig};
use crate::http::auth::{Demand, Offer, Tenant};
use crate::{http, message, telemetry};

/// The file that is read where none is named.
const CONFIG: &str = "countersign.toml";

/// Proves that a person holds a phone number: image challenge, one-time code, signed proof.
#[derive(Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The server.
    Serve(ConfigFile),
    /// Everything at once on 127.0.0.1, to try things out: embedded store in a temporary folder,
    /// simulated provider, demo page, and an inbox of sent messages.
    Dev {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8000")]
        listen: std::net::SocketAddr,
    },
    /// Reads the configuration and tells what is wrong, at which key, and why.
    CheckConfig(ConfigFile),
    /// Looks at store, clock, disk, keys and each provider: what would fail, and how to mend it.
    Doctor(ConfigFile),
    /// Sends one message through a provider and explains the answer. It may cost money.
    SendTest {
        #[command(flatten)]
        config: ConfigFile,
        /// The number, such as +8613800138000.
        #[arg(long)]
        to: String,
        /// The provider's name in the configuration; the first one otherwise.
        #[arg(long)]
        provider: Option<String>,
        /// The language of the text, for providers that take text.
        #[arg(long, default_value = "zh", value_parser = message::LOCALES)]
        locale: String,
    },
    /// Speaks the vendors' dialects from their side, and keeps what is sent in an inbox: to try an
    /// integration, or to test a client, without an account.
    Simulate(simulate::Arguments),
    /// Shows, makes and rotates keys.
    Keys {
        #[command(flatten)]
        config: ConfigFile,
        #[command(subcommand)]
        action: keys::Action,
    },
    /// Prints the OpenAPI document.
    Openapi,
    /// Prints docs/problems.md, which is made from the table of problems.
    #[command(hide = true)]
    Problems,
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration file; countersign.toml, if there is one.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn path(&self) -> Option<PathBuf> {
        let usual = || Path::new(CONFIG).exists().then(|| PathBuf::from(CONFIG));
        self.config.clone().or_else(usual)
    }

    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.path().as_deref(), environment())?)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn environment() -> impl Iterator<Item = (String, String)> {
    // A name or value that is not Unicode is none of ours.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs the command that was typed.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(file) => {
            let config = file.load()?;
            telemetry::log(config.log_json, &config.log_filter)?;
            runtime()?.block_on(serve(config, None))
        }
        Command::Dev { listen } => dev(listen),
        Command::CheckConfig(file) => check_config(&file),
        Command::Doctor(file) => runtime()?.block_on(doctor::run(&file.load()?)),
        Command::SendTest { config, to, provider, locale } => {
            let config = config.load()?;
            runtime()?.block_on(send_test::run(&config, &to, provider.as_deref(), &locale))
        }
        Command::Simulate(arguments) => runtime()?.block_on(simulate::run(arguments)),
        Command::Keys { config, action } => keys::run(&action, || config.load()),
        Command::Openapi => {
            println!("{}", http::openapi().to_pretty_json()?);
            Ok(())
        }
        Command::Problems => {
            print!("{}", http::problem::document());
            Ok(())
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no async runtime")
}

async fn serve(config: Config, greeting: Option<String>) -> anyhow::Result<()> {
    // A connection is an open file, and the usual soft limit of 1 024 is soon reached.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let app = App::build(config, telemetry::metrics()?).await?;
    tracing::info!(address = %app.address()?, "ready");
    if let Some(greeting) = greeting {
        println!("{greeting}");
    }
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let running = app.run(stop.clone());
    let mut running = std::pin::pin!(running);
    tokio::select! {
        () = running.as_mut() => anyhow::bail!("the server ended by itself; the log says why"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: requests and messages under way are finished first");
    stop.cancel();
    running.await;
    Ok(())
}

fn dev(listen: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut name = [0; 8];
    OsChance.fill(&mut name);
    let folder = std::env::temp_dir().join(format!("countersign-dev-{}", hex::encode(name)));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let text = format!(
        "listen = \"{listen}\"\npublic_url = \"http://{listen}\"\n\
         [store]\npath = \"{}\"\n[dev]\nenabled = true\n\
         [[providers]]\nname = \"simulated\"\nkind = \"simulated\"\n\
         [log]\nfilter = \"warn\"\n",
        folder.join("countersign.db").display()
    );
    let file = folder.join(CONFIG);
    std::fs::write(&file, text)?;
    let outcome = dev_in(&file, listen);
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn dev_in(file: &Path, listen: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut config = Config::load(Some(file), environment())?;
    if config.tenants.is_empty() {
        config.tenants.push(demo_tenant());
    }
    let simulated = |provider: &ProviderConfig| provider.kind() == "simulated";
    anyhow::ensure!(config.providers.iter().all(simulated), "dev uses the simulated provider only");
    telemetry::log(config.log_json, &config.log_filter)?;
    let url = format!("http://{listen}");
    let greeting = format!(
        "Countersign is ready, with a simulated provider and a store that is gone when you stop \
         it.\n\n  demo page        {url}/\n  inbox            {url}/dev/\n  \
         API              {url}/openapi.json\n  secret key       sk_dev_demo\n  \
         publishable key  pk_dev_demo\n\nStop it with Ctrl-C."
    );
    runtime()?.block_on(serve(config, Some(greeting)))
}

fn demo_tenant() -> TenantConfig {
    TenantConfig {
        tenant: Tenant {
            id: "demo".to_owned(),
            origins: vec![],
            challenge: Demand::Browsers,
            challenge_kinds: vec![Offer::Image, Offer::Work, Offer::Audio],
            purposes: vec!["login".to_owned()],
        },
        secret_key: "sk_dev_demo".to_owned().into(),
        publishable_key: Some("pk_dev_demo".to_owned()),
    }
}

fn check_config(file: &ConfigFile) -> anyhow::Result<()> {
    let config = file.load()?;
    let from = file.path().map_or("the defaults".to_owned(), |path| path.display().to_string());
    println!("{from}: nothing wrong.\n");
    println!("  listens on   {} as {}", config.listen, config.public_url);
    println!("  store        {}", config.store);
    println!("  keys         {}", config.key_path.display());
    println!("  countries    {:?}", config.phones.countries);
    for provider in &config.providers {
        println!("  provider     {} ({})", provider.name(), provider.kind());
    }
    for route in &config.routes {
        let names = route.providers.iter().map(|place| config.providers[*place].name());
        let names: Vec<_> = names.collect();
        let whose = (&route.countries, &route.prefixes);
        println!("  route        {:?} {:?} through {}", whose.0, whose.1, names.join(", "));
    }
    for third_party in &config.third_parties {
        println!("  third party  {third_party:?}");
    }
    if let Some(worth) = config.adaptive {
        println!(
            "  choice       adaptive; an entered code is worth {worth} {}",
            config.caps.currency
        );
    }
    for told in config.caps.words() {
        println!("  cap          {told}");
    }
    for tenant in &config.tenants {
        let browsers = if tenant.publishable_key.is_some() { " and browsers" } else { "" };
        println!("  tenant       {} (servers{browsers})", tenant.tenant.id);
    }
    println!("  seed's door  {}", if config.seed.is_some() { "open" } else { "closed" });
    println!("  /dev         {}", if config.dev { "open" } else { "closed" });
    Ok(())
}
