//! As much of PromQL as tells which metrics and labels an expression names; promtool judges the rest.

use std::collections::BTreeSet;

/// Words that take a list of labels in parentheses.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Operators and modifiers that are words.
const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];

/// What an expression names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) metrics: BTreeSet<String>,
    /// Metric, label and value of each matcher.
    pub(crate) matchers: BTreeSet<(String, String, String)>,
    /// Labels of `by (...)` and the like.
    pub(crate) labels: BTreeSet<String>,
}

/// Reads an expression. Panics on what no expression of ours holds.
pub(crate) fn names(expression: &str) -> Names {
    let mut names = Names::default();
    let mut rest = expression;
    let mut metric = String::new();
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() || first == '_' {
            let (word, after) = split_where(rest, |c| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
            rest = after;
            let opens = rest.trim_start().strip_prefix('(');
            match opens {
                Some(list) if LISTS.contains(&word) => {
                    let (list, after) = list.split_once(')').unwrap();
                    names.labels.extend(list.split(',').map(|label| label.trim().to_owned()));
                    rest = after;
                }
                Some(_) => {}
                None if WORDS.contains(&word) || is_aggregation(rest) => {}
                None => {
                    word.clone_into(&mut metric);
                    names.metrics.insert(metric.clone());
                }
            }
        } else if let Some(inner) = rest.strip_prefix('{') {
            let (inner, after) = inner.split_once('}').unwrap();
            rest = after;
            for matcher in inner.split(", ") {
                let (label, value) = matcher.split_once('=').unwrap();
                let value = value.trim_start_matches('~').trim_matches('"');
                names.matchers.insert((
                    metric.clone(),
                    label.trim_end_matches('!').to_owned(),
                    value.to_owned(),
                ));
            }
        } else if let Some(range) = rest.strip_prefix('[') {
            rest = range.split_once(']').unwrap().1;
        } else if first.is_ascii_digit() {
            rest = split_where(rest, |c| !(c.is_ascii_alphanumeric() || c == '.')).1;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    names
}

/// Whether what follows a word makes it `sum by (...)` or the like.
fn is_aggregation(rest: &str) -> bool {
    let (next, after) = split_where(rest.trim_start(), |c| !c.is_ascii_alphabetic());
    matches!(next, "by" | "without") && after.trim_start().starts_with('(')
}

fn split_where(text: &str, ends: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

#[test]
fn names_are_found_wherever_they_stand() {
    let found = names(
        "sum by (job, app) (rate(a_total{job=\"x\", reason=~\"b|c\"}[5m])) > on (app) 0.5 * d offset 10m and time() - e",
    );
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found.metrics, owned(&["a_total", "d", "e"]));
    assert_eq!(found.labels, owned(&["app", "job"]));
    let matcher = |label: &str, value: &str| ("a_total".to_owned(), label.to_owned(), value.to_owned());
    assert_eq!(found.matchers, [matcher("job", "x"), matcher("reason", "b|c")].into());
}
