//! API Gateway's REST proxy integration: its event and its response.

mod event;
mod response;

pub use self::{
    event::{Authorizer, Identity, ProxyEvent, RequestContext},
    response::ProxyResponse,
};
