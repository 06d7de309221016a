//! Creates the schedule of a seed.

use std::time::Duration;

use custody_core::{redrive_policy::RedrivePolicy, testing::world::POLICY};
use rand::{SeedableRng as _, rngs::SmallRng};
use strum::VariantArray as _;

use super::{Operation, Post, Schedule};
use crate::{
    chance::Chance as _,
    faults::{Fault, Outage, Plan, Service},
    requests::{Form, Request},
    scheduler::EPOCH_MS,
    weather,
    world::Setup,
};

/// The kind of a random schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    /// Every fault ends by itself within an hour.
    TemporaryFaults,
    /// Any fault may occur, for some hours.
    AnyFaults,
    /// Stores are unavailable for days.
    LongOutages,
}

pub(super) fn single(call: u64, fault: Fault, is_keyed: bool, is_express: bool) -> Schedule {
    let mut chance = SmallRng::seed_from_u64(call);
    let request = Request::new(&mut chance, Form::Text, 1, is_keyed);
    let post = Post { at: Duration::from_secs(1), request, tries: 3 };
    let name = match (is_keyed, is_express) {
        (false, false) => "",
        (true, false) => ", with a key",
        (false, true) => ", EXPRESS",
        (true, true) => ", with a key, EXPRESS",
    };
    Schedule {
        name: format!("{fault:?} at call {call}{name}"),
        seed: call,
        setup: Setup {
            is_express,
            is_durable: false,
            policy: POLICY,
            lagging_listings: 0,
            stopped_executions: 0,
        },
        plan: Plan { single: [(call, fault)].into(), ..Plan::default() },
        window: Duration::from_mins(4),
        tick: Duration::from_mins(1),
        posts: vec![post],
        weather: Vec::new(),
        operations: Vec::new(),
        crashes: 0,
        killed_runs: 0,
        doubled_runs: 0,
        faults_end_within_an_hour: fault != Fault::Deny,
    }
}

pub(super) fn random(seed: u64) -> Schedule {
    let mut chance = SmallRng::seed_from_u64(seed);
    let chance = &mut chance;
    let profile = match chance.below(100) {
        0..40 => Profile::TemporaryFaults,
        40..88 => Profile::AnyFaults,
        _ => Profile::LongOutages,
    };
    let minutes = match profile {
        Profile::TemporaryFaults => 2 + chance.below(54),
        Profile::AnyFaults => 5 + chance.below(150),
        Profile::LongOutages => 60 * (26 + chance.one_of(&[0, 0, 160]) + chance.below(40)),
    };
    let window = Duration::from_mins(minutes);
    let posts = posts(chance, profile, window);
    let is_automatic = profile == Profile::TemporaryFaults || chance.percent(60);
    let policy = RedrivePolicy { automatic: is_automatic, ..POLICY };
    Schedule {
        name: format!("--seed {seed} --schedules 1"),
        seed,
        setup: Setup {
            is_express: chance.percent(50),
            is_durable: chance.percent(35),
            policy,
            lagging_listings: chance.one_of(&[0, 0, 10, 50]),
            stopped_executions: chance.one_of(&[0, 0, 10, 40]),
        },
        plan: faults(chance, profile, window, &posts),
        window,
        tick: Duration::from_mins(if profile == Profile::LongOutages { 20 } else { 1 }),
        weather: events(chance, profile, window, &posts),
        posts,
        operations: operations(chance, profile, window),
        crashes: chance.one_of(&[0, 0, 20, 80]),
        killed_runs: chance.one_of(&[0, 10, 40]),
        doubled_runs: chance.one_of(&[0, 30, 60]),
        faults_end_within_an_hour: profile == Profile::TemporaryFaults,
    }
}

/// The buckets of payloads. In a long outage of both, payloads exist only in the cache.
const BUCKETS: [Service; 2] = [Service::Archive, Service::FailedBucket];

/// The maximum time for which everything else is unavailable, in all outages of a schedule together: five days.
const LONGEST_OUTAGE_MS: i64 = 5 * 24 * 3_600_000;

