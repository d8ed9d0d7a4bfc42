//! What a replacement of the apps means to a hub's connections.

use std::sync::Arc;

use super::Hub;
use crate::{apps::AppTable, delivery::ConnectionRef};

/// What it takes to look at a connection whose app is as it was.
const LOOK: usize = 1;
/// To give one its app's new settings.
const CHANGE: usize = 4;
/// To send one away: two frames are written, and its channels left.
const DISMISSAL: usize = 16;

impl Hub {
    /// Lets the app of a connection be what it is now: gives it the new settings, or sends it away if it cannot stay.
    /// Gives back what that took, in looks at a connection.
    pub fn adopt(&mut self, name: ConnectionRef, apps: &AppTable) -> usize {
        let Some(seat) = self.seats.get_mut(name).filter(|seat| !seat.is_closing()) else { return LOOK };
        let (Some(app), Some(connection)) = (&seat.app, &mut seat.connection) else { return LOOK };
        match apps.successor(app) {
            Ok(now) if Arc::ptr_eq(now, app) => LOOK,
            Ok(now) => {
                connection.adopt(Arc::clone(&now.app));
                seat.app = Some(Arc::clone(now));
                // A deadline may come sooner now.
                self.refile(name);
                CHANGE
            }
            Err(reason) => {
                if apps.has_lost(app) {
                    // Of a channel of thousands that all go, none need hear of the others.
                    self.leave_all(name, true);
                }
                self.close(name, reason, None);
                DISMISSAL
            }
        }
    }
}
