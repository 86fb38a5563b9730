//! One connection to the message centre: its log-on, its messages, its receipts.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::DIALECT;
use super::submit::{self, Submitted, Wanted};
use crate::clock::{Millis, SECOND};
use crate::providers::smpp::pdu::{self, Fields, Pdu};
use crate::providers::wire;
use crate::simulate::call::{code_in, is_name, same};
use crate::simulate::control::{Script, Scripted, ScriptedReceipt};
use crate::simulate::desk::{NumberLimit, Order, Sent};
use crate::simulate::{Account, Simulator};

/// How often receipts and late answers are looked for.
const EVERY: Duration = Duration::from_millis(20);
/// How long a connection may take to log on, and a write.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long a silence the other side is asked whether it is there, and so long it has.
const ENQUIRE: Duration = Duration::from_secs(30);
/// Receipts that may wait for their answers in one session.
const RECEIPTS_MAX: usize = 10;
/// Parts of unfinished messages that one session may leave here.
const PARTS_MAX: usize = 1_000;

/// The statuses that a centre answers with, besides those of a message (`submit.rs`).
const OK: u32 = 0;
const UNREADABLE: u32 = 0x02;
const UNKNOWN: u32 = 0x03;
const NOT_BOUND: u32 = 0x04;
const BOUND: u32 = 0x05;
const SYSTEM_ERROR: u32 = 0x08;
const PASSWORD: u32 = 0x0e;
const SYSTEM_ID: u32 = 0x0f;
const THROTTLED: u32 = 0x58;

/// The log-ons besides the one for both directions.
const BIND_RECEIVER: u32 = 0x01;
const BIND_TRANSMITTER: u32 = 0x02;

/// The connection is at its end.
#[derive(Debug)]
struct Over;

/// Whoever logged on.
#[derive(Clone, Debug)]
struct Bound {
    /// Under which name its messages go.
    name: String,
    sends: bool,
    receives: bool,
}

/// The parts of a message that have come: whose, the text of each, and their names.
type Parts = HashMap<(String, u8), Vec<Option<(String, String)>>>;

struct Session<'a, S> {
    simulator: &'a Simulator,
    account: &'a Account,
    stream: S,
    began: Instant,
    heard: Instant,
    asked: bool,
    bound: Option<Bound>,
    /// Answers that come later, and those that never do.
    later: Vec<(Option<Instant>, Vec<u8>)>,
    /// Nothing is written any more.
    mute: bool,
    parts: Parts,
    /// When messages were taken within the last second.
    taken: Vec<Instant>,
    /// Receipts that wait for their answers, by number.
    receipts: HashMap<u32, Sent>,
    sequence: u32,
}

