//! The evidence of discards: which records an operator has discarded, at which attempt, and how they had failed.

use std::collections::BTreeMap;

use custody_core::{
    attempt::Attempt,
    dead_letter::DeadLetter,
    message::InternalMessage,
    ports::{Discard, FailedStore as _},
    record_id::RecordId,
    schema,
    stored_names::{DECISION_SUFFIX, decision_key},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{deployment::Deployment, dlq::DiscardResult, pace::retry_transient, progress::Progress};

/// The evidence of one discard.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The attempt that was discarded.
    pub(super) attempt: Attempt,
    pub(super) discard: Discard,
    pub(super) dead_letter: DeadLetter,
    /// The record, as the dead letter describes it.
    pub(super) message: InternalMessage,
}

/// The JSON form of the evidence of a discard in the failed bucket.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    discarded: Discard,
    dead_letter: Value,
}

/// All evidence of discards.
#[derive(Debug, Default)]
pub(super) struct AllEvidence {
    /// The newest discard of each record that was discarded.
    pub(super) of_discards: BTreeMap<RecordId, Evidence>,
    /// The records whose discard has no stored decision: the command broke off, so it is not known whether they were discarded.
    pub(super) without_decision: BTreeMap<RecordId, String>,
    /// The keys of objects that cannot be read, with the reasons. Nobody knows which records they concern.
    pub(super) unreadable: Vec<(String, String)>,
}

/// Reads the evidence of all discards.
pub(super) async fn read_all(deployment: &Deployment, progress: &Progress) -> anyhow::Result<AllEvidence> {
    let (listing, store) = (deployment.evidence_listing()?, deployment.failed_store()?);
    let (mut found, mut decisions) = (Vec::new(), BTreeMap::new());
    let mut all = AllEvidence::default();
    let mut after: Option<String> = None;
    loop {
        let page = retry_transient(async || listing.page(after.as_deref()).await).await?;
        for object in &page.objects {
            let key = object.key.clone();
            let content = retry_transient(async || store.fetch(&key).await).await?;
            let Some(content) = content else { continue };
            if key.ends_with(DECISION_SUFFIX) {
                decisions.insert(key, serde_json::from_slice::<Decision>(&content).ok());
            } else {
                match read(&content) {
                    Ok(Some(evidence)) => found.push((key, evidence)),
                    // Of a request that never became a record.
                    Ok(None) => {}
                    Err(error) => all.unreadable.push((key, error)),
                }
            }
            progress.advance(1);
        }
        match page.objects.last() {
            Some(last) if page.truncated => after = Some(last.key.clone()),
            _ => break,
        }
    }
    all.join(found, &decisions);
    Ok(all)
}

impl AllEvidence {
    /// Joins evidence with the decisions that are stored beside it, both by key.
    fn join(&mut self, found: Vec<(String, Evidence)>, decisions: &BTreeMap<String, Option<Decision>>) {
        for (key, evidence) in found {
            match decisions.get(&decision_key(&key)) {
                Some(Some(Decision { decision })) if decision == <&str>::from(DiscardResult::Discarded) => {
                    keep_newest(&mut self.of_discards, evidence);
                }
                // The record was complete, or discarded before, or at a later attempt.
                Some(Some(_)) => {}
                Some(None) | None => {
                    self.without_decision.insert(evidence.attempt.record, key);
                }
            }
        }
        // A command that broke off may have been repeated.
        self.without_decision.retain(|id, _| !self.of_discards.contains_key(id));
    }
}

/// What a discard has decided.
#[derive(Deserialize)]
struct Decision {
    decision: String,
}

fn keep_newest(newest: &mut BTreeMap<RecordId, Evidence>, evidence: Evidence) {
    let known = newest.entry(evidence.attempt.record).or_insert_with(|| evidence.clone());
    // Of two discards of one attempt, the first one counts: it made the decision.
    let is_newer = (evidence.attempt, known.discard.at) > (known.attempt, evidence.discard.at);
    if is_newer {
        *known = evidence;
    }
}

/// Reads one object of evidence; `None` if it is of no record.
fn read(content: &[u8]) -> Result<Option<Evidence>, String> {
    let stored: Stored = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    // A message that is not Custody's was discarded as it was, and a rejected request never became a record.
    if stored.dead_letter["messageID"].is_null() {
        return Ok(None);
    }
    let read = |what: &Value| schema::read(what.to_string().as_bytes(), "read the evidence of a discard");
    let dead_letter: DeadLetter = read(&stored.dead_letter).map_err(|error| error.to_string())?;
    let Some(attempt) = dead_letter.attempt() else { return Ok(None) };
    let message =
        schema::read(dead_letter.request.to_string().as_bytes(), "read the message of a discarded record");
    let message = message.map_err(|error| error.to_string())?;
    Ok(Some(Evidence { attempt, discard: stored.discarded, dead_letter, message }))
}

#[cfg(test)]
mod tests {
    use custody_core::testing::{contract, samples};
    use serde_json::json;

    use super::*;

    fn evidence_of(message: &InternalMessage, seconds: u64) -> Evidence {
        let dead_letter = DeadLetter::of_record(message, contract::failure_of(message), Vec::new());
        let at = message.received_at.after(std::time::Duration::from_secs(seconds));
        let discard = Discard { by: "operator".to_owned(), at, reason: format!("after {seconds} s") };
        let stored = json!({"discarded": discard, "deadLetter": dead_letter});
        read(stored.to_string().as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn the_newest_attempt_and_its_first_discard_count() {
        let first = samples::message(b"payload");
        let second = samples::redriven(&first);
        let evidence = [evidence_of(&first, 9), evidence_of(&second, 20), evidence_of(&second, 30)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut newest = BTreeMap::new();
            for i in order {
                keep_newest(&mut newest, evidence[i].clone());
            }
            let known = &newest[&first.message_id];
            assert_eq!((known.attempt, known.discard.reason.as_str()), (second.attempt(), "after 20 s"));
        }
    }

    #[test]
    fn evidence_of_no_record_is_left_out_and_broken_evidence_is_an_error() {
        let discard = json!({"by": "operator", "at": "2026-05-13T03:04:00Z", "reason": "noise"});
        let of_text = json!({"discarded": discard, "deadLetter": "hello"});
        assert!(read(of_text.to_string().as_bytes()).unwrap().is_none());
        let newer = json!({"discarded": discard, "deadLetter": {"messageID": "x", "schemaVersion": 2}});
        for broken in ["{}".to_owned(), newer.to_string()] {
            assert!(read(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn evidence_counts_only_with_the_decision_that_the_record_was_discarded() {
        let message = samples::message(b"payload");
        let id = message.message_id;
        for (decision, is_discarded, is_open_question) in
            [(Some("discarded"), true, false), (Some("nothing-to-decide"), false, false), (None, false, true)]
        {
            let key = "discarded/2026/05/13/m-1.json".to_owned();
            let decided = decision.map(|decision| Decision { decision: decision.to_owned() });
            let decisions: BTreeMap<_, _> =
                decided.map(|it| (decision_key(&key), Some(it))).into_iter().collect();
            let mut all = AllEvidence::default();
            all.join(vec![(key, evidence_of(&message, 9))], &decisions);
            assert_eq!(all.of_discards.contains_key(&id), is_discarded, "{decision:?}");
            assert_eq!(all.without_decision.contains_key(&id), is_open_question, "{decision:?}");
        }
    }
}
