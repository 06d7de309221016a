//! `custody trace`: shows one record, with what each store and Step Functions have of it.

mod executions;
mod payload;
mod text;

use custody_core::{
    clock::{Clock as _, SystemClock, Timestamp},
    lookup::look_up,
    open_record::{OpenRecord, OpenState},
    receipt::Durability,
    record_id::{InvalidRecordId, RecordId},
    redrive_policy::RedrivePolicy,
};
use serde::Serialize;
use serde_json::Value;

use self::{
    executions::Executions,
    payload::{Cached, Payload},
};
use crate::{
    CommandOutcome,
    deployment::Deployment,
    dlq::list,
    output::{Output, plain_error},
    queue::{self, Queue},
};

/// Output of `custody trace`: everything that is known of a record.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    #[serde(rename = "messageID")]
    message_id: RecordId,
    received_at: Timestamp,
    /// Whether the record has an acceptance marker that is not adopted yet.
    marker: bool,
    /// The open record; null where the record is closed, or is not adopted yet.
    open: Option<Open>,
    /// The item, without metadata and security context; null if the record has no item.
    item: Value,
    /// The executions; null if they could not be read.
    executions: Option<Executions>,
    /// The places of the payload; null if S3 could not be read.
    payload: Option<Payload>,
    /// The parts that could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_known: Vec<NotKnown>,
    /// How many redrives of the deployment wait, of this record or of others; null if the caller may not ask, or the record is not failed.
    redrives_waiting: Option<u64>,
}

/// A part of a record that is read from a store of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
enum Part {
    Marker,
    OpenRecord,
    Item,
    Executions,
    Payload,
}

/// A part of a record that could not be read.
#[derive(Debug, Serialize)]
struct NotKnown {
    part: Part,
    why: String,
}

/// An open record, without its message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Open {
    attempt: u32,
    begun_at: Timestamp,
    starts: u32,
    started_at: Timestamp,
    looks: u32,
    look_at: Timestamp,
    durability: Durability,
    missing_since: Option<Timestamp>,
    /// When the redrive is due that somebody has asked for.
    redrive_at: Option<Timestamp>,
    /// Whether its redrives are used up: only `--force` redrives it.
    parked: bool,
    state: OpenState,
}

/// A record, or a request that never became one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Record(RecordId),
    /// The id of a request, as API Gateway gives it: a rejected request never became a record.
    Request(String),
}

/// Reads a messageID, or the `instance` of a problem, with or without `urn:custody:request:`.
pub(crate) fn parse_subject(text: &str) -> Result<Subject, String> {
    let text = text.trim();
    let id = text.trim_start_matches("urn:custody:request:");
    match id.to_ascii_lowercase().parse() {
        Ok(record) => return Ok(Subject::Record(record)),
        Err(error @ InvalidRecordId::Length(_)) if id == text => return Err(error.to_string()),
        Err(_) => {}
    }
    let is_of_request = id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_of_request.then(|| Subject::Request(id.to_owned())).ok_or_else(|| {
        "give the messageID of a receipt (a UUID that begins with the time), or the `instance` of a problem".to_owned()
    })
}

pub(crate) async fn run(
    deployment: &Deployment,
    output: Output,
    subject: Subject,
) -> anyhow::Result<CommandOutcome> {
    match subject {
        Subject::Record(id) => trace_record(deployment, output, id).await,
        Subject::Request(id) => find_request(deployment, output, &id).await,
    }
}

/// Shows a request that was rejected, or that no store could accept.
async fn find_request(deployment: &Deployment, output: Output, id: &str) -> anyhow::Result<CommandOutcome> {
    for mut queue in [deployment.rejected_queue()?, deployment.dead_letter_queue()?] {
        let find = async |queue: &mut Queue| list::find(deployment, queue, output, id).await;
        if queue::released(&mut queue, find).await? {
            return Ok(CommandOutcome::Complete);
        }
    }
    output.complain(&format!(
        "there is no request {id} on the queue of rejected requests, which lists for 14 days what ingest rejects and nobody has discarded, nor among \
         the dead letters; `custody logs FUNCTION --contains {id}` searches the log of the function that refused it: ingest (403), upload or query. A request that API Gateway itself refused (its API key, its rate) is nowhere"
    ));
    Ok(CommandOutcome::NotFound)
}

