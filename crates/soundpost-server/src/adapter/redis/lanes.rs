//! The two lanes in front of the connections: what is written, what waits, and who has waited for too long.

use std::{mem, time::Duration};

use super::{
    commands::{Expect, Flight},
    outbox::Done,
    session::{ASKS_MAX, Lost, Session},
};
use crate::{adapter::Refused, config::OnOutage};

/// Commands for channels that are written and not answered.
const ASKS_IN_FLIGHT_MAX: usize = 512;
/// Publishes that are written and not answered, and their bytes: enough to keep Redis busy for a round trip. The rest
/// waits where it can be taken back.
const PUBLISHES_IN_FLIGHT_MAX: usize = 2048;
const PUBLISH_BYTES_IN_FLIGHT_MAX: usize = 4 << 20;
/// Commands of queries that are written and not answered.
const QUERIES_IN_FLIGHT_MAX: usize = 2048;
/// A publish that has no answer after so long gets none.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(900);
/// What tells webhooks waits at most so long for what the node has noted before.
pub(super) const CATCHING_UP_MAX: Duration = Duration::from_millis(500);

/// What is written and not answered.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    asks: usize,
    pub(super) publishes: usize,
    publish_bytes: usize,
    queries: usize,
    pub(super) bytes: usize,
}

impl InFlight {
    pub(super) fn add(&mut self, expect: &Expect, bytes: usize) {
        self.change(expect, |commands| *commands += 1, |all| *all += bytes);
    }

    pub(super) fn remove(&mut self, flight: &Flight) {
        self.change(&flight.expect, |commands| *commands -= 1, |all| *all -= flight.bytes);
    }

    fn change(&mut self, expect: &Expect, one: impl Fn(&mut usize), bytes: impl Fn(&mut usize)) {
        bytes(&mut self.bytes);
        match expect {
            Expect::Publish(_) => {
                one(&mut self.publishes);
                bytes(&mut self.publish_bytes);
            }
            Expect::Query(..) => one(&mut self.queries),
            Expect::Change(_) | Expect::Replaced(_) | Expect::Read(_) | Expect::Indexed(..) => {
                one(&mut self.asks);
            }
            Expect::Beat(..)
            | Expect::Lease(_)
            | Expect::Index(_)
            | Expect::Tags(_)
            | Expect::Reaped(..)
            | Expect::TakenOver(..)
            | Expect::Finished(_)
            | Expect::Carried(_)
            | Expect::Nothing => {}
        }
    }
}

impl Session<'_> {
    /// Who has waited for too long hears so.
    pub(super) fn expire(&mut self) -> Result<(), Lost> {
        let Some(before) = self.now.checked_sub(PUBLISH_TIMEOUT) else { return Ok(()) };
        let is_local = self.shared.settings.on_outage == OnOutage::Local;
        for server in &mut self.servers {
            for flight in &mut server.flights {
                let Expect::Publish(publish) = &mut flight.expect else { continue };
                if publish.taken_at > before {
                    break;
                }
                // It is delivered here, and so is all that follows it: Redis is as good as away.
                if is_local {
                    return Err(Lost::Late);
                }
                let done = mem::replace(&mut publish.done, Done::Nobody);
                if !matches!(done, Done::Nobody) {
                    self.shared.metrics.unconfirmed.add(1);
                    self.shared.complete(done, Err(Refused::Unconfirmed));
                }
            }
        }
        if is_local {
            return Ok(());
        }
        for publish in self.shared.outbox.withdraw(before) {
            self.shared.metrics.withdrawn.add(1);
            let refused = self.shared.not_taken(&publish);
            self.shared.complete(publish.done, Err(refused));
        }
        Ok(())
    }

    /// Writes what fits the windows.
    pub(super) fn fill(&mut self) -> Result<(), Lost> {
        while self.in_flight.asks < ASKS_IN_FLIGHT_MAX && self.has_room() {
            if self.asks.is_empty() {
                self.shared.cluster.take(&mut self.asks);
            }
            let Some(ask) = self.asks.pop_front() else { break };
            self.ask(ask);
        }
        if self.asks_waiting() > ASKS_MAX {
            return Err(Lost::Overrun);
        }
        while self.in_flight.queries < QUERIES_IN_FLIGHT_MAX && self.has_room() {
            let Some(query) = self.shared.queries.take() else { break };
            self.query(query);
        }
        self.publish();
        Ok(())
    }

    /// What the node has noted for webhooks while Redis was away was before all that it publishes now, and is to be told
    /// before: so at the beginning of a stretch that comes first, if it takes no longer than [`CATCHING_UP_MAX`].
    fn catch_up(&mut self) {
        if self.catching_up.is_some_and(|until| self.now >= until || !self.shared.hearing.has_noted()) {
            self.catching_up = None;
        }
    }

    /// What channels have asked for and was not written yet.
    pub(super) fn asks_waiting(&self) -> usize {
        self.asks.len() + self.index.waiting() + self.shared.cluster.waiting()
    }

    fn publish(&mut self) {
        let commands = PUBLISHES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.publishes);
        let bytes = PUBLISH_BYTES_IN_FLIGHT_MAX.saturating_sub(self.in_flight.publish_bytes);
        if commands == 0 || (bytes == 0 && self.in_flight.publishes > 0) {
            return;
        }
        self.catch_up();
        let mut publishes = mem::take(&mut self.publishes);
        self.shared.outbox.take(commands, bytes, self.catching_up.is_none(), &mut publishes);
        let sent_at = self.now;
        for mut publish in publishes.drain(..) {
            self.node.numbers.stamp(&mut publish);
            let command = mem::take(&mut publish.command);
            let (slot, bytes) = (publish.slot, command.len());
            let expect = Expect::Publish(Box::new(publish));
            self.in_flight.add(&expect, bytes);
            let server = self.server(slot);
            server.commands.packed(&command);
            server.flights.push_back(Flight { sent_at, bytes, expect });
        }
        self.publishes = publishes;
    }
}
