//! The configuration: whatever stands in a file, a `.env` or the environment, the server starts or says in one line
//! why not, and shows no secret.

use std::{
    cell::{OnceCell, RefCell},
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use soundpost_protocol::webhook::Carrier;
use soundpost_server::config::{Flags, RedisServers, RedisSettings, Report, Settings};

use crate::Outcome;

/// The word that stands for every secret, in the seeds as in the dictionary.
const SECRET: &str = "hush";

/// A directory of one thread, gone with it, and what the files in it hold: most inputs change one of them.
struct Dir {
    path: PathBuf,
    held: RefCell<BTreeMap<&'static str, Vec<u8>>>,
}

impl Dir {
    /// Writes the file, if it is not as it was.
    fn write(&self, name: &'static str, bytes: &[u8]) {
        let mut held = self.held.borrow_mut();
        if held.get(name).is_none_or(|held| held != bytes) {
            let written = fs::write(self.path.join(name), bytes).is_ok();
            assert!(written, "cannot write to {}", self.path.display());
            held.insert(name, bytes.to_owned());
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path));
    }
}

thread_local! {
    static DIR: OnceCell<Option<Dir>> = const { OnceCell::new() };
}

fn new_dir() -> Option<Dir> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    // In memory where there is such a place: nothing here is worth a disk.
    let memory = Some(PathBuf::from("/dev/shm")).filter(|memory| memory.is_dir());
    let make = |parent: PathBuf| {
        let path = parent.join(format!("soundpost-fuzz-{}-{next}", process::id()));
        fs::create_dir_all(path.join("config")).ok().map(|()| Dir { path, held: RefCell::default() })
    };
    memory.and_then(make).or_else(|| make(env::temp_dir()))
}

/// The input is four texts with a line `%%` between them: `soundpost.toml`, `.env`, the environment as lines of
/// `NAME=value`, and `config/reverb.php`. All but the first may be missing.
pub fn configuration(data: &[u8]) -> Outcome {
    DIR.with(|dir| {
        let dir = dir.get_or_init(new_dir);
        assert!(dir.is_some(), "no temporary directory");
        dir.as_ref().map_or(Outcome::Refused, |dir| load(dir, data))
    })
}

fn load(dir: &Dir, data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    let mut texts = text.split("\n%%\n");
    let mut next = || texts.next().unwrap_or_default();
    let (file, dotenv, environment, php) = (next(), next(), next(), next());
    // What is no text must be survived, too.
    let has_texts = text.contains("\n%%\n");
    let whole: &[u8] = if has_texts { file.as_bytes() } else { data };
    // Without a text there is no such file.
    let php = if php.is_empty() { "<?php return [];" } else { php };
    let flags = Flags { env_only: php == "<?php return [];", ..Flags::default() };
    dir.write("soundpost.toml", whole);
    dir.write(".env", dotenv.as_bytes());
    dir.write("config/reverb.php", php.as_bytes());
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    // Reads what the start reads, as it does, and refuses what it refuses.
    let result = Report::load(&flags, variables, &dir.path);
    let hushed = is_hushed(file) && is_hushed(dotenv) && is_hushed(environment) && !php.contains(SECRET);
    let check = |said: &str| {
        assert!(!said.contains(['\n', '\r']), "{said:?}");
        assert!(!(hushed && said.to_ascii_lowercase().contains(SECRET)), "{said}");
    };
    match &result {
        Ok((settings, report)) => {
            check_settings(settings);
            settings.notes.iter().for_each(|note| check(&note.text));
            if hushed {
                check(&format!("{settings:?}"));
            }
            // `soundpost check` says of every configuration that loads what it comes to, and no secret.
            for said in [report.text(), report.json()] {
                assert!(!(hushed && said.to_ascii_lowercase().contains(SECRET)), "{said}");
            }
        }
        Err(error) => check(&error.to_string()),
    }
    Outcome::of(&result)
}

fn check_settings(settings: &Settings) {
    let server = &settings.server;
    assert!(!settings.apps.is_empty(), "{settings:?}");
    assert!(!server.listen.is_empty() || server.unix.is_some(), "nowhere to listen: {settings:?}");
    // Who may send PROXY headers is known.
    let has_proxies = !server.proxies.trusted.is_empty() || server.unix.is_some();
    assert!(has_proxies || !server.proxies.protocol, "{settings:?}");
    for (index, app) in settings.apps.iter().enumerate() {
        let others = settings.apps.iter().skip(index + 1);
        assert!(others.into_iter().all(|other| other.id != app.id && other.key != app.key), "{app:?}");
        assert!(!app.activity_timeout.is_zero() && !app.ping_interval.is_zero(), "{app:?}");
        // No event is told twice, and whoever is told by jobs has a Redis.
        let ids: BTreeSet<_> = app.webhooks.iter().map(|webhook| webhook.id).collect();
        assert!(ids.len() == app.webhooks.len() && ids.len() <= 32, "{app:?}");
        for webhook in &app.webhooks {
            if let Carrier::LaravelQueue(queue) = &webhook.carrier {
                let names = queue.redis.as_ref().map(|url| RedisSettings::of_url(url).is_ok());
                assert!(names.unwrap_or(settings.redis.is_some()), "{webhook:?}");
            }
        }
    }
    let is_local = server.listen.iter().all(|listen| listen.address.ip().is_loopback());
    assert!(is_local || !settings.development_app, "{settings:?}");
    if let Some(redis) = &settings.redis {
        // Names at Redis: braces say on a cluster what belongs together.
        let is_forbidden = |c: char| c.is_whitespace() || c.is_control() || "{}".contains(c);
        for name in [&redis.prefix, &redis.channel] {
            assert!(!name.is_empty() && !name.contains(is_forbidden), "{settings:?}");
        }
        let is_cluster = matches!(redis.servers, RedisServers::Cluster(_));
        assert!(redis.database == 0 || !is_cluster, "{settings:?}");
    }
    assert!(
        server.path.is_empty() || (server.path.starts_with('/') && !server.path.ends_with('/')),
        "{settings:?}"
    );
}

/// Whether [`SECRET`] stands only where a secret does: behind the first `=` of a line whose key ends with `secret` or
/// `password`, on lines that no text of several lines takes in, and where no other variable asks for it.
fn is_hushed(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let may_span_lines = text.contains(['\\', '\r']) || text.contains("\"\"\"") || text.contains("'''");
    if may_span_lines || text.contains("secret}") || text.contains("password}") {
        return !text.contains(SECRET);
    }
    let mut quotes = 0;
    text.split('\n').all(|line| {
        let open = quotes % 2 == 1;
        quotes += line.matches(['"', '\'']).count();
        if !line.contains(SECRET) {
            return true;
        }
        let Some((key, _)) = line.split_once('=') else { return false };
        let key = key.trim().trim_matches(['"', '\'']);
        !open && (key.ends_with("secret") || key.ends_with("password")) && !key.contains(SECRET)
    })
}
