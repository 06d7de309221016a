//! The routing of a call: which node it goes to, and where it is sent next when that node fails or redirects it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use custody_core::error::{ErrorName, StageError};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    breaker::{Admission, PauseReason},
    cluster::{Cluster, not_ready},
    credentials::CredentialSource,
    failure::Failure,
    node::{Exchange, Node},
    probe::CountReplicas,
    topology::Address,
};

/// The largest number of `MOVED` and `ASK` redirects that are followed before the topology is read again after a pause.
const MAX_HOPS: u32 = 5;

/// The pause before the second try. Each further pause is twice as long as the one before, up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(320);

/// An answer, and the nodes that it came from.
pub(crate) struct RoutedAnswer<T> {
    pub(crate) answer: T,
    /// The node that answered.
    pub(crate) node: Arc<Node>,
    /// The owner of the slot at the time of the answer. While the slot is being moved (`ASK`), this is another node
    /// than the one that answered.
    pub(crate) owner: Address,
}

/// The node that the next try goes to.
struct Target {
    node: Arc<Node>,
    /// The owner of the slot, if it redirected the call to this node with `ASK`.
    sent_by: Option<Address>,
}

/// The last node and the last failure of a call in progress. They are reported if the call reaches its time limit.
#[derive(Default)]
struct Progress {
    node: Option<Arc<Node>>,
    failure: Option<Failure>,
}

impl<C: CredentialSource> Cluster<C> {
    /// Runs an exchange about a key of `slot` with the node that owns the slot. It retries until the time limit of a
    /// call, and fails earlier only if waiting does not help.
    pub(crate) async fn call<T: Exchange>(
        &self,
        slot: u16,
        operation: impl Fn() -> String,
        exchange: &T,
    ) -> Result<RoutedAnswer<T::Answer>, StageError> {
        self.call_until(self.deadline(), slot, operation, exchange).await
    }

