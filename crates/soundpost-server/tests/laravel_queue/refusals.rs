//! Redis as it should not be: what is said, and that nothing is pushed.

use soundpost_protocol::{app::AppId, webhook::WebhookId};
use soundpost_server::webhook::laravel::{LaravelCarrier, NoWay};

use super::{
    block_on, carrier, carrier_to, push, queue,
    redis::{Cluster, RedisServer, free_port, wait_until},
    refusal, small,
};

#[test]
fn a_key_that_is_no_list_is_named_and_keeps_what_it_holds() {
    let server = RedisServer::start(&[]);
    server.ask(&["SET", "app_queues:webhooks", "mine"]);
    let carrier = carrier_to(&server, "");
    assert_eq!(
        refusal(&carrier),
        format!(
            "redis at {}: its key \"app_queues:webhooks\" is no list; do laravel_queue.prefix and laravel_queue.queue \
             name the queue of your app?",
            server.address()
        )
    );
    assert_eq!(server.ask(&["GET", "app_queues:webhooks"]), "mine");
    assert_eq!(server.ask(&["EXISTS", "app_queues:webhooks:notify"]), "0", "nobody is woken for nothing");
    server.ask(&["DEL", "app_queues:webhooks"]);
    block_on(push(&carrier, &small(1)));
}

/// The job is what counts: to push it again would be to have it twice.
#[test]
fn a_job_is_delivered_where_nobody_can_be_woken() {
    let server = RedisServer::start(&[]);
    server.ask(&["SET", "app_queues:webhooks:notify", "mine"]);
    block_on(push(&carrier_to(&server, ""), &small(1)));
    assert_eq!(server.ask(&["LLEN", "app_queues:webhooks"]), "1");
}

#[test]
fn passwords_and_users_are_told_by_the_key_that_holds_them() {
    let mut server = RedisServer::start(&["--requirepass", "hush"]);
    server.cli_options = ["-a", "hush", "--no-auth-warning"].map(str::to_owned).to_vec();
    let open = RedisServer::start(&[]);
    for (server, login, expected) in [
        (&server, "", "it asks for a password; write laravel_queue.redis as redis://:PASSWORD@host:port"),
        (&server, ":hush-hush@", "it refuses the password or the user; see laravel_queue.redis"),
        (&server, "nobody:hush@", "it refuses the password or the user; see laravel_queue.redis"),
        (
            &open,
            ":hush@",
            "its default user has no password, but one is set; remove it from laravel_queue.redis",
        ),
    ] {
        let expected = format!("redis at {}: {expected}", server.address());
        assert_eq!(refusal(&carrier_to(server, login)), expected);
    }
    block_on(push(&carrier_to(&server, ":hush@"), &small(1)));
    assert_eq!(server.ask(&["LLEN", "app_queues:webhooks"]), "1");
}

#[test]
fn a_user_needs_the_rights_that_are_named_and_no_others() {
    let server = RedisServer::start(&[]);
    let carrier = carrier_to(&server, "shop:hush@");
    server.ask(&["ACL", "SETUSER", "shop", "on", ">hush", "resetkeys", "-@all"]);
    let expected = format!(
        "redis at {}: its ACL forbids to push a job; give the user +eval +rpush and the keys ~app_queues:webhooks \
         ~app_queues:webhooks:notify",
        server.address()
    );
    assert_eq!(refusal(&carrier), expected);
    let given = ["+eval", "+rpush", "~app_queues:webhooks", "~app_queues:webhooks:notify"];
    for (at, right) in given.into_iter().enumerate() {
        assert_eq!(refusal(&carrier), expected, "without {:?}", &given[at..]);
        server.ask(&["ACL", "SETUSER", "shop", right]);
    }
    block_on(push(&carrier, &small(1)));
    assert_eq!(server.ask(&["LLEN", "app_queues:webhooks:notify"]), "1");
}

#[test]
fn a_redis_without_room_is_told_and_used_again_when_it_has() {
    let server = RedisServer::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    let carrier = carrier_to(&server, "");
    let error = refusal(&carrier);
    assert!(
        error
            .ends_with("its memory is used up; raise its maxmemory, or see why workers do not take the jobs")
    );
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    block_on(push(&carrier, &small(1)));
}

#[test]
fn a_redis_that_is_another_one_than_is_meant_is_named() {
    let master = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    wait_until("the replica has what the master has", || replica.info("master_link_status") == "up");
    let cluster = Cluster::start(&[]);
    let nobody = free_port();
    let url = |rest: &str| carrier(&queue(Some(&format!("redis://127.0.0.1:{rest}"))), None);
    for (carrier, expected) in [
        (
            carrier_to(&replica, ""),
            "it is a replica of another server; name the master in laravel_queue.redis",
        ),
        (
            carrier_to(&cluster.servers[0], ""),
            "it belongs to a Redis Cluster; leave laravel_queue.redis out and set redis.cluster",
        ),
        (
            url(&format!("{}/16", master.port)),
            "there is no database 16; see the end of laravel_queue.redis, and `databases` of that server",
        ),
        (
            url(&nobody.to_string()),
            "cannot connect (Connection refused (os error 111)); does it run there, and may this host reach it?",
        ),
    ] {
        let error = refusal(&carrier);
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn a_queue_without_a_redis_is_none() {
    let new = |redis| LaravelCarrier::new(AppId::parse("shop").unwrap(), WebhookId(7), &queue(redis), None);
    assert_eq!(new(None).unwrap_err(), NoWay::NoRedis);
    let error = new(Some("http://:hush@h")).unwrap_err();
    assert!(matches!(error, NoWay::Url(_)) && !error.to_string().contains("hush"), "{error}");
}
