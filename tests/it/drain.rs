//! SIGTERM under load: an end in time, with a code that says "fine", and nothing lost.

use std::time::{Duration, Instant};

use crate::kills::{Load, all_ended, judge};
use crate::recorder::{Answer, Recorder, config};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_stop_loses_nothing() {
    let recorder = Recorder::start(0).await;
    recorder.slow_down(Duration::from_millis(300));
    // One in fifty is never answered: its call is under way when the signal comes.
    recorder.follow(|number| if number % 50 == 49 { Answer::Silence } else { Answer::Takes });
    let mut world = World::start(&config(&[recorder.table("main")])).await;
    let load = Load::start(&world, 204, 8, Duration::from_millis(10));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (told, before) = (Instant::now(), recorder.calls().len());
    world.signal("TERM");
    let code = world.wait();
    let took = told.elapsed();
    let accepted = load.stop().await;
    let after = recorder.calls().len();
    assert_eq!(code, Some(0), "{}", world.log());
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    assert!(!accepted.is_empty() && before > 0, "the signal must meet work");
    recorder.follow(|_| Answer::Takes);
    world.restart().await;
    let ends = all_ended(&world, &accepted).await;
    assert!(ends.values().all(|end| end == "sent"), "{ends:?}");
    let counted = judge(&accepted, &ends, &recorder.calls());
    eprintln!(
        "drain: stopped in {took:?}, {before} calls before the signal and {after} at the end; \
         {counted}"
    );
}
