//! Lays the sources over one another with the `config` crate: file, environment, flags. An app is layered with the app
//! of the same id in the other sources. Every value keeps the name of the place it was written in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{Config, FileFormat, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    ConfigError, DEVELOPMENT_ID, DEVELOPMENT_KEY, DEVELOPMENT_SECRET,
    effective::Values,
    error::Place,
    files::read_text,
    keys, redis, reverb, soketi,
    written::{AppFile, Scalar, Secret, SettingsFile},
};

/// One source: dotted keys (`server.port`, `apps.0.key`) to values that know their origin.
pub(super) type Flat = BTreeMap<String, Value>;

/// Where each key's winning value was written.
pub(super) type Origins = BTreeMap<String, String>;

/// The sources in rising order of precedence, each checked for unknown keys.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// What holds where nobody wrote anything, but for apps: soketi's port, and what `config/reverb.php` itself says.
    pub(super) defaults: Flat,
    pub(super) file: Flat,
    pub(super) soketi: Flat,
    pub(super) reverb: Flat,
    pub(super) soundpost: Flat,
    pub(super) flags: Flat,
    /// What holds for an app of another server's where nobody wrote anything, by the beginning of its table's name.
    pub(super) app_defaults: Vec<(&'static str, Flat)>,
    /// Keys that `config/reverb.php` says something about which is not certain.
    pub(super) uncertain: Vec<Uncertain>,
}

/// A key whose value is not certain, so that another source must say it.
#[derive(Debug)]
pub(super) struct Uncertain {
    /// `server.port`, `apps.reverb.allowed_origins`, or `apps` for all of them; any of several will do.
    pub(super) keys: Vec<String>,
    /// What stops the start if no source says it.
    pub(super) error: ConfigError,
}

/// What the sources say together.
#[derive(Debug)]
pub(super) struct Layered {
    pub(super) settings: SettingsFile,
    pub(super) origins: Origins,
    pub(super) values: Values,
    /// Never empty: the development app, if there is no other.
    pub(super) apps: Vec<LayeredApp>,
    /// No source names an app.
    pub(super) development: bool,
}

/// One app, from every source that names its id.
#[derive(Debug)]
pub(super) struct LayeredApp {
    pub(super) app: AppFile,
    /// Its table in the source of lowest precedence that people wrote, `apps.0`, or one that [`is_foreign`].
    pub(super) table: String,
    pub(super) origins: Origins,
    pub(super) values: Values,
}

/// Reads a TOML file. Errors: [`ConfigError::Read`], [`ConfigError::Syntax`].
pub(super) fn read_toml(path: &Path) -> Result<Flat, ConfigError> {
    parse_toml(&read_text(path)?, path)
}

/// The values of a TOML file's text. Errors: [`ConfigError::Syntax`].
pub(super) fn parse_toml(text: &str, path: &Path) -> Result<Flat, ConfigError> {
    let values = config::File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| syntax(path.to_owned(), &error))?;
    let mut flat = Flat::new();
    let origin = path.display().to_string();
    for (key, value) in values {
        flatten(key, value.kind, &origin, &mut flat);
    }
    Ok(flat)
}

/// The toml crate's report without the excerpt of the file, which may hold a secret.
pub(super) fn syntax(path: PathBuf, error: &config::ConfigError) -> ConfigError {
    let text = if let config::ConfigError::FileParse { cause, .. } = error {
        cause.to_string()
    } else {
        error.to_string()
    };
    let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let line = text.split_once("at line ").and_then(|(_, rest)| number(rest));
    let is_report = |line: &&str| !line.contains('|') && !line.starts_with("TOML parse error");
    let problem = text.lines().filter(is_report).map(str::trim).collect::<Vec<_>>().join(", ");
    ConfigError::Syntax { path, line, problem }
}

/// Tables and arrays of tables become dotted keys; an empty table stays, to be checked and then to say nothing.
fn flatten(key: String, kind: ValueKind, origin: &String, flat: &mut Flat) {
    if let ValueKind::Table(map) = &kind
        && keys::is_map(&key)
    {
        flat.insert(key, Value::new(Some(origin), json_object(map)));
        return;
    }
    let is_table = |value: &Value| matches!(value.kind, ValueKind::Table(_));
    let parts: Vec<(String, Value)> = if let ValueKind::Table(table) = &kind {
        table.clone().into_iter().collect()
    } else if let ValueKind::Array(array) = &kind
        && array.iter().all(is_table)
    {
        array.iter().enumerate().map(|(index, value)| (index.to_string(), value.clone())).collect()
    } else {
        Vec::new()
    };
    if parts.is_empty() {
        flat.insert(key, Value::new(Some(origin), kind));
        return;
    }
    for (name, value) in parts {
        flatten(format!("{key}.{name}"), value.kind, origin, flat);
    }
}

