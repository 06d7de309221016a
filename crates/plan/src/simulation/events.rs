//! The simulation's course: what happens to groups of records, in order of time.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, VecDeque},
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use super::{
    BEGINS, LASTS, Outcome, RETRIES_OF_ARCHIVE, Situation,
    cell::Cell,
    limits::{Bucket, Pool},
};

/// Groups of records per second: what is simulated as one.
const GROUPS: f64 = 100.0;
/// The longest time until a producer sends a refused request again, in seconds: first, and at most. It doubles with each refusal.
const PRODUCER_WAITS: (f64, f64) = (1.0, 30.0);
/// How long archive tries before its request to S3 counts as failed, in seconds.
const ARCHIVE_TRIES: f64 = 10.0;
/// The time between two runs of reconcile, in seconds.
const RECONCILE_INTERVAL: f64 = 60.0;
/// The age at which reconcile looks at a record first, in seconds: the default of the template's parameter `ReconcileAfterSeconds`. A
/// drift test compares.
pub const FIRST_LOOK: u32 = 120;
/// The longest delay before the first automatic redrive, in seconds.
const REDRIVE_DELAY: f64 = 30.0;
/// The simulation ends after this time without progress, in seconds: nothing will change any more.
const WITHOUT_PROGRESS: f64 = 3600.0;
/// The end of the simulation, in seconds.
const DAY: f64 = 86_400.0;

/// What happens to a group next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Arrives,
    IsAccepted,
    Starts,
    Archives { retry: u32 },
    IsArchived { in_time: bool, retry: u32 },
    StoresMetadata { retry: u32 },
    HasMetadata,
    Aggregates { retry: u32 },
    Completes,
    Fails { retry: u32 },
    ReconcileRuns,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Event {
    at: f64,
    /// Orders events of one time, so that each run is the same.
    number: u64,
    group: usize,
    step: Step,
}

impl Eq for Event {}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Records that came at once.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what has happened to a group, each independent of the others"
)]
struct Group {
    sent: f64,
    accepted: f64,
    archived: bool,
    has_metadata: bool,
    is_cached: bool,
    /// How often the request was refused.
    refusals: u32,
    /// Whether the failure of the current attempt is being handled.
    is_failing: bool,
    /// Whether the current attempt has come to aggregate.
    is_aggregating: bool,
    completed: Option<f64>,
}

/// One run of the simulation.
pub(super) struct Run<'a> {
    cell: &'a Cell,
    situation: Situation,
    now: f64,
    events: BinaryHeap<Reverse<Event>>,
    number: u64,
    chance: SmallRng,
    groups: Vec<Group>,
    /// The records of a group.
    size: f64,
    requests: Bucket,
    shared: Pool,
    invocations: Bucket,
    archive: Pool,
    archive_invocations: Bucket,
    starts: Bucket,
    publishes: Bucket,
    table: Bucket,
    cached: f64,
    cached_peak: f64,
    /// Groups that reconcile has to start or whose failure it has to have handled, with the time of their next look.
    pending: VecDeque<(f64, usize, Step)>,
    outcome: Outcome,
}

impl<'a> Run<'a> {
    pub(super) fn new(cell: &'a Cell, situation: Situation) -> Self {
        let archive_invocations = cell.archive_concurrency * 10.0;
        let mut run = Self {
            cell,
            situation,
            now: 0.0,
            events: BinaryHeap::new(),
            number: 0,
            chance: SmallRng::seed_from_u64(1),
            groups: Vec::new(),
            size: cell.rate / GROUPS,
            requests: Bucket::new(cell.requests.0, cell.requests.1),
            shared: Pool::new(cell.shared_concurrency),
            invocations: Bucket::new(cell.shared_invocations, cell.shared_invocations),
            archive: Pool::new(cell.archive_concurrency),
            archive_invocations: Bucket::new(archive_invocations, archive_invocations),
            starts: Bucket::new(cell.starts, cell.starts),
            publishes: Bucket::new(cell.publishes, cell.publishes),
            table: Bucket::new(cell.table_records, cell.table_records),
            cached: 0.0,
            cached_peak: 0.0,
            pending: VecDeque::new(),
            outcome: Outcome::default(),
        };
        run.send_all();
        run.push(RECONCILE_INTERVAL, 0, Step::ReconcileRuns);
        run
    }

