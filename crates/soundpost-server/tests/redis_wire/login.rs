//! One server: addresses, passwords, users, databases.

use soundpost_server::{
    adapter::redis::wire::{resp::Reply, server::ACL_RULES},
    config::{RedisAddress, RedisServers, RedisSettings},
};

use super::{
    ask, block_on, connect,
    redis::{Data, RedisServer, free_port, known_as, local, wait_until},
    refusal, try_out,
};

fn at(address: RedisAddress) -> RedisSettings {
    RedisSettings::new(RedisServers::Standalone(address))
}

#[test]
fn a_server_is_reached_by_address_name_and_unix_socket() {
    let server = RedisServer::start(&["--unixsocket", "redis.sock"]);
    let addresses = [
        server.address(),
        RedisAddress::Tcp("localhost".to_owned(), server.port),
        RedisAddress::Unix(server.path("redis.sock")),
    ];
    for address in addresses {
        let shown = address.to_string();
        let masters = block_on(connect(&at(address))).unwrap();
        assert_eq!(masters[0].address, shown);
        assert_eq!(masters[0].run_id, server.info("run_id"));
    }
    block_on(async { try_out(&mut connect(&at(server.address())).await.unwrap()).await });
}

#[test]
fn the_database_is_chosen_and_the_connections_have_a_name() {
    let server = RedisServer::start(&[]);
    let third = RedisSettings { database: 3, ..at(server.address()) };
    block_on(async {
        let mut masters = connect(&third).await.unwrap();
        ask(&mut masters[0].commands, "SET here 1").await;
        assert_eq!(server.ask(&["-n", "3", "GET", "here"]), "1");
        let clients = server.ask(&["CLIENT", "LIST"]);
        for sign in [" name=soundpost ", " db=3 "] {
            assert_eq!(clients.matches(sign).count(), 2, "{clients}");
        }
    });
    let none = RedisSettings { database: 16, ..at(server.address()) };
    let expected = format!(
        "redis at {}: there is no database 16; see redis.database, and `databases` of that server",
        server.address()
    );
    assert_eq!(refusal(&none), expected);
}

#[test]
fn a_password_is_asked_for_said_and_checked() {
    let mut server = RedisServer::start(&["--requirepass", "secret"]);
    server.cli_options = ["-a", "secret", "--no-auth-warning"].map(str::to_owned).to_vec();
    let open = RedisServer::start(&[]);
    let (unasked, at) = (at(open.address()), at(server.address()));
    block_on(async { try_out(&mut connect(&known_as(at.clone(), None, "secret")).await.unwrap()).await });
    block_on(connect(&known_as(at.clone(), Some("default"), "secret"))).unwrap();
    let wrong = "it refuses the password or the user; see redis.password and redis.username";
    for (settings, expected) in [
        (at.clone(), "it asks for a password; set redis.password"),
        (known_as(at.clone(), None, "another secret"), wrong),
        (known_as(at.clone(), Some("nobody"), "secret"), wrong),
        (
            known_as(unasked, None, "secret"),
            "its default user has no password, but one is set; remove redis.password or set requirepass",
        ),
    ] {
        let error = refusal(&settings);
        assert!(error.ends_with(expected), "{error}");
    }
}

