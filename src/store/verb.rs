//! How a verb is carried out on a store.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Draft, Key, Store, StoreError};

/// How often a decision is made anew because others were faster, before the caller is told.
const ROUNDS_MAX: usize = 64;

/// What a decision leads to.
#[derive(Debug)]
pub enum Then<Phase, Answer> {
    /// Commit, then go on with the next phase.
    Go(Phase),
    /// Commit, then answer.
    Done(Answer),
}

/// Something that is decided over records: keys, then a decision, phase by phase.
///
/// A decision may be made more than once for a phase, so it must not keep anything between
/// calls; what a phase found out travels in the next phase.
pub trait Verb: Send + 'static {
    /// Where the verb stands, with what it knows by then. Each phase is one commit.
    type Phase: Send + 'static;
    /// What comes of it.
    type Answer: Send + 'static;

    /// The records that a phase looks at or writes, all of one partition.
    fn keys(&self, phase: &Self::Phase) -> Vec<Key>;

    /// Records that the phases after this one will probably look at, of any partition. A store
    /// across a network reads them along; a guess that is wrong costs time and nothing else.
    fn ahead(&self, _phase: &Self::Phase) -> Vec<Key> {
        Vec::new()
    }

    /// Looks at the records, drafts writes. Pure: no waiting, no I/O.
    fn decide(
        &self,
        phase: &Self::Phase,
        draft: &mut Draft,
    ) -> Result<Then<Self::Phase, Self::Answer>, StoreError>;
}

/// A verb as a store sees it.
pub trait Steps: Send {
    /// The keys of the phase at hand.
    fn keys(&self) -> Vec<Key>;
    /// Decides the phase at hand.
    fn decide(&mut self, draft: &mut Draft) -> Result<(), StoreError>;
    /// Called once the phase's commit landed, or is drafted; `true` if another phase follows.
    fn advance(&mut self) -> bool;
    /// What the phases after the one at hand will probably look at.
    fn ahead(&self) -> Vec<Key> {
        Vec::new()
    }
    /// Everything up to the phase at hand landed.
    fn landed(&mut self) {}
    /// Nothing landed since [`Self::landed`] was called: back to the phase of then.
    fn rewind(&mut self) {}
}

/// A verb under way. Boxed with its bounds spelled out: the compiler cannot yet prove by itself
/// that a future holding a decision can move between threads.
pub type Transaction<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Carries out a verb, from this phase on.
pub fn transact<V: Verb>(
    store: &Arc<dyn Store>,
    verb: V,
    first: V::Phase,
) -> Transaction<'_, V::Answer> {
    let answer = Arc::new(Mutex::new(None));
    let phase = Some(first);
    let since = None;
    let steps = Typed { verb, phase, since, decided: None, answer: Arc::clone(&answer) };
    Box::pin(async move {
        store.run(Box::new(steps)).await?;
        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(answer.expect("a verb that was carried out has an answer"))
    })
}

/// Carries out a verb of one phase.
pub fn transact_once<T: Send + 'static>(
    store: &Arc<dyn Store>,
    keys: Vec<Key>,
    decide: impl Fn(&mut Draft) -> Result<T, StoreError> + Send + 'static,
) -> Transaction<'_, T> {
    transact(store, Once { keys, decide }, ())
}

struct Once<D> {
    keys: Vec<Key>,
    decide: D,
}

impl<T, D> Verb for Once<D>
where
    T: Send + 'static,
    D: Fn(&mut Draft) -> Result<T, StoreError> + Send + 'static,
{
    type Phase = ();
    type Answer = T;

    fn keys(&self, (): &()) -> Vec<Key> {
        self.keys.clone()
    }

    fn decide(&self, (): &(), draft: &mut Draft) -> Result<Then<(), T>, StoreError> {
        (self.decide)(draft).map(Then::Done)
    }
}

struct Typed<V: Verb> {
    verb: V,
    phase: Option<V::Phase>,
    /// The first of the phases that were passed and may not have landed.
    since: Option<V::Phase>,
    decided: Option<Then<V::Phase, V::Answer>>,
    answer: Arc<Mutex<Option<V::Answer>>>,
}

impl<V: Verb> Steps for Typed<V> {
    fn keys(&self) -> Vec<Key> {
        self.phase.as_ref().map_or_else(Vec::new, |phase| self.verb.keys(phase))
    }

    fn decide(&mut self, draft: &mut Draft) -> Result<(), StoreError> {
        let phase = self.phase.as_ref().expect("a store decides only while a phase is at hand");
        self.decided = Some(self.verb.decide(phase, draft)?);
        Ok(())
    }

    fn advance(&mut self) -> bool {
        let passed = self.phase.take();
        if self.since.is_none() {
            self.since = passed;
        }
        match self.decided.take() {
            Some(Then::Go(phase)) => {
                self.phase = Some(phase);
                true
            }
            Some(Then::Done(answer)) => {
                *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                false
            }
            None => false,
        }
    }

    fn ahead(&self) -> Vec<Key> {
        self.phase.as_ref().map_or_else(Vec::new, |phase| self.verb.ahead(phase))
    }

    fn landed(&mut self) {
        self.since = None;
    }

    fn rewind(&mut self) {
        if let Some(first) = self.since.take() {
            (self.phase, self.decided) = (Some(first), None);
        }
    }
}

/// Read, decide, commit if unchanged; and again, phase by phase.
pub(super) async fn run_optimistically<S: Store + ?Sized>(
    store: &S,
    mut steps: Box<dyn Steps>,
) -> Result<(), StoreError> {
    while run_phase(store, &mut *steps).await? {}
    Ok(())
}

/// Carries the phase at hand out; says whether another follows.
pub(super) async fn run_phase<S: Store + ?Sized>(
    store: &S,
    steps: &mut dyn Steps,
) -> Result<bool, StoreError> {
    for _ in 0..ROUNDS_MAX {
        let keys = steps.keys();
        let records = store.read(&keys).await?;
        let mut draft = Draft::new(keys.into_iter().zip(records).collect());
        steps.decide(&mut draft)?;
        let commit = draft.into_commit();
        if commit.writes.is_empty() || store.commit(commit).await? {
            return Ok(steps.advance());
        }
        tokio::task::yield_now().await;
    }
    Err(StoreError::Contended)
}
