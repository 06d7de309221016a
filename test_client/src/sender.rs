//! Posts requests as a producer does.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use custody_core::receipt::Receipt;
use serde_json::{Value, json};

pub use reqwest::Method;

use crate::{deployment::Deployment, records::Record};

/// A producer's HTTP client.
#[derive(Clone, Debug)]
pub struct Sender {
    http: reqwest::Client,
    url: String,
    /// Empty if the API takes no API key.
    api_key: String,
    /// The file to which each exchange with the API is appended, for a comparison with the API's description.
    record: Option<PathBuf>,
    /// How often a request is sent again that the API answers with 503 and `Retry-After`.
    repetitions: u32,
}

/// An answer of the API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Returns the body as JSON; null if it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the value of a header; empty if the answer does not have it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The receipt of a record that was sent, with the times of the request.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The receipt that the API returned.
    pub receipt: Receipt,
    /// When the request was sent.
    pub sent_at: Instant,
    /// Time from sending the request to the whole answer. Of a patient sender, with the answers 503 and the waits before it.
    pub latency: Duration,
}

impl Sender {
    /// Builds a producer of this deployment.
    pub fn new(deployment: &Deployment) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent("custody-test-client")
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_mins(1))
            .build()
            .context("make an HTTP client")?;
        Ok(Self {
            http,
            url: deployment.output("IngestUrl")?.to_owned(),
            api_key: deployment.api_key.clone(),
            record: None,
            repetitions: 0,
        })
    }

    /// Sends a request again, up to six times, that the API answers with 503 and `Retry-After`, as a producer must.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { repetitions: 6, ..self }
    }

    /// Sends each request once, whatever the answer is.
    #[must_use]
    pub fn impatient(self) -> Self {
        Self { repetitions: 0, ..self }
    }

    /// Appends each exchange with the API to a file: one line of JSON with method, path, status, media type and body.
    #[must_use]
    pub fn recording(self, file: PathBuf) -> Self {
        Self { record: Some(file), ..self }
    }

    /// Returns a client of another API of the deployment, which takes no API key.
    #[must_use]
    pub fn without_api_key(self, url: &str) -> Self {
        Self { url: url.to_owned(), api_key: String::new(), ..self }
    }

    /// Posts a body with these headers, and with the deployment's API key unless the headers contain an API key.
    pub async fn post(
        &self,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<Answer> {
        self.answer(self.with_headers(self.http.post(&self.url).body(body), headers)).await
    }

    /// Adds headers to a request, and the API key unless the headers contain an API key.
    fn with_headers(
        &self,
        mut request: reqwest::RequestBuilder,
        headers: &[(&str, &str)],
    ) -> reqwest::RequestBuilder {
        let has_key = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-api-key"));
        if !has_key && !self.api_key.is_empty() {
            request = request.header("x-api-key", &self.api_key);
        }
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// Posts a body to a path of the API, relative to the URL that records are posted to.
    pub async fn post_to(
        &self,
        link: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<Answer> {
        self.request(reqwest::Method::POST, link, headers, body).await
    }

    /// Follows the link of an upload with this body, and with the headers that the link requires, or with others. The link has its
    /// own right, so no API key is sent.
    pub async fn upload<'a>(
        &self,
        url: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)> + Send,
        body: impl Into<reqwest::Body> + Send,
    ) -> anyhow::Result<Answer> {
        let mut request = self.http.put(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.answer(request).await
    }

    /// Gets a path of the API, relative to the URL that records are posted to, as `links` of a receipt are. Does not follow a
    /// redirection.
    pub async fn get(&self, link: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.request(reqwest::Method::GET, link, headers, "").await
    }

    /// Sends a request to a path of the API, relative to the URL that records are posted to.
    pub async fn request(
        &self,
        method: reqwest::Method,
        link: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> anyhow::Result<Answer> {
        let url = reqwest::Url::parse(&self.url)?.join(link).context("join a link to the API's URL")?;
        self.answer(self.with_headers(self.http.request(method, url).body(body), headers)).await
    }

    /// Downloads what a link to a payload leads to. The link has its own right, so no API key is sent.
    pub async fn download(&self, url: &str) -> anyhow::Result<(Answer, Vec<u8>)> {
        let response = self.http.get(url).send().await.context("download a payload")?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let content = response.bytes().await.context("download a payload")?.to_vec();
        Ok((Answer { status, headers, body: String::new() }, content))
    }

    /// Sends a CORS preflight request to a path of the API, as a browser does before it sends the request itself.
    pub async fn preflight(&self, link: &str) -> anyhow::Result<Answer> {
        let url = reqwest::Url::parse(&self.url)?.join(link).context("join a link to the API's URL")?;
        let request = self.http.request(reqwest::Method::OPTIONS, url);
        self.answer(
            request.header("origin", "https://app.example").header("access-control-request-method", "POST"),
        )
        .await
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let request = request.build().context("build a request")?;
        for _ in 0..self.repetitions {
            // A body that is a stream cannot be sent again.
            let Some(first) = request.try_clone() else { break };
            let answer = self.exchange(first).await?;
            match answer.header("retry-after").parse() {
                Ok(seconds) if answer.status == 503 => tokio::time::sleep(Duration::from_secs(seconds)).await,
                _ => return Ok(answer),
            }
        }
        self.exchange(request).await
    }

    async fn exchange(&self, request: reqwest::Request) -> anyhow::Result<Answer> {
        let (method, url) = (request.method().to_string(), request.url().clone());
        let response =
            self.http.execute(request).await.with_context(|| format!("send a request to {}", self.url))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, body: response.text().await.context("read the answer")? };
        let api = self.url.trim_end_matches("/ingestMessage");
        if let (Some(file), Some(path)) = (&self.record, url.as_str().strip_prefix(api)) {
            let path = path.split('?').next().unwrap_or_default();
            let content_type = answer.header("content-type");
            let line = json!({
                "method": method, "path": path, "status": status, "contentType": content_type, "body": answer.body,
            });
            // One write, so that the lines of concurrent tests do not mix.
            let mut file =
                OpenOptions::new().create(true).append(true).open(file).context("record an exchange")?;
            file.write_all(format!("{line}\n").as_bytes()).context("record an exchange")?;
        }
        Ok(answer)
    }

    /// Sends a record and checks its receipt against it.
    pub async fn send(&self, record: &Record) -> anyhow::Result<Acknowledged> {
        let sent_at = Instant::now();
        let answer = self.post(&[("content-type", "application/json")], record.body.clone()).await?;
        let latency = sent_at.elapsed();
        anyhow::ensure!(answer.status == 200, "the API answered {}: {}", answer.status, answer.body);
        let receipt: Receipt = serde_json::from_str(&answer.body).context("read the receipt")?;
        anyhow::ensure!(
            receipt.payload.sha256 == record.sha256(),
            "the receipt is for SHA-256 {}, sent was {}",
            receipt.payload.sha256,
            record.sha256()
        );
        Ok(Acknowledged { receipt, sent_at, latency })
    }
}
