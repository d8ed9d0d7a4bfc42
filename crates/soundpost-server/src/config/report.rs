//! What `soundpost check` says: every key with its value and where it was written, and what deserves a second look.
//! No secret is in it.

use std::{
    fmt::{self, Write},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    ConfigError, Files, Flags, Note, NoteLevel, Read, Settings, advice,
    effective::Values,
    error::one_line,
    keys,
    layers::{Layered, LayeredApp, Origins},
};

/// Characters that values take, so that a longer one moves only its own line.
const VALUE_WIDTH: usize = 22;
/// Before a line without a value.
const MARK: &str = "# ";
/// The list of tables within the server's.
const CERTIFICATES: &str = "server.tls.certificates";
/// The list of tables within an app's.
const WEBHOOKS: &str = "webhooks";
/// Keys of a webhook that is told by requests, and the table of one that is told by jobs.
const OF_REQUESTS: [&str; 4] = ["url", "headers", "ca", "refuse_private_addresses"];
const OF_JOBS: &str = "laravel_queue.";

/// Every key with its value and where it was written, and what deserves a second look.
#[derive(Clone, Debug)]
pub struct Report {
    sections: Vec<Section>,
    notes: Vec<Note>,
}

/// One table of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Section {
    /// `server`, or `apps.0` in the order of [`Settings::apps`], or `apps.0.webhooks.0` behind its app.
    name: String,
    rows: Vec<Row>,
}

/// One key.
#[derive(Clone, Debug)]
struct Row {
    /// The key within its table.
    key: String,
    /// Nothing where no value is meant, as for a `hostname` nobody wrote.
    value: Option<Value>,
    /// Nothing where nobody wrote one.
    origin: Option<String>,
}

impl Report {
    /// Reads and checks every source as [`Settings::load`] does, and reports on it. Errors: the same.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
        dir: &Path,
    ) -> Result<(Settings, Self), ConfigError> {
        let read = Read::all(flags, environment, dir, &mut Files::default())?;
        let sections = sections(&read);
        let mut notes = read.settings.notes.clone();
        notes.extend(advice::notes(&read, &sections, dir));
        // What matters more stands last, where the eye is when the prompt comes back.
        notes.sort_by_key(|note| note.level == NoteLevel::Warning);
        Ok((read.settings, Self { sections, notes }))
    }

    /// Adds warnings of what the settings refer to, such as certificates.
    pub fn warn(&mut self, texts: impl IntoIterator<Item = String>) {
        self.notes.extend(texts.into_iter().map(Note::warning));
    }

    /// How many of the notes are warnings.
    pub fn warnings(&self) -> usize {
        self.notes.iter().filter(|note| note.level == NoteLevel::Warning).count()
    }

    /// For people, and for `diff`: one line for each key, in the form of a TOML file, then the notes.
    pub fn text(&self) -> String {
        // Writing into a text does not fail.
        self.written().unwrap_or_default()
    }

    fn written(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for section in &self.sections {
            writeln!(text, "{}", section.header())?;
            let mark_width = |row: &Row| if row.value.is_some() { 0 } else { MARK.len() };
            let width = section.rows.iter().map(|row| row.key.len() + mark_width(row)).max().unwrap_or(0);
            for Row { key, value, origin } in &section.rows {
                let value = value.as_ref().map(toml);
                // A line without a value is a comment, so that the whole can be read as TOML.
                let (mark, key_width) =
                    if value.is_some() { ("", width) } else { (MARK, width - MARK.len()) };
                let value = value.as_deref().unwrap_or("none");
                let origin = origin.as_deref().unwrap_or("default");
                writeln!(text, "{mark}{key:<key_width$} = {value:<VALUE_WIDTH$} # {origin}")?;
            }
            writeln!(text)?;
        }
        for note in &self.notes {
            writeln!(text, "{}: {}", word(note.level), note.text)?;
        }
        Ok(text)
    }

    /// For machines: `{"settings":[{"key":"server.port","value":8080,"origin":"--port"}],"notes":[{"level":"warning",
    /// "text":".."}]}`. A value that nobody wrote has the origin `default`; `null` is no value.
    pub fn json(&self) -> String {
        let settings = self.sections.iter().flat_map(|section| {
            section.rows.iter().map(|row| {
                json!({
                    "key": format!("{}.{}", section.name, row.key),
                    "value": row.value,
                    "origin": row.origin.as_deref().unwrap_or("default"),
                })
            })
        });
        let notes = self.notes.iter().map(|note| json!({ "level": word(note.level), "text": note.text }));
        let (settings, notes) = (settings.collect::<Vec<_>>(), notes.collect::<Vec<_>>());
        json!({ "settings": settings, "notes": notes }).to_string()
    }
}

