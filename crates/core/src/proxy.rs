//! API Gateway's REST proxy integration: its event and its response.

mod api_event;
mod event;
mod response;

pub use self::{
    api_event::ApiEvent,
    event::{Authorizer, Identity, ProxyEvent, RequestContext},
    response::ProxyResponse,
};
