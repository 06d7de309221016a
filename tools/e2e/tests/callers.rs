//! Tests of callers without an API key, on the APIs for IAM credentials and for tokens.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::{fs, path::Path, process::Command};

use base64_simd::URL_SAFE_NO_PAD;
use custody_core::receipt::Receipt;
use custody_e2e::{ISSUER_BUCKET, Principal, Stack, run_custody, run_support_script, variable};
use custody_test_client::sender::{Answer, Method, Sender};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

fn envelope(source: &str) -> String {
    json!({
        "messageMetaData": {"messageType": "test", "sourceSystemID": source, "dateTime": "2026-11-20T22:21:00Z"},
        "messagePayload": {"score": 0.93},
    })
    .to_string()
}

/// The status of an answer, and the `type` of its problem without the prefix.
fn problem(answer: &Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().unwrap_or_default().to_owned();
    (answer.status, kind.trim_start_matches("urn:custody:problem:").to_owned())
}

/// A principal without an API key, which exists until this value is dropped.
struct Identity(String);

impl Identity {
    fn add(name: &str, rights: &[&str]) -> Self {
        assert_eq!(run_custody(&[&["producer", "add", name], rights].concat()).0, 0);
        Self(name.to_owned())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        run_custody(&["producer", "revoke", &self.0]);
    }
}

/// The issuer that the stack trusts. Its documents are objects of the emulated S3.
struct Issuer {
    url: String,
    pair: Ed25519KeyPair,
}

static ISSUER: OnceCell<Issuer> = OnceCell::const_new();

impl Issuer {
    async fn published(stack: &Stack) -> &'static Self {
        ISSUER.get_or_init(|| Self::publish(stack)).await
    }

    async fn publish(stack: &Stack) -> Self {
        let url = format!("{}/{ISSUER_BUCKET}", variable("AWS_ENDPOINT_URL"));
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let x = URL_SAFE_NO_PAD.encode_to_string(pair.public_key().as_ref());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "use": "sig", "x": x});
        let s3 = stack.deployment.aws.s3();
        drop(s3.create_bucket().bucket(ISSUER_BUCKET).send().await);
        s3.delete_public_access_block().bucket(ISSUER_BUCKET).send().await.unwrap();
        let everybody = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("arn:aws:s3:::{ISSUER_BUCKET}/*"),
        }]});
        s3.put_bucket_policy().bucket(ISSUER_BUCKET).policy(everybody.to_string()).send().await.unwrap();
        let documents = [
            (".well-known/openid-configuration", json!({"issuer": url, "jwks_uri": format!("{url}/keys")})),
            ("keys", json!({ "keys": [key] })),
        ];
        for (key, document) in documents {
            let body = document.to_string().into_bytes().into();
            s3.put_object().bucket(ISSUER_BUCKET).key(key).body(body).send().await.unwrap();
        }
        Self { url, pair }
    }

    /// Returns a token with these claims in place of the usual ones.
    fn token(&self, header: &Value, changes: &Value) -> String {
        let mut claims =
            json!({"iss": self.url, "aud": "custody", "sub": "scoring", "exp": 4_102_444_800_u64});
        for (claim, value) in changes.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode_to_string(value.to_string());
        let message = format!("{}.{}", part(header), part(&claims));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode_to_string(signature.as_ref()))
    }

    fn token_of(&self, subject: &str) -> String {
        self.token(&json!({"alg": "EdDSA", "kid": "k1"}), &json!({ "sub": subject }))
    }
}

fn token_api(stack: &Stack) -> Sender {
    stack.sender.clone().without_api_key(stack.deployment.output("TokenUrl").unwrap())
}

async fn send(api: &Sender, token: &str, source: &str, more: &[(&str, &str)]) -> Answer {
    let authorization = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", &authorization)];
    api.post(&[&headers, more].concat(), envelope(source)).await.unwrap()
}

