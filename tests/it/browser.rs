//! The pages as a person uses them: headless Chromium, driven through chromedriver.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hostile::escaped;
use crate::world::{USUAL, World, body, free_port, mobile};

const SERIES: u32 = 320;
pub(crate) const ENTER: &str = "\u{e007}";
const TAB: &str = "\u{e004}";
const SHIFT: &str = "\u{e008}";
/// How the protocol names an element in its answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser of our own, with a fresh profile.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    client: Client,
    profile: TempDir,
}

impl Browser {
    pub(crate) async fn open() -> Self {
        let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is missing: apt-get install chromium chromium-driver");
        let client = Client::builder().no_proxy().timeout(Duration::from_mins(1)).build().unwrap();
        let session = String::new();
        let mut browser = Self { driver, port, session, client, profile };
        let data = format!("--user-data-dir={}", browser.profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            "--hide-scrollbars",
            "--mute-audio",
            "--lang=en-US",
            "--window-size=900,1043",
            &data,
        ];
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}});
        for _ in 0..200 {
            let url = format!("http://127.0.0.1:{port}/session");
            if let Ok(answer) = browser.client.post(url).json(&wanted).send().await {
                let answer = body(answer).await;
                browser.session = answer["value"]["sessionId"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{answer}"))
                    .into();
                return browser;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("chromedriver does not answer");
    }

    /// One command of the protocol.
    async fn command(&self, method: Method, path: &str, sent: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/session/{}/{path}", self.port, self.session);
        let request = self.client.request(method.clone(), url);
        let request = if method == Method::POST { request.json(&sent) } else { request };
        let answer = request.send().await.unwrap();
        let (status, mut answer) = (answer.status(), body(answer).await);
        assert!(status.is_success(), "{path} {sent}: {answer}");
        answer["value"].take()
    }

    pub(crate) async fn go(&self, url: &str) {
        self.command(Method::POST, "url", json!({"url": url})).await;
    }

    /// What a script returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.command(Method::POST, "execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is true.
    pub(crate) async fn wait(&self, expression: &str) {
        for _ in 0..400 {
            if self.run(&format!("return Boolean({expression})")).await == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never true: {expression}\n{}", self.run("return document.body.innerText").await);
    }

    /// The text of the element with this id.
    async fn text(&self, id: &str) -> String {
        let text = self.run(&format!("return document.getElementById('{id}').textContent")).await;
        text.as_str().unwrap().to_owned()
    }

    async fn find(&self, id: &str) -> String {
        let sent = json!({"using": "css selector", "value": format!("#{id}")});
        let found = self.command(Method::POST, "element", sent).await;
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    async fn click(&self, id: &str) {
        let path = format!("element/{}/click", self.find(id).await);
        self.command(Method::POST, &path, json!({})).await;
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let downs = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        });
        let keyboard =
            json!({"type": "key", "id": "keyboard", "actions": downs.collect::<Vec<_>>()});
        self.command(Method::POST, "actions", json!({"actions": [keyboard]})).await;
    }

    /// Goes back by one stop of the keyboard: the tabulator with the shift key.
    async fn back(&self) {
        let keys = [("keyDown", SHIFT), ("keyDown", TAB), ("keyUp", TAB), ("keyUp", SHIFT)];
        let keys = keys.map(|(what, key)| json!({"type": what, "value": key}));
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": keys});
        self.command(Method::POST, "actions", json!({"actions": [keyboard]})).await;
    }

    /// Waits until this element has the focus.
    async fn focused(&self, id: &str) {
        self.wait(&format!("document.activeElement.id === '{id}'")).await;
    }

    /// Waits for a picture other than this one, and takes its challenge and its answer.
    async fn picture(&self, world: &World, not: &str) -> (String, String) {
        let id = "document.getElementById('challenge-image').src.split('/').at(-2)";
        let ready = "document.getElementById('picture').dataset.state === 'ready'";
        self.wait(&format!("{ready} && decodeURIComponent({id}) !== '{not}'")).await;
        let id = self
            .run(&format!("return decodeURIComponent({id})"))
            .await
            .as_str()
            .unwrap()
            .to_owned();
        let answer = body(world.get(&format!("/dev/challenges/{id}")).send().await.unwrap()).await;
        (id, answer["answer"].as_str().unwrap().to_owned())
    }

    /// Listens with the button that has the focus, to the end, and says what was spoken.
    async fn hear(&self, world: &World, language: &str) -> String {
        self.press(ENTER).await;
        let clip = "document.getElementById('clip')";
        self.wait(&format!("!{clip}.paused && {clip}.currentTime > 0.1")).await;
        self.focused("listen").await;
        let length = self.run(&format!("return {clip}.duration")).await.as_f64().unwrap();
        assert!((length - 4.9).abs() < 0.01, "{length}");
        // The last of it is as good as all of it.
        self.run(&format!("{clip}.currentTime = 4.7")).await;
        self.wait("document.activeElement.id === 'answer'").await;
        assert!(!self.text("status").await.is_empty(), "what to do now");
        let path = self.run(&format!("return {clip}.getAttribute('src')")).await;
        let path = path.as_str().unwrap();
        assert!(path.ends_with(&format!("?locale={language}")), "{path}");
        let id = path.split('/').nth(3).unwrap();
        let answers = body(world.get(&format!("/dev/challenges/{id}")).send().await.unwrap()).await;
        answers["audio"][language].as_str().unwrap().to_owned()
    }

    /// The name that a screen reader gives to what has the focus.
    async fn spoken_name(&self) -> String {
        let active = self.command(Method::GET, "element/active", Value::Null).await;
        let path = format!("element/{}/computedlabel", active[ELEMENT].as_str().unwrap());
        self.command(Method::GET, &path, Value::Null).await.as_str().unwrap().to_owned()
    }

    /// Keeps a picture of the window, if one is wanted.
    #[expect(clippy::disallowed_methods, reason = "a picture is asked for from outside")]
    async fn screenshot(&self, name: &str) {
        if std::env::var_os("SCREENSHOT").is_none() {
            return;
        }
        let shot = self.command(Method::GET, "screenshot", Value::Null).await;
        let shot =
            base64::engine::general_purpose::STANDARD.decode(shot.as_str().unwrap()).unwrap();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        std::fs::write(path, shot).unwrap();
    }

    pub(crate) async fn close(&self) {
        let url = format!("http://127.0.0.1:{}/session/{}", self.port, self.session);
        self.client.delete(url).send().await.unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to end, chromedriver ends its browsers, too.
        let _ = Command::new("kill").arg(self.driver.id().to_string()).status();
        let _ = self.driver.wait();
    }
}

/// A code that is not this one.
fn other(code: &str) -> String {
    let first = if code.starts_with('1') { '2' } else { '1' };
    format!("{first}{}", &code[1..])
}

#[tokio::test]
async fn a_person_proves_a_phone_with_a_mouse() {
    let (world, browser) = (World::start(USUAL).await, Browser::open().await);
    let phone = mobile(SERIES, 1);
    browser.go(&world.url("/")).await;
    let (first, _) = browser.picture(&world, "").await;
    browser.click("phone").await;
    browser.press(&phone).await;
    browser.screenshot("demo.png").await;
    browser.click("answer").await;
    browser.press("wrong").await;
    browser.click("send").await;
    browser.wait("document.getElementById('error').textContent.includes('Here is another')").await;
    let (second, answer) = browser.picture(&world, &first).await;
    assert_ne!(first, second);
    assert_eq!(browser.run("return document.getElementById('answer').value").await, "");
    assert_eq!(body(world.get("/dev/messages").send().await.unwrap()).await, json!([]));

    browser.click("answer").await;
    browser.press(&answer.to_lowercase()).await;
    browser.click("send").await;
    browser.focused("code").await;
    let code = world.code(&format!("+86{phone}")).await;
    browser.press(&other(&code)).await;
    browser.click("check").await;
    browser.wait("document.getElementById('error').textContent.includes('not right')").await;
    assert_eq!(browser.text("checks-left").await, "Tries left: 4");
    assert_eq!(browser.run("return document.getElementById('resend').disabled").await, true);
    browser.press(&code).await;
    browser.click("check").await;
    browser.wait("document.getElementById('signature').dataset.verdict === 'valid'").await;
    assert!(browser.text("signature").await.starts_with("Signature valid"));
    let claims: Value = serde_json::from_str(&browser.text("token-claims").await).unwrap();
    assert!(claims.to_string().contains(&format!("+86{phone}")), "{claims}");

    browser.go(&world.url("/dev/")).await;
    browser.wait("document.querySelectorAll('#messages li').length === 1").await;
    let row = browser.text("messages").await;
    assert!(row.contains(&phone) && row.contains(&code), "{row}");
    browser.close().await;
}

#[tokio::test]
async fn a_person_proves_a_phone_with_the_keyboard_alone_and_in_chinese() {
    let (world, browser) = (World::start(USUAL).await, Browser::open().await);
    let phone = mobile(SERIES, 2);
    browser.go(&world.url("/")).await;
    let (_, answer) = browser.picture(&world, "").await;
    browser.focused("phone").await;
    assert_eq!(browser.run("return document.documentElement.lang").await, "en");
    browser.click("language").await;
    browser.wait("document.documentElement.lang === 'zh-CN'").await;
    assert_eq!(
        browser.run("return document.querySelector('h1').textContent").await,
        "证明手机号是你的"
    );
    browser.go(&world.url("/")).await;
    let (_, answer_again) = browser.picture(&world, "").await;
    assert_ne!(answer, answer_again, "another visit, another picture");
    assert_eq!(browser.text("language").await, "English");

    browser.focused("phone").await;
    browser.press(&format!("+86 {phone}{TAB}{TAB}{TAB}")).await;
    browser.focused("answer").await;
    browser.press(&format!("{answer_again}{ENTER}")).await;
    browser.focused("code").await;
    let code = world.code(&format!("+86{phone}")).await;
    browser.press(&format!("{}{ENTER}", other(&code))).await;
    browser.wait("document.getElementById('error').textContent === '验证码不对。'").await;
    browser.focused("code").await;
    // The wrong code is selected: what is typed replaces it.
    browser.press(&format!("{code}{ENTER}")).await;
    browser.wait("document.getElementById('signature').dataset.verdict === 'valid'").await;
    browser.focused("heading-proof").await;
    assert!(browser.text("proved").await.contains("验证通过"));
    browser.close().await;
}

#[tokio::test]
async fn a_person_who_reads_no_picture_lets_the_device_work_with_the_keyboard_alone() {
    let (world, browser) = (World::start(USUAL).await, Browser::open().await);
    let phone = mobile(SERIES, 3);
    browser.go(&world.url("/")).await;
    browser.picture(&world, "").await;
    browser.focused("phone").await;
    browser.press(&format!("{phone}{TAB}{TAB}{TAB}{TAB}{TAB}")).await;
    browser.focused("work").await;
    // What a screen reader says of it: its name, and what happens instead.
    let described =
        "document.getElementById(document.activeElement.getAttribute('aria-describedby'))";
    assert_eq!(
        browser.run(&format!("return {described}.textContent")).await,
        "Your device works for about a second instead."
    );
    browser.press(ENTER).await;
    browser.focused("code").await;
    let code = world.code(&format!("+86{phone}")).await;
    browser.press(&format!("{code}{ENTER}")).await;
    browser.wait("document.getElementById('signature').dataset.verdict === 'valid'").await;
    browser.close().await;
}

/// Who cannot see the picture: the keyboard alone, and what a screen reader would say.
#[tokio::test]
async fn a_person_who_sees_no_picture_listens_with_the_keyboard_alone() {
    let (world, browser) = (World::start(USUAL).await, Browser::open().await);
    for (number, language, name) in [(4, "en", "Listen"), (5, "zh", "听数字")] {
        let phone = mobile(SERIES, number);
        browser.go(&world.url("/")).await;
        browser.picture(&world, "").await;
        if language == "zh" {
            browser.click("language").await;
            browser.wait("document.documentElement.lang === 'zh-CN'").await;
            browser.run("document.getElementById('phone').focus()").await;
        }
        browser.focused("phone").await;
        browser.press(&format!("{phone}{TAB}")).await;
        browser.focused("listen").await;
        assert_eq!(browser.spoken_name().await, name);
        // Nothing that is only drawn is read aloud, and what it does is.
        let described =
            "document.getElementById(document.activeElement.getAttribute('aria-describedby'))";
        let hint = browser.run(&format!("return {described}.textContent")).await;
        let five = if language == "en" { "Five digits" } else { "五个数字" };
        assert!(hint.as_str().unwrap().contains(five), "{hint}");

        let first = browser.hear(&world, language).await;
        // Another picture has other digits, and is reached the same way.
        browser.back().await;
        browser.focused("new-picture").await;
        let (id, _) = browser.picture(&world, "").await;
        browser.press(ENTER).await;
        browser.picture(&world, &id).await;
        browser.focused("answer").await;
        browser.back().await;
        browser.back().await;
        browser.focused("listen").await;
        let digits = browser.hear(&world, language).await;
        assert_ne!(first, digits, "by chance once in 100 000");
        browser.press(&format!("{digits}{ENTER}")).await;
        browser.focused("code").await;
        let code = world.code(&format!("+86{phone}")).await;
        browser.press(&format!("{code}{ENTER}")).await;
        browser.wait("document.getElementById('signature').dataset.verdict === 'valid'").await;
    }
    browser.close().await;
}

#[tokio::test]
async fn who_listens_too_often_is_told_when_to_come_again() {
    let config = "[challenge]\nexempt = []\naudio_clips_per_10_minutes = 1\n";
    let (world, browser) = (World::start(&format!("{config}{USUAL}")).await, Browser::open().await);
    browser.go(&world.url("/")).await;
    browser.picture(&world, "").await;
    assert_eq!(world.get("/audio_codes/one/").send().await.unwrap().status().as_u16(), 200);
    browser.click("listen").await;
    browser.wait("document.getElementById('error').textContent.includes('Try again at')").await;
    browser.close().await;
}

#[tokio::test]
async fn what_a_page_shows_is_never_run() {
    let (world, browser) = (World::start(USUAL).await, Browser::open().await);
    let script = "<img src=x onerror=document.title='run'><script>document.title='run'</script>";
    browser.go(&world.url("/dev/")).await;
    browser.wait("!document.getElementById('empty').hidden").await;
    // A filter comes from the address, which anyone may write.
    let escaped = escaped(script);
    browser.go(&world.url(&format!("/dev/?phone={escaped}"))).await;
    browser.wait("document.getElementById('filter').value.includes('onerror')").await;
    assert_ne!(browser.run("return document.title").await, "run");
    // And whatever got into a page would not run there.
    browser.run(&format!("document.body.insertAdjacentHTML('beforeend', `{script}`)")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_ne!(browser.run("return document.title").await, "run");
    browser.close().await;
}
