use super::{cell::Raised, *};
use crate::{Facts, Load, Plan, WorkflowType};

fn plan_of(rate: f64) -> Plan {
    let load = Load { workflow: WorkflowType::Express, ..Load::new(rate, 1e6) };
    Plan::of(&Facts::of_this_release(), load)
}

fn cell(rate: f64, raised: Raised) -> Cell {
    Cell::of(&Facts::of_this_release(), &plan_of(rate), raised)
}

const OWN: Raised = Raised {
    own_accounts: true,
    concurrency: Some(3000.0),
    write_units: Some(20_000.0),
    archive_concurrency: None,
    starts_of_a_run: None,
    uploads: false,
};

#[test]
fn a_load_within_all_limits_is_neither_refused_nor_waits() {
    let outcome = simulate(&cell(100.0, Raised::default()), Situation::Steady);
    assert!((outcome.records - 30_000.0).abs() < 10.0, "{outcome:?}");
    assert_eq!((outcome.refusals(), outcome.started_by_reconcile, outcome.incomplete), (0.0, 0.0, 0.0));
    assert!(outcome.longest_completion < 1.0, "{outcome:?}");
    // Little's law: a record is in the cache for about a sixth of a second.
    assert!(outcome.cache_peak > 0.0 && outcome.cache_peak < 0.05, "{outcome:?}");
}

#[test]
fn each_limit_refuses_what_is_above_it() {
    for (shrink, reason) in [
        ((|cell: &mut Cell| cell.requests = (50.0, 50.0)) as fn(&mut Cell), "requests of the API"),
        (|cell| cell.shared_invocations = 120.0, "invocations/s of Lambda"),
        (|cell| cell.shared_concurrency = 2.0, "concurrent executions of Lambda"),
        (|cell| cell.table_records = 50.0, "write units of the tables"),
    ] {
        let mut cell = cell(100.0, Raised::default());
        shrink(&mut cell);
        let outcome = simulate(&cell, Situation::Steady);
        assert!(
            outcome.refused.iter().any(|(why, records)| *why == reason && *records > 1000.0),
            "{reason}: {outcome:?}"
        );
        assert!(outcome.longest_receipt > 60.0, "refused records wait: {outcome:?}");
    }
}

#[test]
fn every_record_completes_after_an_outage() {
    for situation in [
        Situation::ArchiveAway { seconds: 60.0 },
        Situation::WorkflowAway { seconds: 60.0 },
        Situation::Burst { times: 2.0, seconds: 30.0 },
    ] {
        let outcome = simulate(&cell(100.0, Raised::default()), situation);
        assert!(outcome.incomplete < 1.0, "{situation:?}: {outcome:?}");
    }
}

#[test]
fn starts_that_are_refused_wait_for_reconcile() {
    let outcome = simulate(&cell(100.0, Raised::default()), Situation::WorkflowAway { seconds: 60.0 });
    // 6,000 records, of which each run of reconcile starts 2,000.
    assert!((outcome.started_by_reconcile - 6000.0).abs() < 10.0, "{outcome:?}");
    assert!(outcome.longest_completion > 240.0, "{outcome:?}");

    let prompt = Raised { starts_of_a_run: Some(50_000.0), ..Raised::default() };
    let faster = simulate(&cell(100.0, prompt), Situation::WorkflowAway { seconds: 60.0 });
    assert!(faster.longest_completion < 240.0, "{faster:?}");
}

#[test]
fn the_cache_bears_the_outage_that_it_was_planned_for_and_not_a_longer_one() {
    let cell = cell(10_000.0, OWN);
    let planned = simulate(&cell, Situation::ArchiveAway { seconds: 60.0 });
    assert!(planned.refusals() < 1.0, "{planned:?}");
    assert!(planned.cache_peak > 0.4, "{planned:?}");
    let longer = simulate(&cell, Situation::ArchiveAway { seconds: 240.0 });
    assert!(longer.refused.iter().any(|(why, _)| *why == "memory of the cache"), "{longer:?}");
    assert!(longer.incomplete < 1.0, "{longer:?}");
}

#[test]
fn two_runs_are_equal() {
    let run = || simulate(&cell(1000.0, OWN), Situation::ArchiveAway { seconds: 60.0 });
    assert_eq!(format!("{:?}", run()), format!("{:?}", run()));
}
