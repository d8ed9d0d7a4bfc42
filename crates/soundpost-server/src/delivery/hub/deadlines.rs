//! The deadlines of a hub's connections.

use std::time::{Duration, Instant};

use soundpost_protocol::close::CloseReason;

use super::{Hub, STALL_MAX};
use crate::delivery::{ConnectionRef, wheel::Second};

impl Hub {
    /// Files the connection for its next deadline, unless it is filed for that time or sooner.
    pub fn refile(&mut self, name: ConnectionRef) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        let Some(deadline) = seat.deadline() else { return };
        let second = whole_seconds(deadline.saturating_duration_since(self.began_at)).saturating_add(1);
        if second < seat.filed {
            seat.filed = self.wheel.file(name, second);
        }
    }

    /// The connections whose deadline may have come by `now`; each has to be filed again or ended.
    pub fn due(&mut self, now: Instant) -> Vec<ConnectionRef> {
        let second = whole_seconds(now.saturating_duration_since(self.began_at));
        let mut due = Vec::new();
        while let Some((second, names)) = self.wheel.turn(second) {
            for name in names {
                // One that was filed again for a sooner time has been looked at then.
                if let Some(seat) = self.seats.get_mut(name).filter(|seat| seat.filed == second) {
                    seat.filed = Second::MAX;
                    due.push(name);
                }
            }
        }
        due
    }

    /// Ends a connection that takes nothing, or that has lingered long enough; true if it is gone.
    pub fn expire(&mut self, name: ConnectionRef, now: Instant) -> bool {
        let Some(seat) = self.seats.get(name) else { return true };
        if seat.outlet.stalled_since().is_some_and(|since| since + STALL_MAX <= now) {
            self.cut(name, CloseReason::SlowConsumer);
            return true;
        }
        if seat.closing.is_some_and(|closing| closing.until <= now) {
            self.remove(name, CloseReason::ClientLeft);
            return true;
        }
        false
    }
}

fn whole_seconds(duration: Duration) -> Second {
    Second::try_from(duration.as_secs()).unwrap_or(Second::MAX - 1)
}
