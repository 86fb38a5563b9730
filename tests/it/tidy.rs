//! The house rules that a compiler does not know, held by reading the sources.
//!
//! Each test gathers every breach as `file:line: what and why` and shows them all at once. Words
//! that are forbidden here are written in halves, so that this file may read itself.

use std::fs;
use std::path::Path;

/// The most lines of a source file, not counting its tests.
const LINES_MAX: usize = 500;
/// The most columns of a line of code.
const COLUMNS_MAX: usize = 100;
/// The most recipes of the justfile.
const RECIPES_MAX: usize = 10;

/// A text file of this repository.
struct Source {
    /// Where it lies, from the root of the repository, with `/` between folders.
    path: String,
    text: String,
}

impl Source {
    fn has_extension(&self, wanted: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension().and_then(|it| it.to_str());
        extension.is_some_and(|it| wanted.contains(&it))
    }

    /// Its lines, counted from one.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Its lines without those that are only comments, where links may point anywhere.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The module of `src/` that it belongs to: `store` for `src/store.rs` and `src/store/….rs`.
    fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let module = inner.split('/').next()?;
        (!matches!(module, "lib" | "main")).then_some(module)
    }

    /// How many lines come before its tests; a file that is all tests has none.
    fn lines_before_tests(&self) -> usize {
        if self.path.ends_with("/tests.rs") || self.path.ends_with("/contract.rs") {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_tests = |at: usize| {
            let mut rest = lines[at + 1..].iter().skip_while(|line| line.starts_with("#["));
            rest.next().is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
        };
        let starts = |at: &usize| lines[*at] == "#[cfg(test)]" && opens_tests(*at);
        (0..lines.len()).find(starts).unwrap_or(lines.len())
    }
}

/// Every text file of the repository, in the order of their paths.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    gather(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(found.len() > 20, "the repository was not found: {} files", found.len());
    found
}

fn gather(folder: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let entry = entry.expect("a folder can be listed");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
        let made =
            matches!(name.as_str(), "target" | "node_modules" | "__pycache__" | "Cargo.lock");
        if hidden || made {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type().expect("a file has a type").is_dir() {
            gather(&entry.path(), &format!("{path}/"), found);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            found.push(Source { path, text });
        }
    }
}

/// Every Rust file.
fn rust_sources() -> Vec<Source> {
    sources().into_iter().filter(|source| source.has_extension(&["rs"])).collect()
}

fn the(path: &str) -> Source {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    Source { path: path.to_owned(), text: text.unwrap_or_else(|error| panic!("{path}: {error}")) }
}

#[track_caller]
fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

/// The modules as `src/lib.rs` lists them, from the ground up.
fn floors() -> Vec<String> {
    let lib = the("src/lib.rs");
    let listed = lib.lines().filter_map(|(_, line)| line.strip_prefix("pub mod "));
    listed.filter_map(|rest| rest.strip_suffix(';')).map(str::to_owned).collect()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `needle` stands in `text` without a letter right before or after it.
fn words<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let (first, last) = (needle.as_bytes()[0], needle.as_bytes()[needle.len() - 1]);
    text.match_indices(needle).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|before| text.as_bytes()[before]);
        let after = text.as_bytes().get(at + needle.len()).copied();
        let joined_before = is_word(first) && before.is_some_and(is_word);
        let joined_after = is_word(last) && after.is_some_and(is_word);
        !joined_before && !joined_after
    })
}

/// One breach for each line with a banned word.
fn found<'a>(
    banned: &[&str],
    path: &str,
    lines: impl Iterator<Item = (usize, &'a str)>,
) -> Vec<String> {
    let mut breaches = Vec::new();
    for (line, text) in lines {
        let present = banned.iter().filter(|word| words(text, word).next().is_some());
        breaches
            .extend(present.map(|word| format!("{path}:{line}: `{word}` does not belong here")));
    }
    breaches
}

/// The names right after each `crate::`, with their lines; `crate::{one::…, two}` gives two.
fn crate_uses(source: &Source) -> Vec<(usize, String)> {
    let mut code = String::with_capacity(source.text.len());
    for line in source.text.lines() {
        let comment = line.trim_start().starts_with("//");
        code.push_str(if comment { "" } else { line });
        code.push('\n');
    }
    let mut uses = Vec::new();
    for at in words(&code, "crate::") {
        let start = at + "crate::".len();
        let line_of = |at: usize| code[..at].matches('\n').count() + 1;
        if code[start..].starts_with('{') {
            uses.extend(group(&code, start).into_iter().map(|(at, name)| (line_of(at), name)));
        } else {
            uses.push((line_of(start), name_at(&code, start)));
        }
    }
    uses
}

fn name_at(code: &str, start: usize) -> String {
    code[start..].bytes().take_while(|byte| is_word(*byte)).map(char::from).collect()
}

