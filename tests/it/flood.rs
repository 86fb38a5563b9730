//! Pictures cost nothing to keep: however many are asked for, nothing is stored and memory is flat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::StatusCode;
use tokio::task::JoinSet;

use crate::world::{USUAL, World, times};

/// How much more memory the server may hold after the flood, in KiB.
const GROWTH_MAX: u64 = 32 * 1024;

/// What one trial of the store may take of its files: the pages that it touches, in both.
const TRIAL_MAX: u64 = 16 * 1024;

/// The memory that a process holds, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// All rows of the store, table by table.
fn rows(world: &World) -> Vec<(String, i64)> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = rusqlite::Connection::open_with_flags(world.store(), flags).unwrap();
    let mut tables =
        store.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").unwrap();
    let names: Vec<String> =
        tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let count = |name: String| {
        let count =
            store.query_row(&format!("SELECT count(*) FROM \"{name}\""), [], |row| row.get(0));
        (name, count.unwrap())
    };
    names.into_iter().map(count).collect()
}

/// The size of the store's file and its log, together.
fn size(world: &World) -> u64 {
    let wal = world.store().with_extension("db-wal");
    [world.store(), wal].iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum()
}

/// Fetches this many pictures, each once, over a few connections that stay open.
///
/// Where a proxy is trusted, each comes from an address of its own.
async fn fetch(world: &World, prefix: &'static str, images: u32) {
    let next = Arc::new(AtomicU32::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let (client, address, next) = (world.client.clone(), world.address, Arc::clone(&next));
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= images {
                    return;
                }
                let url = format!("http://{address}/image_codes/{prefix}-{number}");
                let from = std::net::Ipv4Addr::from_bits(0x3000_0000 + number).to_string();
                let asked = client.get(url).header("x-forwarded-for", from);
                let answer = asked.send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                assert!(answer.bytes().await.unwrap().starts_with(b"\x89PNG"));
            }
        });
    }
    workers.join_all().await;
}

#[tokio::test]
async fn a_flood_of_pictures_stores_nothing_and_memory_stays_flat() {
    flood(USUAL).await;
}

#[tokio::test]
async fn so_it_stays_when_every_picture_is_for_another_address() {
    // All are counted, in places whose number is fixed.
    let counted = "trusted_proxies = [\"127.0.0.0/8\"]\n[challenge]\nexempt = []\n\
        network_asked_per_10_minutes = 4000000\n";
    flood(&format!("{counted}{USUAL}")).await;
}

async fn flood(config: &str) {
    let images = times("IMAGES", 20_000);
    let world = World::start(config).await;
    fetch(&world, "first", 500).await;
    let before = (rows(&world), size(&world), resident(world.pid()));
    let began = std::time::Instant::now();
    fetch(&world, "then", images).await;
    let after = (rows(&world), size(&world), resident(world.pid()));
    println!(
        "{images} pictures in {:?}: store {} -> {} bytes, memory {} -> {} KiB",
        began.elapsed(),
        before.1,
        after.1,
        before.2,
        after.2
    );
    // The server tries its store now and then: one record, whatever the number of pictures.
    for ((table, before), (_, after)) in before.0.iter().zip(&after.0) {
        assert!(*after <= before + 1, "{table} has {after} rows, not {before}");
    }
    assert!(after.1 <= before.1 + TRIAL_MAX, "the store's files have grown");
    assert!(after.2 <= before.2 + GROWTH_MAX, "memory {} -> {} KiB", before.2, after.2);
}

#[tokio::test]
async fn a_server_holds_no_huge_pages() {
    // Each is 2 MiB of which an idle server uses some KiB.
    let world = World::start(USUAL).await;
    fetch(&world, "few", 200).await;
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", world.pid())).unwrap();
    let huge = rollup.lines().find(|line| line.starts_with("AnonHugePages:")).unwrap();
    assert_eq!(huge.split_whitespace().nth(1), Some("0"), "{rollup}");
}
