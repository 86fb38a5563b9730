//! The command line's thin shell.
fn main() {}
