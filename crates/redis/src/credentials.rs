//! The user and the password that a node asks for.

use std::future::Future;

use custody_core::{error::StageError, secret::Secret};

/// A user and the user's password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// The origin of the credentials, asked at every new connection: passwords rotate.
pub trait CredentialSource: Send + Sync {
    /// The credentials, or `None` where the cluster wants none.
    fn credentials(&self) -> impl Future<Output = Result<Option<Credentials>, StageError>> + Send;
}
