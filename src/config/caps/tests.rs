use super::super::Config;
use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text).map_err(|mistakes| mistakes.to_string())
}

fn yuntongxun(base_url: &str, more: &str) -> String {
    format!(
        "[[providers]]\nname = \"main\"\nkind = \"yuntongxun\"\nbase_url = \"{base_url}\"\n\
         account_sid = \"0123456789abcdef0123456789abcdef\"\n\
         auth_token = \"0123456789abcdef0123456789abcdef\"\n\
         app_id = \"0123456789abcdef0123456789abcdef\"\n{more}\n"
    )
}

const VENDOR: &str = "https://app.cloopen.com:8883";

#[test]
fn a_paid_provider_has_a_cap_unless_the_operator_takes_it_away_and_then_it_is_refused() {
    let usual = parse(&yuntongxun(VENDOR, "")).unwrap();
    assert_eq!(usual.caps.scopes, [Scope { country: None, cap: USUAL }]);
    assert_eq!(usual.policy.known_for, 180 * DAY);
    assert!(usual.caps.words()[0].contains("2500 messages an hour, 10000 messages a day (the"));
    let own = format!("[caps]\nmessages_per_day = 7\n{}", yuntongxun(VENDOR, ""));
    let own = parse(&own).unwrap();
    let day = Most { messages: Some(7), money: None };
    assert_eq!(own.caps.scopes[0].cap, Cap { day, ..Cap::default() }, "what is given holds alone");
    for none in ["messages_per_day = 0", "messages_per_hour = \"none\"", "money_per_day = 0"] {
        let told = parse(&format!("[caps]\n{none}\n{}", yuntongxun(VENDOR, ""))).err().unwrap();
        assert!(told.contains("caps: main costs money and nothing would stop"), "{none}: {told}");
    }
}

#[test]
fn what_costs_nothing_needs_no_cap_and_may_have_one() {
    for free in [
        "[[providers]]\nname = \"sim\"\nkind = \"simulated\"\n".to_owned(),
        yuntongxun("http://127.0.0.1:9900", ""),
        yuntongxun("http://localhost:9900", ""),
        yuntongxun("http://[::1]:9900", ""),
        yuntongxun(VENDOR, "price = \"0\""),
    ] {
        let config = parse(&free).unwrap();
        assert!(config.caps.scopes.is_empty(), "{free}");
        assert_eq!(config.policy.known_for, 0);
        let config = parse(&format!("[caps]\nmessages_per_hour = 5\n{free}")).unwrap();
        assert_eq!(config.caps.scopes[0].cap.hour.messages, Some(5));
    }
    let proxied = parse(&yuntongxun("http://127.0.0.1:9900", "price = \"0.045\"")).unwrap();
    assert!(proxied.caps.usual, "a proxy to a vendor, with a price");
}

#[test]
fn prices_are_read_exactly_and_by_country_and_prefix() {
    let text = yuntongxun(VENDOR, "price = \"0.045\"\nprices = { HK = \"0.3\", \"+86170\" = 1 }");
    let price = parse(&text).unwrap().providers[0].price();
    assert_eq!(price.usual, Micros(45_000));
    assert_eq!(price.countries, [("HK".parse().unwrap(), Micros(300_000))]);
    assert_eq!(price.prefixes, [("+86170".to_owned(), Micros(1_000_000))]);
    for (wrong, key) in [
        ("price = 0.045", "providers[0].price: write an amount"),
        ("price = \"-1\"", "providers[0].price: write an amount"),
        ("prices = { ZZ = \"1\" }", "providers[0].prices.ZZ: neither"),
        ("prices = { \"86\" = \"1\" }", "providers[0].prices.86: neither"),
        ("prices = { HK = \"x\" }", "providers[0].prices.HK: write an amount"),
        ("prices = \"1\"", "providers[0].prices: a table"),
    ] {
        let told = parse(&yuntongxun(VENDOR, wrong)).err().expect(wrong);
        assert!(told.contains(key), "{wrong}: {told}");
    }
}

#[test]
fn caps_in_money_need_prices_and_countries_that_are_served() {
    let text = |caps: &str, price: &str| format!("{caps}\n{}", yuntongxun(VENDOR, price));
    let told = parse(&text("[caps]\nmoney_per_day = \"100\"", "")).err().unwrap();
    assert!(told.contains("the provider main needs a `price`"), "{told}");
    let config = parse(&text("[caps]\nmoney_per_day = \"100.5\"", "price = \"0.045\"")).unwrap();
    assert_eq!(config.caps.words(), ["server: 100.5 CNY a day"]);
    let hong_kong = "[phone]\ncountries = [\"CN\", \"HK\"]\n[caps]\ncurrency = \"EUR\"\n\
        [caps.countries.HK]\nmessages_per_hour = 9\nmoney_per_hour = 2";
    let config = parse(&text(hong_kong, "price = \"0.045\"")).unwrap();
    assert_eq!(config.caps.words()[1], "HK: 9 messages an hour, 2 EUR an hour");
    assert!(config.caps.usual, "a country's cap is not the server's");
    for (wrong, told) in [
        ("[caps.countries.HK]\nmessages_per_day = 5", "caps.countries.HK: is not in phone"),
        ("[caps.countries.ZZ]\nmessages_per_day = 5", "caps.countries.ZZ: "),
        ("[caps]\nmoney_per_day = 0.5", "caps.money_per_day: expected an amount in quotes"),
        ("[caps]\nmoney_per_day = \"1,5\"", "caps.money_per_day: write an amount"),
        ("[caps]\nmessages_per_day = \"many\"", "caps.messages_per_day: a number of messages"),
        ("[caps]\nmessages_per_day = -1", "caps.messages_per_day: expected a number of messages"),
        ("[caps]\ncurrency = \"yuan\"", "caps.currency: write three capital letters"),
        ("[caps]\nknown_days = 0", "caps.known_days: 0 is not within 1 to 3650"),
        ("[caps]\nmessages_a_day = 1", "caps.messages_a_day: there is no such setting"),
    ] {
        let got = parse(&text(wrong, "price = \"0.045\"")).err().expect(wrong);
        assert!(got.contains(told), "{wrong}: {got}");
    }
}
