//! The HTTP API as values and functions: who may call it, what is asked, what is answered.
//!
//! | Request | Read by | Answered by |
//! |---|---|---|
//! | any | [`Query::parse`], [`verify_head`], [`BodyDigest::check`] | [`ApiError`] |
//! | `POST /apps/{id}/events` | [`parse_trigger`] | [`replies::EMPTY`], [`replies::channels`] |
//! | `POST /apps/{id}/batch_events` | [`parse_batch`] | [`replies::EMPTY`], [`replies::batch`] |
//! | `GET /apps/{id}/channels` | [`ChannelsQuery::parse`] | [`replies::channels`] |
//! | `GET /apps/{id}/channels/{name}` | [`parse_channel`], [`channel_info`] | [`replies::channel`] |
//! | `GET /apps/{id}/channels/{name}/users` | [`parse_presence_channel`] | [`replies::users`] |
//! | `POST /apps/{id}/users/{uid}/terminate_connections` | [`percent_decode`] | [`replies::EMPTY`] |
//! | `GET /apps/{id}/connections` | | [`replies::connections`] |
//!
//! It refuses to know HTTP libraries, routes, headers and the clock: the server's door splits the path and says what
//! time it is. Source: Pusher docs, "HTTP API reference"; where the SDKs ask for more than the docs say, the SDKs.

mod data;
mod error;
mod events;
mod info;
mod json;
mod outage;
mod query;
pub mod replies;
pub mod signature;

pub use data::EventData;
pub use error::{ApiError, ReservedPrefix};
pub use events::{BATCH_ITEMS_MAX, CHANNELS_MAX, Trigger, parse_batch, parse_trigger};
pub use info::{Attribute, ChannelsQuery, Info, channel_info, parse_channel, parse_presence_channel};
pub use outage::{Outage, Wanted};
pub use query::{QUERY_PARAMETERS_MAX, Query, percent_decode};
pub use signature::{BodyDigest, verify_head};
