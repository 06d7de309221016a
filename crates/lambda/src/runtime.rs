//! The bridge between stages and the Lambda runtime. It gives a stage its typed input, and reports failures under the
//! error names that the state machine matches on.

mod invocation;

use std::{fmt, future::Future, sync::Arc, thread::available_parallelism};

use bytes::Bytes;
use custody_core::{error::StageError, schema};
use futures_util::{FutureExt as _, TryFutureExt as _};
pub use lambda_runtime::Error;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::runtime;
use tracing::error;

use crate::metrics;

use self::invocation::{InvocationLayer, set_error, set_follow_up, take_event};

/// A stage's failure, as it is reported to Lambda. Lambda's `errorType` is the name of the error, not a Rust type.
struct Reported(StageError);

impl fmt::Debug for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Reported> for Diagnostic {
    fn from(Reported(error): Reported) -> Self {
        // The failure is logged only here. Step Functions and the dead letter carry the same text.
        error!(error.name = error.name.as_str(), error.kind = %error.kind(), %error, "stage failed");
        metrics::failed(error.name.as_str());
        set_error(error.name.as_str());
        Self { error_type: error.name.as_str().to_owned(), error_message: error.to_string() }
    }
}

/// A failure of a Lambda authorizer.
pub enum AuthorizerFailure {
    /// The caller is not known. API Gateway answers 401.
    Unauthorized,
    /// Nobody can tell whether the caller is known. API Gateway answers with its response `AUTHORIZER_FAILURE`.
    Unavailable(String),
}

impl fmt::Debug for AuthorizerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // API Gateway compares the whole message with this word. Source: Amazon API Gateway developer guide, "Use API Gateway Lambda
        // authorizers".
        match self {
            Self::Unauthorized => f.write_str("Unauthorized"),
            Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

impl From<AuthorizerFailure> for Diagnostic {
    fn from(failure: AuthorizerFailure) -> Self {
        let error_type = match failure {
            // The caller's failure, not the function's.
            AuthorizerFailure::Unauthorized => "Unauthorized",
            AuthorizerFailure::Unavailable(_) => {
                metrics::failed("AuthorizerUnavailable");
                "AuthorizerUnavailable"
            }
        };
        Self { error_type: error_type.to_owned(), error_message: format!("{failure:?}") }
    }
}

/// The environment variable with the number of invocations that Lambda gives this process at once. Lambda sets it on
/// Lambda Managed Instances only. Source: AWS Lambda developer guide, "Using the Lambda runtime API for custom
/// runtimes". Unverified on AWS.
const CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";

/// Runs a function until it ends. It uses one thread if the process gets one event at a time, or else one thread for
/// each processor.
pub fn run(function: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    #[expect(
        clippy::disallowed_methods,
        reason = "Lambda's own variable, which its runtime reads in the same way"
    )]
    let concurrency = std::env::var(CONCURRENCY).ok().and_then(|text| text.parse::<u32>().ok());
    let mut builder = if concurrency.is_some_and(|concurrency| concurrency > 1) {
        let mut builder = runtime::Builder::new_multi_thread();
        // A request that hashes a payload yields after every piece and is ready again at once. A short event interval
        // makes the runtime poll the sockets of the other requests in between.
        builder.worker_threads(available_parallelism().map_or(1, usize::from)).event_interval(4);
        builder
    } else {
        runtime::Builder::new_current_thread()
    };
    builder.enable_all().build()?.block_on(function)
}

/// Serves a stage whose input and output are JSON.
pub async fn serve<S, I, O, F>(
    stage: S,
    run: impl Fn(Arc<S>, I) -> F + Clone + Send + 'static,
) -> Result<(), Error>
where
    S: Send + Sync + 'static,
    I: DeserializeOwned + Send,
    O: Serialize + Send + 'static,
    F: Future<Output = Result<O, StageError>> + Send + 'static,
{
    let read = |event: &[u8]| schema::read(event, "read the stage's input").map_err(Reported);
    serve_json(stage, move |stage, input| run(stage, input).map_err(Reported), read).await
}

/// Serves a Lambda authorizer of API Gateway.
pub async fn serve_authorizer<S, I, O, F>(
    authorizer: S,
    run: impl Fn(Arc<S>, I) -> F + Clone + Send + 'static,
) -> Result<(), Error>
where
    S: Send + Sync + 'static,
    I: DeserializeOwned + Send,
    O: Serialize + Send + 'static,
    F: Future<Output = Result<O, AuthorizerFailure>> + Send + 'static,
{
    let unreadable =
        |error| AuthorizerFailure::Unavailable(format!("the event is not one of an authorizer: {error}"));
    serve_json(authorizer, run, move |event| serde_json::from_slice(event).map_err(unreadable)).await
}

async fn serve_json<S, I, O, F, E>(
    stage: S,
    run: impl Fn(Arc<S>, I) -> F + Clone + Send + 'static,
    read: impl Fn(&[u8]) -> Result<I, E> + Clone + Send + 'static,
) -> Result<(), Error>
where
    S: Send + Sync + 'static,
    I: DeserializeOwned + Send,
    O: Serialize + Send + 'static,
    F: Future<Output = Result<O, E>> + Send + 'static,
    E: Into<Diagnostic> + fmt::Debug + Send + 'static,
{
    let stage = Arc::new(stage);
    let handler = service_fn(move |_: LambdaEvent<IgnoredAny>| {
        let (stage, run, read) = (Arc::clone(&stage), run.clone(), read.clone());
        async move {
            let input = read(&take_event());
            // The future is boxed, because the compiler cannot compute the layout of the nested futures of the SDK
            // calls.
            run(stage, input?).boxed().await
        }
    });
    Runtime::new(handler).layer(InvocationLayer).run_concurrent().await
}

/// Serves a stage that reads its event as the bytes that Lambda sent, always answers, and returns a future for the work
/// after its response.
pub async fn serve_with_follow_up<S, O, F, W>(
    stage: S,
    run: impl Fn(Arc<S>, Bytes) -> F + Clone + Send + 'static,
) -> Result<(), Error>
where
    S: Send + Sync + 'static,
    O: Serialize + Send + 'static,
    F: Future<Output = (O, W)> + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let stage = Arc::new(stage);
    let handler = service_fn(move |_: LambdaEvent<IgnoredAny>| {
        let (stage, run) = (Arc::clone(&stage), run.clone());
        async move {
            let (output, follow_up) = run(stage, take_event()).boxed().await;
            set_follow_up(follow_up.boxed());
            Ok::<_, Reported>(output)
        }
    });
    Runtime::new(handler).layer(InvocationLayer).run_concurrent().await
}
