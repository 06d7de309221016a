//! The keys of the issuer, remembered for a while.

use std::{error::Error, future::Future, time::Duration};

use custody_core::clock::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use tokio::sync::Mutex;
use tracing::error;

/// The time for which the keys are used without asking the issuer: a key that the issuer has withdrawn ends after this time.
const FRESH: Duration = Duration::from_mins(10);

/// The time for which the keys are used while the issuer cannot be asked, counted from its last answer. It is as long as the outage
/// that records survive without help.
const STALE: Duration = Duration::from_hours(1);

/// The shortest time between two questions to the issuer. Tokens with made-up key ids cause no more.
const PAUSE: Duration = Duration::from_secs(10);

/// Where the keys of the issuer come from.
pub trait KeySource: Send + Sync {
    /// Reads all keys by which the issuer signs now.
    fn fetch(&self) -> impl Future<Output = Result<JwkSet, KeysUnavailable>> + Send;
}

/// The issuer's keys cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the keys of the issuer cannot be read: {reason}")]
pub struct KeysUnavailable {
    reason: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl KeysUnavailable {
    /// Creates the error with a reason for the operator.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)), ..self }
    }
}

/// Finds keys, and asks the issuer as rarely as that allows.
#[derive(Debug)]
pub struct IssuerKeys<S> {
    source: S,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<(JwkSet, Timestamp)>,
    asked_at: Option<Timestamp>,
}

impl<S: KeySource> IssuerKeys<S> {
    /// Creates the memory of the keys from this source.
    pub fn new(source: S) -> Self {
        Self { source, known: Mutex::default() }
    }

    /// Returns the key with this id; without an id, the only key of the issuer. `None`: the issuer has no such key.
    pub async fn find(&self, id: Option<&str>, now: Timestamp) -> Result<Option<Jwk>, KeysUnavailable> {
        // The lock is held during the question, so that concurrent requests ask once.
        let mut known = self.known.lock().await;
        if let Some(key) = known.key(id, FRESH, now) {
            return Ok(Some(key));
        }
        if known.asked_at.is_some_and(|asked_at| asked_at.distance(now) < PAUSE) {
            return known.key_without_asking(id, now);
        }
        known.asked_at = Some(now);
        match self.source.fetch().await {
            Ok(keys) => {
                known.keys = Some((keys, now));
                Ok(known.key(id, FRESH, now))
            }
            Err(unavailable) => {
                let cause = unavailable.source.as_ref().map(ToString::to_string);
                error!(error = %unavailable, cause, "the issuer cannot be asked");
                known.key_without_asking(id, now)
            }
        }
    }
}

impl Known {
    fn key(&self, id: Option<&str>, limit: Duration, now: Timestamp) -> Option<Jwk> {
        let (set, at) = self.keys.as_ref()?;
        // A clock that was set back must not keep the keys fresh.
        if at.distance(now) >= limit {
            return None;
        }
        match (id, set.keys.as_slice()) {
            (Some(id), _) => set.find(id).cloned(),
            (None, [only]) => Some(only.clone()),
            (None, _) => None,
        }
    }

    /// Answers from memory. An unknown key is told from an issuer that cannot be asked by whether the issuer has answered of late.
    fn key_without_asking(&self, id: Option<&str>, now: Timestamp) -> Result<Option<Jwk>, KeysUnavailable> {
        let key = self.key(id, STALE, now);
        let has_answered = self.keys.as_ref().is_some_and(|(_, at)| Some(*at) == self.asked_at);
        if key.is_some() || has_answered {
            return Ok(key);
        }
        Err(KeysUnavailable::new("the issuer did not answer, and no key of this id is remembered"))
    }
}
