//! A Redis that goes away and comes back.

use std::time::{Duration, Instant};

use super::{
    block_on, carrier_to, push,
    redis::{Data, RedisServer},
    refusal, small,
};

#[test]
fn after_an_outage_the_first_attempt_succeeds() {
    let mut server = RedisServer::start(&[]);
    let carrier = carrier_to(&server, "");
    // In one runtime, as the connection that is kept belongs to it.
    block_on(async {
        push(&carrier, &small(1)).await;
        server.kill();
        let error = carrier.send(&small(2)).await.unwrap_err().to_string();
        assert!(error.contains("cannot connect") || error.contains("closed the connection"), "{error}");
        assert!(carrier.send(&small(2)).await.unwrap_err().to_string().contains("cannot connect"));
        server.start_again(Data::Lost);
        push(&carrier, &small(2)).await;
        assert_eq!(server.ask(&["LLEN", "app_queues:webhooks"]), "1");
    });
}

#[test]
fn a_connection_that_redis_has_ended_meanwhile_costs_no_attempt() {
    let server = RedisServer::start(&[]);
    let carrier = carrier_to(&server, "");
    block_on(async {
        for number in 1..=20 {
            push(&carrier, &small(number)).await;
            // As it does with clients that say nothing for `timeout` seconds.
            assert_eq!(server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]), "1");
            // The runtime hears of it when it next looks for what sockets have to say.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(server.ask(&["LLEN", "app_queues:webhooks"]), "20");
}

#[test]
fn a_redis_that_stands_still_is_given_up_in_time() {
    let server = RedisServer::start(&[]);
    server.pause();
    let begun = Instant::now();
    let error = refusal(&carrier_to(&server, ""));
    assert!(error.contains("no answer within 1000 ms"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    server.resume();
    block_on(push(&carrier_to(&server, ""), &small(1)));
}
