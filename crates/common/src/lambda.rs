//! The bridge between stages and the Lambda runtime: typed input in, and failures out under the names that the
//! state machine matches on.

use std::fmt;

use custody_core::error::{ErrorName, StageError};
pub use lambda_runtime::Error;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tracing::error;

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
    let stage = &stage;
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Box<RawValue>>| {
        // Boxed: the nested futures of SDK calls are otherwise more than the compiler lays out.
        Box::pin(stage(event.payload.get())).await.map_err(Reported)
    }))
    .await
}
