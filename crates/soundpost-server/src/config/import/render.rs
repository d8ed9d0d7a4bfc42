//! From a draft to the text of a `soundpost.toml` that the server takes.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::{
    super::{ConfigError, Settings, effective, error::one_line, keys, layers, layers::Sources, report},
    Imported,
    draft::{Draft, Entry, Lines},
};

/// Where the comments behind the lines begin.
const COMMENT_COLUMN: usize = 44;
/// What every app needs.
const NEEDED: [&str; 3] = ["id", "key", "secret"];
/// Lines that are turned into comments one by one; a file with more is not one of another server's.
const REFUSALS_MAX: usize = 100;

/// What the server does not take, with the reason: keys of the node, apps by index, keys of apps, webhooks by the
/// indices of their app and of themselves.
#[derive(Debug, Default)]
struct Refused {
    node: BTreeMap<String, String>,
    apps: BTreeMap<usize, String>,
    lines: BTreeMap<(usize, String), String>,
    webhooks: BTreeMap<(usize, usize), String>,
}

/// The text, without what the server would refuse.
pub(super) fn render(draft: &Draft, name: &str) -> Imported {
    let mut refused = Refused::default();
    for (index, app) in draft.apps.iter().enumerate() {
        // What is not certain might open the app to the world.
        let is_open = |entry: &&Entry| entry.value.is_none() && !NEEDED.contains(&entry.key.as_str());
        let open = app.entries.iter().filter(is_open).map(|entry| entry.key.as_str());
        let lacks = NEEDED.into_iter().filter(|key| app.value(key).is_none()).chain(open).collect::<Vec<_>>();
        if !lacks.is_empty() {
            let reason = format!("fill in {}, then take away the # of its lines", lacks.join(", "));
            refused.apps.insert(index, reason);
        }
        for (at, webhook) in app.webhooks.iter().enumerate() {
            if let Some(reason) = &webhook.left_out {
                refused.webhooks.insert((index, at), reason.clone());
            }
        }
    }
    let imported = |refused: &Refused, text, problem| {
        let apps = draft.apps.len().saturating_sub(refused.apps.len());
        Imported { text, source: draft.source, apps, left_out: refused.apps.len(), problem }
    };
    for _ in 0..REFUSALS_MAX {
        let text = text(draft, name, &refused);
        let Err(error) = tried(&text) else { return imported(&refused, text, None) };
        if !refused.add(draft, &error) {
            return imported(&refused, text, Some(error.to_string()));
        }
    }
    imported(&refused, text(draft, name, &refused), Some("too much in it is refused".to_owned()))
}

/// What the server makes of a file with this text.
pub(super) fn tried(text: &str) -> Result<Settings, ConfigError> {
    let mut file = layers::parse_toml(text, Path::new("soundpost.toml"))?;
    keys::check(&mut file)?;
    Settings::try_from(&layers::layer(Sources { file, ..Sources::default() })?)
}

impl Refused {
    /// Finds the line that the error is about; false if it is about none that still counts.
    fn add(&mut self, draft: &Draft, error: &ConfigError) -> bool {
        let Some(key) = error.key() else { return false };
        let reason = error.to_string().replace(" (soundpost.toml)", "");
        let Some((index, field)) = key.strip_prefix("apps.").and_then(|rest| rest.split_once('.')) else {
            // A table that only a later version has is refused as a whole.
            let is_meant = |entry: &&Entry| {
                let below =
                    entry.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                below && !self.node.contains_key(&entry.key)
            };
            let meant: Vec<_> =
                draft.node.entries.iter().filter(is_meant).map(|entry| entry.key.clone()).collect();
            let found = !meant.is_empty();
            self.node.extend(meant.into_iter().map(|key| (key, reason.clone())));
            return found;
        };
        // The error counts the apps that are left.
        let mut left = (0..draft.apps.len()).filter(|index| !self.apps.contains_key(index));
        let Some(index) = index.parse().ok().and_then(|index| left.nth(index)) else { return false };
        if let Some(webhook) = field.strip_prefix("webhooks.") {
            return self.add_webhook(draft, index, webhook, reason);
        }
        let field = field.split(['.', ' ']).next().unwrap_or(field);
        if NEEDED.contains(&field) {
            return self.apps.insert(index, reason).is_none();
        }
        let is_written = draft.apps.get(index).is_some_and(|app| app.has(field));
        is_written && self.lines.insert((index, field.to_owned()), reason).is_none()
    }

    /// Leaves a webhook out as a whole: without the line that is refused it would be another. `key`: `0.url`, the number
    /// counting those that are left.
    fn add_webhook(&mut self, draft: &Draft, app: usize, key: &str, reason: String) -> bool {
        let number = key.split('.').next().and_then(|number| number.parse().ok());
        let count = draft.apps.get(app).map_or(0, |app| app.webhooks.len());
        let mut left = (0..count).filter(|at| !self.webhooks.contains_key(&(app, *at)));
        let at = number.and_then(|number| left.nth(number));
        at.is_some_and(|at| self.webhooks.insert((app, at), reason).is_none())
    }
}

