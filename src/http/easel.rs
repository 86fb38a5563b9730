//! Where pictures are drawn: few at once, so that a flood of them does not hold up anything else.
//!
//! Drawing takes a processor for a while, without a pause. If every request for a picture drew as
//! soon as its turn came, a message that is to be sent would wait for all of them, again at each of
//! its steps. So pictures wait here, and not where everybody waits: as many are drawn at once as
//! there are processors, and any other request finds at most these before it. A limit on who may
//! wait keeps the wait short: who comes later is told to come again.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::problem::{Kind, Problem};

/// How many pictures may wait for each one that is being drawn: about a tenth of a second of work.
const WAITING_MAX: usize = 512;
/// The same for clips, of which each takes about ten times as long.
const CLIPS_WAITING_MAX: usize = 64;

/// Turns at drawing.
#[derive(Clone)]
pub(super) struct Easel {
    /// One for each picture that is drawn or waits.
    places: Arc<Semaphore>,
    /// One for each picture that is drawn, in the order in which they came.
    turns: Arc<Semaphore>,
}

impl Easel {
    /// For this machine: a picture at a time for each processor.
    pub(super) fn new() -> Self {
        Self::with(std::thread::available_parallelism().map_or(1, usize::from), WAITING_MAX)
    }

    /// One of its own for audio clips, a clip at a time: who wants many of them holds up neither
    /// pictures nor anything else.
    pub(super) fn for_clips() -> Self {
        Self::with(1, CLIPS_WAITING_MAX)
    }

    fn with(at_once: usize, waiting: usize) -> Self {
        let places = Arc::new(Semaphore::new(at_once * (1 + waiting)));
        Self { places, turns: Arc::new(Semaphore::new(at_once)) }
    }

    /// Draws when it is this picture's turn.
    pub(super) async fn draw<T>(&self, picture: impl FnOnce() -> T) -> Result<T, Problem> {
        let busy = |_| Problem::busy();
        let _place = self.places.try_acquire().map_err(busy)?;
        // Never closed, so never refused.
        let _turn = self.turns.acquire().await.map_err(|_| Problem::of(Kind::Internal))?;
        Ok(picture())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use axum::response::IntoResponse;
    use tokio::task::JoinSet;

    use super::*;

    /// Keeps a processor busy for about as long as a picture does.
    fn work() {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_flood_of_pictures_lets_others_pass() {
        const FLOOD: usize = 1_000;
        let easel = Easel::with(2, WAITING_MAX);
        let (drawn, at_once, most) =
            <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let mut tasks = JoinSet::new();
        for _ in 0..FLOOD {
            let easel = easel.clone();
            let (drawn, at_once, most) = (drawn.clone(), at_once.clone(), most.clone());
            tasks.spawn(async move {
                let picture = || {
                    most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    work();
                    at_once.fetch_sub(1, Ordering::SeqCst);
                    drawn.fetch_add(1, Ordering::SeqCst);
                };
                easel.draw(picture).await.expect("all of them may wait");
            });
        }
        // Another request, with as many steps as a send has, once the flood is there.
        let seen = drawn.clone();
        let passed = tasks.spawn(async move {
            while seen.load(Ordering::SeqCst) < 10 {
                tokio::task::yield_now().await;
            }
            let before = seen.load(Ordering::SeqCst);
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            let meanwhile = seen.load(Ordering::SeqCst) - before;
            // In turn with a thousand, each step would take a thousand pictures or so.
            assert!(meanwhile < 200, "{meanwhile} pictures were drawn first");
        });
        assert!(!passed.is_finished());
        tasks.join_all().await;
        assert_eq!(drawn.load(Ordering::SeqCst), FLOOD);
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn who_finds_no_place_is_told_when_to_come_again() {
        let easel = Easel::with(1, WAITING_MAX);
        let drawing = easel.turns.acquire().await.expect("nobody else draws");
        let mut waiting: JoinSet<_> = JoinSet::new();
        for _ in 0..=WAITING_MAX {
            let easel = easel.clone();
            waiting.spawn(async move { easel.draw(|| ()).await });
        }
        while easel.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = easel.draw(|| ()).await.expect_err("no place is left").into_response();
        assert_eq!(refused.status(), axum::http::StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[axum::http::header::RETRY_AFTER], "1");
        // Who gives up leaves a place.
        waiting.abort_all();
        while waiting.join_next().await.is_some() {}
        drop(drawing);
        assert!(easel.draw(|| ()).await.is_ok());
    }
}
