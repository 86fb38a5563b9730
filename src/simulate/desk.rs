//! What was sent, what is done next, and who was here before.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::call::Refusal;
use super::control::{Script, ScriptedReceipt};
use super::twilio_verify::Verifications;
use super::{Dialect, Settings};
use crate::chance::{Chance, OsChance};
use crate::clock::{Clock, DAY, HOUR, Millis};
use crate::domain::phone::Phone;
use crate::providers::simulated::INBOX_MAX;

/// Nonces that are remembered; a vendor remembers each for as long as its clock allows.
const NONCES_MAX: usize = 100_000;
/// Numbers whose limits are remembered.
const NUMBERS_MAX: usize = 100_000;

/// A message that passed its vendor's checks.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// To whom.
    pub(super) phone: Phone,
    /// The number in the request's own form.
    pub(super) written: String,
    /// The text.
    pub(super) text: String,
    /// The code in it.
    pub(super) code: String,
    /// The sender's name for it, which comes back in receipts.
    pub(super) reference: String,
    /// Where its receipt goes.
    pub(super) callback: Option<String>,
    /// What may be taken only once, and the code of the refusal otherwise.
    pub(super) once: Option<(String, &'static str)>,
    /// How many messages of one sort a number gets.
    pub(super) limits: Vec<NumberLimit>,
    /// Why this number alone is refused, where a request has several.
    pub(super) unfit: Option<Refusal>,
}

impl Order {
    /// A message to a phone.
    pub(super) fn new(phone: Phone, written: &str, text: String, code: String) -> Self {
        let (written, reference, callback) = (written.to_owned(), String::new(), None);
        let (once, limits, unfit) = (None, Vec::new(), None);
        Self { phone, written, text, code, reference, callback, once, limits, unfit }
    }

    /// What is counted is counted for each name by itself.
    fn under(mut self, name: &str) -> Self {
        self.once = self.once.map(|(key, code)| (format!("{name} {key}"), code));
        for limit in &mut self.limits {
            limit.key = format!("{name} {}", limit.key);
        }
        self
    }
}

/// A vendor's limit: at most so many in any such time, under one key.
#[derive(Clone, Debug)]
pub(super) struct NumberLimit {
    /// What is counted.
    pub(super) key: String,
    /// The most.
    pub(super) most: usize,
    /// In any such time.
    pub(super) length: Millis,
    /// The vendor's code for one too many.
    pub(super) code: &'static str,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// The vendor's name for it.
    pub(super) id: String,
    /// Under which name it was sent.
    pub(super) provider: String,
    /// The dialect.
    pub(super) dialect: &'static str,
    /// What was ordered.
    pub(super) order: Order,
    /// When, on the timeline.
    pub(super) at: Millis,
    /// When, by the wall clock.
    pub(super) wall: Millis,
    /// The receipt that comes.
    pub(super) receipt: Option<Due>,
    /// Whether who asks for receipts has had it.
    pub(super) given: bool,
}

/// A receipt, and when it is there.
#[derive(Clone, Debug)]
pub(super) struct Due {
    /// When, on the timeline.
    pub(super) at: Millis,
    /// Whether the message arrived.
    pub(super) arrived: bool,
    /// The carrier's code.
    pub(super) code: String,
}

impl Sent {
    /// The receipt, if it is there by now.
    pub(super) fn receipt_by(&self, now: Millis) -> Option<&Due> {
        self.receipt.as_ref().filter(|due| due.at <= now)
    }
}

/// The state of a simulator.
pub(super) struct Desk {
    pub(super) clock: Clock,
    number_limits: bool,
    test_numbers: Vec<String>,
    push: BTreeMap<String, String>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    scripts: BTreeMap<String, Script>,
    sent: VecDeque<Sent>,
    nonces: (HashSet<String>, VecDeque<String>),
    once: HashMap<String, Millis>,
    numbers: HashMap<String, VecDeque<Millis>>,
    pushes: Vec<(Millis, Sent, String)>,
    pub(super) verifications: Verifications,
}

