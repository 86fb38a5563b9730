//! A cap: how many messages, or how much money, may go out in any hour and in any day.
//!
//! A cap concerns every message, and a record that every message writes would be the slowest thing
//! in the house. So a node *leases* a block of it: the block is counted at once, as if it were
//! spent, and messages are then taken from it in memory. A lease holds for [`LEASE`]; it is
//! counted in the cell in which it ends, so nothing spent under it is forgotten early. What is
//! left of it is given back; what a crash took along stays counted until its window is over.
//!
//! Up to the cap everybody gets messages; up to [`RESERVE`] percent of it phones that are known;
//! beyond that nobody. A block lies on one side of these lines, never across.

use serde::{Deserialize, Serialize};

use crate::clock::{DAY, HOUR, MINUTE, Millis};
use crate::domain::money::Micros;

/// How long a lease holds.
pub const LEASE: Millis = MINUTE;
/// A lease is one part in so many of the cap.
const BLOCKS: u64 = 100;
/// At so many percent of a cap the operator is warned.
pub const WARN: u64 = 80;
/// At so many percent of a cap nobody gets a message any more, known or not.
pub const RESERVE: u64 = 120;
/// A block where messages are counted and not limited.
const FREE_BLOCK: u64 = 1000;

/// The most that may go out in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    /// Messages.
    pub messages: Option<u64>,
    /// Money.
    pub money: Option<Micros>,
}

/// A cap for any hour and any 24 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    /// In any hour.
    pub hour: Most,
    /// In any 24 hours.
    pub day: Most,
}

impl Cap {
    /// Whether it limits anything.
    pub fn holds(&self) -> bool {
        self.hour != Most::default() || self.day != Most::default()
    }

    /// Whether it limits money.
    pub fn counts_money(&self) -> bool {
        self.hour.money.is_some() || self.day.money.is_some()
    }

    fn block(&self) -> Amount {
        let messages = [self.hour.messages, self.day.messages].into_iter().flatten().min();
        let money = [self.hour.money, self.day.money].into_iter().flatten().min();
        Amount {
            messages: messages.map_or(FREE_BLOCK, |most| most / BLOCKS).max(1),
            money: Micros(money.map_or(0, |most| most.0 / BLOCKS)),
        }
    }

    fn most(&self, window: Span) -> Most {
        match window {
            Span::Hour => self.hour,
            Span::Day => self.day,
        }
    }
}

/// The windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Any hour.
    Hour,
    /// Any 24 hours.
    Day,
}

impl Span {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn length(self) -> Millis {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// What is counted as one: the window is free again at most so much late.
    fn cell(self) -> Millis {
        match self {
            Self::Hour => MINUTE,
            Self::Day => 30 * MINUTE,
        }
    }
}

/// Messages and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Messages.
    pub messages: u64,
    /// Money.
    pub money: Micros,
}

impl Amount {
    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What is left after taking this, if there is enough.
    #[must_use]
    pub fn without(self, other: Self) -> Option<Self> {
        let messages = self.messages.checked_sub(other.messages)?;
        let money = Micros(self.money.0.checked_sub(other.money.0)?);
        Some(Self { messages, money })
    }

    fn at_most(self, other: Self) -> Self {
        let messages = self.messages.min(other.messages);
        Self { messages, money: self.money.min(other.money) }
    }
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let messages = self.messages.saturating_add(other.messages);
        Self { messages, money: self.money + other.money }
    }
}

/// What went out in a stretch of time: its number, messages, millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cell(i64, u64, u64);

/// What is counted under a cap, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    hour: Vec<Cell>,
    day: Vec<Cell>,
    /// When each line was last told of, by window.
    #[serde(default)]
    told: [[Millis; 3]; 2],
}

/// How long the record matters after its last change.
pub const KEPT: Millis = DAY + HOUR;

/// Who may be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Everybody.
    All,
    /// Phones that are known.
    Known,
}

/// A part of a cap that one node may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// For whom.
    pub whom: Whom,
    /// What is left of it.
    pub left: Amount,
    /// Nothing is spent under it at or after this instant.
    pub until: Millis,
}

/// A line that was passed, to be told once per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// [`WARN`] percent are spent.
    Warn,
    /// All is spent: only known phones get messages.
    Known,
    /// [`RESERVE`] percent are spent: nobody gets a message.
    Nobody,
}

impl Line {
    const ALL: [Self; 3] = [Self::Warn, Self::Known, Self::Nobody];

    /// The percentage, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "80",
            Self::Known => "100",
            Self::Nobody => "120",
        }
    }
}

/// What came of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The lease, if there was room for one.
    pub lease: Option<Lease>,
    /// When phones that are not known may be written to.
    pub all_at: Millis,
    /// When known phones may.
    pub known_at: Millis,
    /// Lines that were passed and not told of in their window.
    pub passed: Vec<(Span, Line)>,
}

impl Spent {
    /// Counts what was spent without a lease.
    pub fn add(&mut self, amount: Amount, now: Millis) {
        if !amount.is_nothing() {
            self.count(amount, now);
        }
    }

    /// Gives back what was not spent of a lease that held until then.
    pub fn give_back(&mut self, amount: Amount, until: Millis) {
        for window in Span::ALL {
            let number = until.div_euclid(window.cell());
            let mut left = amount;
            let cells = self.cells_mut(window).iter_mut().rev();
            for cell in cells.filter(|cell| cell.0 == number || cell.0 == number - 1) {
                let had = Amount { messages: cell.1, money: Micros(cell.2) };
                let taken = left.at_most(had);
                (cell.1, cell.2) = (cell.1 - taken.messages, cell.2 - taken.money.0);
                left = left.without(taken).unwrap_or_default();
            }
        }
    }

