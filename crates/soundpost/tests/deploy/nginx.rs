//! The sites for nginx: judged by `nginx -t` as they stand, and run in front of a real server.

use std::{
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    server::{Server, fetch},
    tools::{
        Folder, Running, certificate, exchange, get, handshake, path, read_until, succeed, text, until, with,
    },
};

const SITE: &str = "nginx/soundpost.conf";
const CERTIFICATE: &str = "/etc/letsencrypt/live/ws.example.com/fullchain.pem";
const KEY: &str = "/etc/letsencrypt/live/ws.example.com/privkey.pem";

/// A folder with a certificate, and `sites` in an nginx that writes nothing outside of it.
fn config(folder: &Folder, sites: &str) -> std::path::PathBuf {
    let here = folder.path("");
    let here = here.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("    {name}_temp_path {here}{name};\n"))
        .collect();
    let user = succeed(Command::new("id").arg("-un"));
    // Only root may say whom nginx becomes, and only then it needs telling: the folder is this user's.
    let user = if user.trim() == "root" { "user root;\n" } else { "" };
    folder.write(
        "nginx.conf",
        &format!(
            "{user}daemon off;\nworker_processes 1;\npid {here}nginx.pid;\nerror_log {here}error.log;\n\
             events {{ worker_connections 256; }}\nhttp {{\n    access_log off;\n{temporary}{sites}\n}}\n"
        ),
    )
}

/// The site with a certificate made for it, and its log, in the folder.
fn site(folder: &Folder) -> String {
    let [certificate, key] = certificate(folder);
    let log = folder.path("access.log");
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    with(
        &text(SITE),
        &[
            (CERTIFICATE, &shown(&certificate)),
            (KEY, &shown(&key)),
            ("/var/log/nginx/soundpost.log", &shown(&log)),
        ],
    )
}

/// What the Laravel site has outside of its server block: the `upstream` and the `map` of our own.
fn shared() -> String {
    text(SITE).split_once("\nserver {").unwrap().0.to_owned()
}

fn nginx(config: &Path) -> Command {
    // Debian has it where only root looks.
    let program = "/usr/sbin/nginx";
    let mut nginx = Command::new(if Path::new(program).exists() { program } else { "nginx" });
    nginx.arg("-c").arg(config).arg("-e").arg(config.with_file_name("error.log"));
    nginx.stdout(Stdio::null()).stderr(Stdio::null());
    nginx
}

/// nginx with these sites, listening on `socket`.
fn start(folder: &Folder, sites: &str, socket: &Path) -> Running {
    let running = Running::start(&mut nginx(&config(folder, sites)));
    until("nginx to listen", || UnixStream::connect(socket).is_ok());
    running
}

fn upstream(address: SocketAddr) -> String {
    format!("server {address};")
}

#[test]
fn the_site_is_sound_as_it_stands() {
    let folder = Folder::new();
    let config = config(&folder, &site(&folder));
    succeed(nginx(&config).arg("-t").stderr(Stdio::piped()));
}

