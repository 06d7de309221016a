//! Tests of tokens: valid ones of every algorithm, and every way in which a token may be wrong.
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64_simd::URL_SAFE_NO_PAD;
use custody_core::{
    clock::{Clock as _, Timestamp},
    testing::samples::TestClock,
};
use jsonwebtoken::jwk::JwkSet;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::*;

const ISSUER: &str = "https://issuer.example";

fn rules() -> TokenRules {
    TokenRules {
        issuer: ISSUER.to_owned(),
        audience: "custody".to_owned(),
        principal_claim: "sub".to_owned(),
    }
}

/// A source of keys that gives these answers, then fails. It counts the questions.
#[derive(Clone, Default)]
struct Answers {
    answers: Arc<Mutex<VecDeque<Vec<Value>>>>,
    questions: Arc<Mutex<u32>>,
}

impl Answers {
    fn of(answers: &[&[Value]]) -> Self {
        let answers = answers.iter().map(|keys| keys.to_vec()).collect();
        Self { answers: Arc::new(Mutex::new(answers)), ..Self::default() }
    }

    fn questions(&self) -> u32 {
        *self.questions.lock().unwrap()
    }
}

impl KeySource for Answers {
    async fn fetch(&self) -> Result<JwkSet, KeysUnavailable> {
        *self.questions.lock().unwrap() += 1;
        let keys = self.answers.lock().unwrap().pop_front();
        let keys = keys.ok_or_else(|| KeysUnavailable::new("the issuer is away"))?;
        Ok(serde_json::from_value(json!({ "keys": keys })).unwrap())
    }
}

/// A key of the issuer, and its private half.
struct Key {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { id, pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    fn public_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn public(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode_to_string(self.public_bytes());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": x})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode_to_string(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode_to_string(signature.as_ref()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": self.id}), claims)
    }
}

/// Far in the future: the library compares with the clock of the machine.
const NEVER: u64 = 4_102_444_800;

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "custody", "sub": "scoring-service", "exp": NEVER})
}

/// Returns the usual claims with `name` set to `value`; removed where it is null.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn request(authorization: &str) -> AuthorizationRequest {
    serde_json::from_value(json!({
        "type": "REQUEST",
        "methodArn": "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3/Prod/GET/messages/01a1",
        "headers": {"authorization": authorization, "host": "example"},
        "requestContext": {"requestId": "r-1", "identity": {"sourceIp": "192.0.2.1"}},
    }))
    .unwrap()
}

async fn authorize_with(
    keys: &Answers,
    rules: TokenRules,
    authorization: &str,
) -> Result<Authorization, TokenError> {
    install();
    let authorizer = Authorizer::new(rules, keys.clone(), TestClock::default());
    authorizer.run(&request(authorization)).await
}

/// Returns the reason why the only key's issuer does not accept a token.
async fn reason(key: &Key, token: &str) -> String {
    let result = authorize_with(&Answers::of(&[&[key.public()]]), rules(), &format!("Bearer {token}")).await;
    match result {
        Err(TokenError::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_valid_token_of_every_algorithm_names_its_principal() {
    let vectors: Value = serde_json::from_str(include_str!("tests/tokens.json")).unwrap();
    let vectors = vectors.as_array().unwrap();
    let keys: Vec<_> = vectors.iter().map(|vector| vector["key"].clone()).collect();
    assert_eq!(keys.len(), 9);
    for vector in vectors {
        let token = vector["token"].as_str().unwrap();
        let keys = Answers::of(&[&keys]);
        let authorization = authorize_with(&keys, rules(), &format!("Bearer {token}")).await.unwrap();
        assert_eq!(authorization.principal_id, "scoring-service");

        let altered = format!("{}A{}", &token[..token.len() - 12], &token[token.len() - 11..]);
        if altered != token {
            let result = authorize_with(&keys, rules(), &format!("Bearer {altered}")).await;
            assert!(result.is_err(), "{altered}");
        }
    }
}

#[tokio::test]
async fn the_answer_is_valid_for_every_method_of_the_stage() {
    let key = Key::new("k1");
    let keys = Answers::of(&[&[key.public()]]);
    let token = key.token(&claims());
    let authorization = authorize_with(&keys, rules(), &format!("bearer {token}")).await.unwrap();
    let answer = serde_json::to_value(authorization).unwrap();
    assert_eq!(
        answer,
        json!({
            "principalId": "scoring-service",
            "policyDocument": {"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow",
                "Action": "execute-api:Invoke",
                "Resource": "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3/Prod/*",
            }]},
        })
    );
}

#[tokio::test]
async fn a_token_that_nobody_has_signed_is_refused() {
    let key = Key::new("k1");
    for algorithm in ["none", "None", "NONE"] {
        let signed = key.sign(&json!({"alg": algorithm, "kid": "k1"}), &claims());
        let unsigned = signed.rsplit_once('.').unwrap().0;
        assert!(reason(&key, unsigned).await.contains("InvalidToken"));
        for token in [signed.clone(), format!("{unsigned}.")] {
            assert!(reason(&key, &token).await.contains("unknown variant"), "{token}");
        }
    }
}

#[tokio::test]
async fn a_token_that_is_signed_with_the_public_key_as_a_secret_is_refused() {
    let key = Key::new("k1");
    let part = |value: Value| URL_SAFE_NO_PAD.encode_to_string(value.to_string());
    let message = format!("{}.{}", part(json!({"alg": "HS256", "kid": "k1"})), part(claims()));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.public_bytes());
    let signature = ring::hmac::sign(&secret, message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode_to_string(signature.as_ref()));
    assert_eq!(reason(&key, &token).await, "HS256 is not an algorithm with public keys");
}

