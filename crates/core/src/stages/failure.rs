//! Failure: keeps what can be kept and says why, for a record whose workflow failed and for a request that
//! ingest could not take.

mod input;
mod payload;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{error, warn};

pub use self::input::{Explanation, FailedRecord, FailureInput, SalvagedRequest};
use self::payload::Kept;
pub use self::payload::kept_key;
use crate::{
    backoff,
    clock::{Clock, Timestamp},
    dead_letter::{DeadLetter, FailureSummary, StageFailure},
    digest::Sha256,
    error::{ErrorKind, ErrorName, StageError},
    message::S3Reference,
    notification::Notification,
    ports::{
        DeadLetters, FailedItem, FailedStore, Notifier, PayloadArchive, PayloadCache, PendingMarkers,
        RecordTable, Redrives,
    },
    record_id::RecordId,
    rejected_request,
    stages::aggregate,
};

/// The failures of this stage that are worth another try. The state machine's retries name exactly these.
pub const TRANSIENT: &[ErrorName] = &[
    ErrorName::ArchiveUnavailable,
    ErrorName::CacheUnavailable,
    ErrorName::FailedStoreUnavailable,
    ErrorName::QueueUnavailable,
];

/// What the failure function did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReceipt {
    /// The record, where there is one.
    #[serde(rename = "messageID")]
    pub message_id: Option<RecordId>,
    /// Where the bytes are now.
    pub payload_reference: Option<S3Reference>,
    /// When.
    pub failed_at: Timestamp,
    /// Whether everything was done. Where it was not, the record stays pending and reconcile does the rest.
    pub finished: bool,
}

/// How often a record is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// Whether transient failures are redriven without a person's word.
    pub automatic: bool,
    /// After how many redrives a record waits for a person who insists.
    pub max_attempts: u32,
}

impl Default for RedrivePolicy {
    /// As the template has it.
    fn default() -> Self {
        Self { automatic: false, max_attempts: 3 }
    }
}

impl RedrivePolicy {
    /// Whether a record whose run number `attempt` failed has used up its redrives.
    pub const fn exhausted(self, attempt: u32) -> bool {
        attempt > self.max_attempts
    }
}

/// The failure stage over its ports.
#[derive(Debug)]
pub struct Failure<C, A, M, T, F, D, R, N, K> {
    /// May still have the payload.
    pub cache: C,
    /// May have it already.
    pub archive: A,
    /// Holds the marker of a record that never was in the cache.
    pub markers: M,
    /// Gets the state `FAILED`.
    pub table: T,
    /// Keeps payloads and requests.
    pub failed_store: F,
    /// Gets the explanation.
    pub dead_letters: D,
    /// Gets it instead, where the record is to run again by itself.
    pub redrives: R,
    /// Tells subscribers.
    pub notifier: N,
    /// Tells the time.
    pub clock: K,
    /// The deployment's CloudEvents source.
    pub event_source: String,
    /// When that is.
    pub policy: RedrivePolicy,
}