/// The first names in a `{…}` that opens at `open`; what lies in inner braces is further down.
fn group(code: &str, open: usize) -> Vec<(usize, String)> {
    let (mut depth, mut fresh, mut names) = (0, false, Vec::new());
    for (offset, byte) in code[open..].bytes().enumerate() {
        match byte {
            b'{' => (depth, fresh) = (depth + 1, depth == 0),
            b'}' if depth == 1 => break,
            b'}' => depth -= 1,
            b',' => fresh = depth == 1,
            _ if fresh && is_word(byte) => {
                names.push((open + offset, name_at(code, open + offset)));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let text = "use crate::one::A;\n// crate::no\nuse crate::{\n    two::{B, C},\n    three,\n};\n\
                fn f() { crate::four::g(); mycrate::five() }\npub(in crate::six) mod m;\n";
    let source = Source { path: "src/x.rs".to_owned(), text: text.to_owned() };
    let found = crate_uses(&source);
    let found: Vec<(usize, &str)> = found.iter().map(|(line, name)| (*line, &**name)).collect();
    assert_eq!(found, [(1, "one"), (4, "two"), (5, "three"), (7, "four"), (8, "six")]);
}

#[test]
fn a_module_uses_only_what_stands_above_it_in_lib_rs() {
    let floors = floors();
    assert!(floors.len() > 5, "src/lib.rs lists the modules as `pub mod name;`");
    let floor = |name: &str| floors.iter().position(|listed| listed == name);
    let mut breaches = Vec::new();
    for source in rust_sources() {
        let Some(module) = source.module() else { continue };
        let Some(own) = floor(module) else {
            breaches.push(format!("{}:1: `{module}` is not listed in src/lib.rs", source.path));
            continue;
        };
        for (line, used) in crate_uses(&source) {
            if floor(&used).is_some_and(|other| other > own) {
                let path = &source.path;
                breaches.push(format!("{path}:{line}: `{module}` stands below `{used}`"));
            }
        }
    }
    assert_none(&breaches);
}

#[test]
fn only_app_and_cli_know_config() {
    let mut breaches = Vec::new();
    for source in rust_sources() {
        let Some(module) = source.module() else { continue };
        if matches!(module, "config" | "app" | "cli") {
            continue;
        }
        for (line, _) in crate_uses(&source).iter().filter(|(_, used)| used == "config") {
            let path = &source.path;
            breaches
                .push(format!("{path}:{line}: `{module}` owns its Settings; config fills them"));
        }
    }
    assert_none(&breaches);
}

#[test]
fn the_domain_neither_waits_nor_reaches_out() {
    let banned = ["async", "await", "std::fs", "std::net", "std::env", "tokio", "reqwest"];
    let mut breaches = Vec::new();
    for source in rust_sources().iter().filter(|source| source.module() == Some("domain")) {
        breaches.extend(found(&banned, &source.path, source.code()));
    }
    assert_none(&breaches);
}

#[test]
fn nothing_is_left_to_be_done_or_passed_over_in_silence() {
    let banned = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("db", "g!"),
        concat!("#", "[allow"),
        concat!("#!", "[allow"),
        concat!("#", "[ignore"),
    ];
    let code = ["rs", "toml", "html", "css", "js", "py", "go", "sh", "lua"];
    let mut breaches = Vec::new();
    for source in sources().iter().filter(|source| source.has_extension(&code)) {
        breaches.extend(found(&banned, &source.path, source.lines()));
    }
    assert_none(&breaches);
}

#[test]
fn files_are_short_and_lines_narrow() {
    let mut breaches = Vec::new();
    for source in rust_sources() {
        let path = &source.path;
        let length = source.lines_before_tests();
        if length > LINES_MAX {
            breaches.push(format!("{path}:{LINES_MAX}: {length} lines before its tests"));
        }
        for (line, columns) in source.lines().map(|(line, text)| (line, text.chars().count())) {
            if columns > COLUMNS_MAX {
                breaches.push(format!("{path}:{line}: {columns} columns of {COLUMNS_MAX}"));
            }
        }
    }
    assert_none(&breaches);
}

#[test]
fn every_document_has_one_title() {
    let mut breaches = Vec::new();
    for source in sources().into_iter().filter(|source| source.has_extension(&["md"])) {
        let (mut fenced, mut titles) = (false, Vec::new());
        for (line, text) in source.lines() {
            fenced ^= text.trim_start().starts_with("```");
            if !fenced && text.starts_with("# ") {
                titles.push(line);
            }
        }
        let path = &source.path;
        match titles[..] {
            [] => breaches.push(format!("{path}:1: no `# ` title")),
            [_] => {}
            [_, second, ..] => breaches.push(format!("{path}:{second}: a second `# ` title")),
        }
    }
    assert_none(&breaches);
}

#[test]
fn every_setting_says_what_it_is_for() {
    let source = the("config/default.toml");
    let mut breaches = Vec::new();
    let mut above = "";
    for (line, text) in source.lines() {
        let key = text.split_once('=').map(|(key, _)| key.trim_end());
        let key = key.filter(|key| !key.is_empty() && key.bytes().all(is_word));
        if let Some(key) = key.filter(|_| !above.starts_with("# ")) {
            breaches.push(format!("{}:{line}: `{key}` has no comment above it", source.path));
        }
        above = text;
    }
    assert_none(&breaches);
}

#[test]
fn the_justfile_fits_in_a_head() {
    let source = the("justfile");
    let recipe = |text: &str| {
        let named = text.starts_with(|first: char| first.is_ascii_lowercase());
        named && text.contains(':') && !text.contains(":=")
    };
    let recipes: Vec<usize> =
        source.lines().filter(|(_, text)| recipe(text)).map(|(line, _)| line).collect();
    assert!(!recipes.is_empty(), "justfile: no recipe found");
    if let Some(line) = recipes.get(RECIPES_MAX) {
        panic!("justfile:{line}: {} recipes, at most {RECIPES_MAX}", recipes.len());
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let banned = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let mut breaches = Vec::new();
    for source in sources() {
        breaches.extend(found(&banned, &source.path, source.lines()));
    }
    assert_none(&breaches);
}
