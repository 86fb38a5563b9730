//! What kind of world a seed makes. Each seed arms other faults and leaves others out, so that
//! each is seen alone, with some, and with all of them.

use countersign::clock::{HOUR, MINUTE, Millis, SECOND};
use countersign::domain::outcome::Class;
use countersign::domain::policy::Policy;
use countersign::routing::Route;

use crate::dice::Dice;

/// How a store stumbles. Chances are out of ten thousand calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stumbles {
    /// The longest delay of a call, each way, in milliseconds.
    pub(crate) delay: u64,
    /// A call does not get there.
    pub(crate) lost: u64,
    /// A commit is told as unknown, and lands or not, now or later.
    pub(crate) unknown: u64,
    /// What was done is not told.
    pub(crate) unanswered: u64,
}

/// How a provider behaves.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    /// Whether it sends a message with one reference once.
    pub(crate) deduplicates: bool,
    /// Whether its receipts have to be asked for.
    pub(crate) pulled: bool,
    /// How its receipts come, out of a hundred messages.
    pub(crate) receipts: u64,
    /// How often its mood turns, out of a hundred chances.
    pub(crate) moody: u64,
    /// Its moods.
    pub(crate) moods: Vec<Mood>,
}

/// What a provider does with messages at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes them.
    Fine,
    /// Nobody gets a connection.
    Unreachable,
    /// Refuses the number.
    RefusesNumbers(Class),
    /// Refuses the account.
    RefusesAccount(Class),
    /// Fails, and says so.
    Fails(Class),
    /// Says nothing and sends nothing.
    Swallows,
    /// Sends and says nothing.
    LosesAnswers,
    /// Takes its time, and longer than anybody waits.
    Late,
    /// Any of these, from message to message.
    Mixed,
}

impl Mood {
    /// All but the good one.
    pub(crate) const BAD: [Self; 12] = [
        Self::Unreachable,
        Self::RefusesNumbers(Class::RateLimitedNumber),
        Self::RefusesNumbers(Class::InvalidNumber),
        Self::RefusesNumbers(Class::BlockedNumber),
        Self::RefusesAccount(Class::AuthFailed),
        Self::RefusesAccount(Class::BalanceExhausted),
        Self::Fails(Class::ProviderError),
        Self::Fails(Class::RateLimitedAccount),
        Self::Swallows,
        Self::LosesAnswers,
        Self::Late,
        Self::Mixed,
    ];
}

/// What a seed makes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// How far each node's clock is ahead.
    pub(crate) skews: Vec<Millis>,
    /// Who carries messages.
    pub(crate) companies: Vec<Character>,
    /// In which order, where that is not the configured one.
    pub(crate) routes: Vec<Route>,
    /// The numbers.
    pub(crate) policy: Policy,
    /// Whether addresses are counted in the nodes' memory, too.
    pub(crate) crowded: bool,
    /// How many phones there are.
    pub(crate) phones: usize,
    /// How many clients act at once.
    pub(crate) clients: usize,
    /// How often they come.
    pub(crate) acts: usize,
    /// What each does when it comes, at most.
    pub(crate) deeds: u64,
    /// Whether one of them guesses, for days.
    pub(crate) guesser: bool,
    /// Whether clients hang up.
    pub(crate) hang_ups: bool,
    /// The store's faults.
    pub(crate) stumbles: Stumbles,
    /// The store is gone for a while, out of a hundred chances.
    pub(crate) outages: u64,
    /// A node dies at a step, out of ten thousand.
    pub(crate) crashes: u64,
    /// A node is stopped for a while at a step, out of ten thousand.
    pub(crate) stalls: u64,
    /// Nodes are stopped for a while, out of a hundred chances.
    pub(crate) pauses: u64,
    /// Nodes are restarted in good order, out of a hundred chances.
    pub(crate) restarts: u64,
    /// Wall clocks jump, out of a hundred chances.
    pub(crate) jumps: u64,
    /// Strange receipts come, out of a hundred chances.
    pub(crate) forgeries: u64,
}

