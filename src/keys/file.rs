//! The key file: made at the first start, mode 0600, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::ring::{Ring, StoredKey, Use};
use crate::chance::Chance;
use crate::clock::Millis;

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        error: std::io::Error,
    },
    /// Others may read it.
    #[error("{0}: others than its owner may read this file: run chmod 600 {0}")]
    Readable(String),
    /// It is not a key file, or lacks a key.
    #[error(
        "{0}: not a complete key file: bring it back from a backup (without it, codes that are \
             out and all limits are lost)"
    )]
    Unreadable(String),
    /// Such a key cannot be rotated.
    #[error("the {0} key cannot be rotated: a new one would forget every limit and failure count")]
    Fixed(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    keys: Vec<StoredKey>,
}

/// Reads the key file, or makes one where there is none.
pub fn load_or_make(
    path: &Path,
    wall: Millis,
    chance: &mut dyn Chance,
) -> Result<Ring, KeyFileError> {
    if !path.exists() {
        let keys = Use::ALL.iter().map(|&usage| new_key(usage, wall, chance)).collect();
        write(path, &KeyFile { keys })?;
    }
    load(path, wall)
}

/// Reads the key file.
pub fn load(path: &Path, wall: Millis) -> Result<Ring, KeyFileError> {
    let file = read(path)?;
    let name = path.display().to_string();
    Ring::new(&file.keys, wall).ok_or(KeyFileError::Unreadable(name))
}

/// Adds a new active key of this use; the old one is accepted for its overlap. Keys whose overlap
/// is over are removed. Gives the new key's name.
pub fn add_key(
    path: &Path,
    usage: Use,
    wall: Millis,
    chance: &mut dyn Chance,
) -> Result<String, KeyFileError> {
    if usage.overlap().is_none() {
        return Err(KeyFileError::Fixed(usage.as_str()));
    }
    let mut file = read(path)?;
    let newest = file.keys.iter().filter(|key| key.usage == usage).map(|key| key.created_at).max();
    // Two keys of one instant would have no order.
    let key = new_key(usage, wall.max(newest.unwrap_or(0) + 1), chance);
    let id = key.id.clone();
    file.keys.push(key);
    let ring = Ring::new(&file.keys, wall)
        .ok_or_else(|| KeyFileError::Unreadable(path.display().to_string()))?;
    file.keys.retain(|key| ring.infos().any(|info| info.id == key.id));
    write(path, &file)?;
    Ok(id)
}

fn new_key(usage: Use, created_at: Millis, chance: &mut dyn Chance) -> StoredKey {
    let (mut secret, mut name) = ([0; 32], [0; 4]);
    chance.fill(&mut secret);
    chance.fill(&mut name);
    let id = format!("{}-{}", usage.as_str(), hex::encode(name));
    StoredKey { id, usage, created_at, secret: URL_SAFE_NO_PAD.encode(secret) }
}

fn read(path: &Path) -> Result<KeyFile, KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(io)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Readable(path.display().to_string()));
        }
    }
    let text = fs::read(path).map_err(io)?;
    // The parser's words would quote the file: they are left out.
    serde_json::from_slice(&text).map_err(|_| KeyFileError::Unreadable(path.display().to_string()))
}

fn write(path: &Path, file: &KeyFile) -> Result<(), KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut out = options.open(&fresh).map_err(io)?;
    let text = serde_json::to_string_pretty(file).expect("a key file has string keys");
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::SeededChance;
    use crate::clock::DAY;

    #[test]
    fn a_key_file_is_made_once_read_again_and_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/countersign.db.keys");
        let mut chance = SeededChance(1);
        let made = load_or_make(&path, 1000, &mut chance).unwrap();
        let again = load_or_make(&path, 2000, &mut chance).unwrap();
        assert_eq!(format!("{made:?}"), format!("{again:?}"));
        let new = add_key(&path, Use::Token, 3000, &mut chance).unwrap();
        let rotated = load(&path, 4000).unwrap();
        let tokens: Vec<_> = rotated.token_pairs().map(|(id, _)| id.to_owned()).collect();
        assert_eq!((tokens.len(), &tokens[0]), (2, &new));
        add_key(&path, Use::Token, 3000 + 2 * DAY, &mut chance).unwrap();
        assert_eq!(load(&path, 3000 + 2 * DAY).unwrap().token_pairs().count(), 2);
        let fixed = add_key(&path, Use::Fingerprint, 5000, &mut chance);
        assert!(matches!(fixed, Err(KeyFileError::Fixed(_))));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_is_broken_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        load_or_make(&path, 1000, &mut SeededChance(1)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&path, 0), Err(KeyFileError::Readable(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{\"keys\":[{\"secret\":\"hunter2\"}]}").unwrap();
        let error = load(&path, 0).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
