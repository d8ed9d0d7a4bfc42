//! A Redis Cluster of three masters.

use soundpost_server::config::RedisServers;

use super::{Listen, RedisServer, wait_until};

/// Of each its first slot and its last.
const RANGES: [[&str; 2]; 3] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];

/// Three masters that have all slots.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: [RedisServer; 3],
}

impl Cluster {
    /// Whole, and every node knows it.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let arguments = [&["--cluster-node-timeout", "2000"], arguments].concat();
        let servers = RANGES.map(|_| RedisServer::start_as(Listen::Cluster, &arguments, |_, _| {}));
        for (at, (server, [first, last])) in servers.iter().zip(RANGES).enumerate() {
            assert_eq!(server.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]), "OK");
            assert_eq!(server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]), "OK");
        }
        let [first, ..] = &servers;
        let (port, bus_port) = (first.port.to_string(), first.bus_port.to_string());
        for server in &servers {
            assert_eq!(server.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port]), "OK");
        }
        let cluster = Self { servers };
        cluster.wait_until_whole();
        cluster
    }

    /// Waits until every node takes all slots for served, by three nodes.
    pub(crate) fn wait_until_whole(&self) {
        wait_until("the cluster is whole", || {
            self.servers.iter().all(|server| {
                let info = server.ask(&["CLUSTER", "INFO"]);
                info.contains("cluster_state:ok") && info.contains("cluster_size:3")
            })
        });
    }

    /// All of them.
    pub(crate) fn settings(&self) -> RedisServers {
        RedisServers::Cluster(self.servers.iter().map(RedisServer::address).collect())
    }
}
