//! What is in Redis after a push.

use std::fs;

use soundpost_protocol::webhook::{LaravelQueue, event::Event};
use soundpost_server::{
    adapter::redis::wire::{dial::dial, resp::Reply},
    config::{RedisServers, RedisSettings, RedisTls},
};

use super::{
    attempt, block_on, carrier, carrier_to, push, queue,
    redis::{Cluster, Listen, RedisServer, Sentinel, secured},
    refusal, small,
};

/// What Laravel's worker runs to take a job. Source: `Illuminate\Queue\LuaScripts::pop`.
const POP: &[u8] = b"local job=redis.call('lpop',KEYS[1])
if job then redis.call('lpop',KEYS[2]) end
return job";

#[test]
fn each_request_is_a_job_in_the_list_with_a_wake_up_beside_it() {
    let server = RedisServer::start(&[]);
    let carrier = carrier_to(&server, "");
    block_on(async {
        push(&carrier, &attempt(0x1a, &[("cache-a", Event::ChannelOccupied), ("cache-a", Event::CacheMiss)]))
            .await;
        push(&carrier, &small(0x1c)).await;
    });
    assert_eq!(server.ask(&["KEYS", "*"]).lines().count(), 2);
    assert_eq!(server.ask(&["LRANGE", "app_queues:webhooks:notify", "0", "-1"]), "1\n1");
    assert_eq!(server.ask(&["LLEN", "app_queues:webhooks"]), "2");
    let job: serde_json::Value =
        serde_json::from_str(&server.ask(&["LINDEX", "app_queues:webhooks", "0"])).unwrap();
    assert_eq!(job["job"], r"App\Jobs\PusherWebhook@handle");
    assert_eq!(
        job["data"],
        serde_json::json!({
            "app_id": "shop",
            "event_ids": ["2f.1a", "2f.1b"],
            "time_ms": 1_700_000_000_123_u64,
            "events": [
                {"name": "channel_occupied", "channel": "cache-a"},
                {"name": "cache_miss", "channel": "cache-a"},
            ],
        })
    );
    // One connection does for all that is not sent at once.
    assert_eq!(server.ask(&["CLIENT", "LIST"]).matches("name=soundpost ").count(), 1);
}

#[test]
fn a_request_that_is_tried_again_is_the_same_job() {
    let server = RedisServer::start(&[]);
    block_on(async {
        // Another node takes over what one has left.
        for carrier in [carrier_to(&server, ""), carrier_to(&server, "")] {
            push(&carrier, &small(1)).await;
        }
        push(&carrier_to(&server, ""), &small(2)).await;
    });
    let jobs = server.ask(&["LRANGE", "app_queues:webhooks", "0", "-1"]);
    let uuids: Vec<_> = jobs.lines().map(|job| job[..48].to_owned()).collect();
    assert_eq!(uuids[0], uuids[1]);
    assert_ne!(uuids[0], uuids[2]);
}

/// A worker that takes jobs all the time finds a wake-up for each of them, and none without.
#[test]
fn job_and_wake_up_are_there_at_one_moment() {
    let server = RedisServer::start(&[]);
    let carrier = carrier_to(&server, "");
    block_on(async {
        let settings = RedisSettings::new(RedisServers::Standalone(server.address()));
        let mut worker = dial(&server.address(), &settings).await.unwrap();
        let pushes = async {
            for number in 1..=300 {
                push(&carrier, &small(number)).await;
            }
        };
        let pops = async {
            let mut taken = 0;
            while taken < 300 {
                let keys = [b"app_queues:webhooks".as_slice(), b"app_queues:webhooks:notify"];
                let reply = worker.ask(&[b"EVAL", POP, b"2", keys[0], keys[1]]).await.unwrap();
                taken += usize::from(matches!(reply, Reply::Bulk(_)));
            }
        };
        tokio::join!(pushes, pops);
    });
    assert_eq!(server.ask(&["KEYS", "*"]), "");
}

