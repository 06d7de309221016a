//! The fault port: every effect of every stage goes through here on its way to the in-memory store.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use custody_core::{
    clock::Timestamp,
    content::{Content, Digested},
    dead_letter::{DeadLetter, FailureSummary},
    error::{ErrorName, StageError},
    idempotency::{Claim, IdempotencyKey},
    message::{InternalMessage, MetaDataReference, PayloadDescriptor, RedisReference, S3Reference},
    notification::Notification,
    ports::{
        ArchivedObject, CompletionTimes, DeadLetters, FailedItem, FailedStore, FailureHandler,
        IdempotencyClaims, ItemState, Notifier, Outcome, PayloadArchive, PayloadCache, PendingMarkers,
        PendingRun, PendingRuns, RecordTable, Redrives, Salvage, Start, Workflow,
    },
    record_id::RecordId,
    rejected_request::RejectedRequest,
    run::Run,
    stages::failure::{FailedRecord, FailureReceipt},
};
use custody_test_support::doubles::{
    MemoryArchive, MemoryCache, MemoryDeadLetters, MemoryFailedStore, MemoryMarkers, MemoryNotifier,
    MemoryRedrives, MemoryTable,
};

use crate::{
    faults::{Fault, Injector, Service, lateness},
    platform::Invocation,
};

/// A store behind faults, as one invocation of a function sees it.
#[derive(Clone, Debug)]
pub(crate) struct Faulty<S> {
    pub(crate) store: Arc<S>,
    pub(crate) service: Service,
    pub(crate) unavailable: ErrorName,
    pub(crate) injector: Arc<Injector>,
    pub(crate) invocation: Invocation,
}

impl<S: Send + Sync + 'static> Faulty<S> {
    /// Does what `call` says to the store, unless the plan has something else in mind.
    async fn effect<T, F>(
        &self,
        operation: &'static str,
        call: impl FnOnce(Arc<S>) -> F + Send,
    ) -> Result<T, StageError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StageError>> + Send + 'static,
    {
        let failure = |name| Err(StageError::new(name, operation));
        let call = call(Arc::clone(&self.store));
        match self.injector.next(self.service, operation) {
            None => call.await,
            Some(Fault::Refuse) => failure(self.unavailable),
            Some(Fault::Deny) => failure(ErrorName::AccessDenied),
            Some(Fault::LoseReply) => {
                call.await?;
                failure(self.unavailable)
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                call.await.ok();
                std::future::pending().await
            }
            Some(Fault::Late) => {
                let later = lateness(self.injector.calls());
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(later).await;
                    call.await.ok();
                });
                failure(self.unavailable)
            }
            Some(Fault::Kill) => self.invocation.die().await,
            Some(Fault::KillAfter) => {
                call.await.ok();
                self.invocation.die().await
            }
        }
    }
}

impl PayloadCache for Faulty<MemoryCache> {
    fn reference(&self, id: RecordId) -> RedisReference {
        (&*self.store).reference(id)
    }

    async fn put(
        &self,
        message: &InternalMessage,
        payload: &Content<'_>,
        key: Option<&IdempotencyKey>,
    ) -> Result<(), StageError> {
        let (message, payload, mut key) = (message.clone(), payload.to_bytes(), key.copied());
        // Written, and not confirmed by the replicas: then the claim is not confirmed either.
        if self.injector.upcoming(self.service) == Some(Fault::LoseReply) {
            key = None;
        }
        self.effect(
            "put",
            |s| async move { (&*s).put(&message, &Content::from(&payload), key.as_ref()).await },
        )
        .await
    }

    async fn payload(&self, id: RecordId) -> Result<Option<Digested>, StageError> {
        self.effect("payload", |s| async move { (&*s).payload(id).await }).await
    }

    async fn settle(&self, run: Run) -> Result<(), StageError> {
        self.effect("settle", |s| async move { (&*s).settle(run).await }).await
    }

    async fn extend(&self, records: &[RecordId]) -> Result<(), StageError> {
        let records = records.to_vec();
        self.effect("extend", |s| async move { (&*s).extend(&records).await }).await
    }
}

macro_rules! pending_runs_and_claims {
    ($($store:ty),*) => {
        $(
            impl PendingRuns for Faulty<$store> {
                async fn pending(&self, limit: usize) -> Result<Vec<PendingRun>, StageError> {
                    self.effect("pending", |s| async move { (&*s).pending(limit).await }).await
                }

                async fn message(&self, run: Run) -> Result<Option<InternalMessage>, StageError> {
                    self.effect("message", |s| async move { (&*s).message(run).await }).await
                }
            }

            impl IdempotencyClaims for Faulty<$store> {
                async fn claim(&self, key: &IdempotencyKey, claim: &Claim) -> Result<Claim, StageError> {
                    let (key, claim) = (*key, claim.clone());
                    self.effect("claim", |s| async move { (&*s).claim(&key, &claim).await }).await
                }

                async fn find(&self, key: &IdempotencyKey) -> Result<Option<Claim>, StageError> {
                    let key = *key;
                    self.effect("find claim", |s| async move { (&*s).find(&key).await }).await
                }

                async fn confirm(&self, key: &IdempotencyKey, claim: &Claim) -> Result<(), StageError> {
                    let (key, claim) = (*key, claim.clone());
                    self.effect("confirm claim", |s| async move { (&*s).confirm(&key, &claim).await }).await
                }
            }
        )*
    };
}

