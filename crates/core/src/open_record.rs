//! The open record: the one durable word that a record was accepted and something is still owed.
//!
//! *Invariant:* a record is open from its acceptance until it is completed and announced, or until its failure is decided.
//! Nothing else closes it: no expiry, eviction, outage or lost dead letter.

use serde::{Deserialize, Serialize};

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
    /// How many executions this attempt has been given, counted before each is started. None yet where the acceptance was
    /// adopted.
    pub starts: u32,
    /// When the last of them was counted.
    pub started_at: Timestamp,
    /// When reconcile looks at the record next.
    pub look_at: Timestamp,
    /// How often reconcile has looked at this attempt.
    pub looks: u32,
    /// The idempotency key that stands for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// Since when the payload has been seen to be absent from every store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// Whether the attempt is in progress or has failed.
    pub state: OpenState,
}

/// Where an open record's attempt is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "name")]
#[expect(clippy::large_enum_variant, reason = "a state is held by value in one record at a time")]
pub enum OpenState {
    /// The attempt is under way, or is to be started.
    InProgress,
    /// The attempt has failed: a decision is owed, and perhaps duties of the failure itself.
    Failed {
        /// Why. The first failure of an attempt that is stored is the one that is told of.
        failure: FailureSummary,
        /// The duties that are not done yet.
        owed: Vec<FailureDuty>,
    },
}

/// One of the effects that a failed attempt owes, in the order in which they are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureDuty {
    /// The record item is put to `FAILED`.
    Item,
    /// The cache forgets the payload, which is archived or preserved.
    Unlink,
    /// The dead letter is sent.
    DeadLetter,
    /// The failure is announced.
    Announcement,
}

impl FailureDuty {
    /// Every duty, in order.
    pub const ALL: [Self; 4] = [Self::Item, Self::Unlink, Self::DeadLetter, Self::Announcement];
}

impl OpenRecord {
    /// The open record of an attempt that begins now.
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
            state: OpenState::InProgress,
        }
    }

    /// The record.
    pub fn id(&self) -> RecordId {
        self.message.message_id
    }

    /// The current attempt.
    pub fn attempt(&self) -> Attempt {
        self.message.attempt()
    }

    /// The name of the state, by which the index and the counts tell open records apart.
    pub fn kind(&self) -> OpenKind {
        match self.state {
            OpenState::InProgress => OpenKind::InProgress,
            OpenState::Failed { .. } => OpenKind::Failed,
        }
    }
}

/// The two lists that the index of open records keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OpenKind {
    /// Records on their way.
    InProgress,
    /// Records whose failure is not decided.
    Failed,
}

impl OpenKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::InProgress, Self::Failed];

    /// The kind as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "inProgress",
            Self::Failed => "failed",
        }
    }

    /// The key of one partition of the index: `<kind>#<partition>`.
    pub fn partition_key(self, partition: u8) -> String {
        format!("{}#{partition:02}", self.as_str())
    }
}

/// An entry of the index of open records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexEntry {
    /// When reconcile looks at the record next.
    pub look_at: Timestamp,
    /// The record.
    pub id: RecordId,
}

/// What the index lists, up to a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexListing {
    /// The entries, those to be looked at soonest first.
    pub entries: Vec<IndexEntry>,
    /// Whether there may be more than these.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_partitions_of_its_own() {
        assert_eq!(OpenKind::InProgress.partition_key(7), "inProgress#07");
        assert_eq!(OpenKind::Failed.partition_key(63), "failed#63");
        for kind in OpenKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
