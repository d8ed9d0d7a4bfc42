//! Of `config/reverb.php` what joins several nodes: `servers.reverb.scaling`, whose `server` is Laravel's form of a
//! connection to Redis. Source: Reverb's `RedisPubSubProvider` and `RedisClient`.

use super::{
    super::{
        ConfigError, Note,
        layers::put,
        php::{Kind, Lookup, Value},
        redis::laravel::{Connection, Said},
    },
    Reader, is_unread, look_up, remedy, scalar, why_not,
};

/// The key that settles whether there is scaling.
const ENABLED: &str = "redis.enabled";
/// The keys of which any says where Redis is.
const WHERE: [&str; 3] = ["redis.url", "redis.sentinels", "redis.cluster"];
/// The settings of a connection, with the key of ours that settles one that is not certain.
const SETTINGS: [(&str, &str); 8] = [
    ("url", "redis.url"),
    ("scheme", "redis.url"),
    ("host", "redis.url"),
    ("port", "redis.url"),
    ("username", "redis.username"),
    ("password", "redis.password"),
    ("database", "redis.database"),
    ("timeout", ""),
];
const SERVER: [&str; 4] = ["servers", "reverb", "scaling", "server"];

impl Reader<'_> {
    /// Whether nodes are joined, and if so over which Redis.
    pub(super) fn scaling(&mut self, file: &Value, notes: &mut Vec<Note>) -> Result<(), ConfigError> {
        let keys = ["servers", "reverb", "scaling", "enabled"];
        let dotted = keys.join(".");
        match self.at(file, &keys) {
            Ok(None) => Ok(()),
            Ok(Some((found, _))) => {
                let on = self.switch(&found, &dotted)?;
                // That it is off by itself is what holds anyway.
                if on || !found.variables.is_empty() {
                    self.put(ENABLED, &dotted, &found, on);
                }
                if on { self.connection(file, notes) } else { Ok(()) }
            }
            Err(unread) => {
                self.doubt(
                    &[ENABLED],
                    unread.line,
                    &dotted,
                    is_unread(&unread),
                    format!("set {ENABLED} = false in soundpost.toml, or SOUNDPOST_REDIS__ENABLED=false"),
                );
                Ok(())
            }
        }
    }

    fn connection(&mut self, file: &Value, notes: &mut Vec<Note>) -> Result<(), ConfigError> {
        let connection = match look_up(file, &SERVER) {
            Ok(Some(Value { kind: Kind::Array(items), .. })) if !items.is_empty() => self.settings(file),
            // Reverb then takes Laravel's default connection, whose own file asks for these.
            Ok(None | Some(Value { kind: Kind::Array(_) | Kind::Null, .. })) => {
                Connection::of_variables(self.environment)
            }
            Ok(Some(other)) => match other.get("url") {
                Lookup::Unreadable(unread) => {
                    self.doubt(
                        &WHERE,
                        unread.line,
                        &SERVER.join("."),
                        is_unread(&unread),
                        remedy("redis.url"),
                    );
                    return Ok(());
                }
                Lookup::Found(_) | Lookup::Absent => self.settings(file),
            },
            Err(unread) => {
                self.doubt(&WHERE, unread.line, &SERVER.join("."), is_unread(&unread), remedy("redis.url"));
                return Ok(());
            }
        };
        for (key, Said { text, origin, by_variable }) in connection.lines(notes)? {
            let flat = if by_variable { &mut self.said.variables } else { &mut self.said.own };
            put(flat, key, &origin, text);
        }
        Ok(())
    }

    /// The settings that can be read. Where one about the address cannot, none of those counts: the others would name
    /// another server.
    fn settings(&mut self, file: &Value) -> Connection {
        let mut found: Vec<(&str, &str, Said)> = Vec::new();
        let mut doubtful = Vec::new();
        for (name, ours) in SETTINGS {
            let keys = [&SERVER[..], &[name]].concat();
            let dotted = keys.join(".");
            let problem = match self.at(file, &keys) {
                Ok(None) => continue,
                Ok(Some((value, line))) => match scalar(&value.plain) {
                    Some(kind) => {
                        let origin = self.origin(&value, &dotted);
                        let by_variable = !value.variables.is_empty();
                        found.push((name, ours, Said { text: kind.to_string(), origin, by_variable }));
                        continue;
                    }
                    None => why_not(&value, name == "host").map(|problem| (line, problem)),
                },
                Err(unread) => Some((unread.line, is_unread(&unread))),
            };
            if let Some((line, problem)) = problem.filter(|_| !ours.is_empty()) {
                doubtful.push(ours);
                let keys = if ours == "redis.url" { WHERE.to_vec() } else { vec![ours] };
                self.doubt(&keys, line, &dotted, problem, remedy(ours));
            }
        }
        let mut connection = Connection::default();
        for (name, _, said) in found.into_iter().filter(|(_, ours, _)| !doubtful.contains(ours)) {
            connection.set(name, said);
        }
        connection
    }
}
