//! The only source of time.
//!
//! Durations (how long a code lives, how long a gap lasts) are measured on a *timeline* that runs
//! at one second per second whatever is done to the wall clock: it starts at the wall clock's
//! value and then follows the machine's monotonic clock. Across a restart the store hands the
//! timeline on (see [`Anchor`]), so that setting the clock neither prolongs a code nor shortens a
//! gap. What people and other machines are shown is the wall clock ([`Clock::shown`]).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An instant of the timeline, in milliseconds since 1970-01-01T00:00:00Z.
pub type Millis = i64;

/// One second, in milliseconds.
pub const SECOND: Millis = 1000;
/// One minute, in milliseconds.
pub const MINUTE: Millis = 60 * SECOND;
/// One hour, in milliseconds.
pub const HOUR: Millis = 60 * MINUTE;
/// One day (24 h), in milliseconds.
pub const DAY: Millis = 24 * HOUR;

/// Where the timeline stood when it was last written down, and on which machine boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The timeline's value.
    pub at: Millis,
    /// Milliseconds since the machine was booted, at that moment.
    pub uptime: Millis,
    /// The kernel's name for that boot; empty where there is none.
    pub boot: String,
}

impl Anchor {
    /// Where a timeline continues, given what the machine says now.
    ///
    /// On the same boot the machine's uptime tells how much time has really passed, whatever the
    /// wall clock says. After a reboot nothing does, and the wall clock is believed as long as it
    /// does not go backwards.
    pub fn resume(&self, wall: Millis, here: &Self) -> Millis {
        let same_boot = !self.boot.is_empty() && self.boot == here.boot;
        if same_boot && here.uptime >= self.uptime {
            self.at + (here.uptime - self.uptime)
        } else {
            wall.max(self.at)
        }
    }
}

/// A clock that can be copied and, in tests, moved by hand.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// The machine's clocks; the timeline's value at `started`.
    Machine { started: Instant, at: Millis },
    /// Moved by hand: the timeline, and how far the wall clock is ahead of it. With `since`, the
    /// timeline also runs as tokio's time does.
    Manual { now: AtomicI64, wall_ahead: AtomicI64, since: Option<tokio::time::Instant> },
}

impl Clock {
    /// The machine's clock, its timeline beginning at the wall clock.
    pub fn machine() -> Self {
        Self::resumed(&Anchor::default())
    }

    /// The machine's clock, its timeline continued from where a store last saw it.
    pub fn resumed(anchor: &Anchor) -> Self {
        let at = anchor.resume(wall_now(), &machine_anchor(0));
        Self(Arc::new(Source::Machine { started: Instant::now(), at }))
    }

    /// A clock for tests and simulations that stands still until it is moved.
    pub fn manual(now: Millis) -> Self {
        Self::moved_by_hand(now, None)
    }

    /// A clock for simulations: it runs as tokio's time does, which a runtime may hold still while
    /// anything is left to be done, and let jump to what comes next.
    pub fn following_tokio(now: Millis) -> Self {
        Self::moved_by_hand(now, Some(tokio::time::Instant::now()))
    }

    fn moved_by_hand(now: Millis, since: Option<tokio::time::Instant>) -> Self {
        let (now, wall_ahead) = (AtomicI64::new(now), AtomicI64::new(0));
        Self(Arc::new(Source::Manual { now, wall_ahead, since }))
    }

    /// Now, on the timeline.
    pub fn now(&self) -> Millis {
        match &*self.0 {
            Source::Machine { started, at } => at + millis(started.elapsed()),
            Source::Manual { now, since, .. } => {
                now.load(Ordering::SeqCst) + since.map_or(0, |since| millis(since.elapsed()))
            }
        }
    }

    /// Now, on the wall: for tokens and for what other machines compare with their own clocks.
    pub fn wall(&self) -> Millis {
        match &*self.0 {
            Source::Machine { .. } => wall_now(),
            Source::Manual { wall_ahead, .. } => self.now() + wall_ahead.load(Ordering::SeqCst),
        }
    }