/// Serves one connection until it ends or the simulator is stopped.
pub(in crate::simulate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    simulator: &Simulator,
    stream: S,
    stop: CancellationToken,
) {
    let now = Instant::now();
    let mut session = Session {
        simulator,
        account: simulator.account(&DIALECT),
        stream,
        began: now,
        heard: now,
        asked: false,
        bound: None,
        later: Vec::new(),
        mute: false,
        parts: Parts::new(),
        taken: Vec::new(),
        receipts: HashMap::new(),
        sequence: 0,
    };
    let mut read = Vec::new();
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let goes_on = tokio::select! {
            () = stop.cancelled() => Err(Over),
            length = session.stream.read_buf(&mut read) => match length {
                Ok(length) if length > 0 => session.hear_all(&mut read).await,
                _ => Err(Over),
            },
            _ = every.tick() => session.look_at_the_clock().await,
        };
        if goes_on.is_err() {
            break;
        }
    }
    // What nobody took waits for the next one who is bound.
    let unanswered: Vec<_> = session.receipts.values().map(|sent| sent.id.as_str()).collect();
    simulator.desk.give_back(DIALECT.name, &unanswered);
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn hear_all(&mut self, read: &mut Vec<u8>) -> Result<(), Over> {
        (self.heard, self.asked) = (Instant::now(), false);
        loop {
            match Pdu::cut(read) {
                Ok(Some(pdu)) => self.hear(&pdu).await?,
                Ok(None) => return Ok(()),
                Err(pdu::Garbled) => {
                    let nack = Pdu::request(pdu::GENERIC_NACK, 0, Vec::new());
                    self.write(&Pdu { status: UNREADABLE, ..nack }.bytes()).await?;
                    return Err(Over);
                }
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Over> {
        if self.mute {
            return Ok(());
        }
        match timeout(PATIENCE, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over),
        }
    }

    async fn look_at_the_clock(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        if self.bound.is_none() && now - self.began > PATIENCE {
            return Err(Over);
        }
        let silent = now - self.heard;
        if silent > ENQUIRE + PATIENCE {
            return Err(Over);
        }
        if silent > ENQUIRE && !self.asked {
            self.asked = true;
            let ask = Pdu::request(pdu::ENQUIRE_LINK, self.number(), Vec::new());
            self.write(&ask.bytes()).await?;
        }
        let is_due = |(at, _): &(Option<Instant>, Vec<u8>)| at.is_some_and(|at| at <= now);
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(is_due);
        self.later = later;
        let due: Vec<(Option<Instant>, Vec<u8>)> = due;
        for (_, answer) in due {
            self.write(&answer).await?;
        }
        self.deliver().await
    }

    fn number(&mut self) -> u32 {
        self.sequence = if self.sequence >= 0x7fff_ffff { 1 } else { self.sequence + 1 };
        self.sequence
    }

    async fn hear(&mut self, pdu: &Pdu) -> Result<(), Over> {
        let answered = |status| pdu.answer(status).bytes();
        match pdu.id {
            pdu::BIND_TRANSCEIVER | BIND_TRANSMITTER | BIND_RECEIVER => {
                let answer = self.bind(pdu);
                self.write(&answer.bytes()).await
            }
            pdu::ENQUIRE_LINK => self.write(&answered(OK)).await,
            pdu::UNBIND => {
                self.write(&answered(OK)).await?;
                Err(Over)
            }
            pdu::SUBMIT_SM => self.submit(pdu).await,
            id if id == pdu::DELIVER_SM | pdu::ANSWER => {
                if let Some(sent) = self.receipts.remove(&pdu.sequence)
                    && pdu.status != OK
                {
                    self.simulator.desk.give_back(DIALECT.name, &[&sent.id]);
                }
                Ok(())
            }
            id if id & pdu::ANSWER != 0 => Ok(()),
            _ => {
                let nack = Pdu { id: pdu::GENERIC_NACK, ..pdu.answer(UNKNOWN) };
                self.write(&nack.bytes()).await
            }
        }
    }

    fn bind(&mut self, pdu: &Pdu) -> Pdu {
        if self.bound.is_some() {
            return pdu.answer(BOUND);
        }
        let mut fields = Fields(&pdu.body);
        let id = String::from_utf8_lossy(fields.text()).into_owned();
        let (id, name) = id.split_once('@').unwrap_or((&id, DIALECT.name));
        if !same(id, self.account.get("system_id")) || !is_name(name) {
            return pdu.answer(SYSTEM_ID);
        }
        let password = self.account.get("password").as_bytes();
        if verify_slices_are_equal(fields.text(), password).is_err() {
            return pdu.answer(PASSWORD);
        }
        let (sends, receives) = (pdu.id != BIND_RECEIVER, pdu.id != BIND_TRANSMITTER);
        self.bound = Some(Bound { name: name.to_owned(), sends, receives });
        Pdu { body: b"SIMULATOR\0".to_vec(), ..pdu.answer(OK) }
    }

    async fn submit(&mut self, pdu: &Pdu) -> Result<(), Over> {
        let sends = self.bound.clone().filter(|bound| bound.sends);
        let Some(Bound { name, .. }) = sends else {
            return self.write(&pdu.answer(NOT_BOUND).bytes()).await;
        };
        let submitted = match submit::read(self.account, &pdu.body) {
            Ok(submitted) if self.has_room() => submitted,
            Ok(_) => return self.write(&pdu.answer(THROTTLED).bytes()).await,
            Err(status) => return self.write(&pdu.answer(status).bytes()).await,
        };
        self.taken.push(Instant::now());
        let script = self.simulator.desk.next_script(&name);
        let taken = |id: String| Pdu { body: format!("{id}\0").into_bytes(), ..pdu.answer(OK) };
        let scripted = script.answer;
        let id = (scripted == Scripted::Accept || script.delivers)
            .then(|| self.take(&name, submitted, &script));
        let answer = match scripted {
            Scripted::Refuse => pdu.answer(status(&script.code)),
            Scripted::Error => pdu.answer(SYSTEM_ERROR),
            _ => match id.unwrap_or(Ok(String::new())) {
                Ok(id) => taken(id),
                Err(refused) => pdu.answer(refused),
            },
        };
        let bytes = answer.bytes();
        match scripted {
            Scripted::Close => return Err(Over),
            Scripted::HalfOpen => {
                self.write(&bytes[..bytes.len() / 2]).await?;
                self.mute = true;
                return Ok(());
            }
            Scripted::Silence => self.later.push((None, Vec::new())),
            _ if script.latency() > 0 => {
                let at = Instant::now() + Duration::from_millis(script.latency());
                self.later.push((Some(at), bytes));
            }
            _ => return self.write(&bytes).await,
        }
        Ok(())
    }

    /// Whether another message may be taken: by the window, and by the account's speed.
    fn has_room(&mut self) -> bool {
        let now = Instant::now();
        self.taken.retain(|at| now - *at < Duration::from_secs(1));
        let most = |name: &str| self.account.get(name).parse().unwrap_or(usize::MAX);
        self.later.len() < most("window") && self.taken.len() < most("rate")
    }

    /// Takes a message, or a part of one: the last part that comes completes it. Gives the
    /// centre's name for it, or the status that it is refused with.
    fn take(&mut self, name: &str, submitted: Submitted, script: &Script) -> Result<String, u32> {
        let Submitted { phone, written, text, part, receipt, source } = submitted;
        let (mut text, mut names) = (text, Vec::new());
        if let Some((reference, total, place)) = part {
            if self.parts.len() >= PARTS_MAX {
                return Err(SYSTEM_ERROR);
            }
            let key = (written.clone(), reference);
            let parts = self.parts.entry(key.clone()).or_default();
            parts.resize(usize::from(total), None);
            let id = (DIALECT.id)(&crate::simulate::desk::random_hex());
            parts[usize::from(place) - 1] = Some((text, id.clone()));
            if parts.iter().any(Option::is_none) {
                return Ok(id);
            }
            let parts = self.parts.remove(&key).unwrap_or_default().into_iter().flatten();
            let (texts, ids): (Vec<_>, Vec<_>) = parts.unzip();
            names = ids.into_iter().filter(|it| *it != id).collect();
            text = texts.concat();
        }
        let code = code_in(&text);
        let mut order = Order::new(phone, &written, text, code);
        // What a receipt of each part needs; the protocol has no name of the sender's.
        order.reference = [vec![source], names].concat().join(",");
        let key = order.phone.e164().to_owned();
        order.limits = vec![NumberLimit { key, most: 60, length: 60 * SECOND, code: "0x58" }];
        let unwanted = match receipt {
            Wanted::No => true,
            Wanted::Any => false,
            Wanted::Failure => script.receipt == ScriptedReceipt::Delivered,
        };
        let receipt = if unwanted { ScriptedReceipt::None } else { script.receipt };
        let script = Script { receipt, ..script.clone() };
        let taken = self.simulator.desk.take(&DIALECT, name, vec![order], &script);
        match taken.into_iter().next() {
            Some(Ok(sent)) => Ok(sent.id),
            Some(Err(refusal)) => Err(status(&refusal.code)),
            None => Err(SYSTEM_ERROR),
        }
    }

    /// Delivers the receipts that are there, to whoever takes any.
    async fn deliver(&mut self) -> Result<(), Over> {
        let takes = self.bound.clone().filter(|bound| bound.receives && !self.mute);
        let Some(Bound { name, .. }) = takes else { return Ok(()) };
        let room = RECEIPTS_MAX.saturating_sub(self.receipts.len());
        for sent in self.simulator.desk.receipts(DIALECT.name, Some(&name), room) {
            let mut names = sent.order.reference.split(',').map(str::to_owned);
            let source = names.next().unwrap_or_default();
            let others: Vec<_> = names.collect();
            for id in others.into_iter().chain([sent.id.clone()]) {
                let sequence = self.number();
                let body = receipt(self.account, &sent, &source, &id);
                // Before it is written, so that it comes back if the connection is lost.
                self.receipts.insert(sequence, sent.clone());
                self.write(&Pdu::request(pdu::DELIVER_SM, sequence, body).bytes()).await?;
            }
        }
        Ok(())
    }
}

/// A status as scripts write it: `0x58`.
fn status(code: &str) -> u32 {
    let digits = code.strip_prefix("0x").unwrap_or(code);
    u32::from_str_radix(digits, 16).ok().filter(|status| *status > 0).unwrap_or(SYSTEM_ERROR)
}

/// The body of a receipt: who got the message, who sent it, and what became of it, in words and in
/// fields.
fn receipt(account: &Account, sent: &Sent, source: &str, id: &str) -> Vec<u8> {
    let due = sent.receipt.as_ref();
    let (arrived, code) = due.map_or((false, ""), |due| (due.arrived, due.code.as_str()));
    let states = [("DELIVRD", 2), ("EXPIRED", 3), ("DELETED", 4), ("UNDELIV", 5), ("REJECTD", 8)];
    let known =
        states.into_iter().find(|(word, _)| *word == code && (*word == "DELIVRD") == arrived);
    let (word, state) = known.unwrap_or(if arrived { states[0] } else { states[3] });
    let error = if known.is_some() || arrived { "000" } else { code };
    let decimal = u64::from_str_radix(id, 16).map(|id| id.to_string());
    let id = match (account.get("receipt_ids"), decimal) {
        ("decimal", Ok(decimal)) => decimal,
        _ => id.to_owned(),
    };
    let at = |at: Millis| wire::in_greenwich(at, "%y%m%d%H%M");
    let beginning: String = sent.order.text.chars().filter(char::is_ascii).take(20).collect();
    let text = format!(
        "id:{id} sub:001 dlvrd:{:03} submit date:{} done date:{} stat:{word} err:{error} \
         text:{beginning}",
        u8::from(arrived),
        at(sent.wall),
        at(sent.wall),
    );
    let mut body = vec![0, 1, 1];
    body.extend(sent.order.written.bytes().chain([0]));
    body.extend([if source.bytes().all(|it| it.is_ascii_digit()) { 1 } else { 5 }, 0]);
    body.extend(source.bytes().chain([0]));
    body.extend([4, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    body.extend(text.bytes());
    body.extend(pdu::RECEIPTED_MESSAGE_ID.to_be_bytes());
    body.extend(u16::try_from(id.len() + 1).unwrap_or(u16::MAX).to_be_bytes());
    body.extend(id.bytes().chain([0]));
    body.extend(pdu::MESSAGE_STATE.to_be_bytes());
    body.extend([0, 1, state]);
    body
}
