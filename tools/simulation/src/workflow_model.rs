//! Computes the path of an execution through the state machine from the outcomes of its states.
//!
//! The names are those of `statemachine/audit_record.asl.json`.

/// Announces that the record was accepted.
pub const ANNOUNCE_RECEIPT: &str = "Announce receipt";
/// Notes that the announcement of the receipt is pending.
pub const LEAVE_RECEIPT_ANNOUNCEMENT_PENDING: &str = "Leave receipt announcement pending";
/// Archives the payload.
pub const ARCHIVE_PAYLOAD: &str = "Archive payload";
/// Turns the failure of archive into a result.
pub const RETURN_ARCHIVE_FAILURE: &str = "Return archive failure";
/// Announces that the payload is archived.
pub const ANNOUNCE_ARCHIVED: &str = "Announce archived";
/// Notes that the announcement of the archived payload is pending.
pub const LEAVE_ARCHIVE_ANNOUNCEMENT_PENDING: &str = "Leave archive announcement pending";
/// Stores the item of the record.
pub const STORE_METADATA: &str = "Store metadata";
/// Turns the failure of metadata into a result.
pub const RETURN_METADATA_FAILURE: &str = "Return metadata failure";
/// Announces that the item is stored.
pub const ANNOUNCE_METADATA_STORED: &str = "Announce metadata stored";
/// Notes that the announcement of the stored item is pending.
pub const LEAVE_METADATA_ANNOUNCEMENT_PENDING: &str = "Leave metadata announcement pending";
/// Gives names to the results of the branches.
pub const GATHER: &str = "Gather branch results";
/// Chooses between aggregate and failure.
pub const DID_EVERY_BRANCH_SUCCEED: &str = "Did every branch succeed?";
/// Completes the record and unlinks its payload from the cache.
pub const AGGREGATE_RECORD: &str = "Aggregate record";
/// Chooses between closing the record and leaving it open.
pub const IS_EVERYTHING_ANNOUNCED: &str = "Is everything announced?";
/// Announces that the record is complete.
pub const ANNOUNCE_COMPLETION: &str = "Announce completion";
/// Removes the open record.
pub const CLOSE_RECORD: &str = "Close record";
/// Ends with nothing pending.
pub const RECORD_COMPLETED: &str = "Record completed";
/// Ends with announcements or an unlink pending, which reconcile does later.
pub const LEAVE_RECORD_OPEN: &str = "Leave record open";
/// Runs the failure function, which preserves the payload and reports the failure.
pub const HANDLE_FAILURE: &str = "Handle failure";
/// Chooses between the two ends of a failure that was handled.
pub const WAS_FAILURE_HANDLED: &str = "Was the failure handled completely?";
/// Ends with nothing pending. What remains is the decision about the failed record.
pub const RECORD_FAILED: &str = "Record failed";
/// Ends with a pending step of the failure, which reconcile does later.
pub const FAILURE_UNFINISHED: &str = "Failure unfinished";
/// Ends with the open record unchanged: reconcile starts the attempt again.
pub const FAILURE_NOT_HANDLED: &str = "Failure not handled";

/// The first states of the three branches, in the definition's order.
pub const BRANCHES: [&str; 3] = [ANNOUNCE_RECEIPT, ARCHIVE_PAYLOAD, STORE_METADATA];

/// The outcome of a state, after all of its retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The state succeeded; for a choice: yes.
    Ok,
    /// The state failed with transient errors until its retries were used up.
    Transient,
    /// The state failed with an error that is not retried.
    Permanent,
    /// The announcement could not be published; for a choice: no.
    Unpublished,
}

/// Returns the state after `state`, or `None` if its branch or the execution ends.
pub fn next(state: &str, outcome: Outcome) -> Option<&'static str> {
    let is_ok = outcome == Outcome::Ok;
    let either = |yes, no| Some(if is_ok { yes } else { no });
    let unless_ok = |state| if is_ok { None } else { Some(state) };
    match state {
        ANNOUNCE_RECEIPT => unless_ok(LEAVE_RECEIPT_ANNOUNCEMENT_PENDING),
        ARCHIVE_PAYLOAD => either(ANNOUNCE_ARCHIVED, RETURN_ARCHIVE_FAILURE),
        ANNOUNCE_ARCHIVED => unless_ok(LEAVE_ARCHIVE_ANNOUNCEMENT_PENDING),
        STORE_METADATA => either(ANNOUNCE_METADATA_STORED, RETURN_METADATA_FAILURE),
        ANNOUNCE_METADATA_STORED => unless_ok(LEAVE_METADATA_ANNOUNCEMENT_PENDING),
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

/// The path of a whole execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The states of each branch.
    pub branches: Vec<Vec<&'static str>>,
    /// The states after the branches.
    pub after: Vec<&'static str>,
}

/// Returns the path of an execution whose states had these outcomes. A state that is not listed has the outcome `Ok`.
/// The outcome of a choice that is not listed follows from the outcomes of the states before it.
pub fn path(outcomes: &[(&str, Outcome)]) -> Path {
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
    Path { branches, after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_execution_announces_and_closes() {
        let Path { branches, after } = path(&[]);
        assert_eq!(branches[0], [ANNOUNCE_RECEIPT]);
        assert_eq!(branches[1], [ARCHIVE_PAYLOAD, ANNOUNCE_ARCHIVED]);
        assert_eq!(branches[2], [STORE_METADATA, ANNOUNCE_METADATA_STORED]);
        assert_eq!(after.last(), Some(&RECORD_COMPLETED));
        assert!(after.contains(&ANNOUNCE_COMPLETION) && after.contains(&CLOSE_RECORD));
    }

    #[test]
    fn an_announcement_that_cannot_be_published_fails_nothing_and_leaves_the_record_open() {
        for state in [ANNOUNCE_RECEIPT, ANNOUNCE_ARCHIVED, ANNOUNCE_METADATA_STORED] {
            let Path { after, .. } = path(&[(state, Outcome::Unpublished)]);
            assert!(after.contains(&AGGREGATE_RECORD) && !after.contains(&ANNOUNCE_COMPLETION), "{state}");
            assert_eq!(after.last(), Some(&LEAVE_RECORD_OPEN));
        }
        let Path { after, .. } = path(&[(ANNOUNCE_COMPLETION, Outcome::Unpublished)]);
        assert_eq!(after.last(), Some(&LEAVE_RECORD_OPEN));
    }

    #[test]
    fn a_stage_that_fails_has_its_failure_handled() {
        for state in [ARCHIVE_PAYLOAD, STORE_METADATA, AGGREGATE_RECORD] {
            let Path { after, .. } = path(&[(state, Outcome::Permanent)]);
            assert_eq!(after.last(), Some(&RECORD_FAILED), "{state}");
            let Path { after, .. } =
                path(&[(state, Outcome::Transient), (WAS_FAILURE_HANDLED, Outcome::Unpublished)]);
            assert_eq!(after.last(), Some(&FAILURE_UNFINISHED));
            let Path { after, .. } =
                path(&[(state, Outcome::Transient), (HANDLE_FAILURE, Outcome::Transient)]);
            assert_eq!(after.last(), Some(&FAILURE_NOT_HANDLED));
        }
    }
}
