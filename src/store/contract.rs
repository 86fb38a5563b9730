//! What every store promises, run against each of them. A promise that holds in memory holds
//! where stores stumble and where they write to a disk, or the store is not one.
//!
//! A stumbling store may answer "I do not know". A promise passes that on, and is then tried from
//! the start on a new store; only promises about many at once try again by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::memory::MemoryStore;
use super::redis::{Credentials, RedisStore, Settings, servers};
use super::sqlite::SqliteStore;
use super::*;
use crate::clock::{Clock, DAY, MINUTE};

const NOW: Millis = 1_735_749_045_000;
const FAR: Millis = NOW + DAY;
/// Seeds by which a memory store stumbles; each is a different run of bad luck.
const SEEDS: u64 = 8;
/// How often a caller tries again before it is wrong to blame bad luck.
const TRIES_MAX: u32 = 1000;

mod crowds;
mod verbs;

use crowds::{
    a_verb_sees_all_its_records_at_one_moment, increments_of_one_hot_record_all_land_exactly_once,
    of_those_who_take_one_record_exactly_one_wins,
};
use verbs::{
    a_decision_sees_its_own_draft, a_decision_that_fails_writes_nothing,
    a_failure_in_phase_two_keeps_phase_one, a_panic_in_a_decision_does_not_kill_the_store,
    a_record_that_cannot_be_read_is_an_error_and_stays, a_verb_of_two_phases_commits_both,
};

type Kept = Result<(), StoreError>;

struct World {
    store: Arc<dyn Store>,
    clock: Clock,
    stumbles: bool,
    _folder: Option<TempDir>,
}

impl World {
    fn memory() -> Self {
        let clock = Clock::manual(NOW);
        let store = Arc::new(MemoryStore::new(clock.clone()));
        Self { store, clock, stumbles: false, _folder: None }
    }

    fn stumbling(seed: u64) -> Self {
        let clock = Clock::manual(NOW);
        let store = Arc::new(MemoryStore::stumbling(clock.clone(), seed));
        Self { store, clock, stumbles: true, _folder: None }
    }

    fn sqlite() -> Self {
        let (clock, folder) = (Clock::manual(NOW), quick_folder());
        let store = SqliteStore::open(&folder.path().join("store"), |_| clock.clone()).unwrap();
        Self { store: Arc::new(store), clock, stumbles: false, _folder: Some(folder) }
    }

    /// A store on these servers that nobody else sees. Its kind 1 is bound to the history.
    async fn redis(url: &str, prefix: &str, replicas: u32) -> Self {
        let clock = Clock::manual(NOW);
        clock.jump_wall(Clock::machine().wall() - NOW);
        let settings = Settings {
            place: url.parse().unwrap(),
            credentials: Credentials::default(),
            prefix: prefix.to_owned(),
            partitions: 1024,
            bound: vec![1],
            replicas,
            hold: MINUTE,
        };
        let store = RedisStore::open(settings, clock.clone()).await.unwrap();
        Self { store: Arc::new(store), clock, stumbles: false, _folder: None }
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.store.read(std::slice::from_ref(key)).await?.remove(0))
    }

    async fn value(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(key).await?.map(|record| record.value))
    }

    async fn revision(&self, key: &Key) -> Result<Option<u64>, StoreError> {
        Ok(self.get(key).await?.map(|record| record.revision))
    }

    async fn commit(
        &self,
        guards: &[(&Key, Option<u64>)],
        writes: Vec<(Key, Write)>,
    ) -> Result<bool, StoreError> {
        let guards = guards.iter().map(|(key, revision)| ((*key).clone(), *revision)).collect();
        self.store.commit(Commit { guards, writes }).await
    }

    /// Writes without guards, a commit for each partition.
    async fn write(&self, writes: Vec<(Key, Write)>) -> Kept {
        let mut of: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for write in writes {
            of.entry(write.0.partition).or_default().push(write);
        }
        for writes in of.into_values() {
            assert!(self.commit(&[], writes).await?, "nothing guards these writes");
        }
        Ok(())
    }

    async fn due(&self, max: usize) -> Result<Vec<Key>, StoreError> {
        self.store.due(self.clock.now(), max).await
    }
}

