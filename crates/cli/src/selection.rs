//! The options that select dead letters and rejected requests.

use clap::Args;
use custody_core::{clock::Timestamp, nearest::nearest};

use crate::{arguments::parse_time, queue::ReceivedMessage};

/// Selects the messages that match every given option.
#[derive(Args, Clone, Debug, Default)]
#[group(required = true, multiple = true, args = ["all", "id", "stage", "kind", "since"])]
pub(crate) struct Selection {
    /// Select everything: every message on the queue and, for a redrive, every failed record.
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Select by id: the messageID of a record, or the id of a request.
    #[arg(long, value_name = "ID", num_args = 1..)]
    id: Vec<String>,
    #[command(flatten)]
    filter: Filter,
}

/// Selects failures that match every given option.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Select by the stage that failed (`archive`, `metadata`, `aggregate`, `ingest`, …).
    #[arg(long, value_parser = parse_stage, value_name = "STAGE")]
    stage: Option<String>,
    /// Select by the kind of the error: Transient, Invalid, Conflict, Internal; Foreign: not of Custody.
    #[arg(long, value_parser = parse_kind, value_name = "KIND")]
    kind: Option<String>,
    /// Select by failures at or after this time: RFC 3339, or a duration before now (`2h`, `30min`, `1d`).
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
}

impl Filter {
    /// Returns whether no option is given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns whether a message matches every given option.
    pub(crate) fn selects(&self, held: &ReceivedMessage) -> bool {
        self.selects_failure(held.stage(), &held.kind(), held.failed_at())
    }

    /// Returns whether a failure matches every given option.
    pub(crate) fn selects_failure(&self, stage: &str, kind: &str, failed_at: Timestamp) -> bool {
        let text_is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(found))
        };
        text_is(&self.stage, stage)
            && text_is(&self.kind, kind)
            && self.since.is_none_or(|since| failed_at >= since)
    }
}

/// The stages that a dead letter names; `workflow`: no stage reported the failure.
const STAGES: [&str; 6] = ["ingest", "archive", "metadata", "aggregate", "workflow", "unknown"];
/// The kinds that a dead letter names; `Foreign`: the message is not one of Custody.
const KINDS: [&str; 5] = ["Transient", "Invalid", "Conflict", "Internal", "Foreign"];

fn parse_stage(text: &str) -> Result<String, String> {
    known(text, "stage", &STAGES)
}

fn parse_kind(text: &str) -> Result<String, String> {
    known(text, "kind", &KINDS)
}

/// Returns the known name that `text` is, in any case. A name that no dead letter has would select nothing, without notice.
fn known(text: &str, what: &str, names: &[&str]) -> Result<String, String> {
    names.iter().find(|name| name.eq_ignore_ascii_case(text)).map(|name| (*name).to_owned()).ok_or_else(
        || {
            let meant =
                nearest(text, names).map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
            format!("there is no such {what}{meant}; known are {}", names.join(", "))
        },
    )
}

impl Selection {
    /// Builds the selection of one id.
    pub(crate) fn of_id(id: &str) -> Self {
        Self { id: vec![id.to_owned()], ..Self::default() }
    }

    /// Returns whether messages are selected by their ids.
    pub(crate) const fn is_by_id(&self) -> bool {
        !self.id.is_empty()
    }

    /// Returns whether a message matches every given option.
    pub(crate) fn selects(&self, held: &ReceivedMessage) -> bool {
        (!self.is_by_id() || self.id.iter().any(|id| held.has_id(id))) && self.filter.selects(held)
    }

    /// Returns whether a failure matches every given option but `--id`.
    pub(crate) fn selects_failure(&self, stage: &str, kind: &str, failed_at: Timestamp) -> bool {
        self.filter.selects_failure(stage, kind, failed_at)
    }

    /// Returns whether the selection is by id and `seen` has a message for each id. Then the rest of the queue need not
    /// be read.
    pub(crate) fn all_ids_found_in(&self, seen: &[ReceivedMessage]) -> bool {
        self.is_by_id() && self.missing(seen).is_empty()
    }

    /// Returns the selected ids for which `seen` has no message.
    pub(crate) fn missing<'a>(&'a self, seen: &[ReceivedMessage]) -> Vec<&'a str> {
        let missing = self.id.iter().filter(|id| !seen.iter().any(|held| held.has_id(id)));
        missing.map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use custody_core::{
        dead_letter::DeadLetter,
        testing::{contract, samples},
    };

    use super::*;

    #[test]
    fn a_stage_or_kind_that_does_not_exist_is_an_error_with_the_one_that_was_meant() {
        assert_eq!(parse_stage("Archive").as_deref(), Ok("archive"));
        assert_eq!(parse_kind("transient").as_deref(), Ok("Transient"));
        assert!(parse_stage("archiv").unwrap_err().contains("did you mean `archive`?"));
        assert!(parse_kind("Internl").unwrap_err().contains("did you mean `Internal`?"));
        assert!(
            parse_stage("cache")
                .unwrap_err()
                .ends_with("known are ingest, archive, metadata, aggregate, workflow, unknown")
        );
    }

    #[test]
    fn a_dead_letter_is_selected_if_it_matches_every_option() {
        let message = samples::message(b"payload");
        let failure = contract::failure_of(&message);
        let failed_at = failure.failed_at;
        let dead_letter = DeadLetter::of_record(&message, failure, Vec::new());
        let held = ReceivedMessage::of("sqs-1", serde_json::to_string(&dead_letter).unwrap(), failed_at);
        let id = message.message_id.to_string();
        let all = Selection { all: true, ..Selection::default() };
        assert!(all.selects(&held) && !all.all_ids_found_in(std::slice::from_ref(&held)));
        for id in [id.as_str(), "sqs-1"] {
            let one = Selection::of_id(id);
            assert!(one.selects(&held) && one.all_ids_found_in(std::slice::from_ref(&held)));
        }
        let filter = Filter {
            stage: Some("Archive".to_owned()),
            kind: Some("internal".to_owned()),
            since: Some(failed_at),
        };
        let matching = Selection { filter: filter.clone(), ..Selection::default() };
        assert!(matching.selects(&held) && !filter.is_empty() && Filter::default().is_empty());
        let later = Timestamp::from_unix_ms(failed_at.unix_ms() + 1);
        for other in [
            Filter { stage: Some("metadata".to_owned()), ..filter.clone() },
            Filter { kind: Some("Transient".to_owned()), ..filter.clone() },
            Filter { since: later, ..filter },
        ] {
            let selection = Selection { filter: other, ..Selection::default() };
            assert!(!selection.selects(&held), "{selection:?}");
        }
        assert!(!Selection { id: vec!["other".to_owned()], ..matching }.selects(&held));
        assert_eq!(Selection::of_id("other").missing(&[held]), ["other"]);
    }
}
