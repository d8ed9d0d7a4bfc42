//! How the nodes of a cluster agree on who is where: what they tell each other, and what each makes of it.
//!
//! A node knows of the others by messages and shares alone. Every channel has a topic, on which all nodes, the one that
//! speaks included, hear the same messages in one order; and every life of a node has a share of each channel, kept in
//! a store that the nodes have in common and written by its owner only. [`channel::ClusterChannel`] is one channel as
//! one node sees it: what is heard, answered and wanted goes in, what is to be done comes out. [`lives::Lives`] says
//! which other nodes are alive.
//!
//! Knows nothing of Redis, of sockets, of clocks: whoever carries out the effects does.

pub mod channel;
pub mod lives;
pub mod message;
pub mod share;
pub mod shares;
mod wire;