/// A table as the text of a JSON object, in the order of the names. What is neither text nor a number is `null`: no
/// such table has a use for it.
fn json_object(map: &Map<String, Value>) -> String {
    let json = |value: &Value| {
        if let ValueKind::String(text) = &value.kind {
            Json::from(text.as_str())
        } else if let ValueKind::I64(number) = value.kind {
            Json::from(number)
        } else {
            Json::Null
        }
    };
    let object: BTreeMap<&str, Json> = map.iter().map(|(name, value)| (name.as_str(), json(value))).collect();
    serde_json::json!(object).to_string()
}

/// The layers of one app, in rising order of precedence.
#[derive(Debug)]
struct AppLayers {
    id: String,
    tables: Vec<String>,
    layers: Vec<Flat>,
}

/// Lays the sources over one another. Errors: apps without an id, two with one id in one source, a key whose only value
/// is not certain.
pub(super) fn layer(sources: Sources) -> Result<Layered, ConfigError> {
    let Sources { defaults, file, soketi, reverb, soundpost, flags, app_defaults, uncertain } = sources;
    let mut plain = Vec::new();
    let mut apps: Vec<AppLayers> = Vec::new();
    for source in [defaults, file, soketi, reverb, soundpost, flags] {
        let (of_apps, rest): (Flat, Flat) = source.into_iter().partition(|(key, _)| key.starts_with("apps."));
        plain.push(rest);
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for (table, app) in by_app(of_apps) {
            let id = id_of(&app, &table)?;
            let second = id_origin(&app, &table);
            if let Some(first) = seen.insert(id.clone(), second.clone()) {
                return Err(ConfigError::Shared { what: "an id", value: id, first, second });
            }
            match apps.iter_mut().find(|other| other.id == id) {
                Some(other) => {
                    other.tables.push(table);
                    other.layers.push(app);
                }
                None => apps.push(AppLayers { id, tables: vec![table], layers: vec![app] }),
            }
        }
    }
    let is_open = |open: &Uncertain| !open.keys.iter().any(|key| is_said(key, &plain, &apps));
    if let Some(open) = uncertain.into_iter().find(is_open) {
        return Err(open.error);
    }
    redis::layers::settle(&mut plain);
    let (settings, origins) = merge(plain, "")?;
    let apps = apps.into_iter().map(|AppLayers { tables, mut layers, .. }| {
        whole_lists(&tables, &mut layers);
        for (begin, defaults) in app_defaults.iter().rev() {
            if tables.iter().any(|table| table.starts_with(begin)) {
                layers.insert(0, defaults.clone());
            }
        }
        latest_rate(&mut layers);
        // A table that people wrote says more than one of another server's.
        let table =
            tables.iter().find(|table| !is_foreign(table)).or(tables.first()).cloned().unwrap_or_default();
        let (app, origins) = merge(layers, &format!("{table}."))?;
        Ok(LayeredApp { app, table, origins, values: Values::default() })
    });
    let mut apps = apps.collect::<Result<Vec<_>, ConfigError>>()?;
    let development = apps.is_empty();
    if development {
        apps.push(LayeredApp::development());
    }
    Ok(Layered { settings, origins, values: Values::default(), apps, development })
}

impl LayeredApp {
    /// The app that serves when none is written.
    fn development() -> Self {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let app = AppFile {
            id: Some(text(DEVELOPMENT_ID)),
            key: Some(text(DEVELOPMENT_KEY)),
            secret: Some(Secret(text(DEVELOPMENT_SECRET))),
            ..AppFile::default()
        };
        let origin = |key: &str| (key.to_owned(), "the development app".to_owned());
        let origins = ["id", "key", "secret"].map(origin).into();
        Self { app, table: "apps.0".to_owned(), origins, values: Values::default() }
    }
}

/// Two keys that say one thing: the highest source that says either takes both out of those below it.
const RATES: [&str; 2] = ["messages_per_minute", "messages_per_window"];

fn latest_rate(layers: &mut [Flat]) {
    let last = layers.iter().rposition(|layer| RATES.iter().any(|key| layer.contains_key(*key)));
    for layer in layers.iter_mut().take(last.unwrap_or(0)) {
        layer.retain(|key, _| !RATES.contains(&key.as_str()));
    }
}

/// The webhooks of another server's app are one list in one variable: they take the place of those of lower sources,
/// while ours are laid over one another by their numbers.
fn whole_lists(tables: &[String], layers: &mut [Flat]) {
    let is_webhook = |key: &String| key.starts_with("webhooks.");
    let has_list = |(table, layer): &(&String, &Flat)| is_foreign(table) && layer.keys().any(is_webhook);
    let last = tables.iter().zip(layers.iter()).collect::<Vec<_>>().iter().rposition(has_list);
    for layer in layers.iter_mut().take(last.unwrap_or(0)) {
        layer.retain(|key, _| !is_webhook(key));
    }
}

/// Whether a table is one of another server's app: it has no index, and its values are named by their origins.
pub(super) fn is_foreign(table: &str) -> bool {
    [reverb::TABLE, soketi::TABLE].iter().any(|known| table.starts_with(known))
}

