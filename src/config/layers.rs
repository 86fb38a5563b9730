//! Defaults, then the file, then the environment; and what to say about a key that is not known.

use toml::{Table, Value};

use super::typed::Typed;
use crate::providers::kind;
use crate::third_party::settings::SECRETS as THIRD_PARTY_SECRETS;

/// Every setting with its default and its reason.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// The settings of a tenant that may be given as `…_file`; a provider's kind says its own.
const TENANT_SECRETS: [&str; 2] = ["secret_key", "publishable_key"];
/// The settings of the store that may.
const STORE_SECRETS: [&str; 1] = ["password"];
const PREFIX: &str = "COUNTERSIGN_";

pub(super) fn read(
    file: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Typed, String> {
    let mut table: Table = DEFAULTS.parse().expect("the embedded defaults are TOML");
    // The parser's own words show the line with a pointer; they could show a secret.
    let over: Table = file.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| file[..span.start].matches('\n').count() + 1);
        format!("line {line}: {}", error.message())
    })?;
    merge(&mut table, over);
    let mut given: Vec<_> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    given.sort();
    for (name, value) in given {
        let path = name[PREFIX.len()..].to_ascii_lowercase();
        let path: Vec<_> = path.split("__").collect();
        set(&mut table, &path, &value).map_err(|mistake| format!("{name}: {mistake}"))?;
    }
    for list in ["providers", "tenants"] {
        let Some(Value::Array(entries)) = table.get_mut(list) else { continue };
        for (place, entry) in entries.iter_mut().enumerate() {
            let Some(entry) = entry.as_table_mut() else { continue };
            read_secret_files(entry, secrets(list, entry), &format!("{list}[{place}]"))?;
        }
    }
    let challenge = table.get_mut("challenge").and_then(Value::as_table_mut);
    let third_parties = challenge.and_then(|it| it.get_mut("third_parties")?.as_array_mut());
    for (place, entry) in third_parties.into_iter().flatten().enumerate() {
        let Some(entry) = entry.as_table_mut() else { continue };
        read_secret_files(entry, &THIRD_PARTY_SECRETS, &third_party_at(place))?;
    }
    if let Some(Value::Table(store)) = table.get_mut("store") {
        read_secret_files(store, &STORE_SECRETS, "store")?;
    }
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        explain(&path, error.inner().message())
    })
}

/// Where a third party's table is.
pub(super) fn third_party_at(place: usize) -> String {
    format!("challenge.third_parties[{place}]")
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// Puts an environment variable's value at its place. Numbers select among `[[…]]` tables.
fn set(table: &mut Table, path: &[&str], text: &str) -> Result<(), String> {
    let (last, parents) = path.split_last().ok_or("names no setting")?;
    let mut here = table;
    let mut rest = parents.iter();
    while let Some(key) = rest.next() {
        let next = here.entry((*key).to_owned()).or_insert_with(|| Value::Table(Table::new()));
        here = match next {
            Value::Table(table) => table,
            Value::Array(list) => {
                let place = rest.next().and_then(|place| place.parse::<usize>().ok());
                let entry = place.and_then(|place| list.get_mut(place));
                entry
                    .and_then(Value::as_table_mut)
                    .ok_or_else(|| format!("{key} has no such entry; the first is {key}__0"))?
            }
            _ => return Err(format!("{key} is a setting, not a section")),
        };
    }
    let value = match here.get(*last) {
        // What is not text is written as in the file: 5, true, ["CN", "HK"].
        Some(Value::String(_)) | None => Value::String(text.to_owned()),
        Some(_) => format!("value = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .ok_or_else(|| {
                "write the value as in the file, such as 5, true or [\"CN\"]".to_owned()
            })?,
    };
    here.insert((*last).to_owned(), value);
    Ok(())
}

fn secrets(list: &str, entry: &Table) -> &'static [&'static str] {
    if list == "tenants" {
        return &TENANT_SECRETS;
    }
    let named = entry.get("kind").and_then(Value::as_str);
    named.and_then(kind::kind).map_or(&[], |kind| kind.secrets)
}

fn read_secret_files(entry: &mut Table, secrets: &[&str], section: &str) -> Result<(), String> {
    for name in secrets {
        let file_key = format!("{name}_file");
        let Some(path) = entry.remove(&file_key) else { continue };
        let at = format!("{section}.{file_key}");
        let path = path.as_str().ok_or_else(|| format!("{at}: name a file"))?.to_owned();
        if entry.get(*name).and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
            return Err(format!("{at}: {name} is given, too; give one of them"));
        }
        let text =
            std::fs::read_to_string(&path).map_err(|error| format!("{at}: {path}: {error}"))?;
        entry.insert((*name).to_owned(), Value::String(text.trim().to_owned()));
    }
    Ok(())
}

/// Turns the parser's words into a key and what to write instead.
pub(super) fn explain(path: &str, message: &str) -> String {
    let message = message.trim();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field")
        && let Some((unknown, known)) = quoted.split_first()
    {
        let at = path.rsplit_once('.').map_or(String::new(), |(section, _)| format!("{section}."));
        let at = if path.ends_with(unknown) { at } else { format!("{path}.") };
        let at = at.trim_start_matches('.');
        let distance = |name: &&&str| strsim::damerau_levenshtein(unknown, name);
        let nearest = known.iter().min_by_key(distance);
        let hint = nearest.map_or(String::new(), |name| format!("; did you mean {at}{name}?"));
        return format!("{at}{unknown}: there is no such setting{hint}");
    }
    // A message about a value may quote it, and the value may be a secret: only its type is told.
    let about = message.split(", expected ").nth(1).map(|wanted| format!("expected {wanted}"));
    let missing = message.starts_with("missing field").then(|| message.replace('`', ""));
    let told = missing.or(about).unwrap_or_else(|| "the value cannot be read".to_owned());
    format!("{path}: {told}")
}
