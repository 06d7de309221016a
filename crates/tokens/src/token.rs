//! The verification of one token.

use std::fmt;

use custody_core::clock::Timestamp;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, PublicKeyUse},
};
use serde_json::{Map, Value};

use crate::issuer_keys::{IssuerKeys, KeySource, KeysUnavailable};

/// The algorithms by which an issuer may sign: those with public keys. With `none` anybody could make a token, and with `HS256` everybody
/// who has the public key could.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The number of seconds by which the clocks of issuer and authorizer may differ.
const LEEWAY_SECONDS: u64 = 30;

/// The number of bytes of a principal's name: with its kind it is the key of an access entry.
const MAX_PRINCIPAL_LENGTH: usize = 256;

/// What a token must have.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The claim `iss`: the URL of the issuer, exactly as the issuer writes it.
    pub issuer: String,
    /// One of the claims `aud`; in a token without `aud`, the claim `client_id`, as in the access tokens of Amazon Cognito.
    pub audience: String,
    /// The claim that names the principal, such as `sub` or `client_id`.
    pub principal_claim: String,
}

/// The reason why a caller has no authorization.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The caller must send another token. The text is for the log of the operator and has no part of the token.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// The issuer cannot be asked for its keys now.
    #[error(transparent)]
    KeysUnavailable(#[from] KeysUnavailable),
}

fn invalid(reason: impl fmt::Display) -> TokenError {
    TokenError::Invalid(reason.to_string())
}

/// Returns the principal that a token names, if the token is valid. `authorization` is the value of the header.
pub(crate) async fn principal<S: KeySource>(
    authorization: Option<&str>,
    rules: &TokenRules,
    keys: &IssuerKeys<S>,
    now: Timestamp,
) -> Result<String, TokenError> {
    let token = bearer(authorization).ok_or_else(|| invalid("the header is not `Bearer <token>`"))?;
    let header = decode_header(token).map_err(invalid)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(invalid(format_args!("{:?} is not an algorithm with public keys", header.alg)));
    }
    let key = keys.find(header.kid.as_deref(), now).await?;
    let key = key.ok_or_else(|| invalid("the issuer has no key of this id"))?;
    check_key_is_for(&key, header.alg)?;
    let decoding_key = DecodingKey::from_jwk(&key).map_err(invalid)?;

    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.set_issuer(&[&rules.issuer]);
    validation.set_required_spec_claims(&["exp", "iss"]);
    // Checked below, because a token of Amazon Cognito has its audience in another claim.
    validation.validate_aud = false;
    let claims = decode::<Map<String, Value>>(token, &decoding_key, &validation).map_err(invalid)?.claims;

    if !is_for(&claims, &rules.audience) {
        return Err(invalid("it is for another audience"));
    }
    let name = claims.get(&rules.principal_claim).and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() || name.len() > MAX_PRINCIPAL_LENGTH || name.chars().any(char::is_control) {
        return Err(invalid(format_args!("its claim `{}` names no principal", rules.principal_claim)));
    }
    Ok(name.to_owned())
}

/// Returns the token of `Bearer <token>`. The scheme's name is compared without regard to case (RFC 9110, 11.1).
fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Checks what the issuer reports about the use of a key.
fn check_key_is_for(key: &Jwk, algorithm: Algorithm) -> Result<(), TokenError> {
    let common = &key.common;
    if matches!(&common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature) {
        return Err(invalid("the issuer uses this key for something else than signatures"));
    }
    if common.key_algorithm.is_some_and(|stated| stated.to_string() != format!("{algorithm:?}")) {
        return Err(invalid("the issuer uses this key with another algorithm"));
    }
    Ok(())
}

/// Whether the claims name this audience.
fn is_for(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().any(|one| one == audience),
        Some(one) => one == audience,
        None => claims.get("client_id").is_some_and(|client| client == audience),
    }
}
