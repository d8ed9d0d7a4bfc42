//! From a worker's inbox to the sockets: one write for each recipient, straight from the shared frame, in slices short
//! enough that pings, subscribes and HTTP get their turn.
//!
//! While one item alone is delivered, each recipient is written to at once. When several wait, each recipient's frames
//! are listed first and then written with one call, which is where a busy server earns most of its speed.

use bytes::Bytes;
use soundpost_protocol::{close::CloseReason, websocket::Frame};
use tracing::debug;

use super::{ConnectionRef, Hub, Item, hub::Newcomer, subscribers::LocalChannel};
use crate::faults;

/// After so many writes a slice ends ...
const SLICE_WRITES: usize = 256;
/// ... or after so many bytes.
const SLICE_BYTES: usize = 256 << 10;
/// Listing costs far less than writing, so a slice of it is longer.
const SLICE_LISTED: usize = 8192;

/// Frames up to this size are copied one behind the other and written as one; larger ones are gathered by the kernel.
const JOINED_FRAME_BYTES_MAX: usize = 4096;
/// What is joined for one recipient is at most this long.
const JOINED_BYTES_MAX: usize = 64 << 10;

/// Frames listed but not written, over all recipients; from here on they are written before another item is listed.
const LISTED_MAX: usize = 64 << 10;

const NO_LINK: u32 = u32::MAX;

/// One recipient's frames in the batch: a chain of links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    first: u32,
    last: u32,
}

impl Lane {
    pub(super) const EMPTY: Self = Self { first: NO_LINK, last: NO_LINK };
}

#[derive(Clone, Copy, Debug)]
struct Link {
    frame: u32,
    next: u32,
}

/// What is listed and not yet written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    links: Vec<Link>,
    /// Recipients with a lane, in the order they got their first frame.
    recipients: Vec<ConnectionRef>,
    written: usize,
    /// The frames of the lane written last, and the same joined: neighbours mostly have the same.
    order: Vec<u32>,
    joined: Vec<u8>,
}

/// An item on its way to its recipients.
#[derive(Debug)]
pub struct Delivering {
    channel: LocalChannel,
    frame: Frame,
    /// The frame's index in the batch, once it is listed.
    listed: Option<u32>,
    exclude: Option<ConnectionRef>,
    /// Only for those whose roster is older than this; `u64::MAX`: for all.
    roster_version: u64,
    next: usize,
    /// Write at once instead of listing.
    at_once: bool,
}

impl Hub {
    /// Makes ready for a batch of items.
    pub fn begin_batch(&mut self) {
        self.subscribers.begin_delivery();
    }

    /// Takes up one item. What has a single recipient is done with at once; the rest is given back to be carried on
    /// slice by slice with [`Self::deliver_slice`]. `at_once`: no other item waits.
    pub fn take_up(&mut self, item: Item, at_once: bool) -> Option<Delivering> {
        let (channel, frame, exclude, roster_version) = match item {
            Item::Event { channel, frame, exclude } => (channel, frame, exclude, u64::MAX),
            Item::Notice { channel, frame, roster_version } => (channel, frame, None, roster_version),
            Item::Join { connection, ticket, cached } => {
                self.arrive(Newcomer { name: connection, ticket, cached }, at_once);
                return None;
            }
            Item::Refuse { connection, ticket, channel } => {
                self.refuse(connection, ticket, &channel, at_once);
                return None;
            }
            Item::RelayFailed { connection, channel } => {
                self.relay_failed(connection, &channel, at_once);
                return None;
            }
            Item::Admit => {
                self.admit(at_once);
                return None;
            }
            Item::Tell { connection, frame } => {
                let connection = self.find(connection)?;
                self.give(connection, &frame, at_once);
                return None;
            }
            Item::Terminate { connection } => {
                let connection = self.find(connection)?;
                self.close(connection, CloseReason::Terminated, None);
                return None;
            }
            Item::Rejoin { connection, channel } => {
                let frame = self.enter_again(connection, &channel)?;
                self.give(connection, &frame, at_once);
                return None;
            }
        };
        let channel = self.subscribers.find(&channel)?;
        let exclude = exclude.and_then(|socket_id| self.find(socket_id));
        Some(Delivering { channel, frame, listed: None, exclude, roster_version, next: 0, at_once })
    }

