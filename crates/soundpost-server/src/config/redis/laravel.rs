//! A connection to Redis as Laravel's settings have it, in our keys: `REDIS_*`, and `scaling.server` of
//! `config/reverb.php`. Sources: Laravel's `ConfigurationUrlParser`, `config/database.php`; Reverb's `RedisClient`.
//!
//! There the parts of the URL come before the other settings, the other way round than here. So what they come to is
//! worked out first, and each part has a key of its own here.

use super::{
    super::{ConfigError, Note, dotenv, environment::Environment, error::Place, php::Plain},
    url::{DATABASE_MAX, PORT, RedisUrl, Target, tcp, unix},
};

/// What Laravel's and Reverb's own files ask for, with the name of the setting.
pub(in super::super) const VARIABLES: &[(&str, &str)] = &[
    ("url", "REDIS_URL"),
    ("host", "REDIS_HOST"),
    ("port", "REDIS_PORT"),
    ("username", "REDIS_USERNAME"),
    ("password", "REDIS_PASSWORD"),
    ("database", "REDIS_DB"),
    (TIMEOUT, "REDIS_TIMEOUT"),
];
/// After how many seconds without Redis Reverb ends.
const TIMEOUT: &str = "timeout";
const TIMEOUT_DEFAULT: &str = "60";
const HOST: &str = "127.0.0.1";

/// A setting that says something. No `Debug`: some are passwords.
#[derive(Clone)]
pub(in super::super) struct Said {
    pub(in super::super) text: String,
    /// Where it was written.
    pub(in super::super) origin: String,
    /// Whether a variable that is set says it, and not a file by itself.
    pub(in super::super) by_variable: bool,
}

/// The settings of one connection, by Laravel's names.
#[derive(Default)]
pub(in super::super) struct Connection {
    url: Option<Said>,
    scheme: Option<Said>,
    host: Option<Said>,
    port: Option<Said>,
    username: Option<Said>,
    password: Option<Said>,
    database: Option<Said>,
    timeout: Option<Said>,
}

