//! What holds when many come at once.

use super::*;

/// Tries something until it is known to have been done; it is told which try it is.
async fn insist<T>(stumbles: bool, attempt: impl Fn(u32) -> Transaction<'static, T> + Send) -> T {
    for again in 0..TRIES_MAX {
        match attempt(again).await {
            Ok(done) => return done,
            Err(StoreError::Contended) => {}
            Err(StoreError::Unavailable(_)) if stumbles => {}
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
    panic!("never done in {TRIES_MAX} tries")
}

/// The same on a store that the caller shares.
fn owned<T: Send + 'static>(
    store: &Arc<dyn Store>,
    keys: Vec<Key>,
    decide: impl Fn(&mut Draft) -> Result<T, StoreError> + Send + 'static,
) -> Transaction<'static, T> {
    let store = Arc::clone(store);
    Box::pin(async move { transact_once(&store, keys, decide).await })
}

pub(super) async fn increments_of_one_hot_record_all_land_exactly_once(world: &World) -> Kept {
    const CALLERS: u32 = 200;
    let increment = |caller: u32| {
        let (store, stumbles, key) = (Arc::clone(&world.store), world.stumbles, key("hot"));
        async move {
            let attempt = |again: u32| {
                let name = key.clone();
                owned(&store, vec![key.clone()], move |draft| {
                    let mut landed: Vec<u32> = draft.get(&name)?.unwrap_or_default();
                    // Only who was once left without an answer has to look first.
                    if again == 0 || !landed.contains(&caller) {
                        landed.push(caller);
                        draft.put(&name, &landed, FAR);
                    }
                    Ok(())
                })
            };
            insist(stumbles, attempt).await;
        }
    };
    (0..CALLERS).map(increment).collect::<JoinSet<()>>().join_all().await;
    let value = world.value(&key("hot")).await?.unwrap();
    let mut landed: Vec<u32> = serde_json::from_slice(&value).unwrap();
    landed.sort_unstable();
    assert_eq!(landed, (0..CALLERS).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn of_those_who_take_one_record_exactly_one_wins(world: &World) -> Kept {
    let (prize, taker) = (key("prize"), key("taker"));
    for _ in 0..5 {
        world.write(vec![put(&prize, b"1"), (taker.clone(), Write::Delete)]).await?;
        let take = |caller: u32| {
            let (store, stumbles) = (Arc::clone(&world.store), world.stumbles);
            let (prize, taker) = (prize.clone(), taker.clone());
            async move {
                let attempt = |again: u32| {
                    let (prize, taker) = (prize.clone(), taker.clone());
                    owned(&store, vec![prize.clone(), taker.clone()], move |draft| {
                        if draft.get::<u8>(&prize)?.is_none() {
                            return Ok(again > 0 && draft.get(&taker)? == Some(caller));
                        }
                        draft.delete(&prize);
                        draft.put(&taker, &caller, FAR);
                        Ok(true)
                    })
                };
                insist(stumbles, attempt).await
            }
        };
        let won = (0..50).map(take).collect::<JoinSet<bool>>().join_all().await;
        assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    }
    Ok(())
}

pub(super) async fn a_verb_sees_all_its_records_at_one_moment(world: &World) -> Kept {
    let [left, right] = ["left", "right"].map(key);
    world.write(vec![put(&left, b"1000"), put(&right, b"0")]).await?;
    let caller = |caller: usize| {
        let (store, stumbles) = (Arc::clone(&world.store), world.stumbles);
        let (left, right) = (left.clone(), right.clone());
        async move {
            for _ in 0..10 {
                let attempt = |_| {
                    let (left, right) = (left.clone(), right.clone());
                    owned(&store, vec![left.clone(), right.clone()], move |draft| {
                        let sums = (draft.get::<u32>(&left)?, draft.get::<u32>(&right)?);
                        let (Some(from), Some(to)) = sums else { panic!("both are there") };
                        // Half of the callers only look, and are not helped by any guard.
                        if caller.is_multiple_of(2) {
                            draft.put(&left, &(from - 1), FAR);
                            draft.put(&right, &(to + 1), FAR);
                        }
                        Ok(from + to)
                    })
                };
                assert_eq!(insist(stumbles, attempt).await, 1000);
            }
        }
    };
    (0..20).map(caller).collect::<JoinSet<()>>().join_all().await;
    Ok(())
}
