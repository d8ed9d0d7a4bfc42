//! All masters of a Redis Cluster.

use soundpost_server::{
    adapter::redis::wire::{
        resp::Reply,
        server::{ACL_RULES, ACL_RULES_CLUSTER},
        slots::slot_of,
    },
    config::{RedisServers, RedisSettings},
};

use super::{
    ask, block_on, connect,
    redis::{Cluster, RedisServer, free_port, known_as, local},
    refusal,
};

#[test]
fn all_masters_are_found_by_any_node_and_each_takes_what_is_in_its_slots() {
    let cluster = Cluster::start(&[]);
    let [_, second, third] = &cluster.servers;
    for nodes in [vec![local(free_port()), second.address()], vec![third.address()]] {
        let masters = block_on(connect(&RedisSettings::new(RedisServers::Cluster(nodes)))).unwrap();
        let found: Vec<_> = masters.iter().map(|master| master.run_id.clone()).collect();
        assert_eq!(found, cluster.servers.each_ref().map(|server| server.info("run_id")));
        let slots: Vec<_> = masters.iter().flat_map(|master| master.slots.clone()).collect();
        assert_eq!(slots, [0..=5460, 5461..=10_922, 10_923..=16_383]);
    }
    for server in &cluster.servers {
        let rules = format!("on >secret {ACL_RULES} {ACL_RULES_CLUSTER}");
        let words: Vec<_> =
            ["ACL", "SETUSER", "soundpost"].into_iter().chain(rules.split_whitespace()).collect();
        assert_eq!(server.ask(&words), "OK");
    }
    let as_user = known_as(RedisSettings::new(cluster.settings()), Some("soundpost"), "secret");
    block_on(async {
        let mut masters = connect(&as_user).await.unwrap();
        for name in ["soundpost:0:reverb:{a/1}", "soundpost:0:reverb:{a/2}", "soundpost:0:reverb:{nodes}"] {
            let slot = slot_of(name.as_bytes());
            let master =
                masters.iter_mut().find(|master| master.slots.iter().any(|range| range.contains(&slot)));
            let master = master.unwrap();
            let reply = ask(&mut master.topics, &format!("SSUBSCRIBE {name}:t")).await;
            assert!(matches!(reply, Reply::Array(_)), "{reply:?}");
            let heard = ask(&mut master.commands, &format!("SPUBLISH {name}:t hello")).await;
            assert_eq!(heard, Reply::Integer(1));
            let set = ask(&mut master.commands, &format!("SET {name}:k v")).await;
            assert!(matches!(set, Reply::Simple(_)), "{set:?}");
        }
    });
}

#[test]
fn a_cluster_and_its_settings_go_together_and_every_slot_has_a_master() {
    let (cluster, single) = (Cluster::start(&[]), RedisServer::start(&[]));
    let node = cluster.servers[0].address();
    let error = refusal(&RedisSettings::new(RedisServers::Standalone(node.clone())));
    assert_eq!(
        error,
        format!("redis at {node}: it belongs to a Redis Cluster; set redis.cluster instead of redis.url")
    );
    let error = refusal(&RedisSettings::new(RedisServers::Cluster(vec![single.address()])));
    assert!(error.ends_with("it does not belong to a Redis Cluster; set redis.url instead of redis.cluster"));
    // There is one database alone.
    let masters = block_on(connect(&RedisSettings { database: 3, ..RedisSettings::new(cluster.settings()) }));
    assert_eq!(masters.unwrap().len(), 3);
    assert_eq!(cluster.servers[0].ask(&["CLUSTER", "DELSLOTS", "7"]), "OK");
    let error = refusal(&RedisSettings::new(RedisServers::Cluster(vec![node])));
    assert!(error.ends_with("the Redis Cluster is not complete: no master has slot 7"), "{error}");
}
