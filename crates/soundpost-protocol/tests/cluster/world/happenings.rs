//! What users do, and what goes wrong.

use super::*;

/// The members of a killed node are gone everywhere within this time: a lease, a beat, and some for the way.
const GONE_MAX: u64 = 8000;

impl World {
    pub(super) fn act(&mut self) {
        let running: Vec<usize> =
            self.alive().into_iter().filter(|node| self.nodes[*node].paused_until <= self.now).collect();
        let Some(node) = self.random.pick(&running).copied() else { return };
        let is_free = |client: &Client| !self.guarded.contains(client.member.user_id.as_str());
        let clients = self.nodes[node].clients.iter().filter(|(_, client)| is_free(client));
        let clients: Vec<SocketId> =
            clients.map(|(id, _)| *id).filter(|id| !self.returning.contains_key(id)).collect();
        let existing = self.random.clone().pick(&clients).copied();
        self.random.next();
        let choice = self.random.below(100);
        match existing {
            Some(socket_id) if choice < 35 => {
                self.log(|| format!("node {node}: {socket_id} leaves"));
                self.nodes[node].leave(self.base, self.now, socket_id);
            }
            Some(socket_id) if choice < 45 => {
                // Leaves and is there again in the same moment.
                let client = self.nodes[node].clients[&socket_id].clone();
                self.log(|| format!("node {node}: {socket_id} leaves and joins"));
                self.nodes[node].leave(self.base, self.now, socket_id);
                let (now, base) = (self.now, self.base);
                self.nodes[node].join(base, now, socket_id, &client.member, client.is_observer);
            }
            Some(socket_id) if choice < 55 => {
                let client = self.nodes[node].clients[&socket_id].clone();
                if !client.is_observer {
                    let user = self.members.iter().position(|[a, _]| a.user_id == client.member.user_id);
                    let member = self.members[user.unwrap_or(0)][self.random.below(2) as usize].clone();
                    self.log(|| format!("node {node}: {socket_id} asks again"));
                    self.nodes[node].join(self.base, self.now, socket_id, &member, false);
                }
            }
            _ => {
                let user = match self.kind {
                    Kind::User => 0,
                    Kind::Presence | Kind::Plain => self.random.below(USERS),
                };
                let member = self.members[user as usize][self.random.below(2) as usize].clone();
                let is_observer = self.kind == Kind::User && self.random.chance(50);
                self.connect_client(node, &member, is_observer);
            }
        }
        self.attend(node);
    }

    pub(crate) fn connect_client(
        &mut self,
        node: usize,
        member: &Arc<Member>,
        is_observer: bool,
    ) -> SocketId {
        self.sockets += 1;
        let socket_id = SocketId { left: self.sockets, right: node as u64 };
        self.log(|| format!("node {node}: {socket_id} joins as {} {is_observer}", member.user_id));
        if !is_observer {
            // Where it has come, nobody knows that it was elsewhere before.
            self.redis.told.settled.remove(member.user_id.as_str());
        }
        self.nodes[node].join(self.base, self.now, socket_id, member, is_observer);
        self.attend(node);
        socket_id
    }

    pub(super) fn return_user(&mut self, socket_id: SocketId, member: &Arc<Member>) {
        let alive: Vec<usize> = self.alive();
        if let Some(node) = self.random.pick(&alive).copied() {
            self.log(|| format!("node {node}: {socket_id} is back as {}", member.user_id));
            self.nodes[node].join(self.base, self.now, socket_id, member, false);
            self.attend(node);
        }
    }

