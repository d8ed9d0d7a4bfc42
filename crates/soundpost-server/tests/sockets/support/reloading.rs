//! A server that reads its settings from a file, and reads them again when told.

use std::{
    fs,
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use soundpost_protocol::app::{App, AppId, AppKey, AppSecret};
use soundpost_server::{
    config::{Flags, Invocation},
    reload::Reload,
};
use tokio::sync::Notify;

use super::{Client, TestServer, eventually};

/// `[[apps]]` with id, key and secret as [`super::app`] has them, and more lines.
pub(crate) fn app_file(name: &str, more: &str) -> String {
    format!("[[apps]]\nid = \"app-{name}\"\nkey = \"key-{name}\"\nsecret = \"secret-{name}\"\n{more}\n")
}

/// The app `name` as [`super::app`] has it, with another secret.
pub(crate) fn app_with_secret(name: &str, secret: &str) -> App {
    let (id, key) = (format!("app-{name}"), format!("key-{name}"));
    App::new(AppId::parse(&id).unwrap(), AppKey::parse(&key).unwrap(), AppSecret::new(secret))
}

/// How often reloads ended so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) applied: u64,
    pub(crate) unchanged: u64,
    pub(crate) refused: u64,
}

/// A test server on free ports, and the file it reads.
pub(crate) struct ReloadingServer {
    server: TestServer,
    pub(crate) file: PathBuf,
    pub(crate) asked: Arc<Notify>,
}

impl ReloadingServer {
    /// The file says where to listen, then `server` (keys of `[server]`) and `apps`.
    pub(crate) fn start(server: &str, apps: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("soundpost-reload-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("soundpost.toml");
        fs::write(&file, text(server, apps)).unwrap();
        let flags = Flags { config: Some(file.clone()), ..Flags::default() };
        let invocation = Invocation { flags, environment: Vec::new(), dir };
        let (files, settings) = invocation.load();
        let asked = Arc::new(Notify::new());
        let follow_log = Box::new(|_: &_| Ok(()));
        let reload = Reload { invocation, files, asked: Arc::clone(&asked), follow_log };
        let server = TestServer::start_reloading(settings.unwrap(), Some(reload));
        Self { server, file, asked }
    }

    /// Writes other settings and has them read; gives back how that ended. Files that are watched, too, are asked for at
    /// once, so that they have not settled by then.
    pub(crate) fn reload(&self, server: &str, apps: &str) -> &'static str {
        self.reload_text(&text(server, apps))
    }

    /// The same with the whole text of the file.
    pub(crate) fn reload_text(&self, text: &str) -> &'static str {
        let before = self.counts();
        fs::write(&self.file, text).unwrap();
        self.asked.notify_one();
        self.await_count(before)
    }

    /// Has the settings read as they are.
    pub(crate) fn reload_again(&self) -> &'static str {
        let before = self.counts();
        self.asked.notify_one();
        self.await_count(before)
    }

    /// Waits until one more reload has ended than in `before`, and tells how.
    pub(crate) fn await_count(&self, before: Counts) -> &'static str {
        let mut result = "";
        eventually("the end of a reload", || {
            let now = self.counts();
            for (word, before, now) in [
                ("applied", before.applied, now.applied),
                ("unchanged", before.unchanged, now.unchanged),
                ("refused", before.refused, now.refused),
            ] {
                if now > before {
                    result = word;
                }
            }
            !result.is_empty()
        });
        result
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |word| self.metric(&format!("soundpost_reloads_total{{result=\"{word}\"}}"));
        Counts { applied: of("applied"), unchanged: of("unchanged"), refused: of("refused") }
    }

    /// A greeted client of the app `name`, as it stands in the file now.
    pub(crate) fn connect_as(&self, name: &str) -> Client {
        Client::connect(self.address, &super::app(name))
    }

    /// What a client of the app `name` hears that is not let in.
    #[track_caller]
    pub(crate) fn expect_refused(&self, name: &str, code: u16, text: &str) {
        let app = super::app(name);
        Client::open(self.address, &app, &format!("/app/{}", app.key), "", &[]).expect_goodbye(code, text);
    }
}

fn text(server: &str, apps: &str) -> String {
    format!("[server]\nhost = \"127.0.0.1\"\nport = 0\nworkers = 2\n{server}\n[admin]\nport = 0\n{apps}")
}

impl Deref for ReloadingServer {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl Drop for ReloadingServer {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(self.file.parent().unwrap()));
    }
}
