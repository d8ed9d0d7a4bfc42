//! The unit and its drop-ins under the real `systemd-analyze`, and what the server tells systemd.

use std::{os::unix::net::UnixDatagram, process::Command, time::Duration};

use soundpost_server::config::Settings;

use crate::{
    server::{BINARY, Server, fetch},
    tools::{Folder, PATIENCE, path, run, succeed, text, until, with},
};

/// Beyond the drain: the last clients' goodbyes, and the webhooks that are still to be sent.
const FAREWELL: Duration = Duration::from_millis(7500);

/// Tenths of exposure that are still good.
const EXPOSURE_MAX: &str = "20";

/// The unit in a folder of its own, with the binary that was built, and these drop-ins.
fn unit(drop_ins: &[&str]) -> (Folder, std::path::PathBuf) {
    let folder = Folder::new();
    let unit = with(&text("systemd/soundpost.service"), &[("/usr/bin/soundpost", BINARY)]);
    let file = folder.write("soundpost.service", &unit);
    for name in drop_ins {
        let drop_in = text(&format!("systemd/{name}")).replace("/usr/bin/soundpost", BINARY);
        folder.write(&format!("soundpost.service.d/{name}"), &drop_in);
    }
    (folder, file)
}

fn verify(drop_ins: &[&str]) -> String {
    let (_folder, file) = unit(drop_ins);
    let mut analyze = Command::new("systemd-analyze");
    succeed(analyze.args(["verify", "--man=no", "--recursive-errors=no"]).arg(&file))
}

#[test]
fn the_unit_and_its_drop_ins_are_sound() {
    for drop_ins in [&[][..], &["laravel.conf"], &["low-ports.conf"], &["laravel.conf", "low-ports.conf"]] {
        assert_eq!(verify(drop_ins), "", "{drop_ins:?}");
    }
}

#[test]
fn what_is_wrong_would_be_found() {
    let (folder, _) = unit(&[]);
    let broken = with(&text("systemd/soundpost.service"), &[("Type=notify", "Type=nonsense")]);
    let file = folder.write("broken.service", &broken);
    let mut analyze = Command::new("systemd-analyze");
    let (_, said) = run(analyze.args(["verify", "--man=no"]).arg(file));
    assert!(said.contains("nonsense"), "{said}");
}

#[test]
fn the_unit_is_exposed_to_little() {
    let (_folder, file) = unit(&[]);
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--no-pager", "--offline=true", "--threshold", EXPOSURE_MAX]);
    let table = succeed(analyze.arg(file));
    println!("{}", table.lines().last().unwrap_or_default());
}

#[test]
fn a_drain_fits_the_time_to_stop() {
    let unit = text("systemd/soundpost.service");
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    let drain = Settings::new(Vec::new()).server.drain;
    assert!(Duration::from_secs(seconds.parse().unwrap()) > drain + FAREWELL);
    assert!(path("soundpost.toml").is_file());
}

#[test]
fn reloading_sends_the_signal_that_reloads() {
    let unit = text("systemd/soundpost.service");
    assert!(unit.contains("\nExecReload=/bin/kill -HUP $MAINPID\n"));
    let mut server = Server::start("", "", |_| {});
    server.process.signal("HUP");
    let reloaded = r#"soundpost_reloads_total{result="unchanged"} 1"#;
    until("the reload", || fetch(server.admin, "/metrics").contains(reloaded));
    server.process.signal("TERM");
    assert_eq!(server.process.ended(), Some(0));
}

#[test]
fn systemd_hears_when_it_listens_and_when_it_drains() {
    let folder = Folder::new();
    let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut server = Server::start("", "", |command| {
        command.env("NOTIFY_SOCKET", folder.path("notify"));
    });
    assert_eq!(heard(), "READY=1\nSTATUS=serving");
    server.process.signal("TERM");
    assert_eq!(heard(), "STOPPING=1\nSTATUS=draining");
    assert_eq!(server.process.ended(), Some(0));
}
