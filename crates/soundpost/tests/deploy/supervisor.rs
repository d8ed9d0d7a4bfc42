//! The program of `deploy/supervisor` under a real supervisord, in the place of Laravel's `reverb:start`.

use std::{fs, net::SocketAddr, os::unix::fs::symlink, path::Path, process::Command, thread};

use soundpost_client::{Client, ClientError};

use crate::{
    migrating::{blocks, page, program_lines},
    ports::free_port,
    server::{BINARY, block_on, channel, client, fetch},
    tools::{Folder, Running, path, run, succeed, text, until, with},
};

/// A Laravel application as far as the server reads it, and a supervisord with the program in it.
struct Supervised {
    address: SocketAddr,
    // Ends before its folder does.
    _supervisord: Running,
    folder: Folder,
}

impl Supervised {
    /// `program` is the text of the program's file, with its names of files and users put right.
    fn start(folder: Folder, port: u16, program: &str) -> Self {
        folder.write("soundpost.conf", program);
        let here = folder.path("");
        let here = here.to_str().unwrap();
        let main = format!(
            "[supervisord]\nnodaemon=true\nlogfile={here}supervisord.log\npidfile={here}supervisord.pid\n\
             childlogdir={here}\n[unix_http_server]\nfile={here}s.sock\n[supervisorctl]\nserverurl=unix://{here}s.sock\n\
             [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
             [include]\nfiles={here}soundpost.conf\n"
        );
        let config = folder.write("supervisord.conf", &main);
        let mut command = Command::new("supervisord");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        // What a supervisord that serves other programs may carry around; none of it is for this server.
        command
            .env("REVERB_SERVER", "reverb")
            .env("HOST", "10.9.8.7")
            .env("PORT", "1")
            .env("APP_KEY", "base64:x");
        let supervisord = Running::start(command.arg("-c").arg(config).stdout(std::process::Stdio::null()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let supervised = Self { address, _supervisord: supervisord, folder };
        supervised.await_up();
        supervised
    }

    fn await_up(&self) {
        until("the server to be up", || fetch(self.address, "/up").starts_with("HTTP/1.1 200 OK"));
        // It counts as running when `startsecs` have passed.
        until("supervisor to say so", || self.control(&["status", "soundpost"]).contains("RUNNING"));
    }

    fn controller(&self, words: &[&str]) -> Command {
        let mut command = Command::new("supervisorctl");
        command.arg("-c").arg(self.folder.path("supervisord.conf")).args(words);
        command
    }

    /// What `supervisorctl` says. Its exit code tells the state of the program, so it is not looked at.
    fn control(&self, words: &[&str]) -> String {
        run(&mut self.controller(words)).1
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path(name)).unwrap_or_default()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}\n{}", self.log("supervisord.log"), self.log("soundpost.log"));
        }
    }
}

/// Laravel's root with the `.env` that `reverb:install` writes; a port of the admin listener that is nobody's.
fn laravel() -> (Folder, u16) {
    let (folder, port) = (Folder::new(), free_port());
    folder.write("app.com/artisan", "#!/usr/bin/env php\n");
    folder.write(
        "app.com/.env",
        &format!(
            "APP_NAME=Laravel\nAPP_KEY=base64:c2VjcmV0\nAPP_DEBUG=true\nLOG_CHANNEL=stack\n\n\
             BROADCAST_CONNECTION=reverb\n\nREVERB_APP_ID=shop\nREVERB_APP_KEY=shop-key\n\
             REVERB_APP_SECRET=\"shop-secret-0123456789\"\nREVERB_HOST=\"localhost\"\nREVERB_PORT={port}\n\
             REVERB_SCHEME=http\nREVERB_SERVER_HOST=127.0.0.1\nREVERB_SERVER_PORT=\"${{REVERB_PORT}}\"\n\
             SOUNDPOST_ADMIN__PORT=0\nSOUNDPOST_SERVER__DRAIN_SECONDS=1\n\n\
             VITE_REVERB_APP_KEY=\"${{REVERB_APP_KEY}}\"\nVITE_REVERB_HOST=\"${{REVERB_HOST}}\"\n"
        ),
    );
    (folder, port)
}

