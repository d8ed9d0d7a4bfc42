//! The master that sentinels name.

use std::{net::TcpListener, time::Duration};

use soundpost_server::{
    adapter::redis::wire::topology::moved,
    config::{RedisPassword, RedisServers, RedisSettings},
};
use tokio::time::timeout;

use super::{
    block_on, connect,
    redis::{DEADLINE, Sentinel, free_port, local},
    refusal, try_out,
};

#[test]
fn the_master_is_found_before_and_after_a_failover() {
    let three = Sentinel::start("");
    // The first one is down, and the second one does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let others = [local(free_port()), local(silent.local_addr().unwrap().port())];
    let settings = RedisSettings::new(three.settings(&others));
    for at in [0, 1] {
        let mut masters = block_on(connect(&settings)).unwrap();
        assert_eq!(masters[0].run_id, three.servers[at].info("run_id"));
        assert_eq!(masters[0].address, three.servers[at].address().to_string());
        masters.clear();
        if at == 0 {
            let before = three.servers[0].address().to_string();
            three.fail_over();
            block_on(async { timeout(DEADLINE, moved(&settings, &before)).await }).unwrap();
        }
    }
    block_on(async { try_out(&mut connect(&settings).await.unwrap()).await });
}

#[test]
fn another_master_is_followed_at_once_while_the_former_one_still_takes_itself_for_one() {
    let three = Sentinel::start("");
    let silent: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let others: Vec<_> = silent.iter().map(|one| local(one.local_addr().unwrap().port())).collect();
    let settings = RedisSettings::new(three.settings(&others));
    let before = three.servers[0].address().to_string();
    // Half a second until it looks, and another one for those that do not answer, however many there are.
    let limit = Duration::from_millis(1500);
    assert!(
        block_on(async { timeout(limit, moved(&settings, &before)).await }).is_err(),
        "there is no other yet"
    );
    three.begin_fail_over();
    let is_found = || block_on(async { timeout(limit, moved(&settings, &before)).await }).is_ok();
    // Once in a few times: a busy machine takes longer. One after the other they would always.
    assert!((0..8).any(|_| is_found()), "the four are asked one after the other");
    let masters = block_on(connect(&settings)).unwrap();
    assert_eq!(masters[0].run_id, three.servers[1].info("run_id"));
}

#[test]
fn sentinels_have_passwords_of_their_own_and_are_all_named_if_none_leads_on() {
    let mut three = Sentinel::start("requirepass sentinels-secret\n");
    let nobody = local(free_port());
    let RedisServers::Sentinel { master, sentinels, .. } = three.settings(std::slice::from_ref(&nobody))
    else {
        panic!("not these")
    };
    let with = |master: &str, password: Option<&str>| {
        let (master, sentinels) = (master.to_owned(), sentinels.clone());
        let password = password.map(RedisPassword::new);
        RedisSettings::new(RedisServers::Sentinel { master, sentinels, username: None, password })
    };
    block_on(connect(&with(&master, Some("sentinels-secret")))).unwrap();
    let address = three.sentinel.address();
    for (name, password, expected) in [
        (&*master, None, "it asks for a password; set redis.sentinel_password"),
        (&*master, Some("secret"), "it refuses the password or the user; see redis.sentinel_password"),
        ("other", Some("sentinels-secret"), r#"it knows no master "other"; see redis.master"#),
    ] {
        let error = refusal(&with(name, password));
        let begin = format!(
            "no sentinel leads to a master {name:?}: sentinel at {nobody}: cannot connect (Connection"
        );
        assert!(error.starts_with(&begin), "{error}");
        assert!(error.contains(&format!("; sentinel at {address}: {expected}")), "{error}");
    }
    let direct = refusal(&RedisSettings::new(RedisServers::Standalone(address.clone())));
    assert!(direct.ends_with("it asks for a password; set redis.password"), "{direct}");
    // A master that is gone, before the sentinel has done anything about it.
    let gone = three.servers[0].address();
    three.servers[0].kill();
    let error = refusal(&with(&master, Some("sentinels-secret")));
    assert!(error.contains(&format!("redis at {gone}: cannot connect")), "{error}");
}
