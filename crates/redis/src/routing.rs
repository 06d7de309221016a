//! What becomes of a call: which node it goes to, and where it turns when that node does not take it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use custody_core::error::{ErrorName, StageError};
use tokio::time::{sleep, timeout};

use crate::{
    breaker::{Admission, Why},
    cluster::{Cluster, later},
    credentials::CredentialSource,
    failure::Failure,
    node::{Conversation, Node},
    probe::CountReplicas,
    topology::Address,
};

/// How many `MOVED` and `ASK` are followed before the topology is read again and a pause made.
const MAX_HOPS: u32 = 5;

/// The first pause before another try; each is twice as long as the one before, up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(320);

/// An answer, and who gave it.
pub(crate) struct Answered<T> {
    pub(crate) answer: T,
    /// The node that answered.
    pub(crate) node: Arc<Node>,
    /// The node that answered as the owner of the slot. It is another one while the slot is being moved (`ASK`).
    pub(crate) owner: Address,
}

/// Where the next try goes.
struct Target {
    node: Arc<Node>,
    /// The owner that has sent it there with `ASK`.
    sent_by: Option<Address>,
}

/// What is known of a call under way, for the error when its time is over.
#[derive(Default)]
struct Progress {
    node: Option<Arc<Node>>,
    failure: Option<Failure>,
}

impl<C: CredentialSource> Cluster<C> {
    /// Holds a conversation about a key of `slot` with whoever owns it. It fails only once the time of a call is over, or
    /// where waiting does not help.
    pub(crate) async fn call<T: Conversation>(
        &self,
        slot: u16,
        operation: impl Fn() -> String,
        conversation: &T,
    ) -> Result<Answered<T::Answer>, StageError> {
        let progress = Mutex::default();
        let routed = timeout(self.settings.call_limit, self.route(slot, conversation, &progress)).await;
        let failure = match routed {
            Ok(Ok(answered)) => return Ok(answered),
            Ok(Err(failure)) => failure,
            Err(_) => {
                let Progress { node, failure } =
                    progress.into_inner().unwrap_or_else(PoisonError::into_inner);
                if let Some(node) = node.filter(|_| T::SENDS_PAYLOAD) {
                    node.breaker.open(Why::Unready, self.settings.breaker_pause);
                }
                let limit = self.settings.call_limit.as_millis();
                failure.unwrap_or_else(|| later(format!("it took longer than {limit} ms")))
            }
        };
        Err(stage_error(operation(), failure))
    }

    /// Like [`call`](Self::call), for an answer that may report absence: it counts once another node has confirmed who owns
    /// the slot.
    pub(crate) async fn call_for_presence<T: Conversation>(
        &self,
        slot: u16,
        operation: impl Fn() -> String,
        conversation: &T,
        is_absence: impl Fn(&T::Answer) -> bool,
    ) -> Result<Answered<T::Answer>, StageError> {
        let mut pause = FIRST_PAUSE;
        let ask = async {
            loop {
                let answered = self.call(slot, &operation, conversation).await?;
                if !is_absence(&answered.answer) {
                    return Ok(answered);
                }
                match self.confirms_owner(slot, &answered.owner).await {
                    Ok(true) => return Ok(answered),
                    Ok(false) => sleep(pause).await,
                    Err(failure) => return Err(stage_error(operation(), failure)),
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        };
        timeout(self.settings.call_limit, ask).await.unwrap_or_else(|_| {
            let why = "no second node confirms that it is not there".to_owned();
            Err(stage_error(operation(), later(why)))
        })
    }

    async fn route<T: Conversation>(
        &self,
        slot: u16,
        conversation: &T,
        progress: &Mutex<Progress>,
    ) -> Result<Answered<T::Answer>, Failure> {
        let (mut target, mut hops, mut pause, mut has_looked_again) = (None, 0, FIRST_PAUSE, false);
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
                Err(failure @ (Failure::Later(_) | Failure::Hung(_))) => {
                    note(None, failure);
                    wait(&mut pause).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            progress.lock().unwrap_or_else(PoisonError::into_inner).node = Some(Arc::clone(&node));
            let failure = match self.attempt(&node, conversation, sent_by.is_some()).await {
                Ok(answer) => {
                    let owner = sent_by.unwrap_or_else(|| node.address.clone());
                    return Ok(Answered { answer, node, owner });
                }
                Err(failure) => failure,
            };
            match &failure {
                Failure::Moved { to, .. } if hops < MAX_HOPS => {
                    if let Some(address) = Address::in_redirect(to, &node.address) {
                        hops += 1;
                        self.note_owner(slot, &address);
                        target = Some(Target { node: self.node(&address), sent_by: None });
                        continue;
                    }
                }
                Failure::Ask { to, .. } if hops < MAX_HOPS => {
                    if let Some(address) = Address::in_redirect(to, &node.address) {
                        hops += 1;
                        let sent_by = sent_by.unwrap_or_else(|| node.address.clone());
                        target = Some(Target { node: self.node(&address), sent_by: Some(sent_by) });
                        continue;
                    }
                }
                // Puts to the node are paused: only another owner can take this one.
                Failure::Paused(_) if has_looked_again => return Err(failure),
                Failure::Moved { .. }
                | Failure::Ask { .. }
                | Failure::Later(_)
                | Failure::Hung(_)
                | Failure::Paused(_) => {}
                Failure::Refused(_) | Failure::Unusable(_) => return Err(failure),
            }
            let is_paused = matches!(failure, Failure::Paused(_) | Failure::Hung(_));
            note(Some(&node), failure);
            (hops, has_looked_again) = (0, true);
            if !is_paused {
                wait(&mut pause).await;
            }
            // Where nobody reports a topology, the next try goes by the old one.
            self.refresh(Some(&node.address)).await.ok();
        }
    }

    /// One conversation with one node, where its breaker admits it.
    async fn attempt<T: Conversation>(
        &self,
        node: &Node,
        conversation: &T,
        asking: bool,
    ) -> Result<T::Answer, Failure> {
        let pause = self.settings.breaker_pause;
        let result = async {
            if T::SENDS_PAYLOAD {
                self.be_admitted(node).await?;
            }
            node.converse(&self.connector, conversation, asking).await
        };
        let result = result.await;
        if let Err(Failure::Hung(_)) = &result {
            node.breaker.open(Why::Hung, pause);
        }
        result
    }

    /// Asks a node's breaker, and the node itself where it was not well a while ago: the question costs little, a payload that
    /// is not confirmed costs the time of a whole request.
    async fn be_admitted(&self, node: &Node) -> Result<(), Failure> {
        let pause = self.settings.breaker_pause;
        match node.breaker.admit(pause) {
            Admission::Send => Ok(()),
            Admission::Refused(why) => Err(paused(node, why)),
            Admission::Probe => {
                let wanted = self.settings.level.replicas();
                match node.converse(&self.connector, &CountReplicas, false).await? {
                    Some(replicas) if replicas >= wanted => Ok(()),
                    Some(_) => {
                        node.breaker.open(Why::TooFewReplicas, pause);
                        Err(paused(node, Why::TooFewReplicas))
                    }
                    // A replica answers a put with where to go.
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

fn paused(node: &Node, why: Why) -> Failure {
    Failure::Paused(format!("puts to {} are paused: {}", node.address, why.as_str()))
}

fn stage_error(operation: String, failure: Failure) -> StageError {
    match failure {
        // It names its own operation, and may be worth no retry.
        Failure::Unusable(error) => error,
        failure => StageError::new(ErrorName::CacheUnavailable, operation).caused_by(failure.into_cause()),
    }
}
