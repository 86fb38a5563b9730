//! The master secrets, which live outside the store.
//!
//! There are five uses. The *fingerprint* key names phones, addresses and people in the store and
//! is never rotated: a new one would forget every limit. *Pepper* (codes), *challenge* (pictures),
//! *sealing* (what must be read again) and *token* (signatures) are rotated with overlap: the
//! newest signs and seals, the older ones are accepted until what they made has ended.

mod file;
mod ring;

pub use file::{KeyFileError, add_key, load, load_or_make};
pub use ring::{Fingerprint, KeyInfo, Ring, Use};

use std::sync::{Arc, PoisonError, RwLock};

/// The ring in use; it can be exchanged while the server runs.
#[derive(Clone)]
pub struct Keys(Arc<RwLock<Arc<Ring>>>);

impl Keys {
    /// Begins with this ring.
    pub fn new(ring: Ring) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(ring))))
    }

    /// The ring at this moment.
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Exchanges the ring, after a rotation.
    pub fn replace(&self, ring: Ring) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }
}
