//! The apps of `config/reverb.php`.

use config::ValueKind;

use super::{GUARDS, Reader, is_unread, look_up, scalar, unknown, why_not};
use crate::config::{
    ConfigError, Note,
    layers::put,
    php::{Evaluated, Item, Key, Kind, Lookup, Plain, Unread, Value},
    reverb,
};

const CONNECTIONS: &str = "max_connections";

/// The file's keys of an app whose values are ours as they stand.
const APP: &[(&str, &str)] = &[
    ("ping_interval", "ping_interval_seconds"),
    ("activity_timeout", "activity_timeout_seconds"),
    (CONNECTIONS, "connections_max"),
    ("max_message_size", "message_bytes_max"),
];

/// What to do where the apps cannot be known.
const NAME_THEM: &str = "name the apps in soundpost.toml (a table [[apps]] for each)";

/// One app of the file.
struct OneApp<'a> {
    value: &'a Value,
    /// `apps.apps.0`
    dotted: String,
    /// `apps.reverb`
    table: String,
    id: String,
}

impl Reader<'_> {
    /// Reads the apps, and says how many there are.
    pub(super) fn apps(&mut self, file: &Value, notes: &mut Vec<Note>) -> Result<usize, ConfigError> {
        match self.at(file, &["apps", "provider"]) {
            Ok(None) => {}
            Ok(Some((found, _))) if matches!(found.plain, Plain::Null) => {}
            Ok(Some((found, _))) if found.plain == Plain::Text("config".to_owned()) => {}
            Ok(Some((_, line))) => {
                let problem = "is a provider of its own, which only PHP can ask".to_owned();
                self.doubt(&["apps"], line, "apps.provider", problem, NAME_THEM.to_owned());
                return Ok(0);
            }
            Err(unread) => {
                self.doubt(&["apps"], unread.line, "apps.provider", is_unread(&unread), NAME_THEM.to_owned());
                return Ok(0);
            }
        }
        let items: &[Item] = match look_up(file, &["apps", "apps"]) {
            Ok(None) => {
                // Reverb would serve no app at all, which nobody means who names one.
                if let Lookup::Found(apps) = file.get("apps")
                    && apps.kind != Kind::Null
                    && reverb::names_app(self.environment)
                {
                    self.doubt(
                        &["apps"],
                        apps.line,
                        "apps.apps",
                        "is missing".to_owned(),
                        NAME_THEM.to_owned(),
                    );
                }
                &[]
            }
            Ok(Some(Value { kind: Kind::Array(items), .. })) => items,
            Ok(Some(value)) => {
                let unread = self.evaluate(value).err();
                let unread =
                    unread.unwrap_or_else(|| Unread { line: value.line, what: "no list of apps".to_owned() });
                self.doubt(&["apps"], unread.line, "apps.apps", is_unread(&unread), NAME_THEM.to_owned());
                return Ok(0);
            }
            Err(unread) => {
                self.doubt(&["apps"], unread.line, "apps.apps", is_unread(&unread), NAME_THEM.to_owned());
                return Ok(0);
            }
        };
        let mut count = 0;
        for (at, item) in items.iter().enumerate() {
            let dotted = match &item.key {
                Key::Text(key) => format!("apps.apps.{key}"),
                Key::Next | Key::Whole(_) | Key::Unreadable => format!("apps.apps.{at}"),
            };
            if item.key == Key::Unreadable || !matches!(item.value.kind, Kind::Array(_)) {
                let what = self.evaluate(&item.value).err().map_or("no app".to_owned(), |unread| unread.what);
                let unread = Unread { line: item.value.line, what };
                self.doubt(&["apps"], unread.line, &dotted, is_unread(&unread), NAME_THEM.to_owned());
                continue;
            }
            let table = if at == 0 { reverb::TABLE.to_owned() } else { format!("{}_{at:05}", reverb::TABLE) };
            count += usize::from(self.app(&item.value, dotted, table, notes)?);
        }
        Ok(count)
    }

    /// Reads one app; false if it is not configured at all.
    fn app(
        &mut self,
        value: &Value,
        dotted: String,
        table: String,
        notes: &mut Vec<Note>,
    ) -> Result<bool, ConfigError> {
        let names = ["app_id", "key", "secret"];
        let found: Vec<_> = names.iter().map(|name| self.name(value, name)).collect();
        if found.iter().all(|found| matches!(found, Ok(None))) {
            notes.push(Note::warning(format!(
                "{} is left out: neither app_id nor key nor secret is set",
                self.own(&dotted)
            )));
            return Ok(false);
        }
        let mut found = found.into_iter();
        let id = match found.next() {
            Some(Ok(Some(id))) => id,
            Some(Err(unread)) => {
                self.doubt_name(&dotted, "app_id", unread.line, is_unread(&unread));
                return Ok(false);
            }
            Some(Ok(None)) | None => {
                let (line, problem) = is_not_set(value, "app_id");
                self.doubt_name(&dotted, "app_id", line, problem);
                return Ok(false);
            }
        };
        let text = scalar(&id.plain).map(|kind| kind.to_string()).unwrap_or_default();
        let app = OneApp { value, dotted, table, id: text };
        // In both, for only what has an id is an app.
        let origin = self.origin(&id, &format!("{}.app_id", app.dotted));
        for flat in [&mut self.said.own, &mut self.said.variables] {
            put(flat, &format!("{}.id", app.table), &origin, scalar_or_nil(&id.plain));
        }
        for (name, found) in ["key", "secret"].into_iter().zip(found) {
            match found {
                Ok(Some(found)) => {
                    let kind = scalar_or_nil(&found.plain);
                    self.put(
                        &format!("{}.{name}", app.table),
                        &format!("{}.{name}", app.dotted),
                        &found,
                        kind,
                    );
                }
                Ok(None) => {
                    let (line, problem) = is_not_set(app.value, name);
                    self.doubt_app(&app, &[name], name, line, problem);
                }
                Err(unread) => self.doubt_app(&app, &[name], name, unread.line, is_unread(&unread)),
            }
        }
        self.limits(&app);
        self.origins(&app);
        self.client_events(&app);
        self.rate(&app)?;
        Ok(true)
    }

    /// An id, key or secret; `None` if it is null or empty. A variable's words stay texts: a secret may be `true`.
    fn name(&self, app: &Value, name: &str) -> Result<Option<Evaluated>, Unread> {
        let Some(value) = look_up(app, &[name])? else { return Ok(None) };
        let mut found = self.evaluate(value)?;
        if let (Plain::Boolean(_), Some(variable)) = (&found.plain, found.variables.first()) {
            found.plain = Plain::Text(self.environment.value(variable).unwrap_or_default().to_owned());
        }
        Ok(Some(found).filter(|found| scalar(&found.plain).is_some()))
    }

    fn doubt_name(&mut self, dotted: &str, name: &str, line: usize, problem: String) {
        let remedy = "write it out, or name all apps in soundpost.toml and start with --env-only".to_owned();
        self.doubt(&[], line, &format!("{dotted}.{name}"), problem, remedy);
    }

    /// A doubt about a key of an app, which any of `ours` settles.
    fn doubt_app(&mut self, app: &OneApp<'_>, ours: &[&str], theirs: &str, line: usize, problem: String) {
        let keys: Vec<String> = ours.iter().map(|key| format!("{}.{key}", app.table)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let key = ours.first().copied().unwrap_or_default();
        let remedy = format!(
            "set {key} in soundpost.toml, in an [[apps]] with id = {:?}, or SOUNDPOST_APPS__0__{} beside \
             SOUNDPOST_APPS__0__ID={}",
            app.id,
            key.to_uppercase(),
            app.id
        );
        self.doubt(&keys, line, &format!("{}.{theirs}", app.dotted), problem, remedy);
    }

    fn limits(&mut self, app: &OneApp<'_>) {
        for (theirs, ours) in APP {
            match self.at(app.value, &[theirs]) {
                Ok(None) => {}
                Ok(Some((found, line))) => match scalar(&found.plain) {
                    // There it shuts the app, here it would open it.
                    Some(kind) if *theirs == CONNECTIONS && reverb::is_shut(&kind.to_string()) => {
                        let problem = format!("is {kind}, at which Reverb lets nobody in");
                        self.doubt_app(app, &[ours, "enabled"], theirs, line, problem);
                    }
                    Some(kind) => {
                        self.put(
                            &format!("{}.{ours}", app.table),
                            &format!("{}.{theirs}", app.dotted),
                            &found,
                            kind,
                        );
                    }
                    None => {
                        if let Some(problem) = why_not(&found, GUARDS.contains(theirs)) {
                            self.doubt_app(app, &[ours], theirs, line, problem);
                        }
                    }
                },
                Err(unread) => self.doubt_app(app, &[ours], theirs, unread.line, is_unread(&unread)),
            }
        }
    }

    /// Reverb has no default here, and ours would let everybody in.
    fn origins(&mut self, app: &OneApp<'_>) {
        let key = "allowed_origins";
        let (line, problem) = match self.at(app.value, &[key]) {
            Ok(Some((found, line))) => match (&found.plain, &found.unset) {
                (_, Some(name)) => (line, format!("asks for {name}, which is set nowhere")),
                (Plain::List(list), None) => match list.iter().map(text).collect::<Option<Vec<_>>>() {
                    Some(texts) => {
                        let texts: Vec<config::Value> = texts.into_iter().map(Into::into).collect();
                        self.put(
                            &format!("{}.{key}", app.table),
                            &format!("{}.{key}", app.dotted),
                            &found,
                            texts,
                        );
                        return;
                    }
                    None => (line, "is no list of texts".to_owned()),
                },
                (
                    Plain::Null | Plain::Boolean(_) | Plain::Whole(_) | Plain::Fraction(_) | Plain::Text(_),
                    None,
                ) => (line, "is no list".to_owned()),
            },
            Ok(None) => (app.value.line, "is missing".to_owned()),
            Err(unread) => (unread.line, is_unread(&unread)),
        };
        self.doubt_app(app, &[key], key, line, problem);
    }

    /// `members` and `all` mean what they say, no such key means `all`, and whatever else stands there is nobody.
    fn client_events(&mut self, app: &OneApp<'_>) {
        let (theirs, ours) = ("accept_client_events_from", "client_events");
        let all = Evaluated { plain: Plain::Null, variables: Vec::new(), unset: None };
        let (found, line) = match self.at(app.value, &[theirs]) {
            Ok(found) => found.unwrap_or((all, app.value.line)),
            Err(unread) => return self.doubt_app(app, &[ours], theirs, unread.line, is_unread(&unread)),
        };
        if let Some(problem) = found.unset.as_ref().and_then(|_| why_not(&found, true)) {
            return self.doubt_app(app, &[ours], theirs, line, problem);
        }
        let mode = match &found.plain {
            Plain::Null => "all",
            Plain::Text(text) if text == "members" => "members",
            Plain::Text(text) if text == "all" => "all",
            Plain::Text(_) | Plain::Boolean(_) | Plain::Whole(_) | Plain::Fraction(_) | Plain::List(_) => {
                "none"
            }
        };
        self.put(&format!("{}.{ours}", app.table), &format!("{}.{theirs}", app.dotted), &found, mode);
    }

    /// The keys of a rate hold together: one variable among them makes them all the environment's.
    fn rate(&mut self, app: &OneApp<'_>) -> Result<(), ConfigError> {
        let theirs = "rate_limiting";
        let keys = ["enabled", "max_attempts", "decay_seconds", "terminate_on_limit"];
        let found = match look_up(app.value, &[theirs]) {
            Ok(None) => return Ok(()),
            Ok(Some(value)) => keys.iter().map(|key| self.at(value, &[key])).collect::<Result<Vec<_>, _>>(),
            Err(unread) => Err(unread),
        };
        let ours = ["messages_per_minute", "messages_per_window"];
        let found = match found {
            Ok(found) => found,
            Err(unread) => {
                self.doubt_app(app, &ours, theirs, unread.line, is_unread(&unread));
                return Ok(());
            }
        };
        if let Some((name, line)) =
            found.iter().flatten().find_map(|(one, line)| Some((unknown(one)?, *line)))
        {
            let problem = format!("asks for {name}, which is set nowhere");
            self.doubt_app(app, &ours, theirs, line, problem);
            return Ok(());
        }
        let [enabled, attempts, seconds, terminate] = found.as_slice() else { return Ok(()) };
        let dotted = |key: &str| format!("{}.{theirs}.{key}", app.dotted);
        let on = |one: &Option<(Evaluated, usize)>, key| match one {
            Some((one, _)) => self.switch(one, &dotted(key)),
            None => Ok(false),
        };
        let (is_on, ends) = (on(enabled, "enabled")?, on(terminate, "terminate_on_limit")?);
        let number = |one: &Option<(Evaluated, usize)>, default: i64| {
            one.as_ref().and_then(|(one, _)| scalar(&one.plain)).unwrap_or(default.into())
        };
        let (max, says_max) = match is_on {
            true => (number(attempts, 60), (attempts, "max_attempts")),
            false => (0_i64.into(), (enabled, "enabled")),
        };
        if is_on && reverb::is_shut(&max.to_string()) {
            let line = attempts.as_ref().map_or(app.value.line, |(_, line)| *line);
            let problem = format!("is {max}, at which Reverb lets no message in");
            self.doubt_app(app, &ours, &format!("{theirs}.max_attempts"), line, problem);
            return Ok(());
        }
        let by_variables = found.iter().flatten().any(|(one, _)| !one.variables.is_empty());
        for (ours, (one, theirs), kind) in [
            ("messages_per_window", says_max, max),
            // Reverb counts in seconds of one where the key is not there.
            ("messages_window_seconds", (seconds, "decay_seconds"), number(seconds, 1)),
            ("terminate_on_limit", (terminate, "terminate_on_limit"), ends.into()),
        ] {
            let origin = one.as_ref().map(|(one, _)| self.origin(one, &dotted(theirs)));
            let flat = if by_variables { &mut self.said.variables } else { &mut self.said.own };
            put(flat, &format!("{}.{ours}", app.table), origin.as_deref().unwrap_or(reverb::DEFAULT), kind);
        }
        Ok(())
    }
}

fn scalar_or_nil(plain: &Plain) -> ValueKind {
    scalar(plain).unwrap_or(ValueKind::Nil)
}

/// The text that a list holds.
fn text(plain: &Plain) -> Option<String> {
    match plain {
        Plain::Text(text) => Some(text.clone()),
        Plain::Whole(number) => Some(number.to_string()),
        Plain::Null | Plain::Boolean(_) | Plain::Fraction(_) | Plain::List(_) => None,
    }
}

/// What is wrong with a name that has no value, and the line to look at.
fn is_not_set(app: &Value, name: &str) -> (usize, String) {
    match look_up(app, &[name]) {
        Ok(Some(Value { line, kind: Kind::Env { name, default: None } })) => {
            (*line, format!("asks for {name}, which is not set"))
        }
        Ok(Some(value)) => (value.line, "is not set".to_owned()),
        Ok(None) | Err(_) => (app.line, "is not set".to_owned()),
    }
}