pending_runs_and_claims!(MemoryCache, MemoryMarkers);

impl PayloadArchive for Faulty<MemoryArchive> {
    async fn store(
        &self,
        key: &str,
        payload: Bytes,
        descriptor: &PayloadDescriptor,
    ) -> Result<S3Reference, StageError> {
        let (key, descriptor) = (key.to_owned(), descriptor.clone());
        self.effect("store", |s| async move { (&*s).store(&key, payload, &descriptor).await }).await
    }

    async fn find(&self, key: &str) -> Result<Option<ArchivedObject>, StageError> {
        let key = key.to_owned();
        self.effect("find", |s| async move { (&*s).find(&key).await }).await
    }
}

impl PendingMarkers for Faulty<MemoryMarkers> {
    async fn mark(&self, message: &InternalMessage) -> Result<(), StageError> {
        let message = message.clone();
        self.effect("mark", |s| async move { (&*s).mark(&message).await }).await
    }

    async fn clear(&self, run: Run) -> Result<(), StageError> {
        self.effect("clear", |s| async move { (&*s).clear(run).await }).await
    }
}

impl RecordTable for Faulty<MemoryTable> {
    async fn put_received(
        &self,
        message: &InternalMessage,
        stored_at: Timestamp,
    ) -> Result<MetaDataReference, StageError> {
        let message = message.clone();
        self.effect("put received", |s| async move { (&*s).put_received(&message, stored_at).await }).await
    }

    async fn complete(
        &self,
        message: &InternalMessage,
        times: CompletionTimes,
    ) -> Result<CompletionTimes, StageError> {
        let message = message.clone();
        self.effect("complete", |s| async move { (&*s).complete(&message, times).await }).await
    }

    async fn fail(
        &self,
        message: &InternalMessage,
        failure: &FailureSummary,
    ) -> Result<FailedItem, StageError> {
        let (message, failure) = (message.clone(), failure.clone());
        self.effect("fail", |s| async move { (&*s).fail(&message, &failure).await }).await
    }

    async fn states(&self, records: &[RecordId]) -> Result<BTreeMap<RecordId, ItemState>, StageError> {
        let records = records.to_vec();
        self.effect("states", |s| async move { (&*s).states(&records).await }).await
    }
}

impl FailedStore for Faulty<MemoryFailedStore> {
    async fn keep(&self, key: &str, content: Bytes) -> Result<S3Reference, StageError> {
        let key = key.to_owned();
        self.effect("keep", |s| async move { (&*s).keep(&key, content).await }).await
    }

    async fn fetch(&self, key: &str) -> Result<Option<Bytes>, StageError> {
        let key = key.to_owned();
        self.effect("fetch", |s| async move { (&*s).fetch(&key).await }).await
    }
}

impl DeadLetters for Faulty<MemoryDeadLetters> {
    async fn send(&self, letter: &DeadLetter) -> Result<(), StageError> {
        let letter = letter.clone();
        self.effect("send", |s| async move { (&*s).send(&letter).await }).await
    }
}

impl Redrives for Faulty<MemoryRedrives> {
    async fn schedule(&self, letter: &DeadLetter, delay: Duration) -> Result<(), StageError> {
        let letter = letter.clone();
        self.effect("schedule", |s| async move { (&*s).schedule(&letter, delay).await }).await
    }
}

impl Notifier for Faulty<MemoryNotifier> {
    async fn publish(&self, notification: &Notification) -> Result<(), StageError> {
        let notification = notification.clone();
        self.effect("publish", |s| async move { (&*s).publish(&notification).await }).await
    }
}

/// What the simulated Step Functions can do.
pub(crate) trait Executions: Send + Sync + 'static {
    fn start(self: Arc<Self>, message: InternalMessage) -> Start;
    fn outcome(&self, run: Run) -> Option<Outcome>;
}

impl<E: Executions> Workflow for Faulty<E> {
    async fn start(&self, message: &InternalMessage) -> Result<Start, StageError> {
        let message = message.clone();
        self.effect("start", |s| async move { Ok(s.start(message)) }).await
    }

    async fn outcome(&self, run: Run) -> Result<Option<Outcome>, StageError> {
        self.effect("outcome", |s| async move { Ok(s.outcome(run)) }).await
    }
}

/// What the simulated Lambda can do for other functions: run the failure function on its JSON input.
pub(crate) trait FailureInvoker: Send + Sync + 'static {
    fn invoke_failure(
        self: Arc<Self>,
        input: String,
    ) -> impl Future<Output = Result<FailureReceipt, StageError>> + Send;
}

impl<I: FailureInvoker> Salvage for Faulty<I> {
    async fn salvage(&self, request: &RejectedRequest<'_>) -> Result<(), StageError> {
        let input = request.to_json();
        self.effect("salvage", |s| async move { s.invoke_failure(input).await.map(drop) }).await
    }
}

impl<I: FailureInvoker> FailureHandler for Faulty<I> {
    async fn handle(&self, failed: &FailedRecord) -> Result<FailureReceipt, StageError> {
        let input = failed.to_json();
        self.effect("handle", |s| async move { s.invoke_failure(input).await }).await
    }
}
