//! The authorizer of callers with a token (JWT) of an identity provider (`OpenID` Connect), the *issuer* of the deployment.
//!
//! *Invariant:* a token is accepted only if a key of the issuer has signed it, by an algorithm with public keys, and if it names the issuer,
//! the audience, and times between which it is valid.

mod authorizer;
mod issuer;
mod issuer_keys;
mod ring_provider;
mod token;

pub use self::{
    authorizer::{Authorization, AuthorizationRequest, Authorizer},
    issuer::Issuer,
    issuer_keys::{IssuerKeys, KeySource, KeysUnavailable},
    ring_provider::install,
    token::{TokenError, TokenRules},
};

#[cfg(test)]
mod tests;
