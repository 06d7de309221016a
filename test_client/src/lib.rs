//! A producer and a subscriber in one: it sends records to a Custody deployment, follows each to its end
//! through a queue subscribed to the notifications, and compares what was stored with what was sent.

pub mod deployment;
pub mod queue;
pub mod records;
pub mod sender;
pub mod subscriber;
pub mod verify;
