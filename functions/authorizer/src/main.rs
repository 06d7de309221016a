//! The authorizer function: decides which callers with a token may use the API.

use custody_core::clock::SystemClock;
use custody_lambda::{
    config::AuthorizerConfig,
    runtime::{self, AuthorizerFailure},
};
use custody_tokens::{Authorizer, Issuer, TokenError, TokenRules};

fn main() -> Result<(), runtime::Error> {
    runtime::run(function())
}

async fn function() -> Result<(), runtime::Error> {
    let AuthorizerConfig { issuer, audience, principal_claim } =
        custody_lambda::start("authorizer", AuthorizerConfig::read)?;
    custody_tokens::install();
    let keys = Issuer::new(&issuer)?;
    let rules = TokenRules { issuer, audience, principal_claim };
    runtime::serve_authorizer(Authorizer::new(rules, keys, SystemClock), |authorizer, request| async move {
        authorizer.run(&request).await.map_err(|error| match error {
            TokenError::Invalid(_) => AuthorizerFailure::Unauthorized,
            TokenError::KeysUnavailable(error) => AuthorizerFailure::Unavailable(error.to_string()),
        })
    })
    .await
}
