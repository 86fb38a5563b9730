//! `doctor`: it finds what would fail, and takes nothing away from the server.

use std::time::Duration;

use crate::recorder::{Recorder, config, ended, timeline};
use crate::world::{World, mobile};

/// What the doctor says, and whether it found nothing that would fail. Off the async threads: the
/// recorder answers there.
async fn doctor(world: &World) -> (String, bool) {
    let mut command = world.command(&["doctor", "--config", "countersign.toml"]);
    let told = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (String::from_utf8_lossy(&told.stdout).into_owned(), told.status.success())
}

fn line<'a>(told: &'a str, verdict: &str, about: &str) -> &'a str {
    let wanted = |line: &&str| line.trim_start().starts_with(verdict) && line.contains(about);
    told.lines().find(wanted).unwrap_or_else(|| panic!("no {verdict} about {about} in:\n{told}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_looks_at_everything_and_keeps_the_receipts_it_gets() {
    let recorder = Recorder::start(0).await;
    let mut world = World::start(&config(&[recorder.table("main")])).await;
    let started = world.start_verification(&mobile(230, 1)).await;
    let id = started["id"].as_str().unwrap().to_owned();
    ended(&world, &id, Duration::from_secs(20)).await;
    // Beside a running server it cannot write receipts down, so it leaves them there.
    let (told, fine) = doctor(&world).await;
    assert!(fine, "{told}");
    line(&told, "warn", "not asked");
    world.kill();
    recorder.report();
    let (told, fine) = doctor(&world).await;
    assert!(fine, "{told}");
    line(&told, "ok", "one commit takes");
    assert!(told.lines().any(|line| line.contains("disk") && line.contains("MiB free")), "{told}");
    line(&told, "ok", "has mode 0600");
    line(&told, "warn", "template 1 is the vendor's test template");
    line(&told, "ok", "it knows the credentials; 1 receipts were written down");
    assert!(!recorder.reports_wait());
    world.restart().await;
    let story = timeline(&world, &id).await;
    assert!(story.iter().any(|event| event["event"] == "message_delivered"), "{story:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_what_would_fail_and_makes_no_keys_for_a_used_store() {
    let recorder = Recorder::start(0).await;
    let own = recorder.table("main") + "template_id = \"4711\"\n";
    let mut world = World::start(&config(&[own])).await;
    world.start_verification(&mobile(231, 1)).await;
    world.kill();
    let keys = world.folder.path().join("countersign.db.keys");
    let kept = std::fs::read(&keys).unwrap();
    std::fs::remove_file(&keys).unwrap();
    let (store, aside) = (keys.with_extension(""), keys.with_extension("aside"));
    for gone in [false, true] {
        if gone {
            std::fs::rename(&store, &aside).unwrap();
        }
        let (told, fine) = doctor(&world).await;
        assert!(!fine, "{told}");
        line(&told, "FAIL", "the key file is missing");
        assert!(!keys.exists(), "new keys would make nothing of the store");
    }
    std::fs::rename(&aside, &store).unwrap();
    std::fs::write(&keys, kept).unwrap();
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let (told, fine) = doctor(&world).await;
    assert!(!fine, "{told}");
    line(&told, "FAIL", "chmod 600");
    mode(0o700);
    let (told, fine) = doctor(&world).await;
    assert!(fine, "{told}");
    line(&told, "warn", "has mode 0700");
    line(&told, "ok", "whether the template fits");
    assert!(!told.contains("test template"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_ends_at_its_keys_leaves_no_store_without_keys() {
    let simulated = "[[providers]]\nname = \"sim\"\nkind = \"simulated\"\n".to_owned();
    let mut world = World::start(&config(&[simulated])).await;
    for command in ["serve", "doctor"] {
        world.kill();
        let files =
            std::fs::read_dir(world.folder.path()).unwrap().map(|file| file.unwrap().path());
        let ours = |file: &std::path::PathBuf| file.to_string_lossy().contains("countersign.db");
        let files: Vec<_> = files.filter(ours).collect();
        assert!(files.len() > 3, "the store, its log, its keys: {files:?}");
        for file in &files {
            std::fs::remove_file(file).unwrap();
        }
        // No file can be made there.
        let keys = world.folder.path().join("countersign.db.keys");
        std::fs::create_dir(&keys).unwrap();
        let ended = world.command(&[command, "--config", "countersign.toml"]).output().unwrap();
        assert!(!ended.status.success(), "{command}");
        std::fs::remove_dir(&keys).unwrap();
        world.restart().await;
    }
}
