//! The webhooks of soketi's and Sockudo's apps as tables of ours.

use serde_json::{Map, Value};
use soundpost_protocol::webhook::{
    event::EventKind,
    target::{Batching as Portions, ExtraHeaders},
};

use super::{
    super::soketi::webhooks::{DURATION_DEFAULT, FILTERS},
    convert::{self, Form},
    draft::Lines,
    sockudo,
    tree::{Found, Tree},
};

/// Their beginning and end of a channel's name, Sockudo's names too, and ours.
const SOCKUDO_FILTERS: [(&str, &str); 2] =
    [("channel_prefix", "filter.prefix"), ("channel_suffix", "filter.suffix")];
/// Sockudo's filters by what we do not know; without them the receiver would be told more than it asked for.
const OTHER_FILTERS: [&str; 3] = ["channel_pattern", "channel_namespace", "channel_namespaces"];
/// How many events Sockudo sends together.
const SIZE_DEFAULT: i64 = 100;

/// What is said once for the webhooks of all apps, as keys of ours.
pub(super) struct Batching(Lines);

impl Batching {
    /// `by_default`: whether events are gathered where nothing is said of it, as in Sockudo; soketi has no size.
    pub(super) fn of(tree: &mut Tree, by_default: bool, whose: &'static str) -> Self {
        let mut lines = Lines::default();
        let [enabled, wait, size] =
            ["enabled", "duration", "size"].map(|key| tree.take(&format!("webhooks.batching.{key}")));
        let enabled = enabled.as_ref().and_then(|found| convert::flag(&found.value));
        if enabled.unwrap_or(by_default) {
            let wait_max = i64::try_from(Portions::WAIT_MAX.as_millis()).unwrap_or(i64::MAX);
            take(&mut lines, "batch_milliseconds", wait, DURATION_DEFAULT, wait_max, whose);
            if by_default {
                let size_max = i64::try_from(Portions::EVENTS_MAX).unwrap_or(i64::MAX);
                take(&mut lines, "batch_events", size, SIZE_DEFAULT, size_max, whose);
            }
        }
        Self(lines)
    }
}

/// A number that is cut at the most that we take.
fn take(lines: &mut Lines, key: &str, found: Option<Found>, default: i64, most: i64, whose: &str) {
    let above = found.as_ref().and_then(|found| {
        let number = convert::convert(&found.value, Form::Whole).ok()?.as_i64()?;
        (number > most).then(|| format!("from {}, which is {number}", found.from))
    });
    match above {
        Some(note) => lines.noted(key, most, &note),
        None => lines.take_or(key, found, Form::Whole, default, whose),
    }
}

/// The webhooks below a path, each a table of the app's.
pub(super) fn webhooks(tree: &mut Tree, app: &mut Lines, path: &str, batching: &Batching) {
    let indices = tree.indices(path);
    if !indices.is_empty() {
        app.remarks.extend(batching.0.remarks.iter().cloned());
    }
    for index in indices {
        let name = format!("{path}.{index}");
        let found = tree.take_below(&name);
        if let Some(mut webhook) = webhook(&found, &name, &mut app.remarks) {
            webhook.entries.extend(batching.0.entries.iter().cloned());
            app.webhooks.push(webhook);
        }
    }
}

/// One webhook of its values by their paths; `None`, with a remark, if nothing of it can be.
fn webhook(found: &[(String, Found)], name: &str, remarks: &mut Vec<String>) -> Option<Lines> {
    let one = |key: &str| found.iter().find(|(path, _)| path == key).map(|(_, found)| found.clone());
    let mut lines = Lines::default();
    let url = one("url").filter(|found| convert::text(&found.value).is_some_and(|url| !url.is_empty()));
    if url.is_none() {
        remarks.push(format!("{name}: a webhook without a URL (Lambda) has no counterpart"));
        return None;
    }
    lines.take("url", url, Form::Text);
    events(&mut lines, one("event_types").or_else(|| one("events")), name, remarks)?;
    for (theirs, ours) in FILTERS.iter().chain(&SOCKUDO_FILTERS) {
        let text = one(&format!("filter.{theirs}")).filter(|found| found.value != "");
        lines.take(ours, text, Form::Text);
    }
    headers(&mut lines, found, remarks);
    if let Some(theirs) = OTHER_FILTERS.iter().find(|theirs| is_below(found, &format!("filter.{theirs}"))) {
        lines.left_out = Some(format!(
            "filter.{theirs} has no counterpart, and without it more would be told; fill in filter, then take away the # \
             of its lines"
        ));
    }
    if ["retry", "request_timeout_ms"].iter().any(|key| is_below(found, key)) {
        remarks.push(format!("{name}: an event is tried again for 5 minutes, with 10 s for each attempt"));
    }
    Some(lines)
}

fn is_below(found: &[(String, Found)], key: &str) -> bool {
    found
        .iter()
        .any(|(path, _)| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Those that we have; the others are remarked on. `None`: there is none that we have.
fn events(lines: &mut Lines, found: Option<Found>, name: &str, remarks: &mut Vec<String>) -> Option<()> {
    let words = found.as_ref().map(|found| convert::texts(&found.value)).unwrap_or_default();
    let (ours, others): (Vec<String>, Vec<String>) =
        words.into_iter().partition(|word| EventKind::of(word).is_some());
    if !others.is_empty() {
        let shown: Vec<String> = others.iter().take(16).map(|word| format!("{word:?}")).collect();
        remarks.push(format!("{name}: no such events are told here: {}", shown.join(", ")));
    }
    let Some(found) = found.filter(|_| !ours.is_empty()) else {
        remarks.push(format!("{name}: a webhook that is told of none of our events is left out"));
        return None;
    };
    lines.set("events", ours, &found.from);
    Some(())
}

/// Each that can be sent; of the others the names are remarked on.
fn headers(lines: &mut Lines, found: &[(String, Found)], remarks: &mut Vec<String>) {
    let mut headers = Map::new();
    let mut origin = None;
    for (path, Found { value, from }) in found {
        let Some(short) = path.strip_prefix("headers.") else { continue };
        // The path is in snake case, and a name may hold dots.
        let (whole, name) = from.rsplit_once(".headers.").unwrap_or((from.as_str(), short));
        let Some(text) = convert::text(value) else {
            remarks.push(format!("{from}: the value of a header is a text"));
            continue;
        };
        if let Some(variable) = sockudo::variable(&text) {
            lines.left_out = Some(format!(
                "fill in the header {name}, from {variable}, which stands in no .env beside the file"
            ));
        }
        let known = headers.keys().any(|other: &String| other.eq_ignore_ascii_case(name));
        match ExtraHeaders::parse([(name, text.as_str())]) {
            Ok(_) if !known => {
                origin.get_or_insert_with(|| format!("{whole}.headers"));
                headers.insert(name.to_owned(), Value::from(text));
            }
            Ok(_) => remarks.push(format!("{from}: a header has one value")),
            Err(error) => remarks.push(format!("{from}: {error}")),
        }
    }
    if let Some(origin) = origin {
        lines.set("headers", Value::Object(headers), &origin);
    }
}