#[tokio::test]
async fn a_token_of_another_signer_or_with_other_claims_is_refused() {
    let (key, stranger) = (Key::new("k1"), Key::new("k1"));
    assert_eq!(reason(&key, &stranger.token(&claims())).await, "InvalidSignature");
    let own = key.token(&claims());
    let other = key.token(&claims_with("sub", json!("somebody-else")));
    let (mut own, other): (Vec<_>, Vec<_>) = (own.split('.').collect(), other.split('.').collect());
    own[1] = other[1];
    assert_eq!(reason(&key, &own.join(".")).await, "InvalidSignature");
}

#[tokio::test]
async fn a_token_must_be_valid_now_and_for_this_audience() {
    let key = Key::new("k1");
    let cases = [
        ("exp", json!(1_000_000_000), "ExpiredSignature"),
        ("exp", Value::Null, "Missing required claim: exp"),
        ("exp", json!("4102444800x"), "Missing required claim: exp"),
        ("nbf", json!(NEVER - 1), "ImmatureSignature"),
        ("iss", json!("https://issuer.example/"), "InvalidIssuer"),
        ("iss", Value::Null, "Missing required claim: iss"),
        ("aud", json!("custody-test"), "it is for another audience"),
        ("aud", json!(["a", "b"]), "it is for another audience"),
        ("aud", Value::Null, "it is for another audience"),
        ("sub", Value::Null, "its claim `sub` names no principal"),
        ("sub", json!(17), "its claim `sub` names no principal"),
        ("sub", json!(""), "its claim `sub` names no principal"),
        ("sub", json!("a\nb"), "its claim `sub` names no principal"),
        ("sub", json!("x".repeat(257)), "its claim `sub` names no principal"),
    ];
    for (claim, value, expected) in cases {
        let reason = reason(&key, &key.token(&claims_with(claim, value.clone()))).await;
        assert!(reason.contains(expected), "{claim} {value}: {reason}");
    }
}

#[tokio::test]
async fn a_name_may_have_as_many_bytes_as_an_access_entry_takes() {
    let key = Key::new("k1");
    let name = "x".repeat(256);
    let token = key.token(&claims_with("sub", json!(name)));
    let keys = Answers::of(&[&[key.public()]]);
    let authorization = authorize_with(&keys, rules(), &format!("Bearer {token}")).await.unwrap();
    assert_eq!(authorization.principal_id, name);
}

#[test]
fn an_issuer_that_cannot_be_asked_has_its_cause_in_the_error() {
    let error = KeysUnavailable::new("get the keys").caused_by(std::io::Error::other("refused"));
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "refused");
}

#[tokio::test]
async fn the_audience_may_be_one_of_several_or_the_client_of_a_token_without_audience() {
    let key = Key::new("k1");
    let mut of_client = claims_with("aud", Value::Null);
    of_client["client_id"] = json!("custody");
    let mut of_other = claims_with("aud", json!("other"));
    of_other["client_id"] = json!("custody");
    for (claims, is_valid) in
        [(claims_with("aud", json!(["a", "custody"])), true), (of_client, true), (of_other, false)]
    {
        let keys = Answers::of(&[&[key.public()]]);
        let result = authorize_with(&keys, rules(), &format!("Bearer {}", key.token(&claims))).await;
        assert_eq!(result.is_ok(), is_valid, "{claims}");
    }
}