#[test]
fn the_site_carries_tls_to_the_server() {
    let server = Server::start("", "", |_| {});
    let folder = Folder::new();
    let socket = folder.path("tls.sock");
    let listen = format!("listen unix:{} ssl;", socket.display());
    let plain = format!("listen unix:{};", folder.path("plain.sock").display());
    let site = with(
        &site(&folder),
        &[
            ("    listen 80;\n    listen [::]:80;", &plain),
            ("    listen 443 ssl;\n    listen [::]:443 ssl;", &listen),
            ("server 127.0.0.1:8080;", &upstream(server.address)),
        ],
    );
    let _nginx = start(&folder, &site, &socket);
    let said = over_tls(&socket, &handshake("/app/shop-key"), "activity_timeout");
    assert!(said.contains("HTTP/1.1 101 ") && said.contains("pusher:connection_established"), "{said}");
    let said = over_tls(&socket, &get("/apps/shop/channels"), "\0");
    assert!(said.starts_with("HTTP/1.1 401 ") && said.contains("auth_key"), "{said}");
    assert!(over_tls(&socket, &get("/up"), "\0").contains(r#"{"health":"OK"}"#));
    assert!(over_tls(&socket, &get("/metrics"), "\0").starts_with("HTTP/1.1 404 "));
    assert!(over_tls(&socket, &get("/apps/shop/channels?auth_signature=abc"), "\0").contains(" 401 "));
    let log = std::fs::read_to_string(folder.path("access.log")).unwrap();
    assert!(log.contains(r#""GET /apps/shop/channels" 401 "#) && !log.contains("auth_signature"), "{log}");
    let mut stream = UnixStream::connect(folder.path("plain.sock")).unwrap();
    let said = exchange(&mut stream, &get("/app/x"), "\0");
    assert!(said.contains("\r\nLocation: https://ws.example.com/app/x\r\n"), "{said}");
}

#[test]
fn a_path_of_a_laravel_site_leads_to_the_server() {
    let server = Server::start("path = \"ws\"", "", |_| {});
    let folder = Folder::new();
    let socket = folder.path("site.sock");
    let sites = format!(
        "{}\nserver {{\n    listen unix:{};\n    include {};\n    location / {{ return 200 laravel; }}\n}}\n",
        with(&shared(), &[("server 127.0.0.1:8080;", &upstream(server.address))]),
        socket.display(),
        path("nginx/laravel-location.conf").display(),
    );
    let _nginx = start(&folder, &sites, &socket);
    let ask = |request: &str, mark: &str| exchange(&mut UnixStream::connect(&socket).unwrap(), request, mark);
    let said = ask(&handshake("/ws/app/shop-key"), "activity_timeout");
    assert!(said.contains("HTTP/1.1 101 ") && said.contains("pusher:connection_established"), "{said}");
    assert!(ask(&get("/ws/apps/shop/channels"), "\0").starts_with("HTTP/1.1 401 "));
    for elsewhere in ["/", "/app/shop-key", "/ws", "/ws/other"] {
        assert!(ask(&get(elsewhere), "\0").ends_with("laravel"), "{elsewhere}");
    }
}

/// The site before several nodes, with these in the place of its own, listening on `socket`.
fn cluster_site(folder: &Folder, nodes: [SocketAddr; 2], socket: &Path) -> String {
    let [one, other] = nodes.map(|node| format!("server {node} "));
    with(
        &text("nginx/cluster.conf"),
        &[
            ("server soundpost-1:8080 ", &one),
            ("server soundpost-2:8080 ", &other),
            ("listen 80;", &format!("listen unix:{};", socket.display())),
            ("/var/log/nginx/soundpost.log", folder.path("access.log").to_str().unwrap()),
        ],
    )
}

#[test]
fn several_nodes_are_served_in_turn_and_one_that_died_is_left_out() {
    let (one, mut other) = (Server::start("", "", |_| {}), Server::start("", "", |_| {}));
    let folder = Folder::new();
    let socket = folder.path("cluster.sock");
    let site = cluster_site(&folder, [one.address, other.address], &socket);
    succeed(nginx(&config(&folder, &site)).arg("-t").stderr(Stdio::piped()));
    let _nginx = start(&folder, &site, &socket);
    let ask = |request: &str, mark: &str| exchange(&mut UnixStream::connect(&socket).unwrap(), request, mark);
    let open =
        |node: &Server| fetch(node.admin, "/metrics").contains("soundpost_connections{app=\"shop\"} 1\n");
    let mut clients = [(); 2].map(|()| UnixStream::connect(&socket).unwrap());
    for client in &mut clients {
        let said = exchange(client, &handshake("/app/shop-key"), "activity_timeout");
        assert!(said.contains("HTTP/1.1 101 "), "{said}");
    }
    assert!(open(&one) && open(&other), "without a cookie the second client is on the other node");
    assert!(ask(&get("/apps/shop/channels"), "\0").starts_with("HTTP/1.1 401 "));
    assert!(ask(&get("/metrics"), "\0").starts_with("HTTP/1.1 404 "));
    other.process.signal("KILL");
    other.process.ended();
    for _ in 0..10 {
        let said = ask(&handshake("/app/shop-key"), "activity_timeout");
        assert!(said.contains("HTTP/1.1 101 "), "{said}");
    }
}

/// Says `request` to `socket` in TLS, and reads until `mark` or the end.
fn over_tls(socket: &Path, request: &str, mark: &str) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-quiet", "-servername", "ws.example.com", "-unix"]).arg(socket);
    openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = Running::start(&mut openssl);
    let mut stdin = client.stdin();
    std::io::Write::write_all(&mut stdin, request.as_bytes()).unwrap();
    // Its input stays open until the answer is there.
    read_until(&mut client.stdout(), mark)
}