/// A folder in memory, where there is one: what a disk makes of it is not at stake, and a busy
/// disk would make tests slow.
pub(super) fn quick_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn key(name: &str) -> Key {
    Key::new(7, 1, name)
}

fn put(key: &Key, value: &[u8]) -> (Key, Write) {
    (key.clone(), Write::Put { value: value.to_vec(), expires_at: FAR, due_at: None })
}

fn put_due(key: &Key, due_at: Millis) -> (Key, Write) {
    (key.clone(), Write::Put { value: vec![], expires_at: FAR, due_at: Some(due_at) })
}

fn put_until(key: &Key, expires_at: Millis) -> (Key, Write) {
    (key.clone(), Write::Put { value: vec![], expires_at, due_at: Some(NOW) })
}

/// Keeps a promise on a store that never fails.
async fn firmly(world: World, promise: impl AsyncFn(&World) -> Kept) {
    promise(&world).await.expect("this store never fails");
}

/// Keeps a promise on stores that stumble, each time from the start.
async fn stumbling(promise: impl AsyncFn(&World) -> Kept) {
    for seed in 0..SEEDS {
        let mut kept = false;
        for again in 0..u64::from(TRIES_MAX) {
            let seed = seed * 1_000_000 + again;
            eprintln!("seed {seed}");
            match promise(&World::stumbling(seed)).await {
                Ok(()) => {
                    kept = true;
                    break;
                }
                Err(StoreError::Unavailable(_) | StoreError::Contended) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert!(kept, "seed {seed} never came through");
    }
}

macro_rules! every_store_promises {
    ($($promise:ident,)*) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::firmly(super::World::memory(), super::$promise).await;
            })*
        }
        mod in_stumbling_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::stumbling(super::$promise).await;
            })*
        }
        mod in_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::firmly(super::World::sqlite(), super::$promise).await;
            })*
        }
        /// All promises on the servers at `url`, one after the other: starting servers takes long.
        async fn all_on_redis(url: &str, replicas: u32) {
            $({
                eprintln!("{} on {url}", stringify!($promise));
                let prefix = concat!(stringify!($promise), ":");
                firmly(World::redis(url, prefix, replicas).await, $promise).await;
            })*
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_promises_hold_on_one_redis_server() {
    let server = servers::Server::start(&[]);
    all_on_redis(&server.url(), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_promises_hold_on_redis_with_sentinels() {
    let watched = servers::Watched::start();
    all_on_redis(&watched.url(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_promises_hold_on_a_redis_cluster() {
    let cluster = servers::Cluster::start();
    all_on_redis(&cluster.url(), 1).await;
}

every_store_promises! {
    records_come_back_as_they_were_written_in_the_order_of_the_keys,
    keys_that_differ_anywhere_name_different_records,
    a_large_value_comes_back_whole,
    a_thousand_records_land_in_one_commit,
    a_stale_guard_is_refused,
    a_guard_protects_what_was_read_and_not_only_what_is_written,
    a_guard_on_an_absent_record_lets_only_the_first_one_make_it,
    a_commit_without_writes_says_whether_its_guards_hold,
    half_a_batch_never_lands,
    a_batch_is_there_whole_or_not_at_all_whatever_was_answered,
    a_record_deleted_and_made_anew_is_not_taken_for_the_old_one,
    no_revision_is_given_twice,
    what_is_due_comes_the_longest_due_first_and_no_more_than_asked_for,
    what_is_not_due_yet_does_not_come,
    what_is_rewritten_without_a_due_time_or_deleted_is_not_due,
    a_record_vanishes_at_exactly_its_time,
    what_has_expired_is_not_due,
    an_expired_record_counts_as_absent,
    a_verb_of_two_phases_commits_both,
    a_failure_in_phase_two_keeps_phase_one,
    a_decision_that_fails_writes_nothing,
    a_decision_sees_its_own_draft,
    a_record_that_cannot_be_read_is_an_error_and_stays,
    a_panic_in_a_decision_does_not_kill_the_store,
    increments_of_one_hot_record_all_land_exactly_once,
    of_those_who_take_one_record_exactly_one_wins,
    a_verb_sees_all_its_records_at_one_moment,
}

async fn records_come_back_as_they_were_written_in_the_order_of_the_keys(world: &World) -> Kept {
    let (a, b, absent) = (key("a"), key("b"), key("absent"));
    world.write(vec![put(&a, b"1"), put(&b, &[0, 255, 0])]).await?;
    let read = world.store.read(&[b.clone(), absent, a.clone(), b]).await?;
    let values: Vec<_> = read.iter().map(|it| it.as_ref().map(|it| it.value.as_slice())).collect();
    assert_eq!(values, [Some(&[0, 255, 0][..]), None, Some(b"1"), Some(&[0, 255, 0])]);
    world.write(vec![put(&a, b""), (key("absent"), Write::Delete)]).await?;
    assert_eq!(world.value(&a).await?, Some(vec![]), "an empty value is a value");
    assert!(world.store.read(&[]).await?.is_empty());
    Ok(())
}

async fn keys_that_differ_anywhere_name_different_records(world: &World) -> Kept {
    let mut keys = Vec::new();
    for partition in [0, 1, 256, 257] {
        for kind in [0, 1, 255] {
            for name in [&b""[..], b"\0", b"\0\0", b"\0\x01", b"\x01", b"x", b"x\0", b"\xff\xff"] {
                keys.push(Key::new(partition, kind, name));
            }
        }
    }
    let value = |at: usize| at.to_string().into_bytes();
    let writes = keys.iter().enumerate().map(|(at, key)| put(key, &value(at))).collect();
    world.write(writes).await?;
    for (at, record) in world.store.read(&keys).await?.into_iter().enumerate() {
        assert_eq!(record.map(|it| it.value), Some(value(at)), "{:?}", keys[at]);
    }
    Ok(())
}

async fn a_large_value_comes_back_whole(world: &World) -> Kept {
    let value: Vec<u8> = (0..=255).cycle().take(1024 * 1024 + 1).collect();
    world.write(vec![put(&key("large"), &value)]).await?;
    assert!(world.value(&key("large")).await? == Some(value));
    world.write(vec![put(&key("large"), b"small")]).await?;
    assert_eq!(world.value(&key("large")).await?, Some(b"small".to_vec()));
    Ok(())
}

async fn a_thousand_records_land_in_one_commit(world: &World) -> Kept {
    let keys: Vec<_> = (0..1000).map(|at| key(&format!("many/{at}"))).collect();
    world.write(keys.iter().map(|key| put(key, &key.name)).collect()).await?;
    let read = world.store.read(&keys).await?;
    for (key, record) in keys.iter().zip(&read) {
        assert_eq!(record.as_ref().map(|it| &it.value), Some(&key.name));
    }
    let guards: Vec<_> = keys.iter().zip(&read).collect();
    let guards = guards.iter().map(|(key, it)| (*key, it.as_ref().map(|it| it.revision)));
    let deleted = keys.iter().map(|key| (key.clone(), Write::Delete)).collect();
    assert!(world.commit(&guards.collect::<Vec<_>>(), deleted).await?);
    assert!(world.store.read(&keys).await?.iter().all(Option::is_none));
    Ok(())
}

async fn a_stale_guard_is_refused(world: &World) -> Kept {
    let key = key("a");
    world.write(vec![put(&key, b"1")]).await?;
    let old = world.revision(&key).await?;
    assert!(world.commit(&[(&key, old)], vec![put(&key, b"2")]).await?);
    assert!(!world.commit(&[(&key, old)], vec![put(&key, b"3")]).await?);
    assert!(!world.commit(&[(&key, old)], vec![(key.clone(), Write::Delete)]).await?);
    assert_eq!(world.value(&key).await?, Some(b"2".to_vec()));
    // Even the very same bytes written again are a change.
    let old = world.revision(&key).await?;
    world.write(vec![put(&key, b"2")]).await?;
    assert!(!world.commit(&[(&key, old)], vec![put(&key, b"3")]).await?);
    Ok(())
}

async fn a_guard_protects_what_was_read_and_not_only_what_is_written(world: &World) -> Kept {
    let (read, written) = (key("read"), key("written"));
    world.write(vec![put(&read, b"1")]).await?;
    let old = world.revision(&read).await?;
    world.write(vec![put(&read, b"2")]).await?;
    assert!(!world.commit(&[(&read, old)], vec![put(&written, b"1")]).await?);
    assert_eq!(world.value(&written).await?, None);
    let new = world.revision(&read).await?;
    assert!(world.commit(&[(&read, new)], vec![put(&written, b"1")]).await?);
    assert_eq!(world.revision(&read).await?, new, "what is only read does not change");
    Ok(())
}

async fn a_guard_on_an_absent_record_lets_only_the_first_one_make_it(world: &World) -> Kept {
    let key = key("a");
    assert!(!world.commit(&[(&key, Some(1))], vec![put(&key, b"0")]).await?);
    assert!(world.commit(&[(&key, None)], vec![put(&key, b"1")]).await?);
    assert!(!world.commit(&[(&key, None)], vec![put(&key, b"2")]).await?);
    assert_eq!(world.value(&key).await?, Some(b"1".to_vec()));
    Ok(())
}

async fn a_commit_without_writes_says_whether_its_guards_hold(world: &World) -> Kept {
    let key = key("a");
    assert!(world.commit(&[], vec![]).await?);
    assert!(world.commit(&[(&key, None)], vec![]).await?);
    world.write(vec![put(&key, b"1")]).await?;
    assert!(!world.commit(&[(&key, None)], vec![]).await?);
    let revision = world.revision(&key).await?;
    assert!(world.commit(&[(&key, revision)], vec![]).await?);
    Ok(())
}

async fn half_a_batch_never_lands(world: &World) -> Kept {
    let [a, b, c] = ["a", "b", "c"].map(key);
    world.write(vec![put(&a, b"old"), put(&b, b"old")]).await?;
    let (good, stale) = (world.revision(&a).await?, world.revision(&b).await?);
    world.write(vec![put(&b, b"new")]).await?;
    for guards in [[(&a, good), (&b, stale)], [(&b, stale), (&a, good)], [(&c, None), (&b, None)]] {
        let writes = vec![put(&a, b"x"), (b.clone(), Write::Delete), put(&c, b"x")];
        assert!(!world.commit(&guards, writes).await?);
    }
    let values = [world.value(&a).await?, world.value(&b).await?, world.value(&c).await?];
    assert_eq!(values, [Some(b"old".to_vec()), Some(b"new".to_vec()), None]);
    assert_eq!(world.revision(&a).await?, good);
    Ok(())
}

async fn a_batch_is_there_whole_or_not_at_all_whatever_was_answered(world: &World) -> Kept {
    let keys: Vec<_> = (0..5).map(|at| key(&at.to_string())).collect();
    let mut before = None;
    for round in 0..50_u8 {
        let answer = world.commit(&[], keys.iter().map(|key| put(key, &[round])).collect()).await;
        let read = loop {
            match world.store.read(&keys).await {
                Err(StoreError::Unavailable(_)) if world.stumbles => {}
                read => break read?,
            }
        };
        let seen: Vec<_> = read.into_iter().map(|it| it.map(|it| it.value)).collect();
        assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
        let landed = seen[0] == Some(vec![round]);
        assert!(landed || seen[0] == before, "{seen:?}");
        match answer {
            Ok(answer) => assert!(answer && landed, "what is answered has landed"),
            Err(error) => assert!(world.stumbles, "{error}"),
        }
        before = seen.into_iter().next().flatten();
    }
    Ok(())
}

async fn a_record_deleted_and_made_anew_is_not_taken_for_the_old_one(world: &World) -> Kept {
    let key = key("a");
    world.write(vec![put(&key, b"1")]).await?;
    let old = world.revision(&key).await?;
    world.write(vec![(key.clone(), Write::Delete)]).await?;
    assert_eq!(world.value(&key).await?, None);
    assert!(!world.commit(&[(&key, old)], vec![put(&key, b"2")]).await?, "it is gone");
    world.write(vec![put(&key, b"1")]).await?;
    assert_ne!(world.revision(&key).await?, old);
    assert!(!world.commit(&[(&key, old)], vec![put(&key, b"2")]).await?, "it is another one");
    Ok(())
}

async fn no_revision_is_given_twice(world: &World) -> Kept {
    let mut given = BTreeSet::new();
    for round in 0..10 {
        let key = key(&(round % 3).to_string());
        world.write(vec![put(&key, b"x")]).await?;
        let revision = world.revision(&key).await?.unwrap();
        assert!(given.insert(revision), "{revision} twice in {given:?}");
        world.write(vec![(key, Write::Delete)]).await?;
    }
    world.write(vec![put(&key("a"), b"x"), put(&key("b"), b"x")]).await?;
    assert_ne!(world.revision(&key("a")).await?, world.revision(&key("b")).await?);
    Ok(())
}

async fn what_is_due_comes_the_longest_due_first_and_no_more_than_asked_for(world: &World) -> Kept {
    let [first, second, third] = ["z", "y", "a"].map(key);
    let other = Key::new(9, 2, "other partition and kind");
    let mut writes = vec![put_due(&third, NOW - 1), put_due(&first, NOW - DAY)];
    writes.extend([put_due(&second, NOW - 5), put_due(&other, NOW), put(&key("never"), b"")]);
    world.write(writes).await?;
    assert_eq!(world.due(10).await?, [&first, &second, &third, &other].map(Clone::clone));
    assert_eq!(world.due(2).await?, [&first, &second].map(Clone::clone));
    assert!(world.due(0).await?.is_empty());
    // A claim moves a record behind the others.
    world.write(vec![put_due(&first, NOW - 2)]).await?;
    assert_eq!(world.due(3).await?, [second, first, third]);
    Ok(())
}

async fn what_is_not_due_yet_does_not_come(world: &World) -> Kept {
    world.write(vec![put_due(&key("a"), NOW + 5)]).await?;
    world.clock.advance(4);
    assert!(world.due(10).await?.is_empty());
    world.clock.advance(1);
    assert_eq!(world.due(10).await?, [key("a")]);
    Ok(())
}

async fn what_is_rewritten_without_a_due_time_or_deleted_is_not_due(world: &World) -> Kept {
    let [rewritten, deleted, refused] = ["a", "b", "c"].map(key);
    let all = [&rewritten, &deleted, &refused];
    world.write(all.map(|key| put_due(key, NOW)).to_vec()).await?;
    assert_eq!(world.due(10).await?.len(), 3);
    world.write(vec![put(&rewritten, b"x"), (deleted, Write::Delete)]).await?;
    assert!(!world.commit(&[(&refused, None)], vec![put(&refused, b"x")]).await?);
    assert_eq!(world.due(10).await?, [refused]);
    Ok(())
}

async fn a_record_vanishes_at_exactly_its_time(world: &World) -> Kept {
    let (key, late) = (key("a"), key("born late"));
    world.write(vec![put_until(&key, NOW + 5), put_until(&late, NOW)]).await?;
    assert!(world.get(&late).await?.is_none());
    world.clock.advance(4);
    assert!(world.get(&key).await?.is_some());
    world.clock.advance(1);
    assert!(world.get(&key).await?.is_none());
    Ok(())
}

async fn what_has_expired_is_not_due(world: &World) -> Kept {
    world.write(vec![put_until(&key("a"), NOW + 5), put_until(&key("b"), NOW + 6)]).await?;
    assert_eq!(world.due(10).await?.len(), 2);
    world.clock.advance(5);
    assert_eq!(world.due(10).await?, [key("b")]);
    Ok(())
}

async fn an_expired_record_counts_as_absent(world: &World) -> Kept {
    let key = key("a");
    world.write(vec![put_until(&key, NOW + 5)]).await?;
    let old = world.revision(&key).await?;
    world.clock.advance(5);
    assert!(!world.commit(&[(&key, old)], vec![put(&key, b"2")]).await?);
    let name = key.clone();
    let seen = transact_once(&world.store, vec![key.clone()], move |draft| draft.get::<u8>(&name));
    assert_eq!(seen.await?, None);
    assert!(world.commit(&[(&key, None)], vec![put(&key, b"3")]).await?);
    assert_eq!(world.value(&key).await?, Some(b"3".to_vec()));
    assert_ne!(world.revision(&key).await?, old);
    Ok(())
}
