//! What a redrive did, and what it left.

use std::time::Duration;

use serde::Serialize;

use super::wait;
use crate::output::{format_count, format_duration};

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    pub(super) dry_run: bool,
    /// The longest time until one of the attempts begins.
    #[serde(skip)]
    pub(super) longest_delay: Duration,
    pub(super) redriven: Vec<String>,
    /// Of the redriven records, those whose dead letters could not be read.
    pub(super) without_dead_letter: Vec<String>,
    /// Records that are complete, or at a later attempt than their dead letters: these dead letters are deleted.
    pub(super) stale: Vec<String>,
    /// Records with pending steps of their failures: reconcile completes these first.
    pub(super) pending: Vec<String>,
    /// Records that wait for a redrive that was asked for before.
    pub(super) waiting: Vec<String>,
    /// Parked records, which have used up their redrives: only `--force` redrives them.
    pub(super) parked: Vec<String>,
    /// Requests that never became records: their producers got no receipt and send the request again.
    pub(super) requests: Vec<String>,
    /// Messages that are not dead letters of Custody.
    pub(super) foreign: Vec<String>,
    pub(super) failed: Vec<String>,
    /// With `--wait`: what became of the redriven records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends: Option<wait::Ends>,
}

impl Summary {
    /// Whether some redriven records are not complete.
    pub(super) fn has_bad_ends(&self) -> bool {
        self.ends.as_ref().is_some_and(|ends| !ends.are_good())
    }

    /// Whether something that was selected is left as it is.
    pub(super) fn leaves_something(&self) -> bool {
        [&self.pending, &self.parked, &self.requests, &self.foreign, &self.failed]
            .iter()
            .any(|list| !list.is_empty())
    }

    /// The lines that a person reads.
    pub(super) fn text(&self) -> String {
        let verb = if self.dry_run { "would be redriven" } else { "sent to the redrive queue" };
        let mut lines =
            vec![format!("{} {verb}", format_count(self.redriven.len(), false, "record", "records"))];
        if self.dry_run {
            lines.extend(self.redriven.iter().map(|id| format!("  {id}")));
        } else if let Some(ends) = &self.ends {
            lines.extend(lines_of(ends));
        } else if !self.redriven.is_empty() {
            let when = if self.longest_delay == Duration::ZERO {
                "at once".to_owned()
            } else {
                format!("within {} (`custody failed` shows when)", format_duration(self.longest_delay))
            };
            let begin = if self.redriven.len() == 1 { "Its attempt begins" } else { "Their attempts begin" };
            lines.push(format!(
                "{begin} {when}. `custody open` shows what is in progress, `custody failed` what is left."
            ));
        }
        if !self.without_dead_letter.is_empty() {
            lines.push(format!(
                "{} of these without a dead letter on the queue: it has expired, waits on the redrive queue, or another reader hides it",
                self.without_dead_letter.len()
            ));
        }
        if !self.waiting.is_empty() && self.ends.is_none() {
            let count = format_count(self.waiting.len(), false, "record waits", "records wait");
            lines.push(format!(
                "{count} for a redrive already (`custody failed` shows when; `--now` does not wait)"
            ));
        }
        if !self.stale.is_empty() {
            let count = format_count(self.stale.len(), false, "dead letter", "dead letters");
            let verb = if self.dry_run { "would be deleted" } else { "deleted" };
            lines.push(format!(
                "{count} {verb}: their records are complete, discarded, or at a later attempt"
            ));
            lines.extend(self.stale.iter().take(10).map(|id| format!("  {id}")));
        }
        for (list, why) in [
            (
                &self.pending,
                "reconcile has to complete the handling of the failure first, which takes minutes",
            ),
            (&self.parked, "parked, no redrive is left; `--force` gives one more attempt"),
            (&self.requests, "never a record, so its producer got no receipt and sends the request again"),
            (&self.foreign, "not a dead letter of Custody; `custody dlq show` shows it"),
            (&self.failed, "could not be redriven, see the errors above"),
        ] {
            if !list.is_empty() {
                lines.push(format!("left as they are: {} ({why})", list.len()));
                lines.extend(list.iter().take(10).map(|id| format!("  {id}")));
            }
        }
        lines.join("\n") + "\n"
    }
}

/// The lines about what became of the redriven records.
fn lines_of(ends: &wait::Ends) -> Vec<String> {
    let mut lines = vec![format!("{} complete", ends.completed)];
    for (list, what) in [
        (&ends.failed_again, "failed again"),
        (&ends.discarded, "discarded meanwhile"),
        (&ends.still_waiting, "not at their end after 25 minutes"),
    ] {
        if !list.is_empty() {
            lines.push(format!("{} {what}:", list.len()));
            lines.extend(list.iter().take(10).map(|id| format!("  custody trace {id}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_says_what_it_did_what_it_left_and_what_comes_next() {
        let ids = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let longest_delay = Duration::from_secs(27);
        let mut summary = Summary { redriven: ids(&["a", "b"]), longest_delay, ..Summary::default() };
        insta::assert_snapshot!("sent", summary.text());
        let ends = wait::Ends { completed: 1, failed_again: ids(&["b"]), ..wait::Ends::default() };
        summary.ends = Some(ends);
        insta::assert_snapshot!("followed", summary.text());
        summary = Summary { redriven: ids(&["a"]), ..Summary::default() };
        insta::assert_snapshot!("at_once", summary.text());
        let summary = Summary {
            dry_run: true,
            longest_delay: Duration::ZERO,
            waiting: ids(&["i"]),
            redriven: ids(&["a"]),
            without_dead_letter: ids(&["a"]),
            stale: ids(&["b", "c"]),
            pending: ids(&["h"]),
            parked: ids(&["d"]),
            requests: ids(&["e"]),
            foreign: ids(&["f"]),
            failed: ids(&["g"]),
            ends: None,
        };
        insta::assert_snapshot!("left", summary.text());
    }
}
