//! Finds the payload of a record in the archive and in the failed bucket, and derives whether the cache should have it.

use custody_core::{
    digest::Sha256,
    message::S3Reference,
    open_record::{FailureStep, OpenRecord, OpenState},
    ports::{FailedStore as _, ItemState, PayloadArchive as _},
    receipt::Durability,
    record_id::RecordId,
};
use serde::Serialize;

use crate::deployment::Deployment;

/// Places where the payload is, or should be.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    pub(super) archived: Option<Place>,
    pub(super) preserved: Option<Place>,
    /// What the cache should have, derived from other stores: only functions can reach the cache.
    pub(super) cached: Cached,
}

/// An object with the digest and the size of its content.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    #[serde(flatten)]
    pub(super) object: S3Reference,
    pub(super) sha256: Sha256,
    pub(super) size_bytes: u64,
}

/// What the cache should have of a record, derived from its open record, its item and the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cached {
    /// The cache should have the payload: it was stored there at acceptance, and is not archived yet.
    Expected,
    /// The cache may still have the payload, which is secure elsewhere and is to be unlinked.
    #[serde(rename = "leaving")]
    ToBeUnlinked,
    /// The cache should not have the payload.
    #[serde(rename = "empty")]
    NotExpected,
    /// The other stores do not show whether the cache should have the payload.
    Unknown,
}

impl Cached {
    /// Derives what the cache should have of a record with this open record and this item.
    fn expected(open: Option<&OpenRecord>, item: Option<&ItemState>, is_archived: bool) -> Self {
        match (open, item) {
            // A completed record is closed only after its payload was unlinked, so the payload of an open one may be
            // there.
            (Some(_), Some(ItemState::Completed(_))) => Self::ToBeUnlinked,
            (Some(open), _) => match &open.state {
                OpenState::Failed { pending_steps, .. } if pending_steps.contains(&FailureStep::Unlink) => {
                    Self::ToBeUnlinked
                }
                // The payload of every other failed record was unlinked, or was in no store.
                OpenState::Failed { .. } => Self::NotExpected,
                OpenState::InProgress if open.durability == Durability::Archived => Self::NotExpected,
                OpenState::InProgress if is_archived => Self::ToBeUnlinked,
                OpenState::InProgress => Self::Expected,
            },
            (None, Some(ItemState::Completed(_) | ItemState::Failed { .. })) => Self::NotExpected,
            (None, Some(ItemState::Received) | None) => Self::Unknown,
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Expected => "should have the payload, which was stored there and is not archived yet",
            Self::ToBeUnlinked => {
                "may still have the payload, which is secure elsewhere and is to be unlinked from the cache"
            }
            Self::NotExpected => "should not have the payload",
            Self::Unknown => "unknown",
        }
    }
}

pub(super) async fn find(
    deployment: &Deployment,
    id: RecordId,
    open: Option<&OpenRecord>,
    item: Option<&ItemState>,
) -> anyhow::Result<Payload> {
    let store = deployment.failed_store()?;
    let key = id.preserved_key();
    let preserved = match store.find(&key).await? {
        Some(object) => store.fetch(&key).await?.map(|content| Place {
            object,
            sha256: Sha256::of(&content),
            size_bytes: content.len() as u64,
        }),
        None => None,
    };
    // The archive is read last, because payloads move there: a payload that moves in between is found.
    let archived = deployment.archive()?.find(&id.archive_key()).await?.map(|object| Place {
        object: object.reference,
        sha256: object.sha256,
        size_bytes: object.size_bytes,
    });
    let cached = Cached::expected(open, item, archived.is_some());
    Ok(Payload { archived, preserved, cached })
}

#[cfg(test)]
mod tests {
    use custody_core::{
        ports::{Discard, NotedDiscard},
        testing::{contract, samples},
    };
    use strum::VariantArray as _;

    use super::*;

    #[test]
    fn what_the_cache_should_have_follows_from_open_record_and_item() {
        let in_progress = samples::open_record(&samples::message(b"payload"));
        let archived = OpenRecord { durability: Durability::Archived, ..in_progress.clone() };
        let failure = contract::failure_of(&in_progress.message);
        let failed = |pending_steps: &[FailureStep]| OpenRecord {
            state: OpenState::Failed { failure: failure.clone(), pending_steps: pending_steps.to_vec() },
            ..in_progress.clone()
        };
        let (with_pending_steps, undecided) = (failed(FailureStep::VARIANTS), failed(&[]));
        let discard =
            Discard { by: "arn:x".to_owned(), at: failure.failed_at, reason: "withdrawn".to_owned() };
        let discarded =
            ItemState::Failed { attempt: 1, discarded: Some(NotedDiscard { attempt: 1, discard }) };
        for (open, item, is_archived, expected) in [
            (Some(&in_progress), None, false, Cached::Expected),
            (Some(&in_progress), Some(&ItemState::Received), true, Cached::ToBeUnlinked),
            (Some(&archived), None, true, Cached::NotExpected),
            (Some(&with_pending_steps), None, false, Cached::ToBeUnlinked),
            (Some(&undecided), None, false, Cached::NotExpected),
            (None, Some(&discarded), false, Cached::NotExpected),
            (None, Some(&ItemState::Received), false, Cached::Unknown),
            (None, None, true, Cached::Unknown),
        ] {
            assert_eq!(Cached::expected(open, item, is_archived), expected, "{open:?} {item:?}");
        }
    }
}
