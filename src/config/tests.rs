use super::*;

const SIMULATED: &str = "[[providers]]\nname = \"sim\"\nkind = \"simulated\"\n";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countersign.toml");
    std::fs::write(&path, text).unwrap();
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), environment).map_err(|mistakes| mistakes.to_string())
}

fn mistakes(text: &str) -> String {
    load(&format!("{text}\n{SIMULATED}"), &[]).err().expect("this is a mistake")
}

#[test]
fn the_defaults_need_only_a_provider() {
    let config = load(SIMULATED, &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.policy.code_ttl, 300_000);
    assert_eq!(config.key_path, PathBuf::from("countersign.db.keys"));
    assert!(load("", &[]).err().unwrap().contains("providers: none is configured"));
}

#[test]
fn an_unknown_key_is_named_with_the_nearest_known_one() {
    for (text, expected) in [
        ("listem = \"x\"", "listem: there is no such setting; did you mean listen?"),
        ("[code]\ndigit = 6", "code.digit: there is no such setting; did you mean code.digits?"),
        ("[[tenants]]\nid = \"a\"\nsecret = \"sk_x\"", "did you mean tenants[0].secret_key?"),
    ] {
        let mistake = mistakes(text);
        assert!(mistake.contains(expected), "{mistake}");
    }
}

#[test]
fn every_mistake_is_told_at_its_key() {
    let text = "listen = \"nowhere\"\npublic_url = \"shop\"\ntrusted_proxies = [\"x\"]\n\
        [code]\ndigits = 4\nttl_seconds = 601\nchecks_max = 0\n[limits]\nphone_gap_seconds = 1\n\
        [phone]\ncountries = [\"ZZ\"]\n[store]\nkind = \"valkey\"\n[log]\nformat = \"xml\"";
    let told = mistakes(text);
    for key in [
        "listen:",
        "public_url:",
        "trusted_proxies:",
        "code.digits:",
        "code.ttl_seconds:",
        "code.checks_max:",
        "limits.phone_gap_seconds:",
        "phone.countries:",
        "store.kind:",
        "log.format:",
    ] {
        assert!(told.contains(key), "{key} in {told}");
    }
}

#[test]
fn a_wrong_type_is_told_without_its_value() {
    let told = mistakes("[[tenants]]\nid = \"a\"\nsecret_key = 66778899");
    assert!(told.contains("tenants[0].secret_key") && !told.contains("66778899"), "{told}");
    let broken = mistakes("listen = \"127\npublic_url = sk_verysecret");
    assert!(broken.contains("line 1") && !broken.contains("verysecret"), "{broken}");
}

#[test]
fn the_developers_door_is_refused_outside_loopback() {
    let told = mistakes("listen = \"0.0.0.0:8000\"\n[dev]\nenabled = true");
    assert!(told.contains("dev.enabled"), "{told}");
}

#[test]
fn the_environment_comes_on_top() {
    let config = load(
        SIMULATED,
        &[
            ("COUNTERSIGN_LISTEN", "127.0.0.1:9"),
            ("COUNTERSIGN_LIMITS__PHONE_PER_HOUR", "7"),
            ("COUNTERSIGN_PHONE__COUNTRIES", "[\"CN\", \"DE\"]"),
            ("COUNTERSIGN_PROVIDERS__0__NAME", "other"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!((config.listen.port(), config.policy.phone_per_hour), (9, 7));
    assert_eq!((config.phones.countries.len(), config.providers[0].name()), (2, "other"));
    let told = load(SIMULATED, &[("COUNTERSIGN_LIMITS__PHONE_PER_HUOR", "7")]).err().unwrap();
    assert!(told.contains("limits.phone_per_huor"), "{told}");
    let told = load(SIMULATED, &[("COUNTERSIGN_LIMITS__PHONE_PER_HOUR", "x y")]).err().unwrap();
    assert!(told.contains("COUNTERSIGN_LIMITS__PHONE_PER_HOUR"), "{told}");
}

#[test]
fn a_secret_may_be_a_file() {
    use secrecy::ExposeSecret;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "sk_from_a_file\n").unwrap();
    let tenant = format!("{SIMULATED}[[tenants]]\nid = \"a\"\nsecret_key_file = {secret:?}\n");
    let config = load(&tenant, &[]).unwrap();
    assert_eq!(config.tenants[0].secret_key.expose_secret(), "sk_from_a_file");
    let told = load(&tenant.replace("secret\"", "nowhere\""), &[]).err().unwrap();
    assert!(told.contains("tenants[0].secret_key_file"), "{told}");
}

#[test]
fn redis_is_resolved_with_its_replicas_and_everything_wrong_is_told() {
    let redis = |more: &str| load(&format!("{SIMULATED}[store]\nkind = \"redis\"\n{more}"), &[]);
    let settings = |more: &str| match redis(more).unwrap().store {
        StoreConfig::Redis(_, settings) => *settings,
        StoreConfig::Embedded(_) => panic!("redis was asked for"),
    };
    let one = settings("");
    assert_eq!((one.replicas, one.hold, one.bound.len()), (0, 60_000, 1));
    let watched = settings("url = \"redis+sentinel://a,b/main\"\nhold_after_failover = false");
    assert_eq!((watched.replicas, watched.hold), (1, 0));
    assert_eq!(settings("replicas = 2\nbind_codes = false").replicas, 2);
    for (more, part) in [
        ("url = \"redis://u:p4ssw0rd@a\"", "store.url: give user and password"),
        ("url = \"redis+cluster://a\"\ndatabase = 1", "store.database:"),
        ("prefix = \"a{b}\"", "store.prefix:"),
        ("authority_file = \"nowhere.pem\"", "store.authority_file:"),
        ("replicas = 11", "store.replicas:"),
        ("password_file = \"nowhere\"", "store.password_file:"),
    ] {
        let told = redis(more).err().expect("this is a mistake");
        assert!(told.contains(part) && !told.contains("p4ssw0rd"), "{told}");
    }
}

#[test]
fn a_tenant_has_purposes_and_login_unless_it_says_otherwise() {
    let tenant = format!("{SIMULATED}[[tenants]]\nid = \"a\"\nsecret_key = \"sk_secret\"\n");
    let purposes =
        |text: &str| load(text, &[]).map(|config| config.tenants[0].tenant.purposes.clone());
    assert_eq!(purposes(&tenant).unwrap(), ["login"]);
    let two = format!("{tenant}purposes = [\"pay\", \"log-in_2\"]\n");
    assert_eq!(purposes(&two).unwrap(), ["pay", "log-in_2"]);
    for wrong in ["[]", "[\"\"]", "[\"Pay\"]", "[\"pay\", \"a b\"]"] {
        let told = purposes(&format!("{tenant}purposes = {wrong}\n")).unwrap_err();
        assert!(told.starts_with("tenants[0].purposes: "), "{told}");
    }
}