impl<C, A, M, T, F, D, R, N, K> Failure<C, A, M, T, F, D, R, N, K>
where
    C: PayloadCache,
    A: PayloadArchive,
    M: PendingMarkers,
    T: RecordTable,
    F: FailedStore,
    D: DeadLetters,
    R: Redrives,
    N: Notifier,
    K: Clock,
{
    /// Handles one failure. Every step may be repeated.
    ///
    /// The run fails, and is tried again, where the payload could not be secured for now or the dead letter could not
    /// be sent. Anything else that cannot be done is said in the dead letter, and the record stays pending, so that
    /// the whole is done again later.
    pub async fn run(&self, input: FailureInput) -> Result<FailureReceipt, StageError> {
        match input {
            FailureInput::Record(record) => self.fail_record(*record).await,
            FailureInput::Request(request) => self.keep_request(request).await,
        }
    }

    async fn fail_record(&self, record: FailedRecord) -> Result<FailureReceipt, StageError> {
        let FailedRecord { mut message, archive, metadata, failures, execution_arn, explanation } = record;
        let (id, run) = (message.message_id, message.run());
        // What an operator must know that could not be done; a record with such a rest stays pending.
        let mut unfinished = Vec::new();

        // First the bytes: the cache forgets them in time, everything after this only talks about them.
        let kept = match archive {
            Some(receipt) => Kept::Archived(receipt.s3_reference),
            None => self.secure_payload(&message, &mut unfinished).await?,
        };

        let was_marked = message.storage_context.redis_reference.is_none();
        let context = &mut message.storage_context;
        context.redis_reference = None;
        context.s3_reference = kept.archived().cloned();
        context.persistence.s3 = context.s3_reference.is_some();
        context.persistence.meta_data = metadata.is_some();
        context.meta_data_reference = metadata.map(|receipt| receipt.meta_data_reference);

        let mut summary = FailureSummary::new(failures, run.attempt(), self.clock.now(), execution_arn);
        summary.payload_reference = kept.reference().cloned();
        let failed_at = summary.failed_at;
        error!(
            record.id = %id,
            stage = summary.stage,
            error.name = summary.error_name,
            reason = summary.reason,
            "record failed"
        );

        // A table that cannot be written is often why the record failed: the letter must come all the same.
        let mut remarks = Vec::new();
        match self.table.fail(&message, &summary).await {
            Ok(FailedItem::Marked) => {}
            Ok(FailedItem::AlreadyCompleted) => {
                remarks.push("the record is COMPLETED; only its announcement failed".to_owned());
            }
            // A run that is done with twice, late: the later run's letter is the one that counts.
            Ok(FailedItem::Superseded) => {
                aggregate::settle(&self.cache, &self.markers, run, was_marked).await;
                let payload_reference = summary.payload_reference;
                return Ok(FailureReceipt {
                    message_id: Some(id),
                    payload_reference,
                    failed_at,
                    finished: true,
                });
            }
            Err(error) => unfinished
                .push(format!("the item could not be marked FAILED ({}: {error})", error.name.as_str())),
        }
        if remarks.is_empty()
            && let Err(error) =
                self.notifier.publish(&Notification::failed(&self.event_source, &message, &summary)).await
        {
            unfinished.push(format!("`failed` could not be announced ({}: {error})", error.name.as_str()));
        }
        if matches!(kept, Kept::Nowhere) {
            remarks.push("the payload is in no store; only the producer can send it again".to_owned());
        }

        let finished = unfinished.is_empty();
        let payload_reference = summary.payload_reference.clone();
        let owed = match explanation {
            Explanation::Now => true,
            Explanation::WhenFinished => finished,
            Explanation::Given => false,
        };
        if owed {
            remarks.extend(unfinished);
            self.explain(DeadLetter::of_record(&message, summary, remarks)).await?;
        } else {
            warn!(record.id = %id, ?unfinished, "left a failure to be finished later");
        }
        if finished {
            aggregate::settle(&self.cache, &self.markers, run, was_marked).await;
        }
        Ok(FailureReceipt { message_id: Some(id), payload_reference, failed_at, finished })
    }

    /// Hands the letter to operators, or straight to the redrive queue, whose dead-letter queue is theirs.
    async fn explain(&self, mut letter: DeadLetter) -> Result<(), StageError> {
        letter.parked = self.policy.exhausted(letter.failure.attempt);
        let worthwhile =
            letter.failure.kind == ErrorKind::Transient && letter.failure.payload_reference.is_some();
        match letter.run() {
            Some(run) if self.policy.automatic && worthwhile && !letter.parked => {
                self.redrives.schedule(&letter, backoff::delay_after(run)).await
            }
            _ => self.dead_letters.send(&letter).await,
        }
    }

    async fn keep_request(&self, request: SalvagedRequest) -> Result<FailureReceipt, StageError> {
        let failed_at = request.refused_at;
        // The id makes a repetition land on the same object.
        let name = request
            .request_id
            .clone()
            .unwrap_or_else(|| Sha256::of(request.event.get().as_bytes()).to_string());
        let key = format!("requests/{}/{}.json", failed_at.format("%Y/%m/%d/%H/%M"), file_name(&name));
        let reference =
            self.failed_store.keep(&key, Bytes::from(String::from(Box::<str>::from(request.event)))).await?;

        let failure = StageFailure {
            stage: "ingest".to_owned(),
            error_name: request.error_name.clone(),
            cause: request.reason.clone(),
            tries: 1,
        };
        let mut summary = FailureSummary::new(vec![failure], 1, failed_at, None);
        summary.kind = rejected_request::kind_of_problem(&request.error_name);
        summary.payload_reference = Some(reference.clone());
        let known = json!({"requestId": request.request_id, "refusedAt": failed_at});
        self.dead_letters.send(&DeadLetter::of_request(known, summary)).await?;
        warn!(request.id = request.request_id, error.name = request.error_name, "kept refused request");
        Ok(FailureReceipt { message_id: None, payload_reference: Some(reference), failed_at, finished: true })
    }
}

/// A request id as part of an object key: API Gateway's are UUIDs, a direct caller's may be anything.
fn file_name(id: &str) -> String {
    id.chars().take(128).map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
