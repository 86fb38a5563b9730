//! What happened, line by line, in the order in which it happened.

use std::fmt::{Arguments, Write};

use countersign::clock::Millis;

/// How many lines before a breach are shown.
const SHOWN: usize = 60;

/// A history.
#[derive(Clone, Default)]
pub(crate) struct History {
    text: String,
    lines: usize,
    breach_at: Option<usize>,
}

impl History {
    /// Adds a line, so long after the beginning.
    pub(crate) fn add(&mut self, after: Millis, line: Arguments<'_>) {
        let (seconds, millis) = (after / 1000, after % 1000);
        writeln!(self.text, "{seconds:>7}.{millis:03} {line}").expect("memory is enough");
        self.lines += 1;
    }

    /// Marks this place as where the first breach was noticed.
    pub(crate) fn mark_breach(&mut self) {
        self.breach_at.get_or_insert(self.lines);
    }

    /// All of it.
    pub(crate) fn whole(&self) -> &str {
        &self.text
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// The lines that led to the first breach.
    pub(crate) fn around_the_breach(&self) -> String {
        let at = self.breach_at.unwrap_or(self.lines);
        let lines = self.text.lines().take(at + 1).skip(at.saturating_sub(SHOWN));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A digest of all of it.
    pub(crate) fn digest(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.text.as_bytes());
        hex::encode(digest)
    }
}
