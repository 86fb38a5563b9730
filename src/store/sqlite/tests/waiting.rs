//! Those who wait.

use super::*;

/// A decision that keeps the writer busy until it is let go.
fn hold(store: &Arc<dyn Store>) -> (Transaction<'_, ()>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let ((entered, entry), (release, released)) = (mpsc::channel(), mpsc::channel());
    let holder = transact_once(store, vec![], move |_| {
        let _ = entered.send(());
        let _ = released.recv();
        Ok(())
    });
    (holder, entry, release)
}

/// Sends requests to the writer without waiting for what comes of them.
async fn send<T>(requests: &mut [Transaction<'_, T>]) {
    poll_fn(|context| {
        for request in requests.iter_mut() {
            assert!(Pin::as_mut(request).poll(context).is_pending());
        }
        Poll::Ready(())
    })
    .await;
}

fn increment<'a>(store: &'a Arc<dyn Store>, name: &str) -> Transaction<'a, u64> {
    let key = key(name);
    transact_once(store, vec![key.clone()], move |draft| {
        let count = draft.get::<u64>(&key)?.unwrap_or(0) + 1;
        draft.put(&key, &count, FAR);
        Ok(count)
    })
}

#[tokio::test]
async fn those_who_wait_together_share_a_flush() {
    let folder = quick_folder();
    let path = folder.path().join("store");
    let store: Arc<dyn Store> = Arc::new(open_unfolded(&path));
    put(&*store, "hot", b"0").await.unwrap();
    let (holder, entry, release) = hold(&store);
    let mut holder = [holder];
    send(&mut holder).await;
    entry.recv().unwrap();
    let mut requests: Vec<_> = (0..500).map(|_| increment(&store, "hot")).collect();
    send(&mut requests).await;
    release.send(()).unwrap();
    for (request, count) in requests.into_iter().zip(1..) {
        assert_eq!(request.await.unwrap(), count);
    }
    assert_eq!(frames(&path).len(), 2, "one flush for the first commit, one for the 500");
}

#[tokio::test]
async fn a_job_whose_caller_has_gone_is_not_carried_out() {
    let folder = quick_folder();
    let store = shared(&folder.path().join("store"));
    let (holder, entry, release) = hold(&store);
    let mut holder = [holder];
    send(&mut holder).await;
    entry.recv().unwrap();
    let mut requests = ["gone", "stays"].map(|name| increment(&store, name));
    send(&mut requests).await;
    let [gone, stays] = requests;
    drop(gone);
    release.send(()).unwrap();
    assert_eq!(stays.await.unwrap(), 1);
    assert_eq!(number(&*store, "gone").await, None);
}

#[tokio::test]
async fn a_stalled_disk_is_unavailable_and_what_waited_for_it_does_not_happen_later() {
    let folder = quick_folder();
    let store = shared(&folder.path().join("store"));
    put(&*store, "before", b"1").await.unwrap();
    let (holder, entry, release) = hold(&store);
    let mut holder = [holder];
    send(&mut holder).await;
    entry.recv().unwrap();
    let waited = Instant::now();
    let error = increment(&store, "refused").await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && waited.elapsed() > STALL_MAX / 2);
    assert_eq!(number(&*store, "before").await, Some(1), "reads go on");
    release.send(()).unwrap();
    // The writer may need a moment to see that it was let go.
    let mut after = increment(&store, "after/0").await;
    for again in 1..100 {
        if after.is_err() {
            after = increment(&store, &format!("after/{again}")).await;
        }
    }
    assert_eq!(after.unwrap(), 1);
    assert_eq!(number(&*store, "refused").await, None);
}

/// On the disk of this machine, to see what it gives: the figures bind nobody, and a flush that
/// takes too long is an answer.
#[tokio::test]
async fn a_thousand_concurrent_commits_all_land() {
    let folder = tempfile::tempdir().unwrap();
    let store = shared(&folder.path().join("store"));
    let began = Instant::now();
    for _ in 0..10 {
        let _ = increment(&store, "alone").await;
    }
    let alone = 10.0 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut requests: Vec<_> =
        (0..1000).map(|at| increment(&store, &format!("name/{}", at % 100))).collect();
    send(&mut requests).await;
    let mut landed = 0;
    for request in requests {
        match request.await {
            Ok(_) => landed += 1,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
        }
    }
    let together = 1000.0 / began.elapsed().as_secs_f64();
    let mut counted = 0;
    for at in 0..100 {
        counted += number(&*store, &format!("name/{at}")).await.unwrap_or(0);
    }
    assert!((landed..=1000).contains(&counted), "{counted} are there, {landed} were acknowledged");
    eprintln!("{landed} of 1000 landed");
    eprintln!("commits per second: {alone:.0} one by one, {together:.0} together");
}
