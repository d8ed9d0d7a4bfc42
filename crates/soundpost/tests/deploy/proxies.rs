//! The blocks of `docs/proxies.md`: each judged by the program it is for.

use std::{path::Path, process::Command};

use crate::tools::{Folder, run, succeed, with};

const PAGE: &str = include_str!("../../../../docs/proxies.md");
const APP: &str = "[[apps]]\nid = \"a\"\nkey = \"k\"\nsecret = \"a-secret-of-16-or-more\"\n";

/// The blocks of one language, of which there must be some.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("\n```{language}\n");
    let blocks: Vec<_> = PAGE.split(&start).skip(1).map(|rest| rest.split_once("\n```").unwrap().0).collect();
    assert!(!blocks.is_empty(), "{language}");
    blocks
}

/// A program that Debian has where only root looks.
fn program(name: &str) -> Command {
    let file = Path::new("/usr/sbin").join(name);
    Command::new(if file.exists() { file } else { name.into() })
}

#[test]
fn soundpost_takes_its_lines() {
    let folder = Folder::new();
    for block in blocks("toml") {
        let file = folder.write("soundpost.toml", &format!("{block}\n{APP}"));
        let mut check = Command::new(env!("CARGO_BIN_EXE_soundpost"));
        succeed(check.arg("check").arg("--config").arg(file).env_clear());
    }
    let folder = Folder::new();
    for block in blocks("env") {
        let file = folder.write("env", block);
        let mut check = Command::new(env!("CARGO_BIN_EXE_soundpost"));
        let said =
            succeed(check.arg("check").arg("--env-file").arg(file).env_clear().current_dir(folder.path("")));
        let path = said.lines().find(|line| line.starts_with("path "));
        assert!(path.is_some_and(|line| line.contains(r#"= "/ws""#)), "{said}");
    }
}

#[test]
fn nginx_takes_its_lines() {
    let folder = Folder::new();
    for block in blocks("nginx") {
        let here = folder.path("");
        let here = here.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {here}{name};\n"))
            .collect();
        let all = format!("pid {here}pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}{block}\n}}\n");
        let file = folder.write("nginx.conf", &all);
        succeed(program("nginx").args(["-t", "-e", "stderr", "-c"]).arg(file));
    }
}

#[test]
fn caddy_takes_its_lines() {
    let folder = Folder::new();
    for block in blocks("caddyfile") {
        let file = folder.write("Caddyfile", &format!("{block}\n"));
        let mut caddy = Command::new("caddy");
        caddy.env("XDG_DATA_HOME", folder.path("data")).env("XDG_CONFIG_HOME", folder.path("config"));
        succeed(caddy.args(["validate", "--adapter", "caddyfile", "--config"]).arg(file));
    }
}

#[test]
fn haproxy_takes_its_lines() {
    let folder = Folder::new();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl
        .args(["-subj", "/CN=ws.example.com", "-days", "2", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    succeed(&mut openssl);
    let both = [certificate, key].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    let both = folder.write("both.pem", &both);
    for block in blocks("haproxy") {
        let block = with(block, &[("/etc/haproxy/ws.example.com.pem", both.to_str().unwrap())]);
        let file = folder.write("haproxy.cfg", &format!("{block}\n"));
        let (output, text) = run(program("haproxy").args(["-c", "-f"]).arg(file));
        assert!(output.status.success() && !text.contains("WARNING"), "{text}");
    }
}