impl Plan {
    /// The plan of these dice.
    pub(crate) fn draw(dice: &Dice) -> Self {
        let nodes = usize::try_from(dice.between(1, 4)).unwrap();
        let skewed = nodes > 1 && dice.percent(40);
        let skew = |_| if skewed { i64::try_from(dice.below(1900)).unwrap() - 950 } else { 0 };
        let guesser = dice.percent(8);
        let armed = |percent: u64, most: u64| {
            if dice.percent(percent) { dice.between(1, most) } else { 0 }
        };
        let companies = (0..dice.between(1, 3)).map(|_| character(dice)).collect::<Vec<_>>();
        let crowded = dice.percent(15);
        Self {
            nodes,
            skews: (0..nodes).map(skew).collect(),
            routes: routes(dice, companies.len()),
            companies,
            policy: policy(dice, crowded),
            crowded,
            phones: usize::try_from(dice.between(1, 4)).unwrap(),
            clients: usize::try_from(dice.between(1, 5)).unwrap(),
            acts: usize::try_from(if guesser { 18 } else { dice.between(1, 5) }).unwrap(),
            deeds: dice.between(3, 14),
            guesser,
            hang_ups: dice.percent(30),
            stumbles: stumbles(dice),
            outages: armed(25, 30),
            crashes: armed(40, if guesser { 15 } else { 80 }),
            stalls: armed(35, if guesser { 20 } else { 100 }),
            pauses: armed(35, 40),
            restarts: armed(20, 30),
            jumps: armed(30, 40),
            forgeries: armed(30, 40),
        }
    }

    /// How far the clocks of two nodes may be apart, or a node's and the true one.
    pub(crate) fn apart(&self) -> Millis {
        let all = || self.skews.iter().copied().chain([0]);
        all().max().unwrap_or(0) - all().min().unwrap_or(0)
    }

    /// Whether nodes begin from the store's own memory of time, as the embedded store does it, and
    /// not from the wall clock.
    pub(crate) fn is_one_machine(&self) -> bool {
        self.nodes == 1
    }
}

fn policy(dice: &Dice, crowded: bool) -> Policy {
    let mut policy = Policy {
        code_ttl: *dice.pick(&[MINUTE, 5 * MINUTE, 5 * MINUTE, 5 * MINUTE, 10 * MINUTE]),
        phone_gap: *dice.pick(&[30 * SECOND, MINUTE, MINUTE, MINUTE]),
        address_per_hour: *dice.pick(&[3, 30, 30]),
        ..Policy::default()
    };
    if dice.percent(10) {
        policy.checks_max = u8::try_from(dice.between(1, 10)).unwrap();
    }
    if crowded {
        policy.challenges.limits.wrong = 2;
    }
    policy
}

fn stumbles(dice: &Dice) -> Stumbles {
    let delay = *dice.pick(&[2, 10, 40, 150, 900]);
    if dice.percent(35) {
        return Stumbles { delay, ..Stumbles::default() };
    }
    let rate = *dice.pick(&[30, 100, 400, 1200]);
    let armed = || if dice.percent(60) { dice.below(rate) } else { 0 };
    Stumbles { delay, lost: armed(), unknown: armed(), unanswered: armed() }
}

fn character(dice: &Dice) -> Character {
    let mut moods = Vec::new();
    for mood in Mood::BAD {
        if dice.percent(35) {
            moods.push(mood);
        }
    }
    let moody = if moods.is_empty() || dice.percent(30) { 0 } else { dice.between(5, 60) };
    Character {
        deduplicates: dice.percent(40),
        pulled: dice.percent(30),
        receipts: *dice.pick(&[0, 50, 100]),
        moody,
        moods,
    }
}

fn routes(dice: &Dice, companies: usize) -> Vec<Route> {
    if companies < 2 || dice.percent(70) {
        return Vec::new();
    }
    let providers: Vec<usize> = (0..companies).rev().collect();
    let weighted = dice.percent(50);
    let weights =
        if weighted { providers.iter().map(|_| 1 + dice_weight(dice)).collect() } else { vec![] };
    let prefixes = if dice.percent(50) { vec!["+86138".to_owned()] } else { vec![] };
    vec![Route { countries: vec![], prefixes, providers, weights }]
}

fn dice_weight(dice: &Dice) -> u32 {
    u32::try_from(dice.below(9)).unwrap()
}

/// How long nothing happens between two acts.
pub(crate) fn quiet(dice: &Dice, guesser: bool) -> Millis {
    let hours = |hours: u64| HOUR * i64::try_from(hours).unwrap();
    if guesser {
        return *dice.pick(&[61 * SECOND, HOUR, hours(6), hours(24)]);
    }
    *dice.pick(&[SECOND, 31 * SECOND, 61 * SECOND, 5 * MINUTE, HOUR, hours(7), hours(24)])
}