    pub(super) fn fault(&mut self) {
        let Faults { kills, pauses, breaks, stalls, restarts, .. } = self.faults;
        let kinds = [(kills, 0), (pauses, 1), (breaks, 2), (stalls, 3), (restarts, 4)];
        let kinds: Vec<u8> = kinds.iter().filter(|(is_on, _)| *is_on).map(|(_, kind)| *kind).collect();
        let alive = self.alive();
        let node = self.random.pick(&alive).copied().unwrap_or(0);
        match self.random.pick(&kinds) {
            Some(0) if alive.len() > 1 => self.kill(node),
            Some(1) => {
                let until = self.now + self.random.between(500, 14_000);
                self.count.pauses += 1;
                self.log(|| format!("node {node} stops until {until}"));
                let paused = &mut self.nodes[node].paused_until;
                *paused = until.max(*paused);
            }
            Some(2) => {
                self.count.breaks += 1;
                self.log(|| format!("the connection of node {node} breaks"));
                let id = self.nodes[node].connection;
                match self.random.below(3) {
                    0 => self.break_connection(node),
                    how => {
                        if let Some(connection) = self.connections.get_mut(&id) {
                            connection.is_mute = how == 1;
                            connection.is_deaf = true;
                        }
                    }
                }
            }
            Some(3) => {
                self.count.stalls += 1;
                self.redis.stalled_until = self.now + self.random.between(100, 9000);
                self.log(|| format!("redis stalls until {}", self.redis.stalled_until));
            }
            Some(4) if self.redis.is_up => {
                self.count.restarts += 1;
                self.redis.is_up = false;
                self.away_at = self.now;
                self.redis.stalled_until = 0;
                let back = self.now + self.random.between(50, 9000);
                let how = self.random.below(3);
                self.log(|| format!("redis ends until {back}, comes back {how}"));
                for node in self.alive() {
                    // A stopped process notices later.
                    if self.nodes[node].paused_until <= self.now {
                        self.break_connection(node);
                    } else if let Some(found) = self.connections.get_mut(&self.nodes[node].connection) {
                        found.is_mute = true;
                        found.executes_until = Some(self.now);
                    }
                }
                self.push(back, NODES, Event::StoreBack(how));
            }
            _ => {}
        }
        if self.random.chance(50) {
            self.snapshot = self.redis.data.clone();
        }
    }

    pub(super) fn store_back(&mut self, how: u64) {
        self.log(|| format!("redis is back, data: {how}"));
        self.redis.is_up = true;
        self.redis.run += 1;
        match how {
            0 => self.redis.restore(Data::default()),
            1 => self.redis.restore(self.snapshot.clone()),
            _ => {}
        }
        self.is_forgotten |= how < 2;
        self.redis.told.settled.clear();
        if self.faults.spare_nodes() && self.count.restarts == 1 {
            let clients = || self.nodes.iter().flat_map(|node| node.clients.values());
            let user = |client: &Client| client.member.user_id.as_str().to_owned();
            let mut settled: BTreeSet<_> =
                clients().filter(|client| self.is_settled(client)).map(user).collect();
            for client in clients().filter(|client| !client.is_observer && !self.is_settled(client)) {
                settled.remove(client.member.user_id.as_str());
            }
            self.redis.told.settled = settled;
        }
        // No connection outlives the process at its other end.
        for connection in self.connections.values_mut() {
            connection.executes_until = Some(self.now.saturating_sub(1));
        }
    }

    fn kill(&mut self, node: usize) {
        self.count.kills += 1;
        self.log(|| format!("node {node} is killed"));
        let id = self.nodes[node].connection;
        let until = self.now + self.random.below(10);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.executes_until = Some(until.max(self.redis.stalled_until));
        }
        self.processes[node] += 1;
        let (now, kind, trace) = (self.now, self.kind, self.trace);
        let dead = std::mem::replace(&mut self.nodes[node], Node::new(NodeId(0), kind, now, trace));
        self.nodes[node].is_alive = false;
        self.killed.push((dead.life, now));
        self.push(now + GONE_MAX, NODES, Event::Gone(dead.life));
        if self.random.chance(60) {
            let time = now + self.random.between(500, 8000);
            self.push(time, node, Event::Start(node));
        }
        let is_guarded = self.faults.spare_connections();
        for client in dead.clients.values() {
            self.guarded.remove(client.member.user_id.as_str());
        }
        for client in dead.clients.into_values() {
            if client.is_observer || !self.random.chance(60) {
                continue;
            }
            let user = client.member.user_id.as_str().to_owned();
            // Only who was there for all to see, and whom nothing else may take away.
            let others = self.nodes.iter().flat_map(|node| node.clients.values());
            let is_alone = others.filter(|other| other.member.user_id == client.member.user_id).count() == 0;
            self.sockets += 1;
            let socket_id = SocketId { left: self.sockets, right: 99 };
            if is_guarded && is_alone && client.view.is_some() && !self.guarded.contains(&user) {
                self.returning.insert(socket_id, now + 3900);
            }
            let time = now + self.random.between(50, 3500);
            self.push(time, NODES, Event::Return(socket_id, client.member));
        }
    }

    /// Nothing goes wrong any more; what has, ends, is noticed and mended.
    pub(crate) fn heal(&mut self) {
        self.is_settling = true;
        self.guarded.clear();
        self.returning.clear();
    }

    /// Everybody goes.
    pub(crate) fn leave_all(&mut self) {
        for node in self.alive() {
            let clients: Vec<SocketId> = self.nodes[node].clients.keys().copied().collect();
            for socket_id in clients {
                self.nodes[node].leave(self.base, self.now, socket_id);
            }
            self.attend(node);
        }
    }
}