fn text(draft: &Draft, name: &str, refused: &Refused) -> String {
    let mut lines = vec![
        format!("# Imported from {}, a configuration of {}.", one_line(name), draft.source),
        "# Behind each line stands what it was taken from. `soundpost check --config FILE` shows what it comes to."
            .to_owned(),
    ];
    let known = keys::known();
    for table in ["server", "admin", "redis"] {
        let of_table =
            |entry: &&Entry| entry.key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        let entries: Vec<&Entry> = sorted(draft.node.entries.iter().filter(of_table), &known, "");
        if entries.is_empty() {
            continue;
        }
        let counts = entries.iter().any(|entry| !refused.node.contains_key(&entry.key));
        lines.extend([String::new(), format!("{}[{table}]", if counts { "" } else { "# " })]);
        for entry in entries {
            let key = entry.key.get(table.len() + 1..).unwrap_or_default();
            lines.push(line(key, entry, refused.node.get(&entry.key).map(String::as_str)));
        }
    }
    let remarks_of_node = remarks(&draft.node);
    if !remarks_of_node.is_empty() {
        lines.push(String::new());
    }
    lines.extend(remarks_of_node);
    for (index, app) in draft.apps.iter().enumerate() {
        lines.push(String::new());
        lines.extend(app_lines(index, app, refused, &known));
    }
    if draft.apps.is_empty() {
        lines.extend(["", "# Fill in your app, then take away the #.", "# [[apps]]"].map(str::to_owned));
        lines.extend(NEEDED.map(|key| format!("# {key} = \"\"")));
    }
    lines.join("\n") + "\n"
}

fn app_lines(index: usize, app: &Lines, refused: &Refused, known: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let reason = refused.apps.get(&index);
    if let Some(reason) = reason {
        lines.push(format!("# This app is not served: {}", one_line(reason)));
    }
    lines.push(format!("{}[[apps]]", if reason.is_some() { "# " } else { "" }));
    for entry in sorted(app.entries.iter(), known, "apps.") {
        let of_line = refused.lines.get(&(index, entry.key.clone())).map(String::as_str);
        lines.push(line(&entry.key, entry, of_line.or(reason.map(|_| ""))));
    }
    lines.extend(remarks(app));
    for (at, webhook) in app.webhooks.iter().enumerate() {
        let of_webhook = refused.webhooks.get(&(index, at)).map(String::as_str);
        if let Some(reason) = of_webhook {
            lines.push(format!("# This webhook is not told: {}", one_line(reason)));
        }
        let is_comment = of_webhook.is_some() || reason.is_some();
        lines.push(format!("{}[[apps.webhooks]]", if is_comment { "# " } else { "" }));
        let entries = sorted(webhook.entries.iter(), known, "apps.webhooks.");
        lines.extend(entries.into_iter().map(|entry| line(&entry.key, entry, is_comment.then_some(""))));
    }
    lines
}

/// In the order of `docs/configuration.md`; what is not on it comes last.
fn sorted<'a>(entries: impl Iterator<Item = &'a Entry>, known: &[String], prefix: &str) -> Vec<&'a Entry> {
    let place = |entry: &&Entry| {
        let key = format!("{prefix}{}", entry.key);
        known.iter().position(|known| *known == key).unwrap_or(usize::MAX)
    };
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(place);
    entries
}

/// `key = value  # from ..`, a comment if it was refused. No secret is in a comment.
fn line(key: &str, entry: &Entry, refused: Option<&str>) -> String {
    let mut note = one_line(&entry.note).into_owned();
    let value = match (&entry.value, refused) {
        (Some(value), None) => report::toml(value),
        (Some(_), Some(_)) if effective::is_secret(key) => {
            note.push_str(", not copied into a comment");
            "\"\"".to_owned()
        }
        (Some(value), Some(_)) => report::toml(&effective::masked(without_tokens(key, value))),
        (None, _) => "\"\"".to_owned(),
    };
    if let Some(reason) = refused.filter(|reason| !reason.is_empty()) {
        note = format!("{note}; {}", one_line(reason));
    }
    let mark = if refused.is_some() || entry.value.is_none() { "# " } else { "" };
    let assignment = format!("{mark}{key} = {value}");
    format!("{assignment:<COMMENT_COLUMN$} # {note}")
}

/// Headers and what stands behind the `?` of a webhook's URL are tokens more often than not.
fn without_tokens(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(object) => object.keys().map(|name| (name.clone(), Value::from(""))).collect(),
        Value::String(text) if key == "url" && text.contains('?') => {
            format!("{}?", text.split('?').next().unwrap_or_default()).into()
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.clone(),
    }
}

fn remarks(lines: &Lines) -> Vec<String> {
    let mut remarks: Vec<String> =
        lines.remarks.iter().map(|remark| format!("# - {}", one_line(remark))).collect();
    if !remarks.is_empty() {
        remarks.insert(0, "# Without a counterpart, or with another meaning:".to_owned());
    }
    remarks
}
