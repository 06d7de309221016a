//! The API's client: what producers and auditors do with an API key, and without any right in AWS.

pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod send;

use std::{fmt, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use custody_core::secret::Secret;
use reqwest::{Method, StatusCode, Url, header::RETRY_AFTER};
use serde::{Deserialize, de::DeserializeOwned};

use crate::output::{cut_in_the_middle, format_short_duration};

/// The number of tries of a request that is answered with 429 or 5xx, or not at all. All requests may be repeated.
const TRIES: u32 = 7;

/// The pause before the second try, if the answer does not name one. Each further pause is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the API is, and the key to it.
#[derive(Args, Clone)]
pub(crate) struct ApiOptions {
    /// URL of the API, as the output `IngestUrl` of the stack has it.
    #[arg(long, env = "CUSTODY_URL", value_name = "URL")]
    url: Url,
    /// API key of the producer or auditor.
    #[arg(long, env = "CUSTODY_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: String,
}

/// A client of the API.
pub(crate) struct ApiClient {
    pub(crate) http: reqwest::Client,
    base: Url,
    api_key: Secret,
}

/// A problem that the API has answered with.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiProblem {
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    instance: Option<String>,
    #[serde(skip)]
    status: u16,
}

impl ApiProblem {
    /// Whether there is no such record that this caller may read.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == 404
    }
}

impl std::error::Error for ApiProblem {}

impl fmt::Display for ApiProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, detail, status, instance, .. } = self;
        write!(f, "{title} ({status}): {detail}")?;
        instance.as_ref().map_or(Ok(()), |instance| write!(f, " [{instance}]"))
    }
}

/// An answer with a status of 2xx.
pub(crate) struct ApiAnswer {
    pub(crate) status: StatusCode,
    /// Whether the answer repeats an earlier one.
    pub(crate) replayed: bool,
    body: Bytes,
}

impl ApiAnswer {
    /// Reads the body as JSON of this type.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body)
            .context("read the answer of the API; is --url the API of a Custody stack?")
    }
}

/// A request to the API.
pub(crate) struct ApiRequest<'a> {
    pub(crate) method: Method,
    /// The path, relative to the URL that records are posted to.
    pub(crate) link: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Bytes,
}

impl<'a> ApiRequest<'a> {
    pub(crate) fn get(link: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, link, headers, body: Bytes::new() }
    }

    pub(crate) fn post(link: &'a str, headers: &'a [(&'a str, &'a str)], body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, link, headers, body: body.into() }
    }
}

/// Makes a client of HTTP.
pub(crate) fn http_client() -> anyhow::Result<reqwest::Client> {
    // A provider is installed already if this is not the first client.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .user_agent(concat!("custody/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        // A dead connection must not hang a command.
        .read_timeout(Duration::from_mins(2))
        // The API leads to no other host by itself, and the API key must not go there.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("make an HTTP client")
}

impl ApiClient {
    pub(crate) fn new(options: ApiOptions) -> anyhow::Result<Self> {
        let http = http_client()?;
        Ok(Self { http, base: options.url, api_key: Secret::new(options.api_key) })
    }

    /// Sends a request, and repeats it while the API or the network is not available.
    pub(crate) async fn send(&self, request: &ApiRequest<'_>) -> anyhow::Result<ApiAnswer> {
        let url =
            self.base.join(request.link).with_context(|| format!("join `{}` to --url", request.link))?;
        let mut tried = 0;
        loop {
            tried += 1;
            let mut pause = PAUSE * 2_u32.pow(tried - 1);
            let failure = match self.try_once(request, url.clone()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err((problem, named))) => {
                    let is_transient = problem.status == 429 || problem.status >= 500;
                    pause = named.unwrap_or(pause);
                    if !is_transient {
                        return Err(problem.into());
                    }
                    anyhow::Error::from(problem)
                }
                Err(error) => error,
            };
            if tried == TRIES {
                return Err(failure.context(format!("{tried} tries of {} {url} have failed", request.method)));
            }
            eprintln!(
                "{failure:#}; trying again in {} ({} of {TRIES})",
                format_short_duration(pause),
                tried + 1
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request once. The inner error is a problem that the API has answered with, and when to try again.
    async fn try_once(
        &self,
        request: &ApiRequest<'_>,
        url: Url,
    ) -> anyhow::Result<Result<ApiAnswer, (ApiProblem, Option<Duration>)>> {
        let mut sent = self
            .http
            .request(request.method.clone(), url)
            .timeout(Duration::from_mins(2))
            .header("x-api-key", self.api_key.expose())
            .body(request.body.clone());
        for (name, value) in request.headers {
            sent = sent.header(*name, *value);
        }
        let answer = sent.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await?;
        if status.is_success() {
            let replayed = headers.contains_key("idempotency-replayed");
            return Ok(Ok(ApiAnswer { status, replayed, body }));
        }
        let problem =
            serde_json::from_slice(&body).ok().filter(|problem: &ApiProblem| !problem.title.is_empty());
        let mut problem = problem.unwrap_or_else(|| ApiProblem {
            title: "The answer does not come from a Custody API".to_owned(),
            detail: format!(
                "--url (CUSTODY_URL) is the output IngestUrl of the stack, which ends in /ingestMessage. The answer is: {}",
                cut_in_the_middle(&String::from_utf8_lossy(&body), 200)
            ),
            instance: None,
            status: 0,
        });
        problem.status = status.as_u16();
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Err((problem, seconds.map(Duration::from_secs))))
    }
}

/// Fails if `name=value` is not of this form.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Formats a number of bytes.
pub(crate) fn format_bytes(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

/// Returns the error of a command whose record is not there, or whose caller may not read it.
pub(crate) fn not_found(error: anyhow::Error) -> anyhow::Result<String> {
    match error.downcast::<ApiProblem>() {
        Ok(problem) if problem.is_not_found() => Ok(problem.to_string()),
        Ok(problem) => bail!(problem),
        Err(error) => Err(error),
    }
}