/// The file of `deploy/`, for this machine.
fn program(folder: &Folder) -> String {
    let root = folder.path("app.com");
    let user = succeed(Command::new("id").arg("-un"));
    with(
        &text("supervisor/soundpost.conf"),
        &[
            ("/usr/bin/soundpost", BINARY),
            ("/home/forge/app.com", root.to_str().unwrap()),
            ("user=forge", &format!("user={}", user.trim())),
            ("/home/forge/.forge/soundpost.log", folder.path("soundpost.log").to_str().unwrap()),
        ],
    )
}

/// Waits for the goodbye of a server that stops.
async fn farewell(client: &mut Client) -> Option<u16> {
    let error = client.next_named("pusher:error").await.unwrap();
    assert_eq!(error.refusal().and_then(|refusal| refusal.code()), Some(4200));
    loop {
        match client.next_event().await {
            Ok(_) => {}
            Err(ClientError::Closed { code, .. }) => return Some(code),
            Err(_) => return None,
        }
    }
}

#[test]
fn it_takes_the_place_of_reverb_start() {
    let (folder, port) = laravel();
    let program = program(&folder);
    let supervised = Supervised::start(folder, port, &program);
    block_on(async {
        let mut page = client(supervised.address).await;
        page.subscribe(&channel("private-orders")).await.unwrap();
        let mut stop = supervised.controller(&["stop", "soundpost"]);
        let stopped = thread::spawn(move || run(&mut stop).1);
        assert_eq!(farewell(&mut page).await, Some(4200));
        drop(page);
        assert_eq!(stopped.join().unwrap().trim(), "soundpost: stopped");
    });
    let log = supervised.log("supervisord.log");
    assert!(log.contains("stopped: soundpost (exit status 0)"), "{log}");
    assert_eq!(fetch(supervised.address, "/up"), "");

    assert_eq!(supervised.control(&["start", "soundpost"]).trim(), "soundpost: started");
    supervised.await_up();
    let said = supervised.control(&["restart", "soundpost"]);
    assert_eq!(said.trim(), "soundpost: stopped\nsoundpost: started");
    supervised.await_up();
    block_on(async { client(supervised.address).await });
    let log = supervised.log("soundpost.log");
    assert!(log.contains("shop  key shop-key") && !log.contains("shop-secret"), "{log}");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn the_env_file_may_be_named_instead_of_the_folder() {
    let (folder, port) = laravel();
    let program = program(&folder);
    // The line that is commented out, in the place of the two that are not.
    let lines =
        program.lines().filter(|line| !line.starts_with("directory=") && !line.starts_with("command="));
    let program: String = lines
        .map(|line| {
            line.strip_prefix(";command")
                .map_or_else(|| format!("{line}\n"), |rest| format!("command{rest}\n"))
        })
        .collect();
    let supervised = Supervised::start(folder, port, &program);
    block_on(async { client(supervised.address).await });
    assert!(supervised.log("soundpost.log").contains("shop  key shop-key"));
}

/// The program that a page finds, with `lines` in the place of its command.
fn classic(folder: &Folder, port: u16, lines: &str) -> String {
    let log = folder.path("soundpost.log");
    let lines = with(
        lines,
        &[
            ("/usr/local/bin/soundpost", BINARY),
            ("/home/forge/app.test", folder.path("app.com").to_str().unwrap()),
            ("--host=0.0.0.0 --port=8080", &format!("--host=127.0.0.1 --port={port}")),
        ],
    );
    // A time to wait is there before; that of the page is written above it and must not be in its way.
    format!(
        "[program:soundpost]\nprocess_name=%(program_name)s\n{lines}autostart=true\nautorestart=true\n\
         redirect_stderr=true\nstdout_logfile={}\nstopwaitsecs=3600\n",
        log.display()
    )
}

#[test]
fn the_lines_of_the_page_for_reverb_take_its_place() {
    let (folder, port) = laravel();
    let (_, after) = program_lines(&page("from-reverb.md"));
    let program = classic(&folder, port, &after);
    let supervised = Supervised::start(folder, port, &program);
    block_on(async { client(supervised.address).await });
    let log = supervised.log("soundpost.log");
    assert!(log.contains("shop  key shop-key") && !log.contains("WARN"), "{log}");
}

/// The commands of the page, and its lines under supervisord.
#[test]
fn the_lines_of_the_page_for_soketi_take_its_place() {
    let (folder, port) = (Folder::new(), free_port());
    folder.write(
        "soketi.json",
        &format!(
            r#"{{"host": "127.0.0.1", "port": {port}, "appManager.array.apps":
               [{{"id": "shop", "key": "shop-key", "secret": "shop-secret-0123456789"}}]}}"#
        ),
    );
    let here = |text: &str| {
        let home = folder.path("");
        text.replace("/etc/soketi.json", &format!("{}soketi.json", home.display()))
            .replace("/etc/soundpost", &format!("{}etc", home.display()))
    };
    let page = page("from-soketi.md");
    let commands = here(&blocks(&page, "sh")[0]).replace("soundpost import", &format!("{BINARY} import"));
    let commands = commands.replace("soundpost check", &format!("{BINARY} check"));
    let (commands, start) = commands.rsplit_once("soundpost start").unwrap();
    assert!(start.starts_with(" --config "), "{start}");
    let mut shell = Command::new("sh");
    shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    succeed(shell.args(["-e", "-c", commands]));
    let (_, after) = program_lines(&page);
    let after = with(&here(&after), &[("/usr/local/bin/soundpost", BINARY)]);
    let log = folder.path("soundpost.log");
    let program = format!(
        "[program:soundpost]\nprocess_name=%(program_name)s\n{after}redirect_stderr=true\nstdout_logfile={}\n",
        log.display()
    );
    let supervised = Supervised::start(folder, port, &program);
    block_on(async { client(supervised.address).await });
}

