//! The configuration of the authorizer.

use super::Reader;

/// The configuration of the authorizer.
#[derive(Debug)]
pub struct AuthorizerConfig {
    /// The URL of the issuer of tokens.
    pub issuer: String,
    /// The audience for which a token must be.
    pub audience: String,
    /// The claim that names the principal.
    pub principal_claim: String,
}

impl AuthorizerConfig {
    /// Reads the configuration.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            issuer: reader.text("TOKEN_ISSUER"),
            audience: reader.text("TOKEN_AUDIENCE"),
            principal_claim: reader.text("TOKEN_CLAIM"),
        }
    }
}