impl Desk {
    pub(super) fn new(clock: Clock, settings: &Settings) -> Self {
        let scripts = settings.scripts.iter().cloned();
        let scripts = scripts.map(|script| (script.provider.clone(), script)).collect();
        let inner = Mutex::new(Inner { scripts, ..Inner::default() });
        let (number_limits, push) = (settings.number_limits, settings.push.clone());
        let test_numbers = settings.test_numbers.clone();
        Self { clock, number_limits, test_numbers, push, inner }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a test account reaches this number.
    pub(super) fn is_registered(&self, phone: &Phone) -> bool {
        self.test_numbers.is_empty() || self.test_numbers.iter().any(|it| it == phone.e164())
    }

    /// Whether a nonce is new; from now on it is not.
    pub(super) fn is_new(&self, nonce: &str) -> bool {
        let (known, order) = &mut self.lock().nonces;
        if !known.insert(nonce.to_owned()) {
            return false;
        }
        order.push_back(nonce.to_owned());
        if order.len() > NONCES_MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
        true
    }

    /// The scripts in force: one for all names, and those of single names.
    pub(super) fn scripts(&self) -> Vec<Script> {
        self.lock().scripts.values().cloned().collect()
    }

    /// Puts a script in force; one for all names takes the place of all.
    pub(super) fn set_script(&self, script: Script) {
        let scripts = &mut self.lock().scripts;
        if script.provider.is_empty() {
            scripts.clear();
        }
        scripts.insert(script.provider.clone(), script);
    }

    /// The script for the next request under this name.
    pub(super) fn next_script(&self, name: &str) -> Script {
        let scripts = &mut self.lock().scripts;
        let key = if scripts.contains_key(name) { name } else { "" };
        let Some(script) = scripts.get_mut(key) else { return Script::default() };
        let now = script.clone();
        match script.times {
            0 => {}
            1 => drop(scripts.remove(key)),
            _ => script.times -= 1,
        }
        now
    }

    /// Takes orders: each by itself, or all of them or none.
    pub(super) fn take(
        &self,
        dialect: &Dialect,
        name: &str,
        orders: Vec<Order>,
        script: &Script,
    ) -> Vec<Result<Sent, Refusal>> {
        let (now, wall, each) = (self.clock.now(), self.clock.wall(), dialect.each);
        let orders: Vec<_> = orders.into_iter().map(|order| order.under(name)).collect();
        let mut inner = self.lock();
        let refusals: Vec<_> =
            orders.iter().map(|order| inner.refusal(order, now, self.number_limits)).collect();
        if !each && let Some(refusal) = refusals.iter().flatten().next() {
            return vec![Err(refusal.clone())];
        }
        // A request is one message to its vendor, however many numbers it names.
        let id = (dialect.id)(&random_hex());
        let mut taken = Vec::new();
        for (place, (order, refusal)) in orders.into_iter().zip(refusals).enumerate() {
            if let Some(refusal) = refusal {
                taken.push(Err(refusal));
                continue;
            }
            let id = if place > 0 && each { (dialect.id)(&random_hex()) } else { id.clone() };
            let (provider, receipt) = (name.to_owned(), script.due(now));
            let dialect = dialect.name;
            let sent = Sent { id, provider, dialect, order, at: now, wall, receipt, given: false };
            inner.keep(&sent, self.push.get(name), self.number_limits);
            taken.push(Ok(sent));
        }
        taken
    }

    /// The messages, newest first, of one phone or all.
    pub(super) fn inbox(&self, phone: Option<&str>, max: usize) -> Vec<Sent> {
        let inner = self.lock();
        let wanted = |sent: &&Sent| phone.is_none_or(|phone| sent.order.phone.e164() == phone);
        inner.sent.iter().rev().filter(wanted).take(max).cloned().collect()
    }

    /// The receipts that are there by now and were not given yet; from now on they were.
    pub(super) fn receipts(&self, dialect: &str, under: Option<&str>, max: usize) -> Vec<Sent> {
        let now = self.clock.now();
        let mut given = Vec::new();
        for sent in &mut self.lock().sent {
            let asked = sent.dialect == dialect && under.is_none_or(|it| it == sent.provider);
            if given.len() < max && asked && !sent.given && sent.receipt_by(now).is_some() {
                sent.given = true;
                given.push(sent.clone());
            }
        }
        given
    }

    /// Takes receipts back that nobody took: they are given again.
    pub(super) fn give_back(&self, dialect: &str, ids: &[&str]) {
        for sent in &mut self.lock().sent {
            sent.given &= !(sent.dialect == dialect && ids.contains(&sent.id.as_str()));
        }
    }

    /// The messages of a dialect that are looked for.
    pub(super) fn find(&self, dialect: &str, wanted: impl Fn(&Sent) -> bool) -> Vec<Sent> {
        let inner = self.lock();
        let found = inner.sent.iter().filter(|sent| sent.dialect == dialect && wanted(sent));
        found.cloned().collect()
    }

    /// The receipts that are to be pushed now, and where to.
    pub(super) fn take_pushes(&self) -> Vec<(Sent, String)> {
        let now = self.clock.now();
        let pushes = &mut self.lock().pushes;
        let (due, waiting) = std::mem::take(pushes).into_iter().partition(|(at, ..)| *at <= now);
        *pushes = waiting;
        let due: Vec<(Millis, Sent, String)> = due;
        due.into_iter().map(|(_, sent, url)| (sent, url)).collect()
    }
}

impl Inner {
    fn refusal(&mut self, order: &Order, now: Millis, limited: bool) -> Option<Refusal> {
        if let Some(unfit) = &order.unfit {
            return Some(unfit.clone());
        }
        if let Some((key, code)) = &order.once
            && self.once.get(key).is_some_and(|at| now - at < DAY)
        {
            return Some(Refusal::new(code, "this request was taken before"));
        }
        let full = |limit: &&NumberLimit| {
            let seen = self.numbers.get(&limit.key);
            let lately = |at: &&Millis| now - **at < limit.length;
            seen.is_some_and(|seen| seen.iter().filter(lately).count() >= limit.most)
        };
        let limit = order.limits.iter().find(full).filter(|_| limited)?;
        Some(Refusal::new(limit.code, "too many messages to this number"))
    }