#[tokio::test]
async fn another_claim_may_name_the_principal() {
    let key = Key::new("k1");
    let keys = Answers::of(&[&[key.public()]]);
    let rules = TokenRules { principal_claim: "client_id".to_owned(), ..rules() };
    let token = key.token(&claims_with("client_id", json!("batch-import")));
    let authorization = authorize_with(&keys, rules, &format!("Bearer {token}")).await.unwrap();
    assert_eq!(authorization.principal_id, "batch-import");
}

#[tokio::test]
async fn a_key_is_used_only_as_the_issuer_says() {
    let key = Key::new("k1");
    for (name, value) in [("use", "enc"), ("alg", "ES256")] {
        let mut public = key.public();
        public[name] = json!(value);
        let authorization = format!("Bearer {}", key.token(&claims()));
        let result = authorize_with(&Answers::of(&[&[public]]), rules(), &authorization).await;
        assert!(matches!(result, Err(TokenError::Invalid(_))), "{name} {value}: {result:?}");
    }
    // A key of a type that is not known yet, beside the right one, does no harm.
    let unknown = json!({"kty": "NEW", "kid": "k0"});
    let authorization = format!("Bearer {}", key.token(&claims()));
    authorize_with(&Answers::of(&[&[unknown, key.public()]]), rules(), &authorization).await.unwrap();
}

#[tokio::test]
async fn a_header_that_is_no_bearer_token_is_refused() {
    let key = Key::new("k1");
    let token = key.token(&claims());
    for authorization in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer x.y.z", &token, "Bearer a b"]
    {
        let result = authorize_with(&Answers::of(&[&[key.public()]]), rules(), authorization).await;
        assert!(matches!(result, Err(TokenError::Invalid(_))), "{authorization}: {result:?}");
    }
}

fn after(start: Timestamp, duration: Duration) -> Timestamp {
    start.after(duration)
}

#[tokio::test]
async fn a_token_without_key_id_is_for_an_issuer_with_one_key() {
    let (first, second) = (Key::new("k1"), Key::new("k2"));
    let token = first.sign(&json!({"alg": "EdDSA"}), &claims());
    for (keys, is_valid) in [(vec![first.public()], true), (vec![first.public(), second.public()], false)] {
        let result = authorize_with(&Answers::of(&[&keys]), rules(), &format!("Bearer {token}")).await;
        assert_eq!(result.is_ok(), is_valid, "{result:?}");
    }
}

#[tokio::test]
async fn the_issuer_is_asked_for_a_new_key_and_never_often() {
    let start = TestClock::default().now();
    let (first, second) = (Key::new("k1"), Key::new("k2"));
    let source = Answers::of(&[&[first.public()], &[first.public(), second.public()], &[second.public()]]);
    let keys = IssuerKeys::new(source.clone());
    let is_known = async |id, seconds| {
        keys.find(Some(id), after(start, Duration::from_secs(seconds))).await.unwrap().is_some()
    };
    assert!(is_known("k1", 0).await);
    assert!(!is_known("k2", 9).await, "the issuer has answered 9 s ago");
    assert_eq!(source.questions(), 1);
    assert!(is_known("k2", 10).await);
    assert!(is_known("k1", 609).await);
    assert_eq!(source.questions(), 2);
    assert!(!is_known("k1", 610).await, "the issuer has withdrawn it");
    assert_eq!(source.questions(), 3);
}

#[tokio::test]
async fn known_keys_outlast_an_outage_of_the_issuer_by_an_hour() {
    let start = TestClock::default().now();
    let source = Answers::of(&[&[Key::new("k1").public()]]);
    let keys = IssuerKeys::new(source.clone());
    let find = async |id, seconds| keys.find(Some(id), after(start, Duration::from_secs(seconds))).await;
    assert!(find("k1", 0).await.unwrap().is_some());
    assert!(find("k1", 3_599).await.unwrap().is_some());
    let unavailable = find("k2", 3_599).await.unwrap_err();
    assert!(unavailable.to_string().contains("did not answer"), "{unavailable}");
    assert_eq!(source.questions(), 2, "the issuer was asked at 3,599 s only once");
    assert!(find("k1", 3_600).await.is_err());
}
