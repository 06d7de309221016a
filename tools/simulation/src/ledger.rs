//! The ledger: records what happened in the simulation, independently of what the stores report.
//!
//! Every effect is entered when it is done, even if its caller never receives the answer. What must never happen is
//! checked at that moment. What must have happened at the end is checked by [`crate::invariants`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use custody_core::{
    attempt::Attempt,
    clock::Timestamp,
    digest::Sha256,
    idempotency::{Claim, IdempotencyKey},
    notification::Notification,
    open_record::OpenRecord,
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

/// The facts about a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordFacts {
    /// The digest of the accepted payload; `None` before the acceptance.
    pub(crate) accepted: Option<Sha256>,
    pub(crate) durability: Option<Durability>,
    pub(crate) key: Option<IdempotencyKey>,
    /// The time until which the key belongs to the record at least.
    pub(crate) claimed_until: Option<Timestamp>,
    /// Whether all nodes with the payload were lost, at a durability level that does not survive such a loss.
    pub(crate) is_lost: bool,
    /// Whether the cache has ever answered as if it were empty while it had the payload.
    pub(crate) was_temporarily_absent: bool,
    /// The time at which the record was last closed, and the attempt in which it was closed.
    pub(crate) closed: Option<(i64, Attempt)>,
    /// Whether an operator has discarded the record.
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

/// The facts about a whole schedule.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) violations: Vec<String>,
    pub(crate) records: BTreeMap<RecordId, RecordFacts>,
    pub(crate) receipts: Vec<Acknowledged>,
    pub(crate) published: BTreeMap<String, Published>,
    pub(crate) publications: usize,
    pub(crate) counts: Counts,
    pub(crate) trace: Option<Vec<String>>,
    /// The last time at which the cache began to answer as if it were empty.
    pub(crate) answered_as_empty_ms: Option<i64>,
}

/// The minimum time between two starts of a period in which the cache answers as if it were empty.
const MIN_INTERVAL_OF_EMPTY_ANSWERS_MS: i64 = 15 * 60_000;

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

    /// Adds a line to the trace, for a person who replays the schedule.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(line());
        }
    }

    /// Returns whether the cache may begin to answer as if it were empty. If it may, notes the time.
    pub(crate) fn may_answer_as_empty(&mut self, now_ms: i64) -> bool {
        let may =
            self.answered_as_empty_ms.is_none_or(|last| now_ms - last > MIN_INTERVAL_OF_EMPTY_ANSWERS_MS);
        if may {
            self.answered_as_empty_ms = Some(now_ms);
        }
        may
    }

    pub(crate) fn record(&mut self, id: RecordId) -> &mut RecordFacts {
        self.records.entry(id).or_default()
    }

    /// Notes the acceptance of a record, by an open record or a marker.
    pub(crate) fn accepted(&mut self, record: &OpenRecord, claim: Option<&Claim>) {
        let known = self.record(record.id());
        known.accepted.get_or_insert(record.message.payload.sha256);
        known.durability.get_or_insert(record.durability);
        if let Some(claim) = claim {
            known.key = record.key;
            known.claimed_until = Some(claim.expires_at);
        }
    }

    /// Notes a publication. All publications under one id must have the same content.
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
