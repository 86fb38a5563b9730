//! A link to one master: two connections, and what was found out about the server when they were
//! made. A link that fails once is given up whole; the fleet makes another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult, Script, Value, cmd,
};
use tokio::sync::Mutex as Turn;

use super::place::Address;
use super::vitals::Vitals;
use crate::clock::Millis;

/// How long an answer may take. A server that is silent for longer counts as gone: callers are to
/// be told within 250 ms.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(180);
/// How long making a connection may take.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// How long replicas may take to confirm.
const CONFIRM_MAX: Duration = Duration::from_millis(50);

/// The atomic step, and its name on the servers.
static COMMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("commit.lua")));

/// The link.
#[derive(Debug)]
pub(super) struct Link {
    data: MultiplexedConnection,
    /// Waiting for replicas stops a connection, so it has one of its own.
    confirming: MultiplexedConnection,
    /// Whether it did not answer when it was last looked at.
    silent: AtomicBool,
    /// What the server said when the link was made.
    pub(super) vitals: Vitals,
    /// What its clock showed at an instant.
    shown: Mutex<(Instant, Millis)>,
    /// Until when no new message is taken, since the history is a new one.
    pub(super) held_until: Millis,
    evicts: Mutex<Option<String>>,
    /// How many have asked for a confirmation.
    asked: AtomicU64,
    /// How many of them the last one covers, and what it said.
    confirmed: Turn<(u64, bool)>,
}

impl Link {
    /// Connects, and asks the server about itself. A server that is no master, or still reads its
    /// files, is no use.
    pub(super) async fn open(client: &Client) -> Result<Self, String> {
        let told = |error: RedisError| word(&error);
        let data = connect(client, ANSWER_MAX).await.map_err(told)?;
        let vitals = info(&data).await.map_err(told)?;
        if vitals.loading {
            return Err("it still reads its files".to_owned());
        }
        if !vitals.master || vitals.history.len() != 40 {
            return Err("it is not a master".to_owned());
        }
        let confirming = connect(client, CONFIRM_MAX * 3 / 2).await.map_err(told)?;
        let shown = Mutex::new(time(&data).await.map_err(told)?);
        let evicts = Mutex::new(vitals.evicts());
        let (silent, asked) = (AtomicBool::new(false), AtomicU64::new(0));
        let (held_until, confirmed) = (0, Turn::new((0, false)));
        let link =
            Self { data, confirming, silent, vitals, shown, held_until, evicts, asked, confirmed };
        link.load().await.map_err(told)?;
        Ok(link)
    }

    /// The history of this server, in 40 hexadecimal digits.
    pub(super) fn history(&self) -> &str {
        &self.vitals.history
    }

    /// Looks at the server again.
    pub(super) async fn look(&self) -> Result<(), String> {
        let vitals = info(&self.data).await.map_err(|error| word(&error))?;
        if !vitals.master || vitals.loading || vitals.history != self.vitals.history {
            return Err("it is not the master that it was".to_owned());
        }
        self.look_at_confirming().await?;
        let shown = time(&self.data).await.map_err(|error| word(&error))?;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        *self.evicts.lock().unwrap_or_else(PoisonError::into_inner) = vitals.evicts();
        Ok(())
    }

    /// Nothing else may go over that connection for hours, and somebody in between, or `timeout` in
    /// the server's settings, ends one that rests. Somebody may be waiting for replicas just now,
    /// so only who is silent twice is gone.
    async fn look_at_confirming(&self) -> Result<(), String> {
        match time(&self.confirming).await {
            Ok(_) => self.silent.store(false, Ordering::SeqCst),
            Err(error) if error.is_timeout() && !self.silent.swap(true, Ordering::SeqCst) => {}
            Err(error) => return Err(word(&error)),
        }
        Ok(())
    }

    /// What its clock shows now.
    pub(super) fn time(&self) -> Millis {
        let (at, shown) = *self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown + Millis::try_from(at.elapsed().as_millis()).unwrap_or(0)
    }

