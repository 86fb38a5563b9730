use super::*;
use crate::message::LastLine;

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

/// A table of each kind that takes settings, whole.
const WHOLE: [(&str, &str); 10] = [
    ("yuntongxun", "account_sid = \"a\"\nauth_token = \"t\"\napp_id = \"b\""),
    (
        "aliyun",
        "access_key_id = \"a\"\naccess_key_secret = \"s\"\nsign_name = \"某\"\n\
         template_code = \"SMS_1\"\ntemplate_params = { code = \"code\", t = \"minutes\" }",
    ),
    ("tencent", "secret_id = \"a\"\nsecret_key = \"s\"\nsdk_app_id = \"1\"\ntemplate_id = \"2\""),
    (
        "twilio",
        "account_sid = \"AC00000000000000000000000000000001\"\nauth_token = \"t\"\n\
         from = \"+15005550006\"",
    ),
    ("vonage", "api_key = \"a\"\napi_secret = \"s\"\nfrom = \"AcmeInc\""),
    ("plivo", "auth_id = \"MAFAKE0000000000001X\"\nauth_token = \"t\"\nfrom = \"+14155550100\""),
    ("huawei", "app_key = \"k\"\napp_secret = \"s\"\nfrom = \"8824\"\ntemplate_id = \"e14\""),
    ("aws", "access_key_id = \"A\"\nsecret_access_key = \"s\"\nregion = \"us-east-1\""),
    (
        "smpp",
        "base_url = \"smpp://127.0.0.1:2775\"\nsystem_id = \"a\"\npassword = \"p\"\n\
         source = \"Acme\"\nsource_ton = 5\nwindow = 5\ndefault_alphabet = \"latin1\"",
    ),
    (
        "webhook",
        "base_url = \"http://127.0.0.1:9/x\"\nformat = \"form\"\n\
         signing_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
         body = { to = \"{phone}\", text = \"{text}\" }",
    ),
];

fn provider(kind: &str, settings: &str) -> String {
    format!("[[providers]]\nname = \"main\"\nkind = \"{kind}\"\n{settings}\n")
}

#[test]
fn every_kind_is_read_and_strictly() {
    use crate::providers::kind::KINDS;
    for kind in KINDS {
        let whole = WHOLE.iter().find(|(name, _)| *name == kind.name).map(|(_, text)| *text);
        let whole = whole.unwrap_or_else(|| {
            assert_eq!(kind.name, "simulated", "it has settings: list them above");
            ""
        });
        let config = load(&provider(kind.name, whole), &[]).unwrap();
        assert_eq!((config.providers[0].name(), config.providers[0].kind()), ("main", kind.name));
        let base = "base_url = \"http://127.0.0.1:9\"\n";
        let base = base.repeat(usize::from(!whole.contains("base_url")));
        assert!(load(&provider(kind.name, &format!("{base}{whole}")), &[]).is_ok());
        for secret in kind.secrets {
            let told =
                load(&provider(kind.name, &format!("{whole}\n{secret}_file = \"no/such\"")), &[]);
            let told = told.err().unwrap();
            assert!(told.contains(&format!("providers[0].{secret}_file")), "{told}");
        }
        let told = load(&provider(kind.name, &format!("{whole}\nnome = 66778899")), &[]);
        let told = told.err().unwrap();
        assert!(told.contains("providers[0].nome: there is no such setting"), "{told}");
        assert!(told.contains("did you mean providers[0].name?"), "{told}");
    }
    assert_eq!(WHOLE.len() + 1, KINDS.len());
}

#[test]
fn a_setting_of_another_kind_is_refused() {
    let told = load(&provider("simulated", "app_id = \"x\""), &[]).err().unwrap();
    assert!(told.contains("providers[0].app_id: there is no such setting"), "{told}");
    let told = load(&provider("alyun", ""), &[]).err().unwrap();
    assert!(told.contains("providers[0].kind: \"alyun\" is not known"), "{told}");
    assert!(told.contains("\"aliyun\", \"tencent\""), "{told}");
}

#[test]
fn what_a_template_cannot_take_is_refused() {
    let eight = "[code]\ndigits = 8\n";
    for (kind, whole) in WHOLE {
        let told = load(&format!("{eight}{}", provider(kind, whole)), &[]).err();
        let refused = ["yuntongxun", "tencent"].contains(&kind);
        assert_eq!(told.is_some(), refused, "{kind}: {told:?}");
        assert!(told.is_none_or(|told| told.contains("set code.digits = 6")));
    }
    let tencent = WHOLE[2].1;
    for params in ["[]", "[\"minutes\"]", "[\"code\", \"code\"]", "[\"cod\"]", "\"code\""] {
        let text = format!("{tencent}\ntemplate_params = {params}");
        let told = load(&provider("tencent", &text), &[]).err().unwrap();
        assert!(told.contains("providers[0].template_params"), "{told}");
    }
    let own = format!("{}\ntemplate_params = [\"code\"]", WHOLE[0].1);
    assert!(load(&provider("yuntongxun", &own), &[]).is_err(), "the test template has two");
    let own = format!("{own}\ntemplate_id = \"77\"");
    assert!(load(&provider("yuntongxun", &own), &[]).is_ok());
}

#[test]
fn all_that_is_wrong_with_a_provider_is_told_at_once_and_no_secret() {
    let text = "account_sid = \"AC1\"\nauth_token = \"very secret\"\nfrom = \"é\"";
    let told = load(&provider("twilio", text), &[]).err().unwrap();
    for key in ["account_sid", "auth_token", "from"] {
        assert!(told.contains(&format!("providers[0].{key}: ")), "{key} in {told}");
    }
    assert!(!told.contains("very secret"), "{told}");
    let told = load(&provider("twilio", "auth_token = 66778899"), &[]).err().unwrap();
    assert!(told.contains("providers[0].auth_token") && !told.contains("66778899"), "{told}");
}

#[test]
fn a_last_line_is_one_and_fits_into_the_segment() {
    let config = load(&format!("[message]\nweb_otp_host = \"shop.example\"\n{SIMULATED}"), &[]);
    assert_eq!(config.unwrap().texts.last, LastLine::WebOtp("shop.example".to_owned()));
    let config = load(&format!("[message]\nandroid_app_hash = \"FA+9qCX9VSu\"\n{SIMULATED}"), &[]);
    assert_eq!(config.unwrap().texts.last, LastLine::AndroidApp("FA+9qCX9VSu".to_owned()));
    let long = format!("web_otp_host = \"{}.example\"", "a".repeat(40));
    for (text, told) in [
        ("web_otp_host = \"a.example\"\nandroid_app_hash = \"FA+9qCX9VSu\"", "one of them"),
        ("web_otp_host = \"https://a.example\"", "write the host alone"),
        ("android_app_hash = \"short\"", "11 letters"),
        (&long, "longer than one segment"),
    ] {
        let mistake = mistakes(&format!("[message]\n{text}"));
        assert!(mistake.contains(told), "{mistake}");
    }
}

#[test]
fn texts_show_the_code_in_one_segment_of_whatever_they_say() {
    assert_eq!(load(SIMULATED, &[]).unwrap().texts, Texts::default());
    let own = format!("[message.texts]\nzh = \"【某某】验证码{{code}}\"\n{SIMULATED}");
    let texts = load(&own, &[]).unwrap().texts;
    assert_eq!((texts.zh.as_str(), texts.en), ("【某某】验证码{code}", Texts::default().en));
    let long = format!("{{code}}{}", "验".repeat(65));
    for (locale, text, told) in [
        ("zh", "您的验证码", "write {code}"),
        ("en", "{code} for {phone}", "braces"),
        ("zh", long.as_str(), "longer than one segment"),
        (
            "en",
            "{code} 您好 and a text that has no more than a hundred and sixty characters in it",
            "longer than one segment",
        ),
    ] {
        let mistake = mistakes(&format!("[message.texts]\n{locale} = \"{text}\""));
        assert!(mistake.contains(&format!("message.texts.{locale}: ")), "{mistake}");
        assert!(mistake.contains(told), "{mistake}");
    }
    let told = mistakes("[message.texts]\nfr = \"{code}\"");
    assert!(told.contains("message.texts.fr"), "{told}");
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

#[test]
fn routes_name_providers_that_are_there_and_can_be_reached() {
    let two = "[[providers]]\nname = \"main\"\nkind = \"simulated\"\n\
        [[providers]]\nname = \"ali\"\nkind = \"simulated\"\n\
        [phone]\ncountries = [\"CN\", \"HK\"]\n";
    let good = format!(
        "{two}[[routes]]\nprefixes = [\"+86170\"]\nproviders = [\"ali\"]\n\
         [[routes]]\ncountries = [\"CN\"]\nproviders = [\"main\", \"ali\"]\nweights = [3, 1]\n\
         [[routes]]\nproviders = [\"ali\", \"main\"]\n"
    );
    let config = load(&good, &[]).unwrap();
    let places: Vec<_> = config.routes.iter().map(|route| route.providers.clone()).collect();
    assert_eq!(places, [vec![1], vec![0, 1], vec![1, 0]]);
    assert_eq!(config.routes[1].weights, [3, 1]);
    for (route, expected) in [
        (
            "providers = [\"main2\"]",
            "routes[0].providers: \"main2\" is no provider; did you mean main?",
        ),
        ("providers = []", "routes[0].providers: name at least one"),
        ("providers = [\"ali\", \"ali\"]", "routes[0].providers: \"ali\" is there twice"),
        ("providers = [\"ali\"]\nweights = [1, 2]", "routes[0].weights: give one for each"),
        ("providers = [\"ali\"]\nweights = [0]", "routes[0].weights: at least one is above 0"),
        ("providers = [\"ali\"]\ncountries = [\"GB\"]", "GB is not in phone.countries"),
        ("providers = [\"ali\"]\ncountries = [\"XX\"]", "routes[0].countries: \"XX\""),
        ("providers = [\"ali\"]\nprefixes = [\"86138\"]", "\"86138\" is not like \"+86138\""),
        ("provider = [\"ali\"]", "did you mean routes[0].providers?"),
        (
            "providers = [\"ali\"]\n[[routes]]\nproviders = [\"main\"]",
            "routes[1]: is never used: routes[0] comes first",
        ),
    ] {
        let told = load(&format!("{two}[[routes]]\n{route}"), &[]).err().expect("a mistake");
        assert!(told.contains(expected), "{expected} in {told}");
    }
}

/// A third party that nothing is wrong with.
const TURNSTILE: &str = "[[challenge.third_parties]]\nkind = \"turnstile\"\nsite_key = \"1x\"\n\
    secret_key = \"very-secret\"\nhosts = [\"shop.example\"]\n";

#[test]
fn a_tenant_lists_third_parties_by_name_and_mistakes_are_told_at_their_key() {
    use crate::domain::third_party::Vendor;
    use crate::http::auth::Offer;
    let tenant = "[[tenants]]\nid = \"a\"\nsecret_key = \"sk_secret\"\n";
    let second = TURNSTILE.replace("kind", "name = \"second\"\nkind");
    let both = format!("{SIMULATED}{TURNSTILE}{second}");
    let kinds = |text: &str| load(text, &[]).map(|it| it.tenants[0].tenant.challenge_kinds.clone());
    let listed = format!("{both}{tenant}challenge_kinds = [\"second\", \"image\"]\n");
    let expected = [Offer::ThirdParty(Vendor::Turnstile, 1), Offer::Image];
    assert_eq!(kinds(&listed).unwrap(), expected);
    let default = format!("{both}{tenant}");
    assert_eq!(
        kinds(&default).unwrap(),
        [Offer::Image, Offer::Work, Offer::Audio],
        "nobody has to use them"
    );
    let of = |more: &str| format!("{both}{tenant}challenge_kinds = {more}\n");
    for (text, expected) in [
        (of("[\"hcaptcha\"]"), "tenants[0].challenge_kinds: \"hcaptcha\" is none of \"image\""),
        (of("[]"), "tenants[0].challenge_kinds: at least one of \"image\", \"proof-of-work\", "),
        (of("[\"turnstile\", \"second\"]"), "challenge_kinds: two of the kind turnstile"),
        (
            format!("{both}{TURNSTILE}"),
            "challenge.third_parties[2].name: \"turnstile\" is taken already",
        ),
        (
            format!("{SIMULATED}{}", TURNSTILE.replace("kind", "name = \"image\"\nkind")),
            "challenge.third_parties[0].name: \"image\" is a kind of our own",
        ),
        (
            format!("{SIMULATED}{TURNSTILE}secret = \"x\"\n"),
            "challenge.third_parties[0].secret: there is no such setting",
        ),
        (
            format!("{SIMULATED}{}", TURNSTILE.replace("[\"shop.example\"]", "[]")),
            "challenge.third_parties[0].hosts: list the hosts",
        ),
        (
            format!("{SIMULATED}{}", TURNSTILE.replace("\"very-secret\"", "66778899")),
            "challenge.third_parties[0].secret_key: expected a string",
        ),
        (
            format!("{SIMULATED}{TURNSTILE}secret_key_file = \"nowhere\"\n"),
            "challenge.third_parties[0].secret_key_file: secret_key is given, too",
        ),
        (
            format!("{SIMULATED}{}", TURNSTILE.replace("secret_key", "secret_key_file")),
            "challenge.third_parties[0].secret_key_file: very-secret: ",
        ),
        (format!("{SIMULATED}{}", TURNSTILE.repeat(17)), "challenge.third_parties: 16 at most"),
    ] {
        let told = load(&text, &[]).err().expect("a mistake");
        assert!(told.contains(expected), "{expected} in {told}");
        assert!(!told.contains("66778899"), "{told}");
    }
    let variable = ("COUNTERSIGN_CHALLENGE__THIRD_PARTIES__0__SECRET_KEY", "from-outside");
    assert!(load(&format!("{SIMULATED}{TURNSTILE}"), &[variable]).is_ok());
}

#[test]
fn who_needs_a_challenge_is_one_of_four_words_and_never_is_for_servers() {
    use crate::http::auth::Demand;
    let tenant = format!("{SIMULATED}[[tenants]]\nid = \"a\"\nsecret_key = \"sk_secret\"\n");
    let browsers = format!("{tenant}publishable_key = \"pk_public\"\n");
    let demand = |text: &str| load(text, &[]).map(|config| config.tenants[0].tenant.challenge);
    for (word, expected) in [
        ("browsers", Demand::Browsers),
        ("always", Demand::Always),
        ("when-risky", Demand::WhenRisky),
    ] {
        let text = format!("{browsers}challenge = \"{word}\"\n");
        assert_eq!(demand(&text).unwrap(), expected, "{word}");
    }
    assert_eq!(demand(&browsers).unwrap(), Demand::Browsers);
    assert_eq!(demand(&format!("{tenant}challenge = \"never\"\n")).unwrap(), Demand::Never);
    for (text, expected) in [
        (format!("{browsers}challenge = \"never\"\n"), "\"never\" is for servers"),
        (format!("{browsers}challenge = \"sometimes\"\n"), "tenants[0].challenge: \"browsers\""),
    ] {
        let told = demand(&text).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
}
