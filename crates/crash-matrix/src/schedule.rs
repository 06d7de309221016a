//! One schedule: producers, an operator, faults, and the time in which everything must come to its end.

use std::{sync::Arc, time::Duration};

use custody_core::{
    digest::Sha256, idempotency::IdempotencyKey, receipt::Receipt, stages::failure::RedrivePolicy,
};
use rand::{SeedableRng as _, rngs::SmallRng};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    faults::{Fault, Plan, below},
    invariants::{self, Acknowledged},
    world::World,
};

const MINUTE: Duration = Duration::from_mins(1);

/// How long the faults last, and how long what they left may take to come to its end, in virtual minutes.
const FAULTY_MINUTES: u64 = 12;
const HEALING_MINUTES: u64 = 90;

/// What a schedule is made of.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// What names it, for a replay.
    pub(crate) name: String,
    seed: u64,
    producers: Vec<Producer>,
    first: Plan,
    second: Plan,
    automatic_redrive: bool,
    skew_ms: i64,
}

/// Somebody with one record to post.
#[derive(Clone, Debug)]
struct Producer {
    number: usize,
    keyed: bool,
    copies: u64,
    tries: u64,
}

/// What became of a schedule.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) violations: Vec<String>,
    pub(crate) calls: u64,
    pub(crate) faults: u64,
    pub(crate) acknowledged: usize,
    pub(crate) trace: Vec<String>,
}

impl Schedule {
    /// The schedule that `seed` stands for.
    pub(crate) fn random(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let producers = (0..=below(&mut random, 3))
            .map(|number| Producer {
                number: number as usize,
                keyed: below(&mut random, 3) > 0,
                copies: 1 + below(&mut random, 4) / 3,
                tries: 1 + below(&mut random, 3),
            })
            .collect();
        Self {
            name: format!("--seed {seed} --schedules 1"),
            seed,
            producers,
            first: Plan::random(&mut random, 90),
            second: Plan::random(&mut random, 60),
            automatic_redrive: below(&mut random, 4) == 0,
            skew_ms: match below(&mut random, 8) {
                0 => -3_600_000,
                1 => 3_600_000,
                _ => 0,
            },
        }
    }

    /// One record, one fault: at this call of its way, or of the way of its redrive.
    pub(crate) fn single(call: u64, fault: Fault, keyed: bool) -> Self {
        let plan = Plan { single: [(call, fault)].into(), outages: Vec::new() };
        Self {
            name: format!("{fault:?} at call {call}{}", if keyed { ", with a key" } else { "" }),
            seed: call,
            producers: vec![Producer { number: 0, keyed, copies: 1, tries: 3 }],
            first: plan.clone(),
            second: plan,
            automatic_redrive: false,
            skew_ms: 0,
        }
    }

    /// Runs the schedule from its first request to the last record's end.
    pub(crate) fn run(&self) -> Run {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O");
        tokio::task::LocalSet::new().block_on(&runtime, self.drive())
    }

    async fn drive(&self) -> Run {
        let policy = RedrivePolicy { automatic: self.automatic_redrive, max_attempts: 3 };
        let world = World::new(self.seed, policy);
        let mut acknowledged = Vec::new();

        world.injector.follow(self.first.clone());
        let posts = futures_util::future::join_all(
            self.producers.iter().flat_map(|p| (0..p.copies).map(|_| self.post(&world, p))),
        );
        let (receipts, ()) = futures_util::future::join(posts, self.work(&world, FAULTY_MINUTES)).await;
        acknowledged.extend(receipts.into_iter().flatten());
        let calls = world.injector.calls();

        world.injector.follow(Plan::default());
        let mut violations = self.heal(&world).await;
        violations.extend(invariants::ended(&world, &acknowledged));

        violations.extend(self.repeat(&world, &acknowledged).await);

        // An operator redrives what failed, and not everything is well again.
        world.injector.follow(self.second.clone());
        redrive_all(&world, false);
        world.clock.skew(self.skew_ms);
        self.work(&world, FAULTY_MINUTES).await;
        world.clock.skew(0);
        world.injector.follow(Plan::default());
        violations.extend(self.heal(&world).await);
        violations.extend(invariants::ended(&world, &acknowledged));

        // And once more, insisting, when everything is: now every record completes.
        for _ in 0..2 {
            redrive_all(&world, true);
            violations.extend(self.heal(&world).await);
        }
        violations.extend(invariants::completed(&world, &acknowledged));
        violations.dedup();
        Run {
            violations,
            calls,
            faults: world.injector.injected(),
            acknowledged: acknowledged.len(),
            trace: world.injector.trace(),
        }
    }

