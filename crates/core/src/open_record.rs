//! The open record: the durable proof that a record was accepted and is not finished.
//!
//! *Invariant:* a record is open from its acceptance until it is completed and announced, or until its failure is
//! decided. Nothing else closes it: no expiry, eviction, outage or lost dead letter.

use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use crate::{
    attempt::{Attempt, FIRST_START},
    clock::Timestamp,
    dead_letter::FailureSummary,
    idempotency::IdempotencyKey,
    message::InternalMessage,
    receipt::Durability,
    record_id::RecordId,
};

/// A record that was accepted and is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenRecord {
    /// The message of the current attempt: the input of its executions.
    pub message: InternalMessage,
    /// How the payload was durable when this attempt began.
    pub durability: Durability,
    /// The number of executions of this attempt. Each is counted before it is started. Zero if no start was counted
    /// yet, because the acceptance was adopted.
    pub starts: u32,
    /// When the last start was counted.
    pub started_at: Timestamp,
    /// When reconcile looks at the record next.
    pub look_at: Timestamp,
    /// How often reconcile has looked at this attempt.
    pub looks: u32,
    /// The idempotency key that stands for the record, if its request had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// When the payload was first found to be in no store, if it is still missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// When the redrive that a person asked for is due, if this attempt has failed and somebody has asked. SQS shows nobody the messages
    /// that it delays, so this note makes them visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive_at: Option<Timestamp>,
    /// Whether the attempt is in progress or has failed.
    pub state: OpenState,
}

/// The state of an open record's attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "name")]
#[expect(clippy::large_enum_variant, reason = "a state is held by value in one record at a time")]
pub enum OpenState {
    /// The attempt is running, or must be started.
    InProgress,
    /// The attempt has failed. A decision about it is pending, and perhaps steps of the failure handling.
    Failed {
        /// The failure. If an attempt fails more than once, only the failure that was stored first is reported.
        failure: FailureSummary,
        /// The steps of the failure handling that are still pending.
        pending_steps: Vec<FailureStep>,
    },
}

/// One step of the handling of a failed attempt. The steps are done in the order of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, VariantArray)]
#[serde(rename_all = "camelCase")]
pub enum FailureStep {
    /// Changes the state of the record's item to `FAILED`.
    Item,
    /// Removes the payload, which is archived or preserved, from the cache.
    Unlink,
    /// Sends the dead letter.
    DeadLetter,
    /// Announces the failure.
    Announcement,
}

impl OpenRecord {
    /// Creates the open record of an attempt that begins now.
    pub fn begin(
        message: InternalMessage,
        durability: Durability,
        key: Option<IdempotencyKey>,
        now: Timestamp,
        look_at: Timestamp,
    ) -> Self {
        Self {
            message,
            durability,
            starts: FIRST_START,
            started_at: now,
            look_at,
            looks: 0,
            key,
            missing_since: None,
            redrive_at: None,
            state: OpenState::InProgress,
        }
    }

    /// The id of the record.
    pub fn id(&self) -> RecordId {
        self.message.message_id
    }

    /// The current attempt.
    pub fn attempt(&self) -> Attempt {
        self.message.attempt()
    }

    /// Returns the kind of the open record, by which the index and the counts group open records.
    pub fn kind(&self) -> OpenKind {
        match self.state {
            OpenState::InProgress => OpenKind::InProgress,
            OpenState::Failed { .. } => OpenKind::Failed,
        }
    }
}

/// The two kinds of open records. The index lists each kind separately.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "camelCase")]
#[strum(const_into_str, serialize_all = "camelCase")]
pub enum OpenKind {
    /// Records in progress.
    InProgress,
    /// Failed records that wait for a decision: redrive or discard.
    Failed,
}

impl OpenKind {
    /// The kind as text.
    pub const fn as_str(self) -> &'static str {
        self.into_str()
    }
}

/// An entry of the index of open records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexEntry {
    /// When reconcile looks at the record next.
    pub look_at: Timestamp,
    pub id: RecordId,
    /// When the record was accepted, if that was later than its metadata was received.
    pub accepted_later_at: Option<Timestamp>,
}

impl IndexEntry {
    /// Returns when the record was accepted.
    pub fn accepted_at(&self) -> Timestamp {
        self.accepted_later_at.unwrap_or_else(|| self.id.received_at())
    }
}

/// A list of index entries, up to a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexListing {
    /// The entries, ordered by the time of the next look.
    pub entries: Vec<IndexEntry>,
    /// Whether the index may have further entries.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_text_that_serde_gives_it() {
        for kind in OpenKind::VARIANTS {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
