//! The evidence of discards: which records an operator has discarded, at which attempt, and how they had failed.

use std::collections::BTreeMap;

use custody_core::{
    attempt::Attempt,
    dead_letter::DeadLetter,
    message::InternalMessage,
    ports::{Discard, FailedStore as _},
    record_id::RecordId,
};
use serde::Deserialize;

use crate::{deployment::Deployment, pace::retry_transient, progress::Progress};

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

/// The stored form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    discarded: Discard,
    dead_letter: serde_json::Value,
}

/// Reads the evidence of all discarded records: the newest attempt of each, and keys of objects that could not be read with
/// the reasons.
pub(super) async fn read_all(
    deployment: &Deployment,
    progress: &Progress,
) -> anyhow::Result<(BTreeMap<RecordId, Evidence>, Vec<(String, String)>)> {
    let (listing, store) = (deployment.evidence_listing()?, deployment.failed_store()?);
    let (mut newest, mut unreadable) = (BTreeMap::<RecordId, Evidence>::new(), Vec::new());
    let mut after: Option<String> = None;
    loop {
        let page = retry_transient(async || listing.page(after.as_deref()).await).await?;
        for object in &page.objects {
            let content = retry_transient(async || store.fetch(&object.key).await).await?;
            match content.as_deref().map(read) {
                Some(Ok(Some(evidence))) => keep_newest(&mut newest, evidence),
                Some(Err(error)) => unreadable.push((object.key.clone(), error.to_string())),
                // Deleted meanwhile, or of a request that never became a record.
                None | Some(Ok(None)) => {}
            }
            progress.advance(1);
        }
        match page.objects.last() {
            Some(last) if page.truncated => after = Some(last.key.clone()),
            _ => return Ok((newest, unreadable)),
        }
    }
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
fn read(content: &[u8]) -> serde_json::Result<Option<Evidence>> {
    let stored: Stored = serde_json::from_slice(content)?;
    // A message that is not Custody's was discarded as text.
    let Ok(dead_letter) = serde_json::from_value::<DeadLetter>(stored.dead_letter) else { return Ok(None) };
    let Some(attempt) = dead_letter.attempt() else { return Ok(None) };
    let message = serde_json::from_value(dead_letter.request.clone())?;
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
        assert!(read(b"{}").is_err());
    }
}