    /// Every producer with a key and a receipt asks once more, when everything is well: the receipt must be the same.
    async fn repeat(&self, world: &Arc<World>, acknowledged: &[Acknowledged]) -> Vec<String> {
        let mut violations = Vec::new();
        for producer in self.producers.iter().filter(|producer| producer.keyed) {
            let Some(again) = self.post(world, &Producer { tries: 1, ..producer.clone() }).await else {
                violations
                    .push(format!("producer {} gets no receipt when everything is well", producer.number));
                continue;
            };
            // Of two requests at once, of which only one reached the cache, either may be remembered.
            if producer.copies > 1 && world.injector.claims_disturbed() {
                continue;
            }
            let mut before = acknowledged.iter().filter(|known| known.key == again.key).peekable();
            if before.peek().is_some()
                && !before.any(|known| known.receipt.message_id == again.receipt.message_id)
            {
                violations.push(format!(
                    "producer {} repeats its request and gets another record, {}",
                    producer.number, again.receipt.message_id
                ));
            }
        }
        violations.extend(self.heal(world).await);
        violations
    }

    /// Posts a producer's record until there is a receipt or the producer gives up.
    async fn post(&self, world: &Arc<World>, producer: &Producer) -> Option<Acknowledged> {
        let payload = format!("the payload of producer {} of schedule {}", producer.number, self.seed);
        let key = format!("record-{}", producer.number);
        let mut headers = json!({"content-type": "application/json"});
        if producer.keyed {
            headers["idempotency-key"] = key.clone().into();
        }
        let body = json!({
            "messageMetaData": {"messageType": "t", "sourceSystemID": "s", "dateTime": "2026-11-20T22:21:00Z"},
            "messagePayload": payload,
            "payloadEncoding": "utf8",
        });
        let event = json!({
            "headers": headers,
            "requestContext": {"requestId": format!("request-{}", producer.number), "identity": {"apiKeyId": "a"}},
            "body": body.to_string(),
        })
        .to_string();
        for _ in 0..producer.tries {
            match world.post(&event).await {
                Some(answer) if answer.status_code == 200 => {
                    let receipt: Receipt = serde_json::from_str(&answer.body).expect("a receipt is JSON");
                    world.injector.note(format!(
                        "producer {}: {} {:?}",
                        producer.number, receipt.message_id, receipt.durability
                    ));
                    let key =
                        producer.keyed.then(|| IdempotencyKey::of_header("a", &key).expect("a usable key"));
                    assert_eq!(receipt.payload.sha256, Sha256::of(payload.as_bytes()));
                    return Some(Acknowledged { receipt, payload: payload.into_bytes(), key });
                }
                answer => {
                    world.injector.note(format!(
                        "producer {}: {:?}",
                        producer.number,
                        answer.map(|a| a.status_code)
                    ));
                    sleep(Duration::from_secs(5)).await;
                }
            }
        }
        None
    }

    /// Lets time pass, with reconcile every minute, sometimes two of it.
    async fn work(&self, world: &Arc<World>, minutes: u64) {
        for minute in 0..minutes {
            tick(world, (minute + self.seed).is_multiple_of(3));
            sleep(MINUTE).await;
        }
    }

    /// Lets time pass until nothing is under way any more; what has not ended by then never will.
    async fn heal(&self, world: &Arc<World>) -> Vec<String> {
        for minute in 0..HEALING_MINUTES {
            tick(world, false);
            sleep(MINUTE).await;
            // Late effects may still come, for a while.
            if minute > 8 && invariants::quiet(world) {
                return Vec::new();
            }
        }
        vec![format!("still under way after {HEALING_MINUTES} minutes: {}", invariants::rest(world))]
    }
}

/// What happens in the deployment every minute.
fn tick(world: &Arc<World>, twice: bool) {
    // Sooner than it would be: nothing may rely on the grace time.
    world.cache.expire_settled();
    for _ in 0..=usize::from(twice) {
        let world = Arc::clone(world);
        tokio::task::spawn_local(async move {
            if let Some(report) = world.reconcile().await.filter(|report| report.due > 0) {
                world.injector.note(format!("reconcile: {report:?}"));
            }
        });
    }
    // Letters that the failure function put on the redrive queue itself.
    for (letter, delay) in world.redrives.take() {
        tokio::task::spawn_local(Arc::clone(world).deliver_redrive(letter, delay, false));
    }
}

/// An operator moves every letter to the redrive queue.
fn redrive_all(world: &Arc<World>, forced: bool) {
    for letter in world.dead_letters.take() {
        world.injector.note(format!("redrive: {:?}", letter.run().map(|run| run.to_string())));
        tokio::task::spawn_local(Arc::clone(world).deliver_redrive(letter, Duration::ZERO, forced));
    }
}
