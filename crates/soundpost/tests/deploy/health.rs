//! `soundpost health`, which the container's health check runs.

use std::process::Command;

use crate::{
    server::{BINARY, Server},
    tools::{run, succeed},
};

fn ask(port: u16) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("health").env_clear().env("SOUNDPOST_ADMIN__PORT", port.to_string());
    command
}

#[test]
fn a_running_server_is_healthy_and_one_that_ended_is_not() {
    let mut server = Server::start("", "", |_| {});
    let port = server.admin.port();
    assert_eq!(succeed(&mut ask(port)), format!("healthy: http://127.0.0.1:{port}/ready\n"));
    server.process.signal("TERM");
    assert_eq!(server.process.ended(), Some(0));
    let (output, text) = run(&mut ask(port));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with(&format!("soundpost: no answer from http://127.0.0.1:{port}/ready: ")),
        "{text}"
    );
}

#[test]
fn a_server_without_its_redis_is_healthy_and_degraded_unless_it_needs_it() {
    let nobody = crate::ports::free_port();
    let redis = format!("[redis]\nenabled = true\nurl = \"redis://127.0.0.1:{nobody}\"");
    let server = Server::start(&redis, "", |_| {});
    let port = server.admin.port();
    let is_degraded = || crate::server::fetch(server.admin, "/ready").ends_with("degraded: redis");
    crate::tools::until("the server to know", is_degraded);
    let told = format!("healthy: http://127.0.0.1:{port}/ready\ndegraded: redis\n");
    assert_eq!(succeed(&mut ask(port)), told);
    let server = Server::start(&format!("ready_requires_redis = true\n{redis}"), "", |_| {});
    let port = server.admin.port();
    let is_degraded = || crate::server::fetch(server.admin, "/ready").ends_with("degraded: redis");
    crate::tools::until("the server to know", is_degraded);
    let (output, text) = run(&mut ask(port));
    assert_eq!(output.status.code(), Some(1), "{text}");
    let told = format!("soundpost: http://127.0.0.1:{port}/ready answered \"degraded: redis\"\n");
    assert!(text.ends_with(&told), "{text}");
}
