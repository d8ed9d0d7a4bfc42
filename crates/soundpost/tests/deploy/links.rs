//! The links of the README, of the docs and of the examples: each leads to a file, and to a heading of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::tools::path;

/// Folders with files that are not ours.
const FOREIGN: [&str; 3] = ["node_modules", "target", ".git"];

/// Every Markdown file below `folder`.
fn pages(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if !FOREIGN.iter().any(|foreign| name == *foreign) {
                pages(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push(path);
        }
    }
}

/// The text without its blocks of code and without code in its lines.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    // `a](b)` in backticks is no link, [`a`](b) is one.
    prose.split('`').enumerate().map(|(index, part)| if index % 2 == 0 { part } else { "" }).collect()
}

/// What stands between `](` and `)`.
fn links(text: &str) -> Vec<String> {
    let starts = prose(text);
    starts.split("](").skip(1).map(|rest| rest.split_once(')').unwrap().0.to_owned()).collect()
}

/// The names that GitHub gives to the headings: lower case, hyphens for spaces, no punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        assert!(anchors.insert(anchor), "two headings of one name: {line}");
    }
    anchors
}

/// Why the link of a page leads nowhere.
fn fault(page: &Path, link: &str) -> Option<String> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let target = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
    if !target.exists() {
        return Some(format!("{}: {link}: there is no such file", page.display()));
    }
    let anchor = anchor?;
    let known = anchors(&fs::read_to_string(&target).unwrap());
    (!known.contains(anchor))
        .then(|| format!("{}: {link}: there is no such heading: {known:?}", page.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut files = Vec::new();
    pages(&path(".."), &mut files);
    let mut count = 0;
    let mut faults = Vec::new();
    for page in &files {
        for link in links(&fs::read_to_string(page).unwrap()) {
            count += 1;
            faults.extend(fault(page, &link));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn links_and_headings_are_told_from_code() {
    let text = "# A `b`, c-d!\n[x](y.md#z) and [`q`](w) `[no](link)`\n```sh\n# no heading\n[no](link)\n```\n## Two words\n";
    assert_eq!(links(text), ["y.md#z", "w"]);
    assert_eq!(anchors(text), ["a-b-c-d".to_owned(), "two-words".to_owned()].into());
}