/// Whether some source says a key after all.
fn is_said(key: &str, plain: &[Flat], apps: &[AppLayers]) -> bool {
    let says = |flat: &Flat, key: &str| {
        let within = |other: &String| {
            other.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        flat.keys().any(within)
    };
    let Some(rest) = key.strip_prefix("apps") else { return plain.iter().any(|flat| says(flat, key)) };
    let Some((table, field)) = rest.trim_start_matches('.').split_once('.') else {
        let is_of_file = |table: &String| table.starts_with(reverb::TABLE);
        return apps.iter().any(|app| !app.tables.iter().all(is_of_file));
    };
    let table = format!("apps.{table}");
    let app = apps.iter().find(|app| app.tables.contains(&table));
    app.is_some_and(|app| app.layers.iter().any(|flat| says(flat, field)))
}

/// `apps.0.key` and its like by table (`apps.0`), in the order of the indices.
fn by_app(flat: Flat) -> Vec<(String, Flat)> {
    let mut apps: BTreeMap<(usize, String), Flat> = BTreeMap::new();
    for (key, value) in flat {
        let rest = key.trim_start_matches("apps.");
        let (index, field) = rest.split_once('.').unwrap_or((rest, ""));
        let app = apps.entry((index.parse().unwrap_or(usize::MAX), index.to_owned())).or_default();
        if !field.is_empty() {
            app.insert(field.to_owned(), value);
        }
    }
    apps.into_iter().map(|((_, index), app)| (format!("apps.{index}"), app)).collect()
}

fn id_of(app: &Flat, table: &str) -> Result<String, ConfigError> {
    match app.get("id").map(|value| &value.kind) {
        Some(ValueKind::Array(_) | ValueKind::Table(_) | ValueKind::Nil) | None => {
            let is_variable = |origin: &&str| origin.starts_with("SOUNDPOST_");
            match app.values().find_map(Value::origin).filter(is_variable) {
                Some(origin) => Err(ConfigError::Missing {
                    key: format!("{table}.id"),
                    hint: format!(
                        ": set {} to the id of the app that {origin} is for",
                        keys::variable(&format!("{table}.id"))
                    ),
                }),
                None => Err(missing(table, "id")),
            }
        }
        Some(id) => Ok(id.to_string()),
    }
}

/// A key that every app needs is written nowhere.
pub(super) fn missing(table: &str, key: &str) -> ConfigError {
    if is_foreign(table) {
        return ConfigError::Missing {
            key: format!("REVERB_APP_{}", key.to_uppercase()),
            hint: ": an app needs REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET".to_owned(),
        };
    }
    ConfigError::Missing {
        key: format!("{table}.{key}"),
        hint: ": an app needs id, key and secret".to_owned(),
    }
}

/// The id of an app as errors name it.
fn id_origin(app: &Flat, table: &str) -> String {
    let origin = app.get("id").and_then(Value::origin).filter(|_| is_foreign(table));
    origin.map_or_else(|| format!("{table}.id"), str::to_owned)
}

/// One layer as the config crate takes it.
#[derive(Clone, Debug)]
struct Layer(Flat);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        let is_value = |(_, value): &(&String, &Value)| !matches!(value.kind, ValueKind::Table(_));
        Ok(self.0.iter().filter(is_value).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// The layers of a table (`apps.0.`, or nothing for the root) as one written form, and where each value of it stood.
fn merge<T: DeserializeOwned>(layers: Vec<Flat>, table: &str) -> Result<(T, Origins), ConfigError> {
    let mut origins = Origins::new();
    let mut builder = Config::builder();
    for layer in layers {
        for (key, value) in &layer {
            if let Some(origin) = value.origin() {
                origins.insert(key.clone(), origin.to_owned());
            }
        }
        builder = builder.add_source(Layer(layer));
    }
    let written =
        builder.build().and_then(Config::try_deserialize).map_err(|error| shape(&error, table, &origins))?;
    Ok((written, origins))
}

/// The config crate's complaint about a value's shape, without the value: it may be a secret.
fn shape(error: &config::ConfigError, table: &str, origins: &Origins) -> ConfigError {
    if let config::ConfigError::Type { key: Some(key), .. } | config::ConfigError::At { key: Some(key), .. } =
        error
    {
        let origin = origins.get(key).unwrap_or(key).clone();
        let expected = "one value, or an array of texts where a list belongs";
        return ConfigError::Shape { place: Place { key: format!("{table}{key}"), origin }, expected };
    }
    ConfigError::Layers(error.to_string().replace('\n', " "))
}

/// Adds a value with its origin to a source.
pub(super) fn put(flat: &mut Flat, key: &str, origin: &str, value: impl Into<ValueKind>) {
    flat.insert(key.to_owned(), Value::new(Some(&origin.to_owned()), value));
}
