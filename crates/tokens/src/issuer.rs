//! The issuer on the network: `OpenID` Connect Discovery 1.0, then its set of keys (RFC 7517).

use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use reqwest::{Client, redirect::Policy};
use serde::{Deserialize, de::DeserializeOwned};

use crate::issuer_keys::{KeySource, KeysUnavailable};

/// The time limit of one request to the issuer. Two fit into the time that API Gateway waits.
const LIMIT: Duration = Duration::from_secs(3);

/// The size limit of an answer of the issuer, in bytes.
const MAX_SIZE: usize = 256 << 10;

/// The issuer of tokens.
#[derive(Clone, Debug)]
pub struct Issuer {
    url: String,
    http: Client,
}

/// The part of the discovery document that is read.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Creates the source of the keys of the issuer with this URL. Only `https` is spoken, and redirections are not followed: whoever
    /// answers in the issuer's place could sign every token.
    pub fn new(url: impl Into<String>) -> Result<Self, KeysUnavailable> {
        // A process can install one TLS provider. An error means that an earlier call has installed the same provider.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = Client::builder().https_only(true).redirect(Policy::none()).timeout(LIMIT).build();
        let http = http.map_err(|error| KeysUnavailable::new("start the client").caused_by(error))?;
        Ok(Self { url: url.into(), http })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, KeysUnavailable> {
        let failed = |error| KeysUnavailable::new(format!("get {url}")).caused_by(error);
        let answer = self.http.get(url).send().await.and_then(reqwest::Response::error_for_status);
        let mut answer = answer.map_err(failed)?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_SIZE {
                return Err(KeysUnavailable::new(format!(
                    "the answer of {url} is larger than {MAX_SIZE} bytes"
                )));
            }
        }
        let unreadable = |error| KeysUnavailable::new(format!("read the answer of {url}")).caused_by(error);
        serde_json::from_slice(&body).map_err(unreadable)
    }
}

impl KeySource for Issuer {
    async fn fetch(&self) -> Result<JwkSet, KeysUnavailable> {
        let url = format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/'));
        let discovery: Discovery = self.get(&url).await?;
        if discovery.issuer != self.url {
            return Err(KeysUnavailable::new(format!(
                "{url} is the document of the issuer `{}`; the parameter TokenIssuer must be the same text",
                discovery.issuer
            )));
        }
        self.get(&discovery.jwks_uri).await
    }
}