fn faults(chance: &mut SmallRng, profile: Profile, window: Duration, posts: &[Post]) -> Plan {
    let faults = if profile == Profile::TemporaryFaults || chance.percent(60) {
        Fault::TEMPORARY.to_vec()
    } else {
        Fault::VARIANTS.to_vec()
    };
    let mut plan = Plan {
        per_mille: chance.one_of(&[0, 3, 15, 50]),
        // Many faults of one kind reach situations that a mixture of faults does not reach.
        faults: if chance.percent(30) { vec![chance.one_of(&faults)] } else { faults },
        ..Plan::default()
    };
    let window_ms = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    if profile == Profile::LongOutages && chance.percent(50) {
        plan.outages.push(Outage {
            services: BUCKETS.to_vec(),
            from_ms: EPOCH_MS,
            to_ms: EPOCH_MS + window_ms,
            fault: Fault::Refuse,
            percent: 100,
        });
    }
    let mut left_ms = LONGEST_OUTAGE_MS;
    for _ in 0..chance.below(4) {
        let services = match chance.below(9) {
            0 | 8 => vec![Service::Archive, Service::FailedBucket, Service::Markers],
            1 => vec![Service::OpenTable, Service::ClaimTable, Service::RecordTable, Service::AccessTable],
            2 => BUCKETS.to_vec(),
            3 if chance.percent(30) => Service::VARIANTS.to_vec(),
            _ => vec![chance.one_of(Service::VARIANTS)],
        };
        let kinds = [
            Fault::Refuse,
            Fault::Refuse,
            Fault::TimeOut,
            Fault::LoseReply,
            Fault::TimeOutAfter,
            Fault::Late,
        ];
        let is_denied = profile != Profile::TemporaryFaults && chance.percent(25);
        // A fault has no effect while nothing is running, so most outages begin shortly before or with a request.
        let post_ms = i64::try_from(chance.one_of(posts).at.as_millis()).unwrap_or(0);
        let from_ms = match chance.below(10) {
            0..7 => EPOCH_MS + (post_ms + chance.between(-20_000, 300)).max(0),
            _ => EPOCH_MS + chance.between(0, window_ms),
        };
        let length_ms =
            if chance.percent(30) { chance.between(0, 120_000) } else { chance.between(0, window_ms) };
        // An outage of the buckets may last longer than an unaccepted payload lives. Other outages are shorter: the
        // pipeline cannot work if reconcile cannot work for that long.
        let is_only_buckets = services.iter().all(|service| BUCKETS.contains(service));
        let length_ms = if is_only_buckets { length_ms } else { length_ms.min(left_ms) };
        left_ms -= if is_only_buckets { 0 } else { length_ms };
        plan.outages.push(Outage {
            services,
            from_ms,
            to_ms: (from_ms + length_ms).min(EPOCH_MS + window_ms),
            fault: if is_denied { Fault::Deny } else { chance.one_of(&kinds) },
            percent: chance.one_of(&[100, 100, 50]),
        });
    }
    plan
}

/// Returns a random time in the window. Early times are more likely.
fn random_time(chance: &mut SmallRng, window: Duration) -> Duration {
    let minutes = chance.one_of(&[1, 10, 60, 100_000]);
    let limit = window.min(Duration::from_mins(minutes));
    Duration::from_millis(chance.below(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)))
}

fn posts(chance: &mut SmallRng, profile: Profile, window: Duration) -> Vec<Post> {
    let mut posts = Vec::new();
    for _ in 0..=chance.below(4) {
        // Uses few numbers, so that several requests have the same key.
        let number = chance.below(3);
        let request = Request::random(chance, number);
        let at = random_time(chance, window);
        let tries = 1 + chance.below(4);
        posts.push(Post { at, request: request.clone(), tries });
        if !request.is_keyed {
            continue;
        }
        for _ in 0..chance.below(3) {
            let later = match chance.below(3) {
                0 => Duration::from_millis(chance.below(80)),
                1 => Duration::from_secs(chance.below(600)),
                _ if profile == Profile::LongOutages && chance.percent(50) => {
                    Duration::from_mins(23 * 60 + chance.below(180))
                }
                _ => Duration::from_millis(chance.below(u64::try_from(window.as_millis()).unwrap_or(0))),
            };
            posts.push(Post { at: (at + later).min(window), request: request.clone(), tries });
        }
    }
    posts
}

fn events(
    chance: &mut SmallRng,
    profile: Profile,
    window: Duration,
    posts: &[Post],
) -> Vec<(Duration, weather::StoreEvent)> {
    let kinds = if profile == Profile::TemporaryFaults || chance.percent(40) {
        &weather::HARMLESS[..]
    } else {
        weather::StoreEvent::VARIANTS
    };
    let near_a_post = |chance: &mut SmallRng| {
        let scale = chance.one_of(&[200, 2_000, 300_000]);
        let after = Duration::from_millis(chance.below(scale));
        let before = Duration::from_millis(chance.below(100) * chance.below(2) * 100);
        (chance.one_of(posts).at + after).saturating_sub(before).min(window)
    };
    (0..chance.below(5))
        .map(|_| {
            let at = if chance.percent(70) { near_a_post(chance) } else { random_time(chance, window) };
            (at, chance.one_of(kinds))
        })
        .collect()
}

fn operations(chance: &mut SmallRng, profile: Profile, window: Duration) -> Vec<(Duration, Operation)> {
    if profile == Profile::TemporaryFaults {
        return Vec::new();
    }
    let kinds = [
        Operation::RedriveDeadLetters { forced: false },
        Operation::RedriveDeadLetters { forced: false },
        Operation::RedriveDeadLetters { forced: true },
        Operation::RedriveOpen,
        Operation::Discard,
    ];
    (0..chance.below(8))
        .map(|_| {
            let at = Duration::from_millis(chance.below(u64::try_from(window.as_millis()).unwrap_or(0)));
            (at, chance.one_of(&kinds))
        })
        .collect()
}
