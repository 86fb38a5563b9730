//! ALTCHA's own widget, unchanged (npm `altcha`, fetched by `./check`), in a real browser on
//! another origin: it works, shows our picture where the ladder asks, and its form's payload
//! begins a verification.

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::browser::{Browser, ENTER};
use crate::world::{USUAL, World, body, mobile};

const SERIES: u32 = 340;
const SCRIPT: &str = "target/tools/altcha/package/dist/main/altcha.min.js";

/// The widget's script, as its makers publish it.
fn script() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{SCRIPT}: {error}; ./check fetches it"))
}

/// A page of another origin with the widget in a form; and the server that lists this origin.
async fn page(pages: &mut JoinSet<()>, config: &str) -> (World, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let usual = USUAL.replace("https://shop.example", &origin);
    let world = World::start(&format!("{config}{usual}")).await;
    let challenge = world.url("/v1/challenges/altcha?key=pk_shop_public&purpose=login");
    let html = format!(
        "<!doctype html><script type=\"module\" src=\"/altcha.js\"></script>\
         <form><altcha-widget challenge=\"{challenge}\"></altcha-widget></form>"
    );
    let script = ([(header::CONTENT_TYPE, "text/javascript")], script());
    let router = Router::new()
        .route("/", get(async || Html(html)))
        .route("/altcha.js", get(async || script));
    pages.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (world, origin)
}

/// The payload that the form would send, once the widget is content.
async fn payload(browser: &Browser) -> String {
    browser.wait("document.querySelector('altcha-widget').getState() === 'verified'").await;
    let field = browser.run("return document.querySelector('input[name=altcha]').value").await;
    field.as_str().unwrap().to_owned()
}

async fn starts(world: &World, number: u32, payload: &str) {
    let wish = json!({"phone": mobile(SERIES, number), "challenge": {"answer": payload}});
    let start = || world.post("pk_shop_public", "/v1/verifications", &wish).send();
    let started = start().await.unwrap();
    assert_eq!(started.status(), StatusCode::CREATED, "{}", body(started).await);
    assert_eq!(start().await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY, "once");
    world.code(&format!("+86{}", mobile(SERIES, number))).await;
}

/// A page whose ladder asks for a picture, once the widget was clicked.
async fn asked_for_a_picture(pages: &mut JoinSet<()>) -> (World, Browser) {
    let config = "[challenge]\nexempt = []\nasked_per_10_minutes = 400\nwork_tries = 100\n";
    let (world, origin) = page(pages, config).await;
    for _ in 0..100 {
        assert_eq!(world.get("/image_codes/one/").send().await.unwrap().status(), StatusCode::OK);
    }
    let browser = Browser::open().await;
    browser.go(&origin).await;
    browser.wait("document.querySelector('altcha-widget input[type=checkbox]')").await;
    browser.run(CLICK).await;
    browser.wait(&format!("{IMAGE} && {IMAGE}.naturalWidth > 0")).await;
    (world, browser)
}

/// The answers of the challenge that the widget shows.
async fn answers(world: &World, browser: &Browser) -> Value {
    let id = browser.run(&format!("return {IMAGE}.src.split('/').at(-2)")).await;
    let path = format!("/dev/challenges/{}", id.as_str().unwrap());
    body(world.get(&path).send().await.unwrap()).await
}

const IMAGE: &str = "[...document.images].find((image) => image.src.includes('/v1/challenges/'))";

const CLICK: &str = "document.querySelector('altcha-widget input[type=checkbox]').click()";

#[tokio::test]
async fn the_stock_widget_works_and_its_payload_begins_a_verification() {
    let mut pages = JoinSet::new();
    let (world, origin) = page(&mut pages, "").await;
    let browser = Browser::open().await;
    browser.go(&origin).await;
    browser.wait("document.querySelector('altcha-widget input[type=checkbox]')").await;
    browser.run(CLICK).await;
    let payload = payload(&browser).await;
    starts(&world, 1, &payload).await;
    browser.close().await;
}

#[tokio::test]
async fn the_stock_widget_shows_our_picture_where_the_ladder_asks_for_it() {
    let mut pages = JoinSet::new();
    let (world, browser) = asked_for_a_picture(&mut pages).await;
    let answers = answers(&world, &browser).await;
    browser.run("document.querySelector('input[minlength]').focus()").await;
    browser.press(&format!("{}{ENTER}", answers["answer"].as_str().unwrap())).await;
    let payload = payload(&browser).await;
    starts(&world, 2, &payload).await;
    browser.close().await;
}

#[tokio::test]
async fn the_stock_widget_speaks_our_digits_where_a_person_cannot_see() {
    let mut pages = JoinSet::new();
    let (world, browser) = asked_for_a_picture(&mut pages).await;
    let answers = answers(&world, &browser).await;
    // Its own key for listening, in the field for the answer.
    browser.run("document.querySelector('input[minlength]').focus()").await;
    browser.press(" ").await;
    let audio = "document.querySelector('altcha-widget audio')";
    browser.wait(&format!("{audio} && {audio}.currentTime > 0.1 && !{audio}.error")).await;
    let clip = browser.run(&format!("return [{audio}.src, {audio}.duration]")).await;
    let (url, length) = (clip[0].as_str().unwrap(), clip[1].as_f64().unwrap());
    assert!(url.contains("/audio?") && url.ends_with("language=en"), "{url}");
    assert!((length - 4.9).abs() < 0.01, "{length}");
    browser.press(&format!("{}{ENTER}", answers["audio"]["en"].as_str().unwrap())).await;
    let payload = payload(&browser).await;
    starts(&world, 3, &payload).await;
    browser.close().await;
}