    /// Since when its history is another one than before; 0 if it never was.
    pub(super) async fn learn_history(&self, key: &str, now: Millis) -> Result<Millis, String> {
        let mut eval = cmd("EVAL");
        eval.arg(include_str!("history.lua")).arg(1).arg(key).arg(self.history()).arg(now);
        match self.send(&eval, false).await {
            Ok(Value::Int(since)) => Ok(since),
            Ok(_) => Err("history.lua gave no number".to_owned()),
            Err(error) => Err(word(&error)),
        }
    }

    /// Why no new message may be taken now, if so.
    pub(super) fn holds(&self, now: Millis) -> Option<String> {
        if now < self.held_until {
            let left = (self.held_until - now) / 1000 + 1;
            return Some(format!("the history of the data is new; sends are held for {left} s"));
        }
        self.evicts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a command; `asking` where a slot is on its way to this server.
    pub(super) async fn send(&self, command: &Cmd, asking: bool) -> RedisResult<Value> {
        let mut data = self.data.clone();
        if !asking {
            return data.send_packed_command(command).await?.extract_error();
        }
        let mut both = redis::pipe();
        both.cmd("ASKING").ignore().add_command(command.clone());
        let answers: Vec<Value> = both.query_async(&mut data).await?;
        answers.into_iter().next().map_or(Ok(Value::Nil), Ok)
    }

    /// Sends many commands that read, at once.
    pub(super) async fn send_all(&self, commands: &redis::Pipeline) -> RedisResult<Vec<Value>> {
        commands.query_async(&mut self.data.clone()).await
    }

    /// A call of the atomic step, before its keys and arguments.
    pub(super) fn commit() -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(COMMIT.get_hash());
        command
    }

    /// Gives the server the atomic step (again): it may have forgotten it.
    pub(super) async fn load(&self) -> RedisResult<()> {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(include_str!("commit.lua"));
        self.send(&load, false).await.map(|_| ())
    }

    /// Waits until so many replicas have everything that was answered before the call.
    ///
    /// `WAIT` is about the writes of its own connection, so a write goes before it. Those who ask
    /// while one is under way share the next.
    pub(super) async fn confirmed(&self, key: &str, replicas: u32) -> RedisResult<bool> {
        let ours = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.confirmed.lock().await;
        if last.0 < ours {
            let covers = self.asked.load(Ordering::SeqCst);
            let mut both = redis::pipe();
            both.cmd("SET").arg(key).arg("").arg("PX").arg(1000).ignore();
            both.cmd("WAIT").arg(replicas).arg(u64::try_from(CONFIRM_MAX.as_millis()).unwrap_or(1));
            *last = (covers, false);
            let have: Vec<u32> = both.query_async(&mut self.confirming.clone()).await?;
            last.1 = have.first().is_some_and(|it| *it >= replicas);
        }
        Ok(last.1)
    }
}

/// One connection, with everything set that the promises need. An answer may take so long.
pub(super) async fn connect(
    client: &Client,
    answer: Duration,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        .set_response_timeout(Some(answer));
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn info(data: &MultiplexedConnection) -> RedisResult<Vitals> {
    let text: String = cmd("INFO").query_async(&mut data.clone()).await?;
    Ok(Vitals::parse(&text))
}

/// What the server's clock shows, and when it did: half-way between question and answer.
async fn time(data: &MultiplexedConnection) -> RedisResult<(Instant, Millis)> {
    let began = Instant::now();
    let (seconds, micros): (Millis, Millis) = cmd("TIME").query_async(&mut data.clone()).await?;
    Ok((began + began.elapsed() / 2, seconds * 1000 + micros / 1000))
}

/// What an error leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// No answer came: whether it was done is unknown.
    Lost { silent: bool },
    /// The server forgot the script; nothing was done.
    NoScript,
    /// The slot belongs to another server; nothing was done.
    Moved(Address),
    /// The slot is on its way to another server; nothing was done.
    Ask(Address),
    /// Not now, but in a moment; nothing was done.
    Soon,
    /// This server serves nobody at the moment; nothing was done.
    Elsewhere,
    /// It does not do it, and would not in a moment; nothing was done.
    Refused,
}

