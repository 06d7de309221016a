//! Where the payload of a record is: in the archive, in the failed bucket, and, as far as it can be told, in the cache.

use custody_core::{
    digest::Sha256,
    message::S3Reference,
    open_record::{FailureDuty, OpenRecord, OpenState},
    ports::{FailedStore as _, ItemState, PayloadArchive as _},
    receipt::Durability,
    record_id::RecordId,
};
use serde::Serialize;

use crate::deployment::Deployment;

/// Where the payload is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    pub(super) archived: Option<Place>,
    pub(super) preserved: Option<Place>,
    /// What the cache should have: only functions reach it.
    pub(super) cached: Cached,
}

/// An object, and what is in it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    #[serde(flatten)]
    pub(super) object: S3Reference,
    pub(super) sha256: Sha256,
    pub(super) size_bytes: u64,
}

/// What the cache should have of a record, by what is written of it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cached {
    /// The payload: it was accepted there, and is not secure elsewhere yet.
    Expected,
    /// Perhaps the payload, which is secure elsewhere and is to be forgotten.
    Leaving,
    /// Nothing.
    Empty,
    /// Nothing tells.
    Unknown,
}

impl Cached {
    /// What the cache should have of a record with this open record and this item.
    fn expected(open: Option<&OpenRecord>, item: Option<&ItemState>, is_archived: bool) -> Self {
        match (open, item) {
            // A completed record is closed after its payload was unlinked.
            (Some(_), Some(ItemState::Completed(_))) => Self::Leaving,
            (Some(open), _) => match &open.state {
                OpenState::Failed { owed, .. } if owed.contains(&FailureDuty::Unlink) => Self::Leaving,
                // Every other failed record was unlinked, or its payload was in no store.
                OpenState::Failed { .. } => Self::Empty,
                OpenState::InProgress if open.durability == Durability::Archived => Self::Empty,
                OpenState::InProgress if is_archived => Self::Leaving,
                OpenState::InProgress => Self::Expected,
            },
            (None, Some(ItemState::Completed(_) | ItemState::Failed { .. })) => Self::Empty,
            (None, Some(ItemState::Received) | None) => Self::Unknown,
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Expected => "it should be there: the payload was accepted there and is not archived yet",
            Self::Leaving => {
                "it may be there still: the payload is secure elsewhere, and the cache is to forget it"
            }
            Self::Empty => "it should not be there",
            Self::Unknown => "nothing tells",
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
    // Last, because payloads move there.
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
    use custody_core::testing::{contract, samples};

    use super::*;

    #[test]
    fn what_the_cache_should_have_follows_from_open_record_and_item() {
        let in_progress = samples::open_record(&samples::message(b"payload"));
        let archived = OpenRecord { durability: Durability::Archived, ..in_progress.clone() };
        let failure = contract::failure_of(&in_progress.message);
        let failed = |owed: &[FailureDuty]| OpenRecord {
            state: OpenState::Failed { failure: failure.clone(), owed: owed.to_vec() },
            ..in_progress.clone()
        };
        let (owing, undecided) = (failed(&FailureDuty::ALL), failed(&[]));
        let discarded = ItemState::Failed { attempt: 1, discarded: true };
        for (open, item, is_archived, expected) in [
            (Some(&in_progress), None, false, Cached::Expected),
            (Some(&in_progress), Some(&ItemState::Received), true, Cached::Leaving),
            (Some(&archived), None, true, Cached::Empty),
            (Some(&owing), None, false, Cached::Leaving),
            (Some(&undecided), None, false, Cached::Empty),
            (None, Some(&discarded), false, Cached::Empty),
            (None, Some(&ItemState::Received), false, Cached::Unknown),
            (None, None, true, Cached::Unknown),
        ] {
            assert_eq!(Cached::expected(open, item, is_archived), expected, "{open:?} {item:?}");
        }
    }
}