    fn keep(&mut self, sent: &Sent, push: Option<&String>, limited: bool) {
        let order = &sent.order;
        if let Some((key, _)) = &order.once {
            if self.once.len() >= NONCES_MAX {
                self.once.retain(|_, at| sent.at - *at < DAY);
            }
            self.once.insert(key.clone(), sent.at);
        }
        if limited {
            let keys: HashSet<&String> = order.limits.iter().map(|limit| &limit.key).collect();
            for key in keys {
                let seen = self.numbers.entry(key.clone()).or_default();
                seen.retain(|at| sent.at - at < DAY);
                seen.push_back(sent.at);
            }
            if self.numbers.len() > NUMBERS_MAX {
                self.numbers.retain(|_, seen| seen.back().is_some_and(|at| sent.at - at < HOUR));
            }
        }
        if self.sent.len() == INBOX_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(sent.clone());
        let url = order.callback.as_ref().or(push);
        if let (Some(due), Some(url)) = (&sent.receipt, url)
            && self.pushes.len() < INBOX_MAX
        {
            self.pushes.push((due.at, sent.clone(), url.clone()));
        }
    }
}

impl Script {
    fn due(&self, now: Millis) -> Option<Due> {
        let (arrived, usual) = match self.receipt {
            ScriptedReceipt::None => return None,
            ScriptedReceipt::Delivered => (true, "DELIVRD"),
            ScriptedReceipt::Failed => (false, "UNDELIV"),
        };
        let code = if self.receipt_code.is_empty() { usual } else { &self.receipt_code }.to_owned();
        let after = Millis::try_from(self.receipt_after_ms).unwrap_or(DAY).min(DAY);
        Some(Due { at: now + after, arrived, code })
    }
}

/// 32 random hexadecimal digits.
pub(super) fn random_hex() -> String {
    let mut bytes = [0; 16];
    OsChance.fill(&mut bytes);
    hex::encode(bytes)
}