impl Fault {
    /// What this error leads to; `from` is who answered.
    pub(super) fn of(error: &RedisError, from: &Address) -> Self {
        let to = || {
            let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
            let port = port.parse().ok()?;
            match (host, from) {
                // A server that does not know its own name means the one that we know it by.
                ("", Address::Tcp(host, _)) => Some(Address::Tcp(host.clone(), port)),
                ("", Address::Unix(_)) => None,
                _ => Some(Address::Tcp(host.trim_matches(['[', ']']).to_owned(), port)),
            }
        };
        match error.code() {
            Some("NOSCRIPT") => Self::NoScript,
            Some("MOVED") => to().map_or(Self::Elsewhere, Self::Moved),
            Some("ASK") => to().map_or(Self::Elsewhere, Self::Ask),
            Some("TRYAGAIN") => Self::Soon,
            Some("READONLY" | "LOADING" | "CLUSTERDOWN" | "MASTERDOWN") => Self::Elsewhere,
            Some(_) => Self::Refused,
            None => Self::Lost { silent: error.is_timeout() },
        }
    }
}

/// What may be told about an error: the word that Redis begins it with, never keys or values.
pub(super) fn word(error: &RedisError) -> String {
    let refused =
        || "it refuses the credentials; look at store.username and store.password".to_owned();
    match error.code() {
        Some("OOM") => "OOM: its memory is full; raise maxmemory".to_owned(),
        Some("MISCONF") => "MISCONF: it cannot write its files; look at its disk".to_owned(),
        Some("NOREPLICAS") => "NOREPLICAS: too few replicas follow (min-replicas-to-write)".into(),
        Some("BUSY") => "BUSY: a script of somebody's does not end; SCRIPT KILL".to_owned(),
        Some("NOAUTH" | "WRONGPASS") => refused(),
        Some("NOPERM") => "NOPERM: the ACL user lacks rights; docs/operations.md lists them".into(),
        Some(code) => code.to_owned(),
        None if error.kind() == ErrorKind::AuthenticationFailed => refused(),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None if error.is_connection_refusal() => "the connection is refused".to_owned(),
        None => format!("the connection failed ({})", error.category()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &[u8]) -> Fault {
        let error = redis::parse_redis_value(line).unwrap().extract_error().unwrap_err();
        Fault::of(&error, &Address::Tcp("here".to_owned(), 1))
    }

    #[test]
    fn every_refusal_leads_to_the_right_next_step() {
        let there = |host: &str| Address::Tcp(host.to_owned(), 7);
        assert_eq!(fault(b"-MOVED 12 there:7\r\n"), Fault::Moved(there("there")));
        assert_eq!(fault(b"-MOVED 12 :7\r\n"), Fault::Moved(there("here")));
        assert_eq!(fault(b"-ASK 12 there:7\r\n"), Fault::Ask(there("there")));
        assert_eq!(fault(b"-NOSCRIPT No matching script\r\n"), Fault::NoScript);
        assert_eq!(fault(b"-TRYAGAIN Multiple keys\r\n"), Fault::Soon);
        for line in ["READONLY", "LOADING", "CLUSTERDOWN", "MASTERDOWN"] {
            assert_eq!(fault(format!("-{line} x\r\n").as_bytes()), Fault::Elsewhere, "{line}");
        }
        for line in ["BUSY", "OOM", "MISCONF", "NOREPLICAS", "NOPERM", "NOAUTH", "ERR"] {
            assert_eq!(fault(format!("-{line} x\r\n").as_bytes()), Fault::Refused, "{line}");
        }
        let cut = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let here = Address::Tcp("here".to_owned(), 1);
        assert_eq!(Fault::of(&cut, &here), Fault::Lost { silent: false });
    }
}
