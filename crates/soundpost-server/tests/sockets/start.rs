//! What keeps a server from starting is said in one line.

use std::net::{SocketAddr, TcpListener};

use soundpost_server::{
    config::{Listen, RedisAddress, RedisServers, RedisSettings, RedisTls, Settings},
    server::{Server, StartError},
};

use crate::support::app;

fn start(change: impl FnOnce(&mut Settings)) -> Result<Server, StartError> {
    let mut settings = Settings::new(vec![app("one")]);
    settings.server.workers = 1.try_into().unwrap();
    change(&mut settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Server::bind(settings) })
}

#[test]
fn a_taken_port_is_told_in_one_line() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let expected = format!(
        "cannot listen on {taken}: the port is in use; stop the other server or choose another with --port"
    );
    let listen_there =
        |settings: &mut Settings| settings.server.listen = vec![Listen { address: taken, required: true }];
    assert_eq!(start(listen_there).unwrap_err().to_string(), expected);
    let explicit_admin_there = |settings: &mut Settings| {
        settings.server.admin.port = taken.port();
        settings.server.admin.explicit = true;
    };
    let error = start(explicit_admin_there).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {taken}: the port is in use")), "{error}");

    // An admin port that nobody asked for gives way, and so does an address the server can do without.
    let server = start(|settings| settings.server.admin.port = taken.port()).unwrap();
    assert_ne!(server.admin_address().unwrap().port(), taken.port());
    let also = Listen { address: taken, required: false };
    assert_eq!(start(|settings| settings.server.listen.push(also)).unwrap().addresses().len(), 1);
}

#[test]
fn an_address_of_another_machine_is_told_in_one_line() {
    let address = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = start(|settings| settings.server.listen = vec![Listen { address, required: true }]);
    let expected = "cannot listen on 192.0.2.1:0: this machine does not have that address";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn a_file_for_tls_to_redis_that_cannot_be_read_is_told_in_one_line() {
    let tls = RedisTls { ca: Some("/nowhere/ca.crt".into()), client: None };
    let servers = RedisServers::Standalone(RedisAddress::Tcp("127.0.0.1".to_owned(), 1));
    let redis = RedisSettings { tls: Some(tls), ..RedisSettings::new(servers) };
    let error = start(|settings| settings.redis = Some(redis)).unwrap_err().to_string();
    assert!(
        error.starts_with("redis.tls.ca: cannot read /nowhere/ca.crt") && !error.contains('\n'),
        "{error}"
    );
}
