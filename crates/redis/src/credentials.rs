//! The user and the password with which a connection authenticates to a node.

use std::future::Future;

use custody_core::{error::StageError, secret::Secret};

/// A user name and its password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The name of the user.
    pub username: String,
    /// The password of the user.
    pub password: Secret,
}

/// A source of credentials. The connector asks it before the first connection, and again when a node refuses the cached
/// credentials: passwords rotate.
pub trait CredentialSource: Send + Sync {
    /// Returns the credentials, or `None` if the cluster requires no authentication.
    fn credentials(&self) -> impl Future<Output = Result<Option<Credentials>, StageError>> + Send;
}