/// Every command and name that Soundpost uses, and nothing else, is free to a user with our rules.
#[test]
fn a_user_with_only_what_is_needed_can_do_all_of_it_and_nothing_else() {
    let server = RedisServer::start(&[]);
    let mut words = vec!["ACL", "SETUSER", "soundpost", "on", ">secret"];
    words.extend(ACL_RULES.split_whitespace());
    assert_eq!(server.ask(&words), "OK");
    let settings = known_as(at(server.address()), Some("soundpost"), "secret");
    block_on(async {
        let mut masters = connect(&settings).await.unwrap();
        try_out(&mut masters).await;
        let link = &mut masters[0].commands;
        let ours = "soundpost:0:reverb:{a/b}";
        // In a script each of its commands is checked, too.
        let text = "redis.call('HSET',KEYS[1],'s','1');redis.call('SET',KEYS[2],'','PX','9');\
                    redis.call('ZADD',KEYS[3],1,'a');return{redis.call('HGETALL',KEYS[1]),\
                    redis.call('HGET',KEYS[1],'s'),redis.call('HLEN',KEYS[1]),redis.call('HKEYS',KEYS[1]),\
                    redis.call('HDEL',KEYS[1],'s'),redis.call('PEXPIRE',KEYS[2],9),redis.call('PERSIST',KEYS[2]),\
                    redis.call('PTTL',KEYS[2]),redis.call('EXISTS',KEYS[2]),redis.call('GET',KEYS[2]),\
                    redis.call('DEL',KEYS[2]),redis.call('ZRANGE',KEYS[3],0,-1),redis.call('PUBLISH',KEYS[4],'')}";
        let digest = link.ask(&[b"SCRIPT", b"LOAD", text.as_bytes()]).await.unwrap();
        let Reply::Bulk(digest) = digest else { panic!("{digest:?}") };
        let keys = ["s:1", "d:1", "lives", "t"].map(|name| format!("{ours}:{name}"));
        let digest = String::from_utf8_lossy(&digest);
        let reply = ask(link, &format!("EVALSHA {digest} 4 {}", keys.join(" "))).await;
        assert!(matches!(reply, Reply::Array(_)), "{reply:?}");
        for command in ["SADD x:i a", "SMEMBERS x:i", "SRANDMEMBER x:i 1", "SREM x:i a", "ZREM x:lives a"] {
            let reply = ask(link, &command.replace("x:", &format!("{ours}:"))).await;
            assert!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
        }
        for command in ["GET other", "PUBLISH other x", "FLUSHALL", "CONFIG GET requirepass", "KEYS *"] {
            let reply = ask(link, command).await;
            assert!(
                matches!(&reply, Reply::Error(said) if said.starts_with(b"NOPERM")),
                "{command}: {reply:?}"
            );
        }
    });
    for (taken, said) in [("-info", "'info'"), ("-role", "'role'"), ("-ping", "'ping'")] {
        assert_eq!(server.ask(&["ACL", "SETUSER", "soundpost", taken]), "OK");
        let error = refusal(&settings);
        assert!(error.contains("its ACL forbids what is needed") && error.contains(said), "{error}");
        let given = taken.replace('-', "+");
        assert_eq!(server.ask(&["ACL", "SETUSER", "soundpost", &given]), "OK");
    }
    // A name of the connections is nothing to fail for.
    assert_eq!(server.ask(&["ACL", "SETUSER", "soundpost", "-client|setname", "-client"]), "OK");
    block_on(connect(&settings)).unwrap();
    assert_eq!(server.ask(&["ACL", "SETUSER", "soundpost", "-select"]), "OK");
    block_on(connect(&settings)).unwrap();
    let error = refusal(&RedisSettings { database: 3, ..settings });
    assert!(error.contains("its ACL forbids what is needed"), "{error}");
}

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let nobody = local(free_port());
    let error = refusal(&at(nobody.clone()));
    let expected =
        format!("redis at {nobody}: cannot connect (Connection refused (os error 111)); does it run");
    assert!(error.starts_with(&expected), "{error}");
    let error = refusal(&at(RedisAddress::Unix("/nowhere/redis.sock".into())));
    assert!(error.starts_with("redis at /nowhere/redis.sock: cannot connect (No such file"), "{error}");
    // Reserved for this: RFC 6761.
    let error = refusal(&at(RedisAddress::Tcp("redis.invalid".to_owned(), 6379)));
    assert!(error.starts_with("redis at redis.invalid:6379: "), "{error}");
}

#[test]
fn a_server_that_stands_still_is_given_up_in_time_and_one_that_goes_on_is_found() {
    let server = RedisServer::start(&[]);
    server.pause();
    let begun = std::time::Instant::now();
    let error = refusal(&at(server.address()));
    assert!(error.contains("no answer within 1000 ms"), "{error}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    server.resume();
    block_on(connect(&at(server.address()))).unwrap();
}

#[test]
fn a_restart_is_another_run_with_or_without_data() {
    let mut server = RedisServer::start(&[]);
    let first = block_on(connect(&at(server.address()))).unwrap()[0].run_id.clone();
    assert_eq!(server.ask(&["SET", "key", "value"]), "OK");
    server.save();
    server.kill();
    assert!(refusal(&at(server.address())).contains("Connection refused"));
    let mut runs = vec![first];
    for (data, value) in [(Data::Saved, "value"), (Data::Lost, "")] {
        server.kill();
        server.start_again(data);
        assert_eq!(server.ask(&["GET", "key"]), value, "{data:?}");
        runs.push(block_on(connect(&at(server.address()))).unwrap()[0].run_id.clone());
    }
    runs.dedup();
    assert_eq!(runs.len(), 3);
}

#[test]
fn a_replica_a_full_server_and_one_that_loads_are_refused() {
    let master = RedisServer::start(&["--maxclients", "20"]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    wait_until("the replica has what the master has", || replica.info("master_link_status") == "up");
    let error = refusal(&at(replica.address()));
    let expected =
        format!("it is a replica of 127.0.0.1:{}; name the master, or set redis.sentinels", master.port);
    assert!(error.ends_with(&expected), "{error}");
    let mut others = Vec::new();
    wait_until("the server is full", || {
        others.push(std::net::TcpStream::connect(("127.0.0.1", master.port)).unwrap());
        master.ask(&["PING"]) != "PONG"
    });
    let error = refusal(&at(master.address()));
    assert!(
        error.ends_with("it has as many clients as it allows; see `maxclients` of that server"),
        "{error}"
    );
}