async fn trace_record(
    deployment: &Deployment,
    output: Output,
    id: RecordId,
) -> anyhow::Result<CommandOutcome> {
    // A store that cannot be read hides what it has, and nothing else.
    let mut not_known = Vec::new();
    let mut ask = Unread(&mut not_known);
    let found = look_up(&deployment.markers()?, &deployment.open_records()?, &deployment.table()?, id).await;
    let marker = ask.about(Part::Marker, found.marker);
    let open = ask.about(Part::OpenRecord, found.open).flatten();
    let state = ask.about(Part::Item, found.item).flatten();
    let item = match &state {
        Some(_) => ask.about(Part::Item, deployment.index()?.item_as_json(id).await).flatten(),
        None => None,
    };
    let item = item.map(without_content).unwrap_or_default();
    let attempts = KnownAttempts::known(open.as_ref(), &item);
    let executions = ask.about(Part::Executions, executions::find(deployment, id, attempts).await);
    let payload = payload::find(deployment, id, open.as_ref(), state.as_ref()).await;
    let mut payload = ask.about(Part::Payload, payload);
    if let Some(payload) = payload.as_mut().filter(|_| !not_known.is_empty()) {
        payload.cached = Cached::Unknown;
    }
    let is_failed = open.as_ref().is_some_and(|open| matches!(open.state, OpenState::Failed { .. }));
    let redrives_waiting = if is_failed { deployment.redrives_waiting().await } else { None };
    let policy = deployment.redrive_policy()?;
    let trace = Trace {
        message_id: id,
        received_at: id.received_at(),
        marker: marker.flatten().is_some(),
        open: open.map(|open| Open::of(open, policy, SystemClock.now())),
        item,
        executions,
        payload,
        redrives_waiting,
        not_known,
    };
    if let (false, Some(NotKnown { why, .. })) = (trace.is_known(), trace.not_known.first()) {
        anyhow::bail!(
            "the stores that can be read have nothing of record {id}, and others cannot be read: {why}"
        );
    }
    if !trace.is_known() {
        output.complain(&format!(
            "there is no record {id}: it has no marker, open record, item, execution or payload"
        ));
        return Ok(CommandOutcome::NotFound);
    }
    output.print(&trace, |trace| println!("{}", trace.text(SystemClock.now())))?;
    Ok(if trace.not_known.is_empty() { CommandOutcome::Complete } else { CommandOutcome::Partial })
}

/// Collects the parts that could not be read.
struct Unread<'a>(&'a mut Vec<NotKnown>);

impl Unread<'_> {
    /// Returns what was read of a part of the record; `None` if it could not be read.
    fn about<T, E: Into<anyhow::Error>>(&mut self, part: Part, answer: Result<T, E>) -> Option<T> {
        let note = |error: E| self.0.push(NotKnown { part, why: plain_error(&error.into()) });
        answer.map_err(note).ok()
    }
}

/// Removes the metadata and the security context from an item: only people with access to the table may see them.
fn without_content(mut item: Value) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.retain(|name, _| name != "messageMetaData" && name != "messageSecurityContext");
    }
    item
}

impl Open {
    fn of(open: OpenRecord, policy: RedrivePolicy, now: Timestamp) -> Self {
        let parked = match &open.state {
            OpenState::Failed { failure, .. } => policy.parks(&open.message, failure, now),
            OpenState::InProgress => false,
        };
        Self {
            parked,
            attempt: open.attempt().number(),
            begun_at: open.message.begun_at(),
            starts: open.starts,
            started_at: open.started_at,
            looks: open.looks,
            look_at: open.look_at,
            durability: open.durability,
            missing_since: open.missing_since,
            redrive_at: open.redrive_at,
            state: open.state,
        }
    }
}

