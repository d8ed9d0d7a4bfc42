//! How many connections each app has on the other nodes, as far as their heartbeats have said.
//!
//! A beat names every app that has connections on its node, and once more, with 0, those that have none any more. One
//! with more apps than a message holds goes out in several messages of one number: each replaces what it names and
//! nothing else. So that no count stays for ever, what a whole beat has not named is gone when the next one begins, and
//! a life that was not heard for as long as a lease holds does not count. Knows neither Redis nor a clock.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use soundpost_protocol::{
    cluster::{lives::LEASE, message::HEARTBEAT_APPS_MAX},
    presence::NodeId,
};

use crate::apps::{AppIndex, AppTable};

/// What one life has said of one app.
#[derive(Clone, Copy, Debug)]
struct Said {
    connections: u32,
    /// In which of its beats.
    beat: u64,
}

/// What one life has said.
#[derive(Debug)]
struct Returns {
    heard_at: Instant,
    /// Its last beat.
    beat: u64,
    apps: BTreeMap<AppIndex, Said>,
}

/// What the other nodes have said. Holds no more apps of a life than this node runs.
#[derive(Debug, Default)]
pub struct Census {
    lives: BTreeMap<NodeId, Returns>,
    is_changed: bool,
}

impl Census {
    /// One message of a beat of another node's life has come, with those of its apps that this node runs, too. Not for
    /// this node's own lives, nor for one that is over.
    pub fn heard(
        &mut self,
        life: NodeId,
        beat: u64,
        apps: impl IntoIterator<Item = (AppIndex, u32)>,
        now: Instant,
    ) {
        let new = || Returns { heard_at: now, beat, apps: BTreeMap::new() };
        let returns = self.lives.entry(life).or_insert_with(new);
        if beat < returns.beat {
            return;
        }
        returns.heard_at = now;
        if beat > returns.beat {
            let last = std::mem::replace(&mut returns.beat, beat);
            returns.apps.retain(|_, said| said.beat == last);
        }
        for (app, connections) in apps {
            if connections > 0 {
                returns.apps.insert(app, Said { connections, beat });
            } else {
                returns.apps.remove(&app);
            }
        }
        self.is_changed = true;
    }

    /// A life is over, or has said farewell.
    pub fn forget(&mut self, life: NodeId) {
        self.is_changed |= self.lives.remove(&life).is_some();
    }

    /// Another run of the store: every node takes a new life, and what the old ones have said would count twice.
    pub fn forget_all(&mut self) {
        self.lives.clear();
        self.is_changed = true;
    }

    /// Time has passed: forgets whose lease must have run out, whether the store is there or not.
    pub fn tick(&mut self, now: Instant) {
        let before = self.lives.len();
        self.lives.retain(|_, returns| now.saturating_duration_since(returns.heard_at) < LEASE);
        self.is_changed |= self.lives.len() < before;
    }

    /// The connections of each app on all other nodes; an app that is missing has none.
    fn sums(&self) -> HashMap<AppIndex, u32> {
        let mut sums: HashMap<AppIndex, u32> = HashMap::new();
        let apps = self.lives.values().flat_map(|returns| &returns.apps);
        for (app, said) in apps {
            let sum = sums.entry(*app).or_default();
            *sum = sum.saturating_add(said.connections);
        }
        sums
    }

    /// Lets the quotas of the apps hold by it, if anything has changed since the last call.
    pub fn settle(&mut self, table: &AppTable) {
        if std::mem::take(&mut self.is_changed) {
            let sums = self.sums();
            for app in table.all() {
                app.quota.set_elsewhere(sums.get(&app.index).copied().unwrap_or(0));
            }
        }
    }
}

/// What the messages of this node's next beat say of its apps, which are told then: at least one message.
pub fn next_beat(table: &AppTable) -> Vec<Vec<(&str, u32)>> {
    let told = table.all().iter().filter_map(|app| Some((app.app.id.as_str(), app.quota.tell()?)));
    let told: Vec<_> = told.collect();
    if told.is_empty() {
        return vec![Vec::new()];
    }
    told.chunks(HEARTBEAT_APPS_MAX).map(<[_]>::to_vec).collect()
}

/// Whether the next beat should not wait for its time: an app comes near its limit, or has room again. Cheap enough to
/// be asked every quarter of a second.
pub fn wants_beat(table: &AppTable) -> bool {
    table.all().iter().any(|app| app.quota.is_news())
}

#[cfg(test)]
mod tests;