#[test]
fn the_url_says_the_database_and_a_unix_socket() {
    let server = RedisServer::start(&["--unixsocket", "redis.sock"]);
    let socket = format!("unix://{}?db=3", server.path("redis.sock").display());
    for url in [format!("redis://127.0.0.1:{}/3", server.port), socket] {
        block_on(push(&carrier(&queue(Some(&url)), None), &small(1)));
    }
    assert_eq!(server.ask(&["-n", "3", "LLEN", "app_queues:webhooks"]), "2");
    assert_eq!(server.ask(&["KEYS", "*"]), "");
}

#[test]
fn with_tls_those_are_believed_whom_the_nodes_believe() {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let files = ["--tls-cert-file", "server.crt", "--tls-key-file", "server.key"];
    let ca = ["--tls-ca-cert-file", "server.crt", "--tls-auth-clients", "no"];
    let mut server = RedisServer::start_as(Listen::Tls, &[files, ca].concat(), |folder, _| {
        fs::write(folder.join("server.crt"), certificate.cert.pem()).unwrap();
        fs::write(folder.join("server.key"), certificate.signing_key.serialize_pem()).unwrap();
    });
    server.cli_options = ["--tls", "--insecure"].map(str::to_owned).to_vec();
    let url = format!("rediss://127.0.0.1:{}", server.port);
    let error = refusal(&carrier(&queue(Some(&url)), None));
    assert!(error.contains("redis.tls.ca"), "{error}");
    let nodes = RedisSettings::new(RedisServers::Standalone(server.address()));
    let nodes = secured(nodes, RedisTls { ca: Some(server.path("server.crt")), client: None });
    block_on(push(&carrier(&queue(Some(&url)), Some(&nodes)), &small(1)));
    assert_eq!(server.ask(&["LLEN", "app_queues:webhooks"]), "1");
}

#[test]
fn without_a_url_it_is_the_redis_of_the_nodes() {
    let server = RedisServer::start(&[]);
    let servers = RedisServers::Standalone(server.address());
    let nodes = RedisSettings { database: 2, ..RedisSettings::new(servers) };
    let named = LaravelQueue { prefix: "".into(), queue: "default".into(), ..queue(None) };
    block_on(push(&carrier(&named, Some(&nodes)), &small(1)));
    assert_eq!(server.ask(&["-n", "2", "LLEN", "queues:default"]), "1");
}

#[test]
fn on_a_cluster_both_lists_are_where_laravel_looks_and_are_followed() {
    let cluster = Cluster::start(&[]);
    let carrier = carrier(&queue(None), Some(&RedisSettings::new(cluster.settings())));
    let [jobs, notify] = ["app_queues:{webhooks}", "app_queues:{webhooks}:notify"];
    let slot = cluster.servers[0].ask(&["CLUSTER", "KEYSLOT", jobs]);
    let holder = |key| cluster.servers.iter().position(|server| server.ask(&["LLEN", key]) == "1");
    block_on(async {
        push(&carrier, &small(1)).await;
        let before = holder(jobs).unwrap();
        assert_eq!(holder(notify), Some(before));
        // The slot goes to the next master, which is told first.
        assert_eq!(cluster.servers[before].ask(&["DEL", jobs, notify]), "2");
        let after = (before + 1) % cluster.servers.len();
        let id = cluster.servers[after].ask(&["CLUSTER", "MYID"]);
        for at in 0..cluster.servers.len() {
            let server = &cluster.servers[(after + at) % cluster.servers.len()];
            assert_eq!(server.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]), "OK");
        }
        push(&carrier, &small(2)).await;
        assert_eq!((holder(jobs), holder(notify)), (Some(after), Some(after)));
    });
}

#[test]
fn behind_sentinels_jobs_go_to_the_master_of_the_moment() {
    let three = Sentinel::start("");
    let carrier = carrier(&queue(None), Some(&RedisSettings::new(three.settings(&[]))));
    block_on(async {
        push(&carrier, &small(1)).await;
        assert_eq!(three.servers[0].ask(&["LLEN", "app_queues:webhooks"]), "1");
        assert_eq!(three.servers[0].ask(&["DEL", "app_queues:webhooks"]), "1");
        three.fail_over();
        push(&carrier, &small(2)).await;
        assert_eq!(three.servers[1].ask(&["LLEN", "app_queues:webhooks"]), "1");
    });
}
