//! The ledger: what the simulation knows happened, independently of what the stores say.
//!
//! Every effect is entered when it is done, also when its caller never learns of it. What must never happen at any time is
//! checked then; what must have happened in the end is checked by [`crate::invariants`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    idempotency::{ClaimRequest, IdempotencyKey},
    notification::Notification,
    open_record::{IndexListing, OpenKind, OpenRecord},
    receipt::{Durability, Receipt},
    record_id::RecordId,
};
use serde_json::Value;

use crate::counts::Counts;

/// A record whose producer holds a receipt.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) receipt: Receipt,
    pub(crate) content: Bytes,
}

/// What is known of a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The digest of what was accepted, since it was.
    pub(crate) accepted: Option<Sha256>,
    pub(crate) durability: Option<Durability>,
    pub(crate) key: Option<IdempotencyKey>,
    /// How long the key stands for the record at least.
    pub(crate) claimed_until: Option<Timestamp>,
    /// Whether all nodes that had the payload were lost at a level that does not survive it.
    pub(crate) is_lost: bool,
    /// Whether the cache has ever answered as if it were empty while it had the payload.
    pub(crate) was_hidden: bool,
    /// When the record was closed last, and in which attempt.
    pub(crate) closed: Option<(i64, Attempt)>,
    /// Whether an operator has discarded it.
    pub(crate) is_discarded: bool,
    /// The attempts whose dead letters were sent.
    pub(crate) dead_letters: BTreeSet<u32>,
}

/// The first publication under one id.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) place: usize,
    pub(crate) body: Value,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) violations: Vec<String>,
    pub(crate) records: BTreeMap<RecordId, Known>,
    pub(crate) receipts: Vec<Acknowledged>,
    pub(crate) published: BTreeMap<String, Published>,
    pub(crate) publications: usize,
    pub(crate) counts: Counts,
    pub(crate) trace: Option<Vec<String>>,
    /// What the index listed before, by kind.
    pub(crate) listings: BTreeMap<OpenKind, IndexListing>,
    /// When the cache answered last as if it were empty.
    pub(crate) answered_as_empty_ms: Option<i64>,
}

/// How long apart two times are at least in which the cache answers as if it were empty.
const BETWEEN_EMPTY_ANSWERS_MS: i64 = 15 * 60_000;

impl Ledger {
    pub(crate) fn violated(&mut self, what: String) {
        self.note(|| format!("VIOLATED: {what}"));
        if !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }

    pub(crate) fn situation(&mut self, name: &'static str) {
        self.counts.add("situation", name);
    }

    /// Notes what happened, for whoever replays the schedule.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Whether the cache may answer as if it were empty from now on, for a while.
    pub(crate) fn may_answer_as_empty(&mut self, now_ms: i64) -> bool {
        let may = self.answered_as_empty_ms.is_none_or(|last| now_ms - last > BETWEEN_EMPTY_ANSWERS_MS);
        if may {
            self.answered_as_empty_ms = Some(now_ms);
        }
        may
    }

    pub(crate) fn record(&mut self, id: RecordId) -> &mut Known {
        self.records.entry(id).or_default()
    }

    /// Notes that a record is accepted now, by an open record or a marker.
    pub(crate) fn accepted(&mut self, record: &OpenRecord, claim: Option<&ClaimRequest>) {
        let known = self.record(record.id());
        known.accepted.get_or_insert(record.message.payload.sha256);
        known.durability.get_or_insert(record.durability);
        if let Some(request) = claim {
            known.key = Some(request.key);
            known.claimed_until = Some(request.claim.expires_at);
        }
    }

    /// Notes a publication. Whatever is published under one id must be the same.
    pub(crate) fn published(&mut self, notification: &Notification) {
        self.publications += 1;
        let id = notification.body["id"].as_str().unwrap_or_default().to_owned();
        let place = self.publications;
        let body = &notification.body;
        match self.published.get(&id) {
            None => {
                self.published.insert(id, Published { place, body: body.clone() });
            }
            Some(first) => {
                let differs = first.body != *body;
                let first = differs.then(|| first.body.to_string());
                self.counts.add("situation", "announced again");
                if let Some(first) = first {
                    self.note(|| format!("first {first}\n now  {body}"));
                    self.violated(format!("{id} was published with two contents"));
                }
            }
        }
    }
}
