//! What the replies on the command connections are for.

use soundpost_protocol::presence::NodeId;

use super::{
    answers::{self, Known},
    commands::{Asked, Expect},
    lives::Node,
    outbox::{Done, Publish, Told},
    session::{Lost, Session},
    wire::resp::Reply,
};

impl Session<'_> {
    /// Takes all answers that have come.
    pub(super) fn take_answers(&mut self) -> Result<(), Lost> {
        for at in 0..self.servers.len() {
            while let Some(server) = self.servers.get_mut(at)
                && let Some(reply) = server.commands.reply()?
            {
                let flight = server.flights.pop_front().ok_or(Lost::Unexpected)?;
                self.in_flight.remove(&flight);
                self.answered(flight.expect, reply)?;
            }
        }
        Ok(())
    }

    fn answered(&mut self, expect: Expect, reply: Reply) -> Result<(), Lost> {
        if let Reply::Error(line) = &reply {
            self.said(line)?;
        }
        match expect {
            Expect::Publish(publish) => self.published(*publish, &reply),
            Expect::Change(asked) => self.changed(&asked, &reply),
            Expect::Replaced(asked) => self.shares(&asked, &reply, true),
            Expect::Read(asked) => self.shares(&asked, &reply, false),
            Expect::Beat(life, asked_at) => self.beaten(life, asked_at, &reply)?,
            Expect::Lease(life) => self.lease_is(life, &reply),
            Expect::Query(gathering, at) => gathering.borrow_mut().put(at, reply, &self.node.living),
            Expect::Index(wanted) => self.clean_index(&wanted, &reply),
            Expect::Indexed(tag, life) => self.named_in_index(&tag, life),
            Expect::Tags(life) => self.reap(life, &reply),
            Expect::Reaped(life, tag) => self.reaped(life, &tag, &reply),
            Expect::TakenOver(life, tag) => self.taken_over(life, &tag, &reply),
            Expect::Finished(tag) => self.finished(&tag, &reply),
            Expect::Carried(carrying) => self.carried(&carrying, &reply),
            Expect::Nothing => {}
        }
        Ok(())
    }

    /// What an error says of the server. One that concerns the command alone is counted, and seldom logged.
    fn said(&self, line: &[u8]) -> Result<(), Lost> {
        const OVER: [&[u8]; 10] = [
            b"NOSCRIPT",
            b"MOVED",
            b"ASK",
            b"CLUSTERDOWN",
            b"TRYAGAIN",
            b"CROSSSLOT",
            b"READONLY",
            b"LOADING",
            b"MASTERDOWN",
            b"NOAUTH",
        ];
        let said = Lost::said(line);
        if OVER.iter().any(|word| line.starts_with(word)) {
            return Err(said);
        }
        self.shared.metrics.errors.add(1);
        if self.shared.error_line.is_due() {
            tracing::warn!(answer = %said, "redis refuses a command");
        }
        Ok(())
    }

    fn published(&self, mut publish: Publish, reply: &Reply) {
        let metrics = &self.shared.metrics;
        if let Some(Told { app, event }) = publish.told.take() {
            match reply {
                Reply::Integer(1) => self.shared.hearing.has_told(app),
                Reply::Integer(_) => self.shared.hearing.note(app, &event),
                // It was not published, so there is nothing to be told of.
                Reply::Simple(_) | Reply::Error(_) | Reply::Bulk(_) | Reply::Nil | Reply::Array(_) => {}
            }
        }
        if matches!(publish.done, Done::Nobody) {
            return;
        }
        let is_refused = matches!(reply, Reply::Error(_));
        let outcome = if is_refused { Err(self.shared.not_taken(&publish)) } else { Ok(()) };
        let total = if outcome.is_ok() { &metrics.accepted } else { &metrics.refused };
        total.add(1);
        metrics.publish_seconds.observe(self.now.saturating_duration_since(publish.taken_at).as_secs_f64());
        self.shared.complete(publish.done, outcome);
    }

    fn changed(&mut self, asked: &Asked, reply: &Reply) {
        let Asked { subject, tag, life, sequence } = asked;
        let hearing = &self.shared.hearing;
        match answers::word(reply) {
            b"done" => {
                hearing.done(subject, *sequence);
                let [_, is_empty, wait] = answers::items(reply) else { return };
                self.hold(tag, wait);
                let is_empty = answers::number(is_empty) == Some(1);
                if is_empty && *life == self.node.life {
                    self.unindex(tag, *sequence);
                }
            }
            b"over" => hearing.refused(subject, *life, *sequence, true),
            _ => hearing.refused(subject, *life, *sequence, false),
        }
    }

    fn shares(&mut self, asked: &Asked, reply: &Reply, is_replacement: bool) {
        let Asked { subject, tag, life, sequence } = asked;
        let hearing = &self.shared.hearing;
        match answers::word(reply) {
            b"over" => return hearing.refused(subject, *life, *sequence, true),
            b"stale" => return hearing.refused(subject, *life, *sequence, false),
            _ => {}
        }
        let mut malformed = 0;
        let Node { lives, leased, life: own, .. } = &mut *self.node;
        let has_lease = |life: NodeId| leased.contains(&life);
        let mut known = Known { own: *own, lives, has_lease: &has_lease, now: self.now };
        let answer = match is_replacement {
            true => known.replaced(reply, &mut malformed),
            false => known.read(reply, &mut malformed),
        };
        if malformed > 0 {
            self.shared.malformed("an entry of a share is malformed", tag);
        }
        let Some((answer, kept)) = answer else {
            // It was refused with an error: who waits for it hears that nothing came in time.
            return hearing.refused(subject, *life, *sequence, false);
        };
        let is_empty = !answer.shares.iter().any(|share| share.life == *own && share.count > 0);
        hearing.answered(subject, *sequence, answer, kept);
        if is_replacement && let Some(wait) = answers::items(reply).get(1) {
            self.hold(tag, wait);
        }
        if is_replacement && is_empty && *life == self.node.life {
            self.unindex(tag, *sequence);
        }
    }
}
