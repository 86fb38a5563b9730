//! Caps on the real binary: at the doors, in the metrics, over `kill -9`, and without one.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use crate::recorder::ended;
use crate::world::{USUAL, World, body, mobile};

/// The usual configuration with a price and these caps.
fn config(caps: &str) -> String {
    let priced = "kind = \"simulated\"\nprice = \"0.045\"\n";
    format!("[caps]\n{caps}\n{}", USUAL.replace("kind = \"simulated\"\n", priced))
}

async fn start(world: &World, number: u32) -> (StatusCode, serde_json::Value, bool) {
    let wanted = json!({"phone": mobile(620, number)});
    let answer = world.post("sk_shop_secret", "/v1/verifications", &wanted).send().await.unwrap();
    let waits = answer.headers().contains_key("retry-after");
    (answer.status(), body(answer).await, waits)
}

#[tokio::test]
async fn a_cap_holds_over_kills_and_is_told_at_every_door() {
    let mut world = World::start(&config("messages_per_hour = 8\nmoney_per_day = \"1000\"")).await;
    assert!(world.log().contains("server: 8 messages an hour, 1000 CNY a day"), "{}", world.log());
    let mut sent = 0;
    for life in 0..4 {
        for number in 0..3 {
            let (status, _, _) = start(&world, life * 10 + number).await;
            sent += u32::from(status == StatusCode::CREATED);
        }
        world.kill();
        world.restart().await;
    }
    assert_eq!(sent, 8, "nothing is forgotten, and a block of one is spent when the kill comes");
    let (status, problem, waits) = start(&world, 90).await;
    assert_eq!((status, waits), (StatusCode::TOO_MANY_REQUESTS, true), "{problem}");
    assert_eq!((&problem["type"], &problem["cap"]), (&json!("/problems/capped"), &json!("server")));
    assert!(problem["retry_at"].is_string(), "{problem}");
    let page = world.get("/problems/capped").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    // The seed's door has one word for all limits, and its picture is spent.
    world.get("/image_codes/capped-1/").send().await.unwrap();
    let answer = world.image_answer("capped-1").await;
    let path =
        format!("/sms_codes/{}/?image_code_id=capped-1&image_code={answer}", mobile(620, 91));
    let said = body(world.get(&path).send().await.unwrap()).await;
    assert_eq!(
        (&said["code"], &said["errmsg"]),
        (&json!("4008"), &json!("发送短信太频繁,请稍候再发"))
    );
    let again = body(world.get(&path).send().await.unwrap()).await;
    assert_eq!(again["code"], "4001", "{again}");
    let metrics = world.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("countersign_cap_used{cap=\"server\",window=\"hour\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("countersign_starts_total{outcome=\"capped\"}"), "{metrics}");
    assert!(world.log().contains("80 % of a cap are spent"), "{}", world.log());
    assert!(world.log().contains("a cap is spent: only phones with an approved"));
}

#[tokio::test]
async fn the_timeline_and_the_metrics_show_what_messages_cost() {
    let world = World::start(&config("messages_per_hour = 10")).await;
    let phone = mobile(621, 1);
    let id = world.start_verification(&phone).await["id"].as_str().unwrap().to_owned();
    ended(&world, &id, Duration::from_secs(20)).await;
    let path = format!("/v1/verifications/{id}/timeline");
    let timeline = world.get(&path).bearer_auth("sk_shop_secret").send().await.unwrap();
    let timeline = body(timeline).await;
    assert_eq!(timeline["cost"], json!({"amount": "0.045", "currency": "CNY"}), "{timeline}");
    let events = timeline["events"].as_array().unwrap();
    let costs = events.iter().filter(|event| event["cost"]["amount"] == "0.045").count();
    assert_eq!(costs, 1, "{timeline}");
    let metrics = world.get("/metrics").send().await.unwrap().text().await.unwrap();
    let spent = "countersign_spent_micros_total{provider=\"sim\",country=\"CN\"}";
    assert!(metrics.contains(spent), "{metrics}");
}

#[tokio::test]
async fn check_config_and_doctor_say_which_cap_holds_and_refuse_none() {
    let world = World::start(USUAL).await;
    let vendor = "[[providers]]\nname = \"main\"\nkind = \"yuntongxun\"\n\
        base_url = \"https://app.cloopen.com:8883\"\n\
        account_sid = \"0123456789abcdef0123456789abcdef\"\n\
        auth_token = \"0123456789abcdef0123456789abcdef\"\n\
        app_id = \"0123456789abcdef0123456789abcdef\"\n";
    let check = |text: String| {
        let path = world.folder.path().join("other.toml");
        std::fs::write(path, text).unwrap();
        let told = world.command(&["check-config", "--config", "other.toml"]).output().unwrap();
        let (out, err) = (told.stdout, told.stderr);
        let text = String::from_utf8_lossy(&[out, err].concat()).into_owned();
        (told.status.success(), text)
    };
    let (fine, told) = check(vendor.to_owned());
    assert!(fine && told.contains("cap          server: 2500 messages an hour, 10000"), "{told}");
    let (fine, told) = check(format!("[caps]\nmessages_per_day = 0\n{vendor}"));
    assert!(!fine && told.contains("caps: main costs money and nothing would stop"), "{told}");
    let told = world.command(&["doctor", "--config", "countersign.toml"]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("cap: none: no provider here costs anything"), "{told}");
}
