//! The bridge between stages and the Lambda runtime: typed input in, and failures out under the names that the
//! state machine matches on.

mod event_bytes;
mod follow_up;

use std::fmt;

use bytes::Bytes;
use custody_core::error::{ErrorName, StageError};
pub use lambda_runtime::Error;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tracing::error;

use self::{
    event_bytes::EventBytes,
    follow_up::{FollowUpLayer, Pending},
};

/// A stage's failure as Lambda reports it. `errorType` is the error's name, not a Rust type.
struct Reported(StageError);

impl fmt::Debug for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Reported> for Diagnostic {
    fn from(Reported(error): Reported) -> Self {
        // Logged here, once: Step Functions and the dead-letter message carry the same text on.
        error!(error.name = error.name.as_str(), error.kind = %error.kind(), %error, "stage failed");
        Self { error_type: error.name.as_str().to_owned(), error_message: error.to_string() }
    }
}

/// Serves a stage whose input and output are JSON.
pub async fn serve<I: DeserializeOwned, O: Serialize>(
    stage: impl AsyncFn(I) -> Result<O, StageError>,
) -> Result<(), Error> {
    serve_text(async |text| {
        let input = serde_json::from_str(text).map_err(|error| {
            StageError::new(ErrorName::InvalidInput, "read the stage's input").caused_by(error)
        })?;
        stage(input).await
    })
    .await
}

/// Serves a stage that reads its event's JSON text itself.
pub async fn serve_text<O: Serialize>(
    stage: impl AsyncFn(&str) -> Result<O, StageError>,
) -> Result<(), Error> {
    serve_bytes(async |event| {
        let text = std::str::from_utf8(&event).map_err(|error| {
            StageError::new(ErrorName::InvalidInput, "read the stage's input").caused_by(error)
        })?;
        stage(text).await
    })
    .await
}

/// Serves a stage that reads its event as the bytes that Lambda sent.
pub async fn serve_bytes<O: Serialize>(
    stage: impl AsyncFn(Bytes) -> Result<O, StageError>,
) -> Result<(), Error> {
    let (stage, bytes) = (&stage, EventBytes::default());
    let handler = service_fn(async |_: LambdaEvent<IgnoredAny>| {
        // Boxed: the nested futures of SDK calls are otherwise more than the compiler lays out.
        Box::pin(stage(bytes.take())).await.map_err(Reported)
    });
    Runtime::new(handler).layer(bytes.clone()).run().await
}

/// Serves a stage that always answers and leaves work for after its response.
pub async fn serve_with_follow_up<O: Serialize, W>(
    stage: impl AsyncFn(Bytes) -> (O, W),
    follow_up: impl AsyncFn(W),
) -> Result<(), Error> {
    let (stage, bytes, pending) = (&stage, EventBytes::default(), Pending::new());
    let handler = service_fn(async |_: LambdaEvent<IgnoredAny>| {
        // Boxed: the nested futures of SDK calls are otherwise more than the compiler lays out.
        let (output, work) = Box::pin(stage(bytes.take())).await;
        pending.leave(work);
        Ok::<_, Reported>(output)
    });
    let layer = FollowUpLayer { pending: pending.clone(), work: &follow_up };
    Runtime::new(handler).layer(bytes.clone()).layer(layer).run().await
}