    /// Leases a block in which `need` fits, if there is room under the cap.
    pub fn lease(&mut self, cap: &Cap, need: Amount, now: Millis) -> Leased {
        let until = now + LEASE;
        let block = cap.block();
        let block = Amount {
            messages: block.messages.max(need.messages),
            money: block.money.max(need.money),
        };
        let fits = |room: Amount| room.without(need).is_some();
        let (open, reserve) = (self.room(cap, 100, now), self.room(cap, RESERVE, now));
        let granted = if fits(open) {
            Some((Whom::All, open.at_most(block)))
        } else {
            fits(reserve).then(|| (Whom::Known, reserve.at_most(block)))
        };
        let all_at = self.free_at(cap, 100, need, now);
        let known_at = self.free_at(cap, RESERVE, need, now);
        if let Some((_, amount)) = granted {
            self.count(amount, until);
        }
        let passed = self.pass(cap, need, now);
        let lease = granted.map(|(whom, left)| Lease { whom, left, until });
        Leased { lease, all_at, known_at, passed }
    }

    /// What is spent of a window's cap, in thousandths: the larger of messages and money.
    pub fn share(&self, cap: &Cap, window: Span, now: Millis) -> Option<u64> {
        let (most, used) = (cap.most(window), self.used(window, now));
        let share = |used: u64, most: u64| used.saturating_mul(1000) / most.max(1);
        let messages = most.messages.map(|most| share(used.messages, most));
        messages.max(most.money.map(|most| share(used.money.0, most.0)))
    }

    fn cells(&self, window: Span) -> &[Cell] {
        match window {
            Span::Hour => &self.hour,
            Span::Day => &self.day,
        }
    }

    fn cells_mut(&mut self, window: Span) -> &mut Vec<Cell> {
        match window {
            Span::Hour => &mut self.hour,
            Span::Day => &mut self.day,
        }
    }

    fn count(&mut self, amount: Amount, at: Millis) {
        for window in Span::ALL {
            let number = at.div_euclid(window.cell());
            let cells = self.cells_mut(window);
            cells.retain(|cell| vanishes_at(*cell, window) > at - LEASE);
            let found = cells.iter_mut().find(|cell| cell.0 == number);
            match found {
                Some(cell) => {
                    cell.1 = cell.1.saturating_add(amount.messages);
                    cell.2 = cell.2.saturating_add(amount.money.0);
                }
                None => cells.push(Cell(number, amount.messages, amount.money.0)),
            }
            cells.sort_by_key(|cell| cell.0);
        }
    }

    fn used(&self, window: Span, now: Millis) -> Amount {
        let living = self.cells(window).iter().filter(|cell| vanishes_at(**cell, window) > now);
        living.fold(Amount::default(), |sum, cell| {
            sum + Amount { messages: cell.1, money: Micros(cell.2) }
        })
    }

    fn room_in(&self, cap: &Cap, window: Span, percent: u64, now: Millis) -> Amount {
        let (most, used) = (cap.most(window), self.used(window, now));
        let of = |most: u64| u64::try_from(u128::from(most) * u128::from(percent) / 100);
        let left = |most: Option<u64>, used: u64| {
            most.map_or(u64::MAX, |most| of(most).unwrap_or(u64::MAX).saturating_sub(used))
        };
        Amount {
            messages: left(most.messages, used.messages),
            money: Micros(left(most.money.map(|most| most.0), used.money.0)),
        }
    }

    fn room(&self, cap: &Cap, percent: u64, now: Millis) -> Amount {
        let [hour, day] = Span::ALL.map(|window| self.room_in(cap, window, percent, now));
        hour.at_most(day)
    }

    /// When there will be room again, if nothing is added.
    fn free_at(&self, cap: &Cap, percent: u64, need: Amount, now: Millis) -> Millis {
        let free = |at: &Millis| self.room(cap, percent, *at).without(need).is_some();
        if free(&now) {
            return now;
        }
        let ends = Span::ALL.into_iter().flat_map(|window| {
            self.cells(window).iter().map(move |cell| vanishes_at(*cell, window))
        });
        let mut ends: Vec<_> = ends.filter(|end| *end > now).collect();
        ends.sort_unstable();
        // What costs more than the cap never goes out: a day is as good an answer as any.
        ends.into_iter().find(free).unwrap_or(now + DAY)
    }

    /// The lines that are passed now and were not told of within their window.
    fn pass(&mut self, cap: &Cap, need: Amount, now: Millis) -> Vec<(Span, Line)> {
        let mut passed = Vec::new();
        for (at, window) in Span::ALL.into_iter().enumerate() {
            let full = |percent| self.room_in(cap, window, percent, now).without(need).is_none();
            let warned = self.share(cap, window, now).is_some_and(|share| share >= WARN * 10);
            let beyond = [warned, full(100), full(RESERVE)];
            for (line, beyond) in Line::ALL.into_iter().zip(beyond) {
                let told = &mut self.told[at][line as usize];
                if beyond && now >= *told + window.length() {
                    *told = now;
                    passed.push((window, line));
                }
            }
        }
        passed
    }
}

fn vanishes_at(cell: Cell, window: Span) -> Millis {
    (cell.0 + 1) * window.cell() + window.length()
}

#[cfg(test)]
mod tests;