#[test]
fn a_release_that_is_switched_to_is_read() {
    let (folder, port) = laravel();
    let root = folder.path("app.com");
    // As deployers lay it out: `current` leads to a release, whose `.env` leads to the one that all share.
    for release in ["1", "2"] {
        fs::create_dir_all(root.join(release)).unwrap();
        symlink("../.env", root.join(release).join(".env")).unwrap();
    }
    symlink("1", root.join("current")).unwrap();
    let lines = blocks(&page("from-reverb.md"), "ini").swap_remove(1);
    let program = classic(&folder, port, &lines);
    let supervised = Supervised::start(folder, port, &program);
    symlink("2", root.join("next")).unwrap();
    fs::rename(root.join("next"), root.join("current")).unwrap();
    fs::remove_dir_all(root.join("1")).unwrap();
    let env = root.join(".env");
    let text = fs::read_to_string(&env).unwrap();
    fs::write(&env, text.replace("DRAIN_SECONDS=1", "DRAIN_SECONDS=2")).unwrap();
    until("the settings to be read again", || {
        supervised.log("soundpost.log").contains("settings reloaded: keys changed: server.drain_seconds")
    });
    let log = supervised.log("soundpost.log");
    assert!(!log.contains("not reloaded"), "{log}");
}

/// The program as Laravel's and Forge's documentation have it, with what must differ.
#[test]
fn all_that_the_classic_program_says_is_said() {
    const CLASSIC: &str =
        "process_name command autostart autorestart user redirect_stderr stdout_logfile stopwaitsecs";
    let ours = text("supervisor/soundpost.conf");
    for key in CLASSIC.split(' ') {
        assert!(ours.lines().any(|line| line.starts_with(&format!("{key}="))), "{key}");
    }
    let minfds = fs::read_to_string(path("supervisor/minfds.conf")).unwrap();
    assert!(minfds.contains("\n[supervisord]\nminfds="), "{minfds}");
    assert!(Path::new(BINARY).is_file());
}
