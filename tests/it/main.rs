//! What a caller lives through: the real binary, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod audio;
mod browser;
mod caps;
mod corpus;
mod doctor;
mod drain;
mod drills;
mod examples;
mod failing;
mod faults;
mod flood;
mod hostile;
mod kills;
mod native_door;
mod nodes;
mod races;
mod outage;
mod promotions;
mod receipts;
mod recorder;
mod secrets;
mod seed_door;
#[path = "../../src/store/redis/servers.rs"]
mod servers;
mod smpp;
mod simulator;
mod third_party;
mod tidy;
mod timing;
mod token;
mod wall;
mod widget;
mod work;
mod world;
