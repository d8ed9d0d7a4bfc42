//! The Caddyfile: judged by `caddy validate` and `caddy fmt`, and run in front of a real server.

use std::{os::unix::net::UnixStream, path::Path, process::Command};

use crate::{
    server::Server,
    tools::{Folder, Running, exchange, get, handshake, path, succeed, text, until, with},
};

const FILE: &str = "caddy/Caddyfile";

/// Its data goes where the test can take it away.
fn caddy(folder: &Folder, words: &[&str]) -> Command {
    let mut caddy = Command::new("caddy");
    caddy.args(words).env("XDG_DATA_HOME", folder.path("data")).env("XDG_CONFIG_HOME", folder.path("config"));
    caddy
}

/// Starts Caddy with this Caddyfile's text, listening on `socket`.
fn start(folder: &Folder, file: &str, socket: &Path) -> Running {
    let file = folder.write("Caddyfile", file);
    let mut command = caddy(folder, &["run", "--adapter", "caddyfile", "--config"]);
    let running = Running::start(command.arg(file).stderr(std::process::Stdio::null()));
    until("caddy to listen", || UnixStream::connect(socket).is_ok());
    running
}

#[test]
fn the_file_is_sound_and_well_formed() {
    let folder = Folder::new();
    succeed(caddy(&folder, &["validate", "--adapter", "caddyfile", "--config"]).arg(path(FILE)));
    assert_eq!(succeed(caddy(&folder, &["fmt"]).arg(path(FILE))), text(FILE));
}

#[test]
fn the_site_leads_to_the_server() {
    let server = Server::start("", "", |_| {});
    let folder = Folder::new();
    let socket = folder.path("caddy.sock");
    // Plain, because certificates for this name come from an authority on the internet.
    let site = format!("http://ws.example.com {{\n\tbind unix/{}\n", socket.display());
    let file = with(
        &text(FILE),
        &[
            ("\nws.example.com {\n", &format!("\n{site}")),
            ("reverse_proxy 127.0.0.1:8080 {", &format!("reverse_proxy {} {{", server.address)),
        ],
    );
    let _caddy = start(&folder, &format!("{{\n\tadmin off\n}}\n{file}"), &socket);
    let ask = |request: &str, mark: &str| exchange(&mut UnixStream::connect(&socket).unwrap(), request, mark);
    let said = ask(&handshake("/app/shop-key"), "activity_timeout");
    assert!(said.contains("HTTP/1.1 101 ") && said.contains("pusher:connection_established"), "{said}");
    assert!(ask(&get("/apps/shop/channels"), "\0").starts_with("HTTP/1.1 401 "));
    assert!(ask(&get("/up"), "\0").contains(r#"{"health":"OK"}"#));
    assert!(ask(&get("/metrics"), "\0").starts_with("HTTP/1.1 404 "));
}
