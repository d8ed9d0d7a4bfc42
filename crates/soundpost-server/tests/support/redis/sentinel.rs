//! A master, a replica of it, and a sentinel that watches them.

use std::fs;

use soundpost_server::config::{RedisAddress, RedisServers};

use super::{Listen, RedisServer, wait_until};

/// The name of the master.
pub(crate) const MASTER: &str = "soundpost-master";

/// 1 + 1 + 1.
#[derive(Debug)]
pub(crate) struct Sentinel {
    /// Two, of which one is the master.
    pub(crate) servers: [RedisServer; 2],
    pub(crate) sentinel: RedisServer,
}

impl Sentinel {
    /// Ready for a failover; `lines` are added to the configuration of the sentinel.
    pub(crate) fn start(lines: &str) -> Self {
        let master = RedisServer::start(&[]);
        let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
        wait_until("the replica has what the master has", || replica.info("master_link_status") == "up");
        let watched = format!("sentinel monitor {MASTER} 127.0.0.1 {} 1\n", master.port);
        let sentinel = RedisServer::start_as(Listen::Sentinel, &[], |folder, port| {
            let text = format!(
                "port {port}\nbind 127.0.0.1\n{watched}sentinel down-after-milliseconds {MASTER} 60000\n\
                 sentinel failover-timeout {MASTER} 60000\n{lines}"
            );
            fs::write(folder.join("sentinel.conf"), text).unwrap();
        });
        Self { servers: [master, replica], sentinel }
    }

    /// Where to ask, here with another sentinel that is down.
    pub(crate) fn settings(&self, others: &[RedisAddress]) -> RedisServers {
        let sentinels = [others, &[self.sentinel.address()]].concat();
        RedisServers::Sentinel { master: MASTER.to_owned(), sentinels, username: None, password: None }
    }

    /// The port of the master, as the sentinel says.
    pub(crate) fn master_port(&self) -> u16 {
        let said = self.sentinel.ask(&["SENTINEL", "get-master-addr-by-name", MASTER]);
        said.lines().nth(1).unwrap().parse().unwrap()
    }

    /// The other server becomes the master. Waits until the sentinel says so; the former one may not know yet.
    pub(crate) fn begin_fail_over(&self) {
        let before = self.master_port();
        wait_until("the sentinel finds the replica good", || {
            self.sentinel.ask(&["SENTINEL", "failover", MASTER]) == "OK"
        });
        wait_until("there is another master", || self.master_port() != before);
    }

    /// The same, and waits until the former master knows.
    pub(crate) fn fail_over(&self) {
        let before = self.master_port();
        self.begin_fail_over();
        let former = self.servers.iter().find(|server| server.port == before).unwrap();
        wait_until("the former master is a replica", || former.ask(&["ROLE"]).starts_with("slave"));
    }
}