    /// Returns the time at which a call that begins now reaches its limit.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.call_limit
    }

    /// Like [`call`](Self::call), until `deadline`. Several exchanges of one call share one deadline, so that the
    /// error names the last failure, whichever exchange the deadline ended.
    pub(crate) async fn call_until<T: Exchange>(
        &self,
        deadline: Instant,
        slot: u16,
        operation: impl Fn() -> String,
        exchange: &T,
    ) -> Result<RoutedAnswer<T::Answer>, StageError> {
        let progress = Mutex::default();
        let routed = timeout_at(deadline, self.route(slot, exchange, &progress)).await;
        let failure = match routed {
            Ok(Ok(answered)) => return Ok(answered),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let Progress { node, failure } =
                    progress.into_inner().unwrap_or_else(PoisonError::into_inner);
                if let Some(node) = node.filter(|_| T::SENDS_PAYLOAD) {
                    node.breaker.open(PauseReason::Unready, self.settings.breaker_pause);
                }
                let limit = self.settings.call_limit.as_millis();
                failure.unwrap_or_else(|| not_ready(format!("it took longer than {limit} ms")))
            }
        };
        Err(stage_error(operation(), failure))
    }

    /// Like [`call`](Self::call), for an answer that may report absence. Absence is returned only after another node
    /// has confirmed the owner of the slot.
    pub(crate) async fn call_confirming_absence<T: Exchange>(
        &self,
        slot: u16,
        operation: impl Fn() -> String,
        exchange: &T,
        is_absence: impl Fn(&T::Answer) -> bool,
    ) -> Result<RoutedAnswer<T::Answer>, StageError> {
        let (deadline, mut pause) = (self.deadline(), FIRST_PAUSE);
        let unconfirmed = || not_ready("no second node confirms that the payload is absent".to_owned());
        loop {
            let answered = self.call_until(deadline, slot, &operation, exchange).await?;
            if !is_absence(&answered.answer) {
                return Ok(answered);
            }
            match timeout_at(deadline, self.confirms_owner(slot, &answered.owner)).await {
                Ok(Ok(true)) => return Ok(answered),
                Ok(Ok(false)) if Instant::now() + pause < deadline => wait(&mut pause).await,
                Ok(Err(failure)) => return Err(stage_error(operation(), failure)),
                Ok(Ok(false)) | Err(_) => return Err(stage_error(operation(), unconfirmed())),
            }
        }
    }

    async fn route<T: Exchange>(
        &self,
        slot: u16,
        exchange: &T,
        progress: &Mutex<Progress>,
    ) -> Result<RoutedAnswer<T::Answer>, Failure> {
        let (mut target, mut hops, mut pause, mut has_refreshed_topology) = (None, 0, FIRST_PAUSE, false);
        let note = |node: Option<&Arc<Node>>, failure: Failure| {
            *progress.lock().unwrap_or_else(PoisonError::into_inner) =
                Progress { node: node.map(Arc::clone), failure: Some(failure) };
        };
        loop {
            let next = match target.take() {
                Some(target) => Ok(target),
                None => self.owner(slot).await.map(|node| Target { node, sent_by: None }),
            };
            let Target { node, sent_by } = match next {
                Ok(next) => next,
                Err(failure @ (Failure::Transient(_) | Failure::TimedOut(_))) => {
                    note(None, failure);
                    wait(&mut pause).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            progress.lock().unwrap_or_else(PoisonError::into_inner).node = Some(Arc::clone(&node));
            let failure = match self.attempt(&node, exchange, sent_by.is_some()).await {
                Ok(answer) => {
                    let owner = sent_by.unwrap_or_else(|| node.address.clone());
                    return Ok(RoutedAnswer { answer, node, owner });
                }
                Err(failure) => failure,
            };
            if hops < MAX_HOPS
                && let Some(next) = self.redirected(slot, &failure, &node, sent_by)
            {
                hops += 1;
                target = Some(next);
                continue;
            }
            match &failure {
                // The breaker of the node refuses the payload, and this call has already read the topology again: no
                // other owner can take the payload.
                Failure::Paused(_) if has_refreshed_topology => return Err(failure),
                Failure::Moved { .. }
                | Failure::Ask { .. }
                | Failure::Transient(_)
                | Failure::TimedOut(_)
                | Failure::Paused(_) => {}
                Failure::Refused(_) | Failure::Unusable(_) => return Err(failure),
            }
            let is_paused = matches!(failure, Failure::Paused(_) | Failure::TimedOut(_));
            note(Some(&node), failure);
            (hops, has_refreshed_topology) = (0, true);
            if !is_paused {
                wait(&mut pause).await;
            }
            // If no node reports a topology, the next try uses the old one.
            self.refresh(Some(&node.address)).await.ok();
        }
    }

    /// Returns the target of a redirect, `MOVED` or `ASK`, that `node` has sent.
    fn redirected(
        &self,
        slot: u16,
        failure: &Failure,
        node: &Node,
        sent_by: Option<Address>,
    ) -> Option<Target> {
        match failure {
            Failure::Moved { to, .. } => {
                let address = Address::in_redirect(to, &node.address)?;
                self.note_owner(slot, &address);
                Some(Target { node: self.node(&address), sent_by: None })
            }
            Failure::Ask { to, .. } => {
                let address = Address::in_redirect(to, &node.address)?;
                let sent_by = sent_by.unwrap_or_else(|| node.address.clone());
                Some(Target { node: self.node(&address), sent_by: Some(sent_by) })
            }
            _ => None,
        }
    }

    /// Runs an exchange with one node. If the exchange sends a payload, the node's breaker must admit it.
    async fn attempt<T: Exchange>(
        &self,
        node: &Node,
        exchange: &T,
        asking: bool,
    ) -> Result<T::Answer, Failure> {
        let pause = self.settings.breaker_pause;
        let result = async {
            if T::SENDS_PAYLOAD {
                self.check_breaker(node).await?;
            }
            node.run_exchange(&self.connector, exchange, asking).await
        };
        let result = result.await;
        if let Err(Failure::TimedOut(_)) = &result {
            node.breaker.open(PauseReason::TimedOut, pause);
        }
        result
    }

    /// Asks a node's breaker for admission. If the breaker asks for a probe, the node is asked for its number of
    /// replicas first: that question costs little, but a payload that is not confirmed costs the time of a whole
    /// request.
    async fn check_breaker(&self, node: &Node) -> Result<(), Failure> {
        let pause = self.settings.breaker_pause;
        match node.breaker.admit(pause) {
            Admission::Send => Ok(()),
            Admission::Refused(why) => Err(paused(node, why)),
            Admission::Probe => {
                let wanted = self.settings.level.replicas();
                match node.run_exchange(&self.connector, &CountReplicas, false).await? {
                    Some(replicas) if replicas >= wanted => Ok(()),
                    Some(_) => {
                        node.breaker.open(PauseReason::TooFewReplicas, pause);
                        Err(paused(node, PauseReason::TooFewReplicas))
                    }
                    // The node is a replica. It answers the `put` with a redirect to its primary.
                    None => Ok(()),
                }
            }
        }
    }
}

async fn wait(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(LAST_PAUSE);
}

fn paused(node: &Node, why: PauseReason) -> Failure {
    Failure::Paused(format!("puts to {} are paused: {}", node.address, why.as_str()))
}

fn stage_error(operation: String, failure: Failure) -> StageError {
    match failure {
        // This error names its own operation, and its error name may mean that a retry does not help.
        Failure::Unusable(error) => error,
        failure => StageError::new(ErrorName::CacheUnavailable, operation).caused_by(failure.into_cause()),
    }
}
