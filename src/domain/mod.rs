//! What is true, whatever carries it out: no async, no I/O; time and chance come in as arguments.

pub mod altcha;
pub mod beta;
pub mod cap;
pub mod challenge;
pub mod clip;
pub mod code;
pub mod delivery;
pub mod id;
pub mod limit;
pub mod minted;
pub mod money;
pub mod outcome;
pub mod phone;
pub mod policy;
pub mod risk;
pub mod sends;
pub mod standing;
pub mod tally;
pub mod third_party;
pub mod token;
pub mod verification;
