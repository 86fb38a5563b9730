//! What verbs promise: phases, drafts, and decisions that fail.

use super::*;

/// Writes one record, then another of another partition, unless it fails in between.
struct TwoPhases {
    fails: bool,
}

enum Phase {
    First,
    /// With what the first phase found.
    Second(Option<u8>),
}

impl TwoPhases {
    fn keys() -> [Key; 2] {
        [Key::new(1, 1, "first"), Key::new(2, 1, "second")]
    }
}

impl Verb for TwoPhases {
    type Phase = Phase;
    type Answer = Option<u8>;

    fn keys(&self, phase: &Phase) -> Vec<Key> {
        let [first, second] = Self::keys();
        vec![if matches!(phase, Phase::First) { first } else { second }]
    }

    fn decide(
        &self,
        phase: &Phase,
        draft: &mut Draft,
    ) -> Result<Then<Phase, Option<u8>>, StoreError> {
        let [first, second] = Self::keys();
        match phase {
            Phase::First => {
                let found = draft.get(&first)?;
                draft.put(&first, &1, FAR);
                Ok(Then::Go(Phase::Second(found)))
            }
            Phase::Second(found) => {
                draft.put(&second, &2, FAR);
                let failure = StoreError::Unreadable("refused".to_owned());
                if self.fails { Err(failure) } else { Ok(Then::Done(*found)) }
            }
        }
    }
}

pub(super) async fn a_verb_of_two_phases_commits_both(world: &World) -> Kept {
    let [first, second] = TwoPhases::keys();
    world.write(vec![put(&first, b"7")]).await?;
    let answer = transact(&world.store, TwoPhases { fails: false }, Phase::First).await?;
    assert_eq!(answer, Some(7), "what the first phase found travels in the next");
    assert_eq!(world.value(&first).await?, Some(b"1".to_vec()));
    assert_eq!(world.value(&second).await?, Some(b"2".to_vec()));
    Ok(())
}

pub(super) async fn a_failure_in_phase_two_keeps_phase_one(world: &World) -> Kept {
    let [first, second] = TwoPhases::keys();
    match transact(&world.store, TwoPhases { fails: true }, Phase::First).await {
        Err(StoreError::Unreadable(word)) => assert_eq!(word, "refused"),
        Err(error) => return Err(error),
        Ok(_) => panic!("phase two fails"),
    }
    assert_eq!(world.value(&first).await?, Some(b"1".to_vec()));
    assert_eq!(world.value(&second).await?, None);
    Ok(())
}

pub(super) async fn a_decision_that_fails_writes_nothing(world: &World) -> Kept {
    let (key, other) = (key("a"), key("b"));
    world.write(vec![put(&key, b"1")]).await?;
    let before = world.get(&key).await?;
    let keys = vec![key.clone(), other.clone()];
    let (name, second) = (key.clone(), other.clone());
    let failed = transact_once(&world.store, keys, move |draft| -> Kept {
        draft.put_due(&second, &2, FAR, Some(NOW));
        draft.delete(&name);
        Err(StoreError::Unreadable("no".to_owned()))
    });
    match failed.await {
        Err(StoreError::Unreadable(word)) => assert_eq!(word, "no"),
        other => return other,
    }
    assert_eq!(world.get(&key).await?, before);
    assert_eq!(world.value(&other).await?, None);
    assert!(world.due(10).await?.is_empty());
    Ok(())
}

pub(super) async fn a_decision_sees_its_own_draft(world: &World) -> Kept {
    let (key, unread) = (key("a"), key("only written"));
    world.write(vec![put(&key, b"1")]).await?;
    let name = key.clone();
    let seen = transact_once(&world.store, vec![key.clone()], move |draft| {
        let mut seen = vec![draft.get::<u8>(&name)?];
        draft.put(&name, &2, FAR);
        seen.push(draft.get(&name)?);
        draft.delete(&name);
        seen.push(draft.get(&name)?);
        draft.put(&name, &3, FAR);
        draft.put(&unread, &4, FAR);
        seen.extend([draft.get(&name)?, draft.get(&unread)?]);
        Ok(seen)
    });
    assert_eq!(seen.await?, [Some(1), Some(2), None, Some(3), Some(4)]);
    assert_eq!(world.value(&key).await?, Some(b"3".to_vec()), "only the last draft counts");
    Ok(())
}

pub(super) async fn a_record_that_cannot_be_read_is_an_error_and_stays(world: &World) -> Kept {
    let key = key("a");
    world.write(vec![put(&key, b"\"138 0013 8000")]).await?;
    let before = world.get(&key).await?;
    let name = key.clone();
    let counted = transact_once(&world.store, vec![key.clone()], move |draft| {
        let count: u64 = draft.get(&name)?.unwrap_or(0);
        draft.put(&name, &(count + 1), FAR);
        Ok(())
    });
    match counted.await {
        Err(error @ StoreError::Unreadable(_)) => {
            assert!(!error.to_string().contains("138"), "an error shows no value: {error}");
        }
        other => return other,
    }
    assert_eq!(world.get(&key).await?, before);
    Ok(())
}

pub(super) async fn a_panic_in_a_decision_does_not_kill_the_store(world: &World) -> Kept {
    let key = key("a");
    for _ in 0..3 {
        let (store, name) = (Arc::clone(&world.store), key.clone());
        let panicked = async move {
            let keys = vec![name.clone()];
            let wrong = move |draft: &mut Draft| -> Kept {
                draft.put(&name, &1, FAR);
                panic!("a decision may be wrong")
            };
            transact_once(&store, keys, wrong).await
        };
        let ended = JoinSet::from_iter([panicked]).join_next().await.unwrap();
        assert!(!matches!(ended, Ok(Ok(()))), "nobody is told that it was done");
        assert_eq!(world.value(&key).await?, None);
    }
    world.write(vec![put(&key, b"2")]).await?;
    let name = key.clone();
    let read = transact_once(&world.store, vec![key.clone()], move |draft| draft.get::<u8>(&name));
    assert_eq!(read.await?, Some(2));
    Ok(())
}
