//! The path of an execution through the state machine, as a function of what its states came to.
//!
//! The names are those of `statemachine/audit_record.asl.json`.

pub(crate) const ANNOUNCE_RECEIPT: &str = "Announce receipt";
pub(crate) const ARCHIVE_PAYLOAD: &str = "Archive payload";
pub(crate) const ANNOUNCE_ARCHIVED: &str = "Announce archived";
pub(crate) const STORE_METADATA: &str = "Store metadata";
pub(crate) const ANNOUNCE_METADATA_STORED: &str = "Announce metadata stored";
pub(crate) const GATHER: &str = "Gather branch results";
pub(crate) const DID_EVERY_BRANCH_SUCCEED: &str = "Did every branch succeed?";
pub(crate) const AGGREGATE_RECORD: &str = "Aggregate record";
pub(crate) const IS_EVERYTHING_ANNOUNCED: &str = "Is everything announced?";
pub(crate) const ANNOUNCE_COMPLETION: &str = "Announce completion";
pub(crate) const CLOSE_RECORD: &str = "Close record";
pub(crate) const RECORD_COMPLETED: &str = "Record completed";
pub(crate) const LEAVE_RECORD_OPEN: &str = "Leave record open";
pub(crate) const HANDLE_FAILURE: &str = "Handle failure";
pub(crate) const WAS_FAILURE_HANDLED: &str = "Was the failure handled completely?";
pub(crate) const RECORD_FAILED: &str = "Record failed";
pub(crate) const FAILURE_UNFINISHED: &str = "Failure unfinished";
pub(crate) const FAILURE_NOT_HANDLED: &str = "Failure not handled";

/// The states that the three branches begin with.
#[cfg(test)]
pub(crate) const BRANCHES: [&str; 3] = [ANNOUNCE_RECEIPT, ARCHIVE_PAYLOAD, STORE_METADATA];

/// What a state came to, its retries included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did what it is there for; of a choice: yes.
    Ok,
    /// It failed, of transient errors until its retries were used up.
    Transient,
    /// It failed of an error that is not tried again.
    Permanent,
    /// It is an announcement that could not be published; of a choice: no.
    Unpublished,
}

/// The state after `state`; `None` where its branch or the execution ends.
pub(crate) fn next(state: &str, outcome: Outcome) -> Option<&'static str> {
    let is_ok = outcome == Outcome::Ok;
    let either = |yes, no| Some(if is_ok { yes } else { no });
    match state {
        ARCHIVE_PAYLOAD => is_ok.then_some(ANNOUNCE_ARCHIVED),
        STORE_METADATA => is_ok.then_some(ANNOUNCE_METADATA_STORED),
        GATHER => Some(DID_EVERY_BRANCH_SUCCEED),
        DID_EVERY_BRANCH_SUCCEED => either(AGGREGATE_RECORD, HANDLE_FAILURE),
        AGGREGATE_RECORD => either(IS_EVERYTHING_ANNOUNCED, HANDLE_FAILURE),
        IS_EVERYTHING_ANNOUNCED => either(ANNOUNCE_COMPLETION, LEAVE_RECORD_OPEN),
        ANNOUNCE_COMPLETION => either(CLOSE_RECORD, LEAVE_RECORD_OPEN),
        CLOSE_RECORD => either(RECORD_COMPLETED, LEAVE_RECORD_OPEN),
        HANDLE_FAILURE => either(WAS_FAILURE_HANDLED, FAILURE_NOT_HANDLED),
        WAS_FAILURE_HANDLED => either(RECORD_FAILED, FAILURE_UNFINISHED),
        _ => None,
    }
}

/// The states of a whole execution: of each branch, and of what comes after them. A state that is not among `outcomes`
/// is `Ok`; the outcome of a choice that follows from those of other states is worked out.
#[cfg(test)]
pub(crate) fn path(outcomes: &[(&str, Outcome)]) -> (Vec<Vec<&'static str>>, Vec<&'static str>) {
    let given = |state: &str| outcomes.iter().find(|(known, _)| *known == state).map(|(_, outcome)| *outcome);
    let outcome_of = |state: &str| given(state).unwrap_or(Outcome::Ok);
    let follow = |first: &'static str, outcome_of: &dyn Fn(&str) -> Outcome| {
        std::iter::successors(Some(first), |state: &&'static str| next(state, outcome_of(state)))
            .collect::<Vec<_>>()
    };
    let branches: Vec<_> = BRANCHES.into_iter().map(|first| follow(first, &outcome_of)).collect();
    let yes_if = |yes: bool| if yes { Outcome::Ok } else { Outcome::Unpublished };
    let all_ok = |states: &[&str]| states.iter().all(|state| outcome_of(state) == Outcome::Ok);
    let after = follow(GATHER, &|state: &str| match state {
        DID_EVERY_BRANCH_SUCCEED => yes_if(all_ok(&[ARCHIVE_PAYLOAD, STORE_METADATA])),
        IS_EVERYTHING_ANNOUNCED => given(state).unwrap_or(yes_if(all_ok(&[
            ANNOUNCE_RECEIPT,
            ANNOUNCE_ARCHIVED,
            ANNOUNCE_METADATA_STORED,
        ]))),
        _ => outcome_of(state),
    });
    (branches, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_execution_announces_and_closes() {
        let (branches, after) = path(&[]);
        assert_eq!(branches[0], [ANNOUNCE_RECEIPT]);
        assert_eq!(branches[1], [ARCHIVE_PAYLOAD, ANNOUNCE_ARCHIVED]);
        assert_eq!(branches[2], [STORE_METADATA, ANNOUNCE_METADATA_STORED]);
        assert_eq!(after.last(), Some(&RECORD_COMPLETED));
        assert!(after.contains(&ANNOUNCE_COMPLETION) && after.contains(&CLOSE_RECORD));
    }

    #[test]
    fn an_announcement_that_cannot_be_published_fails_nothing_and_leaves_the_record_open() {
        for state in [ANNOUNCE_RECEIPT, ANNOUNCE_ARCHIVED, ANNOUNCE_METADATA_STORED] {
            let (_, after) = path(&[(state, Outcome::Unpublished)]);
            assert!(after.contains(&AGGREGATE_RECORD) && !after.contains(&ANNOUNCE_COMPLETION), "{state}");
            assert_eq!(after.last(), Some(&LEAVE_RECORD_OPEN));
        }
        let (_, after) = path(&[(ANNOUNCE_COMPLETION, Outcome::Unpublished)]);
        assert_eq!(after.last(), Some(&LEAVE_RECORD_OPEN));
    }

    #[test]
    fn a_stage_that_fails_has_its_failure_handled() {
        for state in [ARCHIVE_PAYLOAD, STORE_METADATA, AGGREGATE_RECORD] {
            let (_, after) = path(&[(state, Outcome::Permanent)]);
            assert_eq!(after.last(), Some(&RECORD_FAILED), "{state}");
            let (_, after) =
                path(&[(state, Outcome::Transient), (WAS_FAILURE_HANDLED, Outcome::Unpublished)]);
            assert_eq!(after.last(), Some(&FAILURE_UNFINISHED));
            let (_, after) = path(&[(state, Outcome::Transient), (HANDLE_FAILURE, Outcome::Transient)]);
            assert_eq!(after.last(), Some(&FAILURE_NOT_HANDLED));
        }
    }
}