/// A key of ours, and what it comes to.
pub(in super::super) type Line = (&'static str, Said);

impl Connection {
    /// What the variables of Laravel's own files say. Null and empty say nothing.
    pub(in super::super) fn of_variables(environment: &Environment) -> Self {
        let mut connection = Self::default();
        for (setting, variable) in VARIABLES {
            let Some(raw) = environment.value(variable) else { continue };
            let text = match dotenv::env(raw) {
                Plain::Text(text) => text,
                // A password `true` is the text.
                Plain::Boolean(_) => raw.to_owned(),
                Plain::Null | Plain::Whole(_) | Plain::Fraction(_) | Plain::List(_) => continue,
            };
            connection.set(setting, Said { text, origin: environment.origin(variable), by_variable: true });
        }
        connection
    }

    /// Takes a setting by its name; one that is empty, or that nothing is known of, says nothing.
    pub(in super::super) fn set(&mut self, name: &str, said: Said) {
        let setting = match name {
            "url" => &mut self.url,
            "scheme" => &mut self.scheme,
            "host" => &mut self.host,
            "port" => &mut self.port,
            "username" => &mut self.username,
            "password" => &mut self.password,
            "database" => &mut self.database,
            TIMEOUT => &mut self.timeout,
            _ => return,
        };
        *setting = Some(said).filter(|said| !said.text.is_empty());
    }

    /// The settings in our keys: `redis.url`, where it says anything about that, with neither user nor database; those
    /// have their own.
    ///
    /// Errors: a URL, a host, a port or a database that is none.
    pub(in super::super) fn lines(self, notes: &mut Vec<Note>) -> Result<Vec<Line>, ConfigError> {
        if let Some(timeout) = self.timeout.as_ref().filter(|timeout| timeout.text != TIMEOUT_DEFAULT) {
            let text = format!("{} is ignored: a node looks for Redis until it is back", timeout.origin);
            notes.push(Note::info(text));
        }
        let url = match &self.url {
            Some(url) => Some(RedisUrl::parse(&url.text).map_err(|problem| secret(url, problem))?),
            None => None,
        };
        if let (Some(said), true) = (&self.url, url.as_ref().is_some_and(|url| url.has_options)) {
            notes.push(Note::info(format!("options behind the ? of {} are ignored", said.origin)));
        }
        let mut lines = self.address(url.as_ref())?;
        let of_url = |part: Option<String>| {
            let said = self.url.as_ref()?;
            Some(Said { text: part?, ..said.clone() })
        };
        let url = url.map(|url| (url.username, url.password, url.database));
        let (username, password, database) = url.unwrap_or_default();
        let database = of_url(database.map(|number| number.to_string())).or_else(|| self.database.clone());
        if let Some(number) = database {
            if !number.text.parse::<u32>().is_ok_and(|number| number <= DATABASE_MAX) {
                return Err(value(&number, "the number of a database, from 0 to 2147483647"));
            }
            lines.push(("redis.database", number));
        }
        let password = of_url(password).or_else(|| self.password.clone());
        if let Some(password) = password.filter(|password| !password.text.is_empty()) {
            // Without a password nobody logs in by name.
            let username = of_url(username).or_else(|| self.username.clone());
            lines.extend(username.filter(|name| !name.text.is_empty()).map(|name| ("redis.username", name)));
            lines.push(("redis.password", password));
        }
        Ok(lines)
    }

    /// Where Redis is, if anything is said about that.
    fn address(&self, url: Option<&RedisUrl>) -> Result<Vec<Line>, ConfigError> {
        let all = [&self.url, &self.host, &self.port];
        let mut said = all.into_iter().flatten();
        let Some(first) = said.next() else { return Ok(Vec::new()) };
        let by_variable = first.by_variable || said.any(|other| other.by_variable);
        let port = match &self.port {
            Some(port) => {
                let number = port.text.trim().parse::<u16>().ok().filter(|number| *number > 0);
                number.ok_or_else(|| value(port, "a port, from 1 to 65535"))?
            }
            None => PORT,
        };
        let (tls, target) = match (url, &self.host) {
            (Some(url), _) => (url.tls, url.target.clone()),
            (None, Some(host)) => self.of_host(host)?,
            (None, None) => (self.asks_for_tls(), Target::Tcp(HOST.to_owned(), None)),
        };
        let scheme = match (&target, tls) {
            (Target::Unix(_), _) => "unix",
            (Target::Tcp(..), true) => "rediss",
            (Target::Tcp(..), false) => "redis",
        };
        let text = format!("{scheme}://{}", target.address(port));
        Ok(vec![("redis.url", Said { text, origin: first.origin.clone(), by_variable })])
    }

    /// A host may bring its scheme, `tls://cache`, or be the path of a socket.
    fn of_host(&self, host: &Said) -> Result<(bool, Target), ConfigError> {
        let text = host.text.trim();
        let refuse = |problem| secret(host, problem);
        if text.starts_with('/') {
            return Ok((false, unix(text).map_err(refuse)?));
        }
        if text.contains("://") {
            let url = RedisUrl::parse(text).map_err(refuse)?;
            return Ok((url.tls, url.target));
        }
        Ok((self.asks_for_tls(), tcp(text).map_err(refuse)?))
    }

    fn asks_for_tls(&self) -> bool {
        self.scheme.as_ref().is_some_and(|scheme| ["tls", "rediss"].contains(&scheme.text.as_str()))
    }
}

fn place(said: &Said) -> Place {
    Place { key: said.origin.clone(), origin: said.origin.clone() }
}

fn secret(said: &Said, problem: &'static str) -> ConfigError {
    ConfigError::Secret { place: place(said), problem }
}

fn value(said: &Said, expected: &str) -> ConfigError {
    ConfigError::Value {
        place: place(said),
        found: format!("{:?}", said.text),
        expected: expected.to_owned(),
    }
}