const fn word(level: NoteLevel) -> &'static str {
    match level {
        NoteLevel::Info => "note",
        NoteLevel::Warning => "warning",
    }
}

impl Section {
    /// The value of a key of this table.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.rows.iter().find(|row| row.key == key).and_then(|row| row.value.as_ref())
    }

    /// `server`, `apps.0`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `[server]`, `[[apps]]`, `[[apps.webhooks]]`.
    fn header(&self) -> String {
        let is_word = |part: &&str| !part.bytes().all(|byte| byte.is_ascii_digit());
        let words: Vec<&str> = self.name.split('.').filter(is_word).collect();
        let name = words.join(".");
        if name == self.name { format!("[{name}]") } else { format!("[[{name}]]") }
    }
}

/// Every table with every key that there is, in the order of `docs/configuration.md`.
fn sections(read: &Read) -> Vec<Section> {
    let Layered { origins, values, apps, .. } = &read.layered;
    let known = keys::known();
    let certificates = values.indices(CERTIFICATES);
    let mut sections: Vec<Section> = Vec::new();
    // Each pair of the list is a table of its own; without any, their keys stand with the server's.
    let is_listed = |key: &str| !certificates.is_empty() && key.starts_with(CERTIFICATES);
    for key in known.iter().filter(|key| !key.starts_with("apps.") && !is_listed(key)) {
        let Some((table, field)) = key.split_once('.') else { continue };
        let row = row(read, field, key, values, origins);
        match sections.last_mut().filter(|section| section.name == table) {
            Some(section) => section.rows.push(row),
            None => sections.push(Section { name: table.to_owned(), rows: vec![row] }),
        }
    }
    for index in certificates {
        let name = format!("{CERTIFICATES}.{index}");
        let fields = known.iter().filter_map(|key| key.strip_prefix(CERTIFICATES)?.strip_prefix('.'));
        let rows =
            fields.map(|field| row(read, field, &format!("{name}.{field}"), values, origins)).collect();
        sections.push(Section { name, rows });
    }
    let (of_webhooks, of_apps): (Vec<&str>, Vec<&str>) = known
        .iter()
        .filter_map(|key| key.strip_prefix("apps."))
        .partition(|field| field.starts_with(&format!("{WEBHOOKS}.")));
    for (index, LayeredApp { values, origins, .. }) in apps.iter().enumerate() {
        let rows = of_apps.iter().map(|field| row(read, field, field, values, origins)).collect();
        sections.push(Section { name: format!("apps.{index}"), rows });
        for webhook in values.indices(WEBHOOKS) {
            let name = format!("{WEBHOOKS}.{webhook}");
            let has_url = values.value(&format!("{name}.url")).is_some();
            let is_its = |field: &&str| {
                if has_url { !field.starts_with(OF_JOBS) } else { !OF_REQUESTS.contains(field) }
            };
            let fields = of_webhooks.iter().filter_map(|key| key.strip_prefix(WEBHOOKS)?.strip_prefix('.'));
            let rows = fields
                .filter(is_its)
                .map(|field| row(read, field, &format!("{name}.{field}"), values, origins))
                .collect();
            sections.push(Section { name: format!("apps.{index}.{name}"), rows });
        }
    }
    sections
}

fn row(read: &Read, field: &str, lookup: &str, values: &Values, origins: &Origins) -> Row {
    // Numbered variables beat a list of the file: `allowed_origins.0`.
    let numbered = format!("{lookup}.");
    let numbered = origins.range(numbered.clone()..).next().filter(|(key, _)| key.starts_with(&numbered));
    let origin = numbered.map(|(_, origin)| origin).or_else(|| origins.get(lookup));
    let origin = origin.map(|origin| match read.environment.is_of_process(origin) {
        true => format!("{origin} of the process"),
        false => one_line(origin).into_owned(),
    });
    Row { key: field.to_owned(), value: values.value(lookup), origin }
}

/// A value in TOML. Numbers, booleans, texts and lists of them are written in TOML as in JSON, but that control
/// characters above ASCII are escaped as well: a terminal would follow them.
pub(super) fn toml(value: &Value) -> String {
    if let Some(object) = value.as_object() {
        let pairs: Vec<_> =
            object.iter().map(|(name, value)| format!("{} = {}", key(name), toml(value))).collect();
        return if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) };
    }
    let escaped = |c: char| if c.is_control() { format!("\\u{:04X}", u32::from(c)) } else { c.to_string() };
    match value.as_array() {
        Some(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        None => value.to_string().chars().map(escaped).collect(),
    }
}

/// A key of a table in TOML, in quotes where it needs them.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_bare { name.to_owned() } else { toml(&name.into()) }
}