    /// Carries an item on for a slice; true when all its recipients have it.
    pub fn deliver_slice(&mut self, item: &mut Delivering) -> bool {
        faults::strike(item.frame.payload());
        if item.at_once { self.write_slice(item) } else { self.list_slice(item) }
    }

    pub(super) fn give(&mut self, name: ConnectionRef, frame: &Frame, at_once: bool) {
        self.log_frame(name, frame);
        if at_once {
            self.send(name, frame);
        } else {
            let index = self.batch.add(frame.clone());
            self.list(name, index, frame.bytes().len());
        }
    }

    fn write_slice(&mut self, item: &mut Delivering) -> bool {
        let logged = tracing::enabled!(target: "soundpost::frames", tracing::Level::DEBUG);
        let bytes = item.frame.bytes().clone();
        let mut casualties = Vec::new();
        let (mut count, mut last) = (0, ConnectionRef::NONE);
        let Self { seats, subscribers, queues, .. } = self;
        let recipients = subscribers.of(item.channel);
        let slice = SLICE_WRITES.min(SLICE_BYTES / bytes.len().max(1)).max(1);
        while count < slice {
            let Some(subscriber) = recipients.get(item.next) else { break };
            item.next += 1;
            if !item.is_for(subscriber.connection, subscriber.roster_version) {
                continue;
            }
            let Some(seat) = seats.get_mut(subscriber.connection).filter(|seat| !seat.is_closing()) else {
                continue;
            };
            count += 1;
            last = subscriber.connection;
            let sent = seat.outlet.send(&bytes, queues);
            if !matches!(sent, Ok(super::outlet::Sent::Whole)) {
                casualties.push((subscriber.connection, sent));
            }
        }
        let is_done = item.next >= recipients.len();
        self.count_deliveries(last, count, bytes.len());
        if logged {
            self.log_slice(item, count);
        }
        for (name, sent) in casualties {
            self.settle(name, &sent);
        }
        is_done
    }

    fn list_slice(&mut self, item: &mut Delivering) -> bool {
        let logged = tracing::enabled!(target: "soundpost::frames", tracing::Level::DEBUG);
        let index = *item.listed.get_or_insert_with(|| self.batch.add(item.frame.clone()));
        let (mut count, mut last) = (0, ConnectionRef::NONE);
        let Self { seats, subscribers, batch, .. } = self;
        let recipients = subscribers.of(item.channel);
        while count < SLICE_LISTED {
            let Some(subscriber) = recipients.get(item.next) else { break };
            item.next += 1;
            if !item.is_for(subscriber.connection, subscriber.roster_version) {
                continue;
            }
            let Some(seat) = seats.get_mut(subscriber.connection).filter(|seat| !seat.is_closing()) else {
                continue;
            };
            count += 1;
            last = subscriber.connection;
            batch.push(subscriber.connection, &mut seat.lane, index);
        }
        let is_done = item.next >= recipients.len();
        self.count_deliveries(last, count, item.frame.bytes().len());
        if logged {
            self.log_slice(item, count);
        }
        is_done
    }

    /// Counts a slice for the app of its last recipient, which is the app of them all.
    fn count_deliveries(&self, last: ConnectionRef, count: usize, frame_bytes: usize) {
        if let Some(app) = self.seats.get(last).and_then(|seat| seat.app.as_ref()) {
            let counters = app.counters(self.worker);
            counters.deliveries.add(count as u64);
            counters.sent_bytes.add((count * frame_bytes) as u64);
        }
    }

    fn list(&mut self, name: ConnectionRef, index: u32, frame_bytes: usize) {
        let Self { seats, batch, worker, .. } = self;
        if let Some(seat) = seats.get_mut(name).filter(|seat| !seat.is_closing()) {
            if let Some(app) = &seat.app {
                app.counters(*worker).sent_bytes.add(frame_bytes as u64);
            }
            batch.push(name, &mut seat.lane, index);
        }
    }

    /// Whether so much is listed that it must be written before more is.
    pub const fn batch_is_full(&self) -> bool {
        self.batch.links.len() >= LISTED_MAX
    }