    /// Plans the arrival of all groups.
    fn send_all(&mut self) {
        let mut at = 0.0;
        while at < LASTS {
            self.groups.push(Group { sent: at, ..Group::default() });
            self.push(at, self.groups.len() - 1, Step::Arrives);
            let times = match self.situation {
                Situation::Burst { times, seconds } if (BEGINS..BEGINS + seconds).contains(&at) => times,
                _ => 1.0,
            };
            at += 1.0 / (GROUPS * times);
        }
    }

    /// Runs until every group is complete.
    pub(super) fn finish(mut self) -> Outcome {
        let (mut left, mut progress) = (self.groups.len(), 0.0);
        while let Some(Reverse(event)) = self.events.pop() {
            self.now = event.at;
            if left == 0 || self.now > DAY || self.now > progress + WITHOUT_PROGRESS {
                break;
            }
            let was_complete = self.groups[event.group].completed.is_some();
            self.step(event.group, event.step);
            if !matches!(event.step, Step::Arrives | Step::ReconcileRuns) {
                progress = self.now;
            }
            left -= usize::from(!was_complete && self.groups[event.group].completed.is_some());
        }
        self.result()
    }

    fn result(mut self) -> Outcome {
        let count = |groups: usize| f64::from(u32::try_from(groups).unwrap_or(u32::MAX)) * self.size;
        let mut took: Vec<f64> = self
            .groups
            .iter()
            .filter_map(|group| group.completed.map(|completed| completed - group.accepted))
            .collect();
        took.sort_unstable_by(f64::total_cmp);
        self.outcome.records = count(self.groups.len());
        self.outcome.incomplete = count(self.groups.len() - took.len());
        self.outcome.completed_p99 =
            took.get((took.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default();
        self.outcome.longest_completion = took.last().copied().unwrap_or_default();
        self.outcome.cache_peak = self.cached_peak / self.cell.cache_bytes.max(1.0);
        self.outcome
    }

    fn push(&mut self, at: f64, group: usize, step: Step) {
        self.number += 1;
        self.events.push(Reverse(Event { at, number: self.number, group, step }));
    }

    fn then(&mut self, after: f64, group: usize, step: Step) {
        self.push(self.now + after, group, step);
    }

    fn archive_is_away(&self) -> bool {
        matches!(self.situation, Situation::ArchiveAway { seconds } if (BEGINS..BEGINS + seconds).contains(&self.now))
    }

    fn workflow_is_away(&self) -> bool {
        matches!(self.situation, Situation::WorkflowAway { seconds } if (BEGINS..BEGINS + seconds).contains(&self.now))
    }

    fn step(&mut self, group: usize, step: Step) {
        match step {
            Step::Arrives => self.receive(group),
            Step::IsAccepted => self.accept(group),
            Step::Starts => self.start_by_reconcile(group),
            Step::Archives { retry } => self.archive(group, retry),
            Step::IsArchived { in_time, retry } => self.end_archive(group, in_time, retry),
            Step::StoresMetadata { retry } => self.store_metadata(group, retry),
            Step::HasMetadata => {
                self.shared.give_back(self.size);
                self.groups[group].has_metadata = true;
                self.aggregate_if_ready(group);
            }
            Step::Aggregates { retry } => self.aggregate(group, retry),
            Step::Completes => self.complete(group),
            Step::Fails { retry } => self.fail(group, retry),
            Step::ReconcileRuns => self.reconcile(),
        }
    }

    fn receive(&mut self, group: usize) {
        let size = self.size;
        // An upload is two requests; the payload goes to S3.
        let requests = if self.cell.uploads { 2.0 } else { 1.0 };
        if !self.requests.take(self.now, size * requests) {
            return self.refuse(group, "requests of the API");
        }
        if self.cell.uploads && self.archive_is_away() {
            return self.refuse(group, "S3");
        }
        if !self.invocations.take(self.now, size * requests) {
            return self.refuse(group, "invocations/s of Lambda");
        }
        if !self.shared.take(size) {
            return self.refuse(group, "concurrent executions of Lambda");
        }
        let bytes = size * self.cell.size;
        let fits = !self.cell.uploads && self.cached + bytes <= self.cell.cache_bytes;
        if fits {
            self.cached += bytes;
            self.cached_peak = self.cached_peak.max(self.cached);
            self.groups[group].is_cached = true;
        } else if self.archive_is_away() {
            self.shared.give_back(size);
            return self.refuse(group, "memory of the cache");
        } else if !self.cell.uploads {
            self.outcome.past_the_cache += size;
            self.groups[group].archived = true;
        }
        self.then(self.cell.ingest_seconds, group, Step::IsAccepted);
    }

    fn refuse(&mut self, group: usize, reason: &'static str) {
        match self.outcome.refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, records)) => *records += self.size,
            None => self.outcome.refused.push((reason, self.size)),
        }
        let (first, most) = PRODUCER_WAITS;
        let longest = (first * f64::from(1_u32 << self.groups[group].refusals.min(16))).min(most);
        self.groups[group].refusals += 1;
        let after = self.chance.random_range(longest / 2.0..longest);
        self.then(after, group, Step::Arrives);
    }

    fn accept(&mut self, group: usize) {
        self.shared.give_back(self.size);
        if !self.table.take(self.now, self.size) {
            // The function has tried for a while; what it has cached is written again by the next request.
            if std::mem::take(&mut self.groups[group].is_cached) {
                self.cached -= self.size * self.cell.size;
            }
            return self.refuse(group, "write units of the tables");
        }
        self.groups[group].accepted = self.now;
        self.outcome.longest_receipt = self.outcome.longest_receipt.max(self.now - self.groups[group].sent);
        if self.workflow_is_away() || !self.starts.take(self.now, self.size) {
            self.pending.push_back((self.now + f64::from(FIRST_LOOK), group, Step::Starts));
        } else {
            self.start(group);
        }
    }

    /// Reconcile starts a group, if Step Functions takes it.
    fn start_by_reconcile(&mut self, group: usize) {
        if self.starts.take(self.now, self.size) {
            self.start(group);
        } else {
            self.pending.push_back((self.now, group, Step::Starts));
        }
    }

    fn start(&mut self, group: usize) {
        self.groups[group].is_failing = false;
        self.groups[group].is_aggregating = false;
        self.then(0.02, group, Step::StoresMetadata { retry: 0 });
        self.then(0.02, group, Step::Archives { retry: 0 });
    }

    /// Tries a task again after a random time, or returns `false` after its last retry.
    fn retry(&mut self, group: usize, retry: u32, step: impl FnOnce(u32) -> Step) -> bool {
        let Some(longest) = RETRIES_OF_ARCHIVE.delay(retry) else { return false };
        let after = self.chance.random_range(0.0..longest);
        self.then(after, group, step(retry + 1));
        true
    }

    fn archive(&mut self, group: usize, retry: u32) {
        let throttled = !self.archive.take(self.size) || {
            let refused = !self.archive_invocations.take(self.now, self.size);
            if refused {
                self.archive.give_back(self.size);
            }
            refused
        };
        if throttled {
            if !self.retry(group, retry, |retry| Step::Archives { retry }) {
                self.begin_failure(group);
            }
            return;
        }
        let in_time = !self.archive_is_away();
        let seconds = match (in_time, self.groups[group].archived) {
            (false, _) => ARCHIVE_TRIES,
            // Archive finds the object, and writes the manifest.
            (true, true) => 0.03,
            (true, false) => self.cell.archive_seconds,
        };
        self.then(seconds, group, Step::IsArchived { in_time, retry });
    }

    fn end_archive(&mut self, group: usize, in_time: bool, retry: u32) {
        self.archive.give_back(self.size);
        if in_time {
            self.groups[group].archived = true;
            self.aggregate_if_ready(group);
        } else if !self.retry(group, retry, |retry| Step::Archives { retry }) {
            self.begin_failure(group);
        }
    }

    fn takes_shared(&mut self) -> bool {
        self.shared.take(self.size) && {
            let invoked = self.invocations.take(self.now, self.size);
            if !invoked {
                self.shared.give_back(self.size);
            }
            invoked
        }
    }

    fn store_metadata(&mut self, group: usize, retry: u32) {
        if self.takes_shared() {
            self.then(self.cell.metadata_seconds, group, Step::HasMetadata);
        } else if !self.retry(group, retry, |retry| Step::StoresMetadata { retry }) {
            self.begin_failure(group);
        }
    }

    fn aggregate_if_ready(&mut self, group: usize) {
        let Group { archived, has_metadata, is_aggregating, is_failing, .. } = self.groups[group];
        if archived && has_metadata && !is_aggregating && !is_failing {
            self.groups[group].is_aggregating = true;
            self.then(0.02, group, Step::Aggregates { retry: 0 });
        }
    }

    fn aggregate(&mut self, group: usize, retry: u32) {
        if self.takes_shared() {
            self.then(self.cell.aggregate_seconds, group, Step::Completes);
        } else if !self.retry(group, retry, |retry| Step::Aggregates { retry }) {
            self.begin_failure(group);
        }
    }

    fn complete(&mut self, group: usize) {
        self.shared.give_back(self.size);
        // An announcement that is throttled is made later, and delays nothing here but the record's own end.
        let announced = self.publishes.take(self.now, 4.0 * self.size);
        if std::mem::take(&mut self.groups[group].is_cached) {
            self.cached -= self.size * self.cell.size;
        }
        let at = if announced { self.now } else { self.now + 1.0 };
        self.groups[group].completed.get_or_insert(at);
    }

    /// The workflow invokes the failure function, once for an attempt.
    fn begin_failure(&mut self, group: usize) {
        if !std::mem::replace(&mut self.groups[group].is_failing, true) {
            self.then(0.0, group, Step::Fails { retry: 0 });
        }
    }

    /// The failure function preserves the payload in S3, and reconcile redrives the record later.
    fn fail(&mut self, group: usize, retry: u32) {
        if self.archive_is_away() {
            if !self.retry(group, retry, |retry| Step::Fails { retry }) {
                let look_at = (self.groups[group].accepted + f64::from(FIRST_LOOK)).max(self.now);
                self.pending.push_back((look_at, group, Step::Fails { retry: 0 }));
            }
            return;
        }
        if std::mem::take(&mut self.groups[group].is_cached) {
            self.cached -= self.size * self.cell.size;
        }
        let after = self.chance.random_range(0.0..REDRIVE_DELAY);
        self.pending.push_back((self.now + after, group, Step::Starts));
    }

    fn reconcile(&mut self) {
        let mut left = self.cell.starts_of_a_run;
        let due: Vec<_> = std::mem::take(&mut self.pending).into_iter().collect();
        for (look_at, group, step) in due {
            if look_at > self.now || left < self.size || self.workflow_is_away() {
                self.pending.push_back((look_at, group, step));
                continue;
            }
            left -= self.size;
            self.outcome.started_by_reconcile += self.size;
            // A run spreads its starts over the 50 s that it has.
            let after = 50.0 * (1.0 - left / self.cell.starts_of_a_run);
            self.then(after, group, step);
        }
        self.then(RECONCILE_INTERVAL, 0, Step::ReconcileRuns);
    }
}
