//! `simulate`: the vendors' dialects from their side.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::phone::Phone;
use crate::providers::transport;
use crate::simulate::{Script, Settings, Simulator};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where to listen. Whoever reaches it reads the codes.
    #[arg(long, default_value = "127.0.0.1:9900")]
    listen: SocketAddr,
    /// Another account than the documented one: `aliyun.sign_name=某某科技`. May be repeated.
    #[arg(long, value_name = "KIND.SETTING=VALUE")]
    set: Vec<String>,
    /// A number that test accounts reach, in E.164; others are refused as vendors refuse them. May
    /// be repeated; without it every number is reached.
    #[arg(long, value_name = "+86…")]
    test_number: Vec<String>,
    /// Leaves out the vendors' limits per number, such as one message a minute.
    #[arg(long)]
    no_number_limits: bool,
    /// Where receipts are pushed to that a request gives no address for: `vonage=http://…`. May be
    /// repeated.
    #[arg(long, value_name = "NAME=URL")]
    push: Vec<String>,
    /// What is done with the next messages, as at /dev/simulator: `{"latency_ms": 200}`. May be
    /// repeated, for several names.
    #[arg(long, value_name = "JSON")]
    script: Vec<String>,
    /// Speaks SMPP over TLS, too, with this certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Prints the `[[providers]]` tables that reach the simulator, and ends.
    #[arg(long)]
    print_config: bool,
}

fn settings(arguments: &Arguments) -> anyhow::Result<Settings> {
    let mut settings = Settings::default();
    settings.number_limits = !arguments.no_number_limits;
    for assignment in &arguments.set {
        settings.set(assignment).with_context(|| format!("--set {assignment}"))?;
    }
    for number in &arguments.test_number {
        let phone = Phone::from_e164(number).context("--test-number: write +8613800138000")?;
        settings.test_numbers.push(phone.e164().to_owned());
    }
    for push in &arguments.push {
        let (name, url) = push.split_once('=').context("--push: write NAME=URL")?;
        settings.push.insert(name.to_owned(), url.to_owned());
    }
    if let Some((cert, key)) = arguments.tls_cert.as_ref().zip(arguments.tls_key.as_ref()) {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| path.display().to_string());
        settings.set_tls(&read(cert)?, &read(key)?).context("--tls-cert, --tls-key")?;
    }
    for script in &arguments.script {
        let script: Script = serde_json::from_str(script).context("--script")?;
        anyhow::ensure!(script.mistake().is_none(), "--script: {}", script.mistake().unwrap_or(""));
        settings.scripts.push(script);
    }
    Ok(settings)
}

pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings = settings(&arguments)?;
    if arguments.print_config {
        print!("{}", settings.tables(&format!("http://{}", arguments.listen)));
        return Ok(());
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let address = listener.local_addr()?;
    println!(
        "The simulator is ready on http://{address}.\n\n  inbox     http://{address}/dev/\n  \
         messages  http://{address}/dev/messages\n  script    http://{address}/dev/simulator\n\n\
         `countersign simulate --print-config` prints the tables of [[providers]] that reach it.\n\
         Stop it with Ctrl-C."
    );
    if !address.ip().is_loopback() {
        println!("Whoever reaches {address} reads the codes that are sent here.");
    }
    let stop = CancellationToken::new();
    let simulator = Simulator::new(settings, Clock::machine());
    let serving = simulator.serve(listener, transport::client()?, stop.clone());
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    };
    tokio::join!(serving, ended);
    Ok(())
}
