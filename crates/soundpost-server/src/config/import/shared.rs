//! What soketi and Sockudo, which began as its copy, have in common.

use serde_json::Value;

use super::{
    convert::{self, Form},
    draft::{Draft, Lines},
    tree::{Found, Tree},
};

/// Where both keep their apps.
pub(super) const APPS: &str = "app_manager.array.apps";

/// A path, and a word on what becomes of what stands there or below it.
pub(super) type Words = &'static [(&'static str, &'static str)];

/// Host, port and path. Both listen on 6001 where nothing is written.
pub(super) fn listen(tree: &mut Tree, draft: &mut Draft) {
    let node = &mut draft.node;
    node.take("server.host", tree.take("host"), Form::Text);
    node.take_or("server.port", tree.take("port"), Form::Whole, 6001, draft.source);
    let path =
        tree.take("path_prefix").filter(|found| found.value.as_str().is_none_or(|text| text.trim() != "/"));
    node.take("server.path", path.filter(|found| found.value != ""), Form::Path);
    if let Some(debug) = tree.take("debug").filter(|found| convert::flag(&found.value) == Some(true)) {
        node.set("server.debug", true, &debug.from);
    }
}

/// Certificate and key, if TLS is on.
pub(super) fn tls(tree: &mut Tree, draft: &mut Draft, is_on: bool) {
    let node = &mut draft.node;
    for (path, key) in [
        ("ssl.cert_path", "server.tls.certificate"),
        ("ssl.key_path", "server.tls.key"),
        ("ssl.passphrase", "server.tls.passphrase"),
    ] {
        let found = tree.take(path).filter(|found| is_on && found.value != "");
        node.take(key, found, Form::Text);
    }
    if tree.take("ssl.ca_path").is_some_and(|found| is_on && found.value != "") {
        node.remark(
            "ssl.caPath: certificates of clients are not asked for; append a chain to the certificate's file",
        );
    }
}

/// The listener for metrics.
pub(super) fn metrics(tree: &mut Tree, draft: &mut Draft, on_by_default: bool) {
    let enabled = tree.take("metrics.enabled").and_then(|found| convert::flag(&found.value));
    let (host, port) = (tree.take("metrics.host"), tree.take("metrics.port"));
    let named = !tree.take_below("metrics").is_empty();
    if !enabled.unwrap_or(on_by_default) || !(named || on_by_default) {
        return;
    }
    draft.node.take_or("admin.host", host, Form::Text, "0.0.0.0", draft.source);
    draft.node.take_or("admin.port", port, Form::Whole, 9601, draft.source);
    draft
        .node
        .remark("metrics: they are on the admin listener, at /metrics; their names begin with soundpost_");
}

/// Client events, if they are on.
pub(super) fn client_events(
    app: &mut Lines,
    enabled: Option<Found>,
    rate: Option<Found>,
    whose: &str,
) -> bool {
    let is_on = enabled.as_ref().and_then(|found| convert::flag(&found.value)).unwrap_or(false);
    let mode = if is_on { "members" } else { "none" };
    match enabled {
        Some(enabled) => app.set("client_events", mode, &enabled.from),
        None => app.implied("client_events", mode, whose),
    }
    if is_on {
        app.take_or("client_events_per_second", rate, Form::Count, 0, whose);
    }
    is_on
}

/// Requests a second: theirs count events and reads apart, ours all of them together.
pub(super) fn requests(app: &mut Lines, events: Option<Found>, reads: Option<Found>) {
    let limit = |found: &Option<Found>| {
        found.as_ref().and_then(|found| convert::number(&found.value).ok()).filter(|number| *number >= 1.0)
    };
    match (limit(&events), limit(&reads)) {
        (Some(number), more) => {
            let sum = Value::from(number + more.unwrap_or(0.0));
            let from =
                [events, reads.filter(|_| more.is_some())].into_iter().flatten().map(|found| found.from);
            let from = from.collect::<Vec<_>>().join(" and ");
            app.take("requests_per_second", Some(Found { value: sum, from }), Form::Count);
            app.remark("requests_per_second counts events and reads together");
        }
        (None, Some(_)) => {
            let from = reads.map(|found| found.from).unwrap_or_default();
            app.remark(format!("{from}: requests_per_second would limit events, too"));
        }
        (None, None) => {}
    }
}

/// Remarks on what nobody asked for below `prefix`: one for each of the `words`' texts, and the others by name.
pub(super) fn leftovers(tree: &mut Tree, prefix: &str, words: Words) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    let mut met = Vec::new();
    for (path, found) in tree.rest() {
        let Some(rest) = path.strip_prefix(prefix) else { continue };
        met.push(path.to_owned());
        let below = |known: &str| {
            rest.strip_prefix(known).is_some_and(|more| more.is_empty() || more.starts_with('.'))
        };
        let best = words.iter().filter(|(known, _)| below(known)).max_by_key(|(known, _)| known.len());
        let (parts, text) = best.map_or((usize::MAX, "not known here"), |(known, text)| {
            (prefix.split('.').filter(|part| !part.is_empty()).count() + known.split('.').count(), *text)
        });
        // A variable has no dots: it stays whole.
        let name = found.from.split('.').take(parts).collect::<Vec<_>>().join(".");
        match groups.iter_mut().find(|(other, _)| *other == text) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => groups.push((text, vec![name])),
        }
    }
    for path in met {
        tree.take(&path);
    }
    groups.into_iter().map(|(text, names)| format!("{}: {text}", some(&names))).collect()
}

/// Names, the first sixteen of them.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(16).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(16) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        Some(0) | None => shown,
    }
}
