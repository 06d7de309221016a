//! What helps a failed record, as lists show it to operators.

use serde::Serialize;
use strum::{Display, VariantArray};

use crate::error::{ErrorKind, ErrorName, kind_of};

/// What brings a failed record, or its dead letter, to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Display, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Remedy {
    /// The cause passes by itself. Reconcile redrives the record, unless it is parked or `AutoRedrive` is off.
    Wait,
    /// A redrive is enough: nothing needs to be mended.
    Redrive,
    /// A person must mend the cause: a policy, a key, a setting or a defect. Then a redrive helps.
    MendThenRedrive,
    /// The producer must send the same request again, so that Custody has the payload. Then a redrive helps.
    SendAgainThenRedrive,
    /// Something else has the key of the record: compare, then redrive or discard.
    CompareThenDecide,
    /// The request never became a record: its producer got no receipt, and sends it again. Read the request, then discard it.
    ReadThenDiscard,
}

impl Remedy {
    /// Returns what helps a record whose attempt failed with this error.
    pub fn of(error_name: &str) -> Self {
        match (ErrorName::from_name(error_name), kind_of(error_name)) {
            (_, ErrorKind::Transient) => Self::Wait,
            // The workflow was stopped again and again, or somebody deleted the item: the next attempt makes both anew.
            (Some(ErrorName::WorkflowIncomplete | ErrorName::ItemMissing), _) => Self::Redrive,
            (Some(ErrorName::PayloadLost | ErrorName::PayloadCorrupted), _) => Self::SendAgainThenRedrive,
            (_, ErrorKind::Conflict) => Self::CompareThenDecide,
            (_, ErrorKind::Invalid | ErrorKind::Internal) => Self::MendThenRedrive,
        }
    }

    /// The remedy in words, for a list.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Wait => "passes by itself",
            Self::Redrive => "redrive",
            Self::MendThenRedrive => "mend the cause, then redrive",
            Self::SendAgainThenRedrive => "have the producer send it again, then redrive",
            Self::CompareThenDecide => "compare, then redrive or discard",
            Self::ReadThenDiscard => "read it, then discard it",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_redrive_mends_needs_no_person_and_what_it_does_not_mend_says_so() {
        for (error_name, remedy) in [
            ("ArchiveUnavailable", Remedy::Wait),
            ("States.Timeout", Remedy::Wait),
            ("WorkflowIncomplete", Remedy::Redrive),
            ("ItemMissing", Remedy::Redrive),
            ("AccessDenied", Remedy::MendThenRedrive),
            ("InvalidInput", Remedy::MendThenRedrive),
            ("Runtime.OfALaterTime", Remedy::MendThenRedrive),
            ("PayloadLost", Remedy::SendAgainThenRedrive),
            ("ArchiveConflict", Remedy::CompareThenDecide),
        ] {
            assert_eq!(Remedy::of(error_name), remedy, "{error_name}");
        }
    }

    #[test]
    fn every_remedy_has_words_and_a_name_of_its_own() {
        let texts: std::collections::BTreeSet<_> =
            Remedy::VARIANTS.iter().map(|remedy| remedy.text()).collect();
        assert_eq!(texts.len(), Remedy::VARIANTS.len());
        for remedy in Remedy::VARIANTS {
            assert_eq!(serde_json::to_value(remedy).unwrap(), remedy.to_string());
        }
    }
}