    /// A timeline instant as the wall clock will show it.
    pub fn shown(&self, at: Millis) -> Timestamp {
        let ahead = self.wall() - self.now();
        // Two clocks read one after the other differ by a hair: only a real jump is shown.
        let ahead = if ahead.abs() < SECOND { 0 } else { ahead };
        timestamp(at.saturating_add(ahead))
    }

    /// What a store writes down so that the next start continues this timeline.
    pub fn anchor(&self) -> Anchor {
        machine_anchor(self.now())
    }

    /// Moves a manual clock's timeline (and its wall clock) forward; a machine's clock ignores it.
    pub fn advance(&self, by: Millis) {
        if let Source::Manual { now, .. } = &*self.0 {
            now.fetch_add(by, Ordering::SeqCst);
        }
    }

    /// Sets a manual clock's wall clock ahead of (or behind) its timeline.
    pub fn jump_wall(&self, by: Millis) {
        if let Source::Manual { wall_ahead, .. } = &*self.0 {
            wall_ahead.fetch_add(by, Ordering::SeqCst);
        }
    }
}

fn millis(length: Duration) -> Millis {
    Millis::try_from(length.as_millis()).unwrap_or(Millis::MAX / 2)
}

/// An instant in the calendar; out-of-range values are clamped to what the calendar can hold.
pub fn timestamp(at: Millis) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(if at < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// The machine's uptime and boot name. Read from `/proc`, because these two move only with real
/// time; elsewhere they are empty and the wall clock is all there is.
fn machine_anchor(at: Millis) -> Anchor {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let uptime = read("/proc/uptime");
    let mut parts = uptime.split_whitespace().next().unwrap_or_default().splitn(2, '.');
    let mut part = || parts.next().and_then(|text| text.parse::<Millis>().ok()).unwrap_or(0);
    let (seconds, hundredths) = (part(), part());
    let boot = read("/proc/sys/kernel/random/boot_id").trim().to_owned();
    Anchor { at, uptime: seconds * SECOND + hundredths * 10, boot }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(at: Millis, uptime: Millis, boot: &str) -> Anchor {
        Anchor { at, uptime, boot: boot.to_owned() }
    }

    #[test]
    fn a_restart_on_the_same_boot_goes_by_uptime_and_not_by_the_wall() {
        let written = anchor(1_000_000, 50_000, "b1");
        let here = anchor(0, 53_000, "b1");
        for wall in [1_003_000, 1_003_000 - DAY, 1_003_000 + DAY, 0] {
            assert_eq!(written.resume(wall, &here), 1_003_000);
        }
    }

    #[test]
    fn after_a_reboot_the_wall_is_believed_but_never_backwards() {
        let written = anchor(1_000_000, 50_000, "b1");
        let here = anchor(0, 10, "b2");
        assert_eq!(written.resume(1_500_000, &here), 1_500_000);
        assert_eq!(written.resume(400_000, &here), 1_000_000);
    }

    #[test]
    fn the_machine_clock_starts_at_the_wall_and_runs() {
        let clock = Clock::machine();
        assert!((clock.now() - clock.wall()).abs() < 2 * SECOND);
        let here = clock.anchor();
        assert!(here.uptime > 0 && !here.boot.is_empty(), "{here:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_what_the_runtime_makes_of_time() {
        let clock = Clock::following_tokio(1_000_000);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!((clock.now(), clock.wall()), (1_000_000 + HOUR, 1_000_000 + HOUR));
        clock.jump_wall(-DAY);
        assert_eq!((clock.now(), clock.wall()), (1_000_000 + HOUR, 1_000_000 + HOUR - DAY));
    }

    #[test]
    fn a_jump_of_the_wall_moves_what_is_shown_and_not_the_timeline() {
        let clock = Clock::manual(1_000_000);
        clock.jump_wall(HOUR);
        assert_eq!(clock.now(), 1_000_000);
        assert_eq!(clock.shown(clock.now()).as_millisecond(), 1_000_000 + HOUR);
    }
}
