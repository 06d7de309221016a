//! Access control: finds the access entry of a request, and remembers it for a short time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracing::error;

use super::{AccessEntry, Credential, Role};
use crate::{
    breaker::Breaker,
    clock::Timestamp,
    error::{ErrorKind, ErrorName},
    ports::AccessEntries,
    problem::{Problem, ProblemKind},
    proxy::RequestContext,
    upload::SourceUri,
};

/// The time for which an access entry is used without reading it again: a right that an operator has taken away ends
/// after this time.
const FRESH: Duration = Duration::from_mins(1);

/// The time for which an access entry is used while the access table is unavailable, counted from the last time that the
/// table confirmed it. It is as long as the outage that records survive without help. An operator can end the access of an
/// API key sooner, because `custody producer revoke` also deletes the key, and API Gateway refuses it then.
const STALE: Duration = Duration::from_hours(1);

/// The time for which the access table is not asked after a failure of it.
pub(super) const BREAKER_PAUSE: Duration = Duration::from_secs(3);

/// Finds the access entries of requests. It remembers entries that exist, but never that an entry is missing: so a new
/// entry is valid at once, and unknown callers cannot fill the memory.
#[derive(Debug)]
pub struct AccessControl<E> {
    entries: E,
    confirmed: Mutex<HashMap<Credential, ConfirmedEntry>>,
    breaker: Breaker,
}

/// An entry, and when the table confirmed it.
#[derive(Clone, Debug)]
struct ConfirmedEntry {
    entry: Arc<AccessEntry>,
    at: Timestamp,
}

impl<E: AccessEntries> AccessControl<E> {
    /// Creates the access control over the access table.
    pub fn new(entries: E) -> Self {
        Self { entries, confirmed: Mutex::default(), breaker: Breaker::new(BREAKER_PAUSE) }
    }

    /// Returns the access entry of the caller of a request. The problem is `forbidden` if the caller has no valid entry, and
    /// `access-unavailable` if the table cannot be asked and the caller's entry is not remembered.
    pub async fn entry_of(
        &self,
        context: &RequestContext,
        now: Timestamp,
    ) -> Result<Arc<AccessEntry>, Problem> {
        let credential = Credential::of(context).ok_or_else(|| {
            forbidden("the request has no credential; send the API key of a producer in the x-api-key header")
        })?;
        let entry = self.entry(&credential, now).await?.ok_or_else(|| {
            forbidden(format!(
                "{credential} has no access entry; an operator adds one with `custody producer add`"
            ))
        })?;
        if entry.is_expired(now) {
            return Err(forbidden(format!(
                "{credential} of {} has expired; use the key that replaced it",
                entry.principal
            )));
        }
        Ok(entry)
    }

    async fn entry(
        &self,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<Option<Arc<AccessEntry>>, Problem> {
        let remembered = self.remembered(credential);
        // A clock that was set back must not keep an entry fresh.
        let is_within = |limit: Duration| {
            remembered
                .as_ref()
                .filter(|remembered| remembered.at.distance(now) < limit)
                .map(|r| Arc::clone(&r.entry))
        };
        if let Some(fresh) = is_within(FRESH) {
            return Ok(Some(fresh));
        }
        let unavailable = || is_within(STALE).map(Some).ok_or_else(access_unavailable);
        if self.breaker.is_open(now) {
            return unavailable();
        }
        match self.entries.find(credential).await {
            Ok(found) => {
                self.breaker.reset();
                Ok(self.remember(credential, found, now))
            }
            Err(error) => {
                // An entry that cannot be read is a problem of its caller only.
                if error.kind() == ErrorKind::Transient || error.name == ErrorName::AccessDenied {
                    self.breaker.trip(now);
                }
                error!(error.name = error.name.as_str(), %error, "the access table cannot be asked");
                unavailable()
            }
        }
    }

    fn remembered(&self, credential: &Credential) -> Option<ConfirmedEntry> {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).get(credential).cloned()
    }

    fn remember(
        &self,
        credential: &Credential,
        found: Option<AccessEntry>,
        at: Timestamp,
    ) -> Option<Arc<AccessEntry>> {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = found.map(Arc::new) else {
            confirmed.remove(credential);
            return None;
        };
        confirmed.insert(credential.clone(), ConfirmedEntry { entry: Arc::clone(&entry), at });
        Some(entry)
    }
}

/// Checks that the principal may write any records.
pub(crate) fn check_is_producer(entry: &AccessEntry) -> Result<(), Problem> {
    match entry.role {
        Role::Producer { .. } => Ok(()),
        Role::Auditor => {
            Err(forbidden(format!("{} is an auditor and may not write records", entry.principal)))
        }
    }
}

/// Checks that the principal may write records of this `sourceSystemID`.
pub(crate) fn check_write(entry: &AccessEntry, source_system_id: &str) -> Result<(), Problem> {
    if entry.may_write(source_system_id) {
        return Ok(());
    }
    Err(forbidden(format!(
        "{} may not write records of sourceSystemID `{}`; it may write: {}. An operator changes this with `custody \
         producer set-sources`",
        entry.principal,
        crate::json::excerpt(source_system_id),
        entry.writable_sources(),
    )))
}

/// Checks that the principal may send this object by reference.
pub(crate) fn check_reference(entry: &AccessEntry, uri: &SourceUri) -> Result<(), Problem> {
    if entry.references.iter().any(|pattern| pattern.matches(uri)) {
        return Ok(());
    }
    Err(forbidden(format!(
        "{} may not send {} by reference; an operator allows it with `custody producer set-sources --reference`",
        entry.principal,
        crate::json::excerpt(&uri.to_string()),
    )))
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Forbidden, detail)
}

fn access_unavailable() -> Problem {
    Problem::new(
        ProblemKind::AccessUnavailable,
        "the rights of this caller cannot be looked up now; nothing was done, send the request again after the time in \
         Retry-After",
    )
}
