//! Which dead letters are meant.

use clap::Args;
use custody_core::clock::Timestamp;

use crate::{arguments::parse_time, queue::Held};

/// A choice of dead letters.
#[derive(Args, Clone, Debug, Default)]
#[group(required = true, multiple = true)]
pub(crate) struct Selection {
    /// All of them.
    #[arg(long)]
    all: bool,
    /// These records, by messageID; for requests, their request id.
    #[arg(long, value_name = "ID", num_args = 1..)]
    id: Vec<String>,
    /// Those that failed in this stage (`archive`, `metadata`, `aggregate`, `ingest`, …).
    #[arg(long)]
    stage: Option<String>,
    /// Those that failed for this kind of reason: Transient, Invalid, Conflict, Internal.
    #[arg(long, ignore_case = true)]
    kind: Option<String>,
    /// Those that failed since then: an RFC 3339 time, or so long ago (`2h`, `30min`, `1d`).
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    since: Option<Timestamp>,
}

impl Selection {
    /// The dead letter of one id.
    pub(crate) fn of_id(id: &str) -> Self {
        Self { id: vec![id.to_owned()], ..Self::default() }
    }

    /// Whether a dead letter is meant.
    pub(crate) fn selects(&self, held: &Held) -> bool {
        let text_is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(found))
        };
        (self.id.is_empty() || self.id.iter().any(|id| held.is_called(id)))
            && text_is(&self.stage, held.stage())
            && text_is(&self.kind, &held.kind())
            && self.since.is_none_or(|since| held.failed_at() >= since)
    }

    /// Whether nothing that has not been seen can be meant.
    pub(crate) fn is_exhausted_by(&self, seen: &[Held]) -> bool {
        !self.id.is_empty() && self.missing(seen).is_empty()
    }

    /// The ids that no dead letter of `seen` has.
    pub(crate) fn missing<'a>(&'a self, seen: &[Held]) -> Vec<&'a str> {
        let missing = self.id.iter().filter(|id| !seen.iter().any(|held| held.is_called(id)));
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
    fn a_dead_letter_is_meant_by_every_condition_that_is_given() {
        let message = samples::message(b"payload");
        let failure = contract::failure_of(&message);
        let failed_at = failure.failed_at;
        let letter = DeadLetter::of_record(&message, failure, Vec::new());
        let held = Held::of("sqs-1", serde_json::to_string(&letter).unwrap(), failed_at);
        let id = message.message_id.to_string();
        let all = Selection { all: true, ..Selection::default() };
        assert!(all.selects(&held) && !all.is_exhausted_by(std::slice::from_ref(&held)));
        for id in [id.as_str(), "sqs-1"] {
            let one = Selection::of_id(id);
            assert!(one.selects(&held) && one.is_exhausted_by(std::slice::from_ref(&held)));
        }
        let matching = Selection {
            stage: Some("Archive".to_owned()),
            kind: Some("internal".to_owned()),
            since: Some(failed_at),
            ..Selection::default()
        };
        assert!(matching.selects(&held));
        let later = Timestamp::from_unix_ms(failed_at.unix_ms() + 1);
        for other in [
            Selection { stage: Some("metadata".to_owned()), ..matching.clone() },
            Selection { kind: Some("Transient".to_owned()), ..matching.clone() },
            Selection { since: later, ..matching.clone() },
            Selection { id: vec!["other".to_owned()], ..matching },
        ] {
            assert!(!other.selects(&held), "{other:?}");
        }
        assert_eq!(Selection::of_id("other").missing(&[held]), ["other"]);
    }
}