/// Minimum numbers of a record's attempts, and of the starts of its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownAttempts {
    count: u32,
    last_starts: u32,
}

impl KnownAttempts {
    /// Reads the numbers from the open record, else from the item: from the redrive whose attempt completed the record,
    /// or from the failure.
    fn known(open: Option<&OpenRecord>, item: &Value) -> Self {
        let attempt = |field: &str| item[field]["attempt"].as_u64().and_then(|it| u32::try_from(it).ok());
        match open {
            Some(open) => Self { count: open.attempt().number(), last_starts: open.starts },
            None => Self { count: attempt("redrive").max(attempt("failure")).unwrap_or(0), last_starts: 0 },
        }
    }

    /// Returns the minimum number of starts of an attempt.
    fn starts_of(self, attempt: u32) -> u32 {
        match attempt.cmp(&self.count) {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => self.last_starts,
            std::cmp::Ordering::Greater => 0,
        }
    }
}

impl Trace {
    /// Whether this part could be read.
    fn knows(&self, part: Part) -> bool {
        !self.not_known.iter().any(|it| it.part == part)
    }

    fn is_known(&self) -> bool {
        self.marker
            || self.open.is_some()
            || !self.item.is_null()
            || self.executions.as_ref().is_some_and(|executions| !executions.list.is_empty())
            || self
                .payload
                .as_ref()
                .is_some_and(|payload| payload.archived.is_some() || payload.preserved.is_some())
    }
}

#[cfg(test)]
mod tests {
    use custody_core::testing::samples;
    use serde_json::json;

    use super::*;

    #[test]
    fn attempts_and_starts_are_read_from_the_open_record_or_else_from_the_failure() {
        let mut open = samples::open_record(&samples::redriven(&samples::message(b"payload")));
        open.starts = 3;
        let item = json!({"failure": {"attempt": 1}});
        let known = KnownAttempts::known(Some(&open), &item);
        assert_eq!([1, 2, 3].map(|attempt| known.starts_of(attempt)), [1, 3, 0]);
        let known = KnownAttempts::known(None, &item);
        assert_eq!([1, 2].map(|attempt| known.starts_of(attempt)), [0, 0]);
        let item = json!({"redrive": {"attempt": 3}, "failure": {"attempt": 2}});
        let known = KnownAttempts::known(None, &item);
        assert_eq!([1, 2, 3].map(|attempt| known.starts_of(attempt)), [1, 1, 0]);
        assert_eq!(KnownAttempts::known(None, &Value::Null), KnownAttempts { count: 0, last_starts: 0 });
    }

    #[test]
    fn a_record_and_a_request_are_told_apart() {
        let record = "019e1f4b-6c00-7abc-8def-0123456789ab";
        let request = "7a012fc8-7a3a-4681-b2ca-a0fb82b8c270";
        assert_eq!(parse_subject(record), Ok(Subject::Record(record.parse().unwrap())));
        assert_eq!(
            parse_subject(&record.to_uppercase()),
            parse_subject(record),
            "some tools write ids in capitals"
        );
        let expected = Ok(Subject::Request(request.to_owned()));
        assert_eq!(parse_subject(request), expected);
        assert_eq!(parse_subject(&format!("urn:custody:request:{request}")), expected);
        let other = Ok(Subject::Request("0123456789abcdef".to_owned()));
        assert_eq!(
            parse_subject("urn:custody:request:0123456789abcdef"),
            other,
            "it says that it is of a request"
        );
        for length in [3, 8, 13, 35] {
            let error = parse_subject(&record[..length]).unwrap_err();
            assert!(error.ends_with(&format!("has {length}")), "{error}");
        }
        for text in ["", "no id", "xyz", "s3://x/y"] {
            assert!(parse_subject(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_trace_has_neither_metadata_nor_security_context() {
        let item = serde_json::to_value(samples::message(b"payload")).unwrap();
        let shown = without_content(item);
        assert!(shown["payload"].is_object());
        assert!(shown.get("messageMetaData").is_none() && shown.get("messageSecurityContext").is_none());
    }
}