    /// Writes what is listed, for a slice; true when all of it is written.
    pub fn write_batch_slice(&mut self) -> bool {
        let (mut writes, mut bytes) = (0, 0);
        while writes < SLICE_WRITES && bytes < SLICE_BYTES {
            let Some(name) = self.batch.recipients.get(self.batch.written).copied() else {
                self.batch.clear();
                return true;
            };
            self.batch.written += 1;
            let Self { seats, batch, queues, .. } = self;
            let Some(seat) = seats.get_mut(name) else { continue };
            let lane = std::mem::replace(&mut seat.lane, Lane::EMPTY);
            if lane == Lane::EMPTY {
                continue;
            }
            let is_joined = batch.join(lane);
            let Batch { frames, order, joined, .. } = batch;
            let listed = order.iter().filter_map(|index| frames.get(*index as usize)).map(Frame::bytes);
            let sent = match is_joined {
                true => seat.outlet.send_joined(joined, listed.clone(), queues),
                false => seat.outlet.send_each(listed.clone(), queues),
            };
            writes += 1;
            bytes += listed.map(Bytes::len).sum::<usize>();
            self.settle(name, &sent);
        }
        false
    }

    /// Ends a batch of which everything is written.
    pub fn end_batch(&mut self) {
        self.close_gaps();
        self.note_arrivals();
        self.batch.rest();
    }

    /// One line for a frame that goes out, for `--debug`.
    pub fn log_frame(&self, name: ConnectionRef, frame: &Frame) {
        if tracing::enabled!(target: "soundpost::frames", tracing::Level::DEBUG)
            && let Some(connection) = self.seats.get(name).and_then(|seat| seat.connection.as_ref())
        {
            let text = String::from_utf8_lossy(frame.payload());
            debug!(target: "soundpost::frames", socket_id = %connection.socket_id(), "-> {text}");
        }
    }

    fn log_slice(&self, item: &Delivering, count: usize) {
        let recipients = self.subscribers.of(item.channel).get(..item.next).unwrap_or_default();
        let is_for = |to: &&super::Subscriber| item.is_for(to.connection, to.roster_version);
        for subscriber in recipients.iter().rev().filter(is_for).take(count) {
            self.log_frame(subscriber.connection, &item.frame);
        }
    }
}

impl Delivering {
    fn is_for(&self, connection: ConnectionRef, roster_version: u64) -> bool {
        connection != ConnectionRef::NONE
            && Some(connection) != self.exclude
            && roster_version < self.roster_version
    }
}

impl Batch {
    fn add(&mut self, frame: Frame) -> u32 {
        self.frames.push(frame);
        u32::try_from(self.frames.len() - 1).unwrap_or(NO_LINK)
    }

    fn push(&mut self, name: ConnectionRef, lane: &mut Lane, frame: u32) {
        let Ok(link) = u32::try_from(self.links.len()) else { return };
        self.links.push(Link { frame, next: NO_LINK });
        match self.links.get_mut(lane.last as usize) {
            Some(last) => last.next = link,
            None => {
                self.recipients.push(name);
                lane.first = link;
            }
        }
        lane.last = link;
    }

    /// Reads a lane into `order`, and its frames into `joined` if they are small enough; says whether they were.
    fn join(&mut self, lane: Lane) -> bool {
        let mut at = lane.first;
        let mut is_same = true;
        let mut length = 0;
        while let Some(link) = self.links.get(at as usize) {
            if self.order.get(length) != Some(&link.frame) {
                is_same = false;
                self.order.truncate(length);
                self.order.push(link.frame);
            }
            length += 1;
            at = link.next;
        }
        is_same &= self.order.len() == length;
        self.order.truncate(length);
        if is_same && !self.joined.is_empty() {
            return true;
        }
        self.joined.clear();
        for frame in self.order.iter().filter_map(|index| self.frames.get(*index as usize)) {
            let bytes = frame.bytes();
            let is_small = bytes.len() <= JOINED_FRAME_BYTES_MAX;
            if !is_small || self.joined.len() + bytes.len() > JOINED_BYTES_MAX {
                self.joined.clear();
                return false;
            }
            self.joined.extend_from_slice(bytes);
        }
        true
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.links.clear();
        self.recipients.clear();
        self.order.clear();
        self.joined.clear();
        self.written = 0;
    }

    /// Gives the room of an unusually large batch back.
    fn rest(&mut self) {
        self.frames.shrink_to(1024);
        self.links.shrink_to(LISTED_MAX / 16);
        self.recipients.shrink_to(4096);
        self.joined.shrink_to(JOINED_BYTES_MAX);
    }
}