#[tokio::test]
async fn a_caller_with_a_token_writes_and_reads_what_its_access_entry_allows() {
    let stack = Stack::under_test().await;
    let (api, issuer) = (token_api(&stack), Issuer::published(&stack).await);
    let _scoring = Identity::add("token-scoring", &["--source", "loans", "--token", "scoring"]);
    let _auditor = Identity::add("token-auditor", &["--auditor", "--token", "auditor"]);
    let (scoring, auditor) = (issuer.token_of("scoring"), issuer.token_of("auditor"));

    let sent = send(&api, &scoring, "loans", &[]).await;
    assert_eq!(sent.status, 200, "{}", sent.body);
    let receipt: Receipt = serde_json::from_str(&sent.body).unwrap();
    assert_eq!(problem(&send(&api, &scoring, "cards", &[]).await), (403, "forbidden".to_owned()));
    assert_eq!(problem(&send(&api, &auditor, "loans", &[]).await), (403, "forbidden".to_owned()));
    let stranger = issuer.token_of("nobody");
    assert_eq!(problem(&send(&api, &stranger, "loans", &[]).await), (403, "forbidden".to_owned()));

    let link = format!("messages/{}", receipt.message_id);
    for (token, status) in [(&scoring, 200), (&auditor, 200), (&stranger, 403)] {
        let answer = api.get(&link, &[("authorization", &format!("Bearer {token}"))]).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    stack.follow(receipt.message_id).await.unwrap();
    let item = custody_test_client::verify::item(&stack.deployment, receipt.message_id).await.unwrap();
    assert_eq!(item["messageSecurityContext"]["requestContext"]["principal"], "token-scoring");
    assert!(!item.to_string().contains(&scoring), "no token is stored");
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_refused_and_the_log_has_the_reason() {
    let stack = Stack::under_test().await;
    let (api, issuer) = (token_api(&stack), Issuer::published(&stack).await);
    let header = json!({"alg": "EdDSA", "kid": "k1"});
    let unsigned = issuer.token(&json!({"alg": "none", "kid": "k1"}), &json!({}));
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    let cases = [
        (unsigned, "none"),
        (issuer.token(&header, &json!({"exp": 1_000_000_000})), "ExpiredSignature"),
        (issuer.token(&header, &json!({"aud": "another"})), "another audience"),
        (issuer.token(&header, &json!({"iss": "https://issuer.example"})), "InvalidIssuer"),
        (issuer.token(&json!({"alg": "EdDSA", "kid": "k9"}), &json!({})), "no key of this id"),
        (issuer.token_of("scoring").replace('.', "_"), "InvalidToken"),
    ];
    for (token, reason) in cases {
        let answer = send(&api, &token, "loans", &[]).await;
        assert_eq!(problem(&answer), (401, "token".to_owned()), "{reason}: {}", answer.body);
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let id = custody_core::testing::samples::record_id();
    let (record, payload) = (format!("messages/{id}"), format!("messages/{id}/payload"));
    let (upload, complete) = (format!("uploads/{id}"), format!("uploads/{id}/complete"));
    let operations = [
        (Method::POST, "ingestMessage"),
        (Method::GET, "messages"),
        (Method::GET, &record),
        (Method::GET, &payload),
        (Method::POST, "uploads"),
        (Method::GET, &upload),
        (Method::POST, &complete),
    ];
    for (method, path) in operations {
        let missing = api.request(method, path, &[("content-type", "application/json")], "{}").await.unwrap();
        assert_eq!(problem(&missing), (401, "token".to_owned()), "{path}");
    }
    let reasons = ["ExpiredSignature", "another audience", "InvalidIssuer", "no key of this id"];
    stack
        .logged("use a token", |log| {
            reasons.iter().all(|reason| log.iter().any(|line| line.contains(reason)))
        })
        .await;
}

#[tokio::test]
async fn no_header_changes_who_the_caller_is() {
    let stack = Stack::under_test().await;
    let (api, issuer) = (token_api(&stack), Issuer::published(&stack).await);
    let _own = Identity::add("token-smuggler", &["--source", "loans", "--token", "smuggler"]);
    let cards = Principal::add(&["--source", "cards"]);
    let token = issuer.token_of("smuggler");
    for (name, value) in [
        ("x-api-key", cards.api_key.as_str()),
        ("principalid", "token-scoring"),
        ("x-amzn-principal", "token-scoring"),
        ("x-amzn-requestcontext", r#"{"authorizer":{"principalId":"scoring"}}"#),
        ("x-forwarded-user", "auditor"),
    ] {
        let answer = send(&api, &token, "cards", &[(name, value)]).await;
        assert_eq!(problem(&answer), (403, "forbidden".to_owned()), "{name}");
    }
    let answer = send(&api, &token, "loans", &[("x-api-key", &cards.api_key)]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    // An API key is nothing to the API for tokens, and a token is nothing to the API for API keys.
    let headers = [("content-type", "application/json"), ("x-api-key", cards.api_key.as_str())];
    assert_eq!(api.post(&headers, envelope("cards")).await.unwrap().status, 401);
    let answer = send(&stack.sender, &token, "loans", &[("x-api-key", "none")]).await;
    assert_eq!(problem(&answer), (403, "api-key".to_owned()));
}

/// An IAM user that exists until this value is dropped.
struct IamUser {
    name: &'static str,
    arn: String,
    id: String,
    secret: String,
}

impl IamUser {
    /// Creates a user. `api`: the ARN of the API that it may call.
    fn create(name: &'static str, api: Option<&str>) -> Self {
        let arguments: Vec<_> = ["create", name].into_iter().chain(api).collect();
        let created = run_support_script("iam_user.py", &arguments, "").unwrap();
        let created: Value = serde_json::from_str(&created).unwrap();
        let text = |field: &str| created[field].as_str().unwrap().to_owned();
        Self { name, arn: text("arn"), id: text("id"), secret: text("secret") }
    }

    /// Runs the quick start for IAM callers as this user. Returns what it prints, or its error.
    fn run_quick_start(&self, url: &str) -> Result<String, String> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/quickstart.md");
        let page = fs::read_to_string(page).unwrap();
        let program = page.split("```python iam\n").nth(1).unwrap().split("```").next().unwrap();
        let output = Command::new(variable("CUSTODY_PYTHON"))
            .args(["-c", program])
            .env("CUSTODY_URL", url)
            .env("AWS_ACCESS_KEY_ID", &self.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .output()
            .unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

impl Drop for IamUser {
    fn drop(&mut self) {
        run_support_script("iam_user.py", &["delete", self.name], "").expect("the user is deleted");
    }
}

#[tokio::test]
async fn a_caller_with_iam_credentials_writes_and_reads_what_its_access_entry_allows() {
    let stack = Stack::under_test().await;
    let url = stack.deployment.output("IamUrl").unwrap();
    let api = format!("arn:aws:execute-api:*:*:{}", stack.deployment.output("IamApiId").unwrap());
    let user = IamUser::create("e2e-caller", Some(&api));
    let error = user.run_quick_start(url).unwrap_err();
    assert!(error.contains("has no access entry"), "a user without an access entry: {error}");

    let entry = Identity::add("iam-caller", &["--source", "quickstart", "--iam", &user.arn]);
    let printed = user.run_quick_start(url).unwrap();
    assert!(printed.contains("has the bytes that were sent"), "{printed}");
    drop(entry);

    let mut forger = IamUser::create("e2e-forger", Some(&api));
    "not-the-secret-of-this-key".clone_into(&mut forger.secret);
    let _entry = Identity::add("iam-forger", &["--source", "quickstart", "--iam", &forger.arn]);
    let error = forger.run_quick_start(url).unwrap_err();
    assert!(error.contains("urn:custody:problem:"), "a wrong signature: {error}");
}

#[tokio::test]
async fn an_unsigned_request_to_the_api_for_iam_callers_is_refused() {
    let stack = Stack::under_test().await;
    let url = stack.deployment.output("IamUrl").unwrap();
    let api = stack.sender.clone().without_api_key(url);
    let answer = api.post(&[("content-type", "application/json")], envelope("loans")).await.unwrap();
    assert_eq!(problem(&answer), (403, "no-such-operation".to_owned()));
    assert!(answer.body.contains("sign each request"), "{}", answer.body);
    for path in ["ingestMessage", "messages", "uploads"] {
        let preflight = api.preflight(path).await.unwrap();
        assert_eq!(preflight.status, 200, "a browser sends no credential with its preflight request");
        assert!(preflight.header("access-control-allow-headers").contains("X-Amz-Date"));
    }
}
