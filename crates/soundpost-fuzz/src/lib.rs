//! Fuzz targets: bytes of strangers in, a property of the code that reads them held to, a panic when it does not hold.
//!
//! | Target | Reads | Holds to |
//! |---|---|---|
//! | [`websocket_decoder()`] | frames, cut anywhere, in both roles | one result however cut; bounded memory |
//! | [`client_frame()`] | what clients send | what is read is what a JSON parser reads; client data is passed on as sent |
//! | [`event_body()`] | bodies of `/events` and `/batch_events` | `data` passes through byte for byte |
//! | [`request_head()`] | method, path, query, body, a forged signature | only the right signature of exactly this verifies |
//! | [`channel_name()`] | names | the rule as the protocol words it |
//! | [`configuration()`] | `soundpost.toml`, `.env`, the environment | errors are one line and hold no secret |
//! | [`proxy_header()`] | the beginning of a proxy's connection | partial however cut; the same client from both versions |
//! | [`forwarded()`] | `X-Forwarded-For` and `-Proto` | what strangers write before the trusted part changes nothing |
//! | [`php()`] | `config/reverb.php` | a tree of bounded depth, or one line that shows none of its texts |
//! | [`node_message()`] | messages of other nodes | what is read is written byte for byte alike; an event is not copied |
//! | [`resp()`] | what Redis answers, in pieces of any length | the same replies however cut; texts packed come back |
//! | [`connection()`] | a script of frames and time | the subscriptions a model keeps; `Close` is last |
//!
//! # Running them
//!
//! On stable Rust `cargo xtask fuzz` builds the driver of this crate and gives each target a million inputs, made from
//! `seeds/TARGET/` and `dictionaries/TARGET.dict` by byte mutations and splicing, the same ones for the same `--seed`.
//! A find ends the run; its input is kept, to be run alone with
//! `cargo xtask fuzz --target TARGET --replay target/fuzz/TARGET.find`. `tests/smoke.rs` runs each target shortly.
//!
//! Coverage guides the way better than chance. With nightly Rust and `cargo install cargo-fuzz`, from this folder:
//! `cargo +nightly fuzz run TARGET fuzz/corpus/TARGET seeds/TARGET -- -dict=dictionaries/TARGET.dict`.
//!
//! # After a find
//!
//! The shortest input that shows it becomes a seed here and a row of the table test beside the code at fault.
//!
//! Knows the crates under test by their public faces only, and nothing of sockets.

mod channel_name;
mod client_frame;
mod configuration;
mod connection;
pub mod corpus;
pub mod engine;
mod event_body;
mod forwarded;
mod node_message;
mod php;
mod proxy_header;
mod request_head;
mod resp;
mod websocket_decoder;

pub use channel_name::channel_name;
pub use client_frame::client_frame;
pub use configuration::configuration;
pub use connection::connection;
pub use event_body::event_body;
pub use forwarded::forwarded;
pub use node_message::node_message;
pub use php::php;
pub use proxy_header::proxy_header;
pub use request_head::request_head;
pub use resp::resp;
pub use websocket_decoder::websocket_decoder;

/// What became of an input that broke no property. The share of the accepted ones says whether a run tried more than
/// the first check of a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was read to the end, or had an effect.
    Accepted,
    /// It was refused, as most are.
    Refused,
}

impl Outcome {
    /// By the result of a parser.
    const fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(_) => Self::Refused,
        }
    }
}

/// A target by the name that its seeds and dictionary have, too.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Panics if the input breaks a property.
    pub run: fn(&[u8]) -> Outcome,
}

/// All there are.
pub const TARGETS: [Target; 12] = [
    Target { name: "websocket_decoder", run: websocket_decoder },
    Target { name: "client_frame", run: client_frame },
    Target { name: "event_body", run: event_body },
    Target { name: "request_head", run: request_head },
    Target { name: "channel_name", run: channel_name },
    Target { name: "configuration", run: configuration },
    Target { name: "proxy_header", run: proxy_header },
    Target { name: "forwarded", run: forwarded },
    Target { name: "php", run: php },
    Target { name: "connection", run: connection },
    Target { name: "node_message", run: node_message },
    Target { name: "resp", run: resp },
];
