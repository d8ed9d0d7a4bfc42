//! The blocks of `docs/migrating`: what they give to Soundpost is taken by it. That the supervisor's lines run is in
//! [`crate::supervisor`].

use std::{fs, path::Path, process::Command};

use crate::{
    server::BINARY,
    tools::{Folder, path, succeed, text},
};

/// The text of a page.
pub(crate) fn page(name: &str) -> String {
    let path = path("../docs/migrating").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The blocks of one language, without the indentation of the list they stand in; there must be some.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}");
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() != start {
            continue;
        }
        let indentation = line.len() - line.trim_start().len();
        let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
        blocks.push(block.map(|line| format!("{}\n", line.get(indentation..).unwrap_or_default())).collect());
    }
    assert!(!blocks.is_empty(), "{language}");
    blocks
}

/// The supervisor's lines of a page: those that go and those that come.
pub(crate) fn program_lines(page: &str) -> (String, String) {
    let block = blocks(page, "ini").swap_remove(0);
    let (before, after) = block.split_once("; after\n").unwrap();
    (before.strip_prefix("; before\n").unwrap().to_owned(), after.to_owned())
}

fn check(folder: &Folder, config: &Path) -> String {
    let mut check = Command::new(BINARY);
    succeed(check.args(["check", "--config"]).arg(config).env_clear().current_dir(folder.path("")))
}

#[test]
fn the_files_of_the_pages_are_good() {
    for (name, expected) in [
        ("from-pusher.md", ["1234567", "event_data_bytes_max             = 10240"]),
        ("from-sockudo.md", ["my-app", "6001"]),
    ] {
        for block in blocks(&page(name), "toml") {
            let folder = Folder::new();
            let said = check(&folder, &folder.write("soundpost.toml", &block));
            for expected in expected {
                assert!(said.contains(expected), "{name}: {expected}: {said}");
            }
        }
    }
}

#[test]
fn keys_of_the_tables_may_stand_in_the_env() {
    for (name, names, expected) in [
        ("from-reverb.md", "REVERB_APP", "client_events_on_public          = true"),
        ("from-soketi.md", "SOKETI_DEFAULT_APP", "cache_ttl_seconds                = 1800"),
    ] {
        let app = format!("{names}_ID=shop\n{names}_KEY=k\n{names}_SECRET=a-secret-of-16-or-more\n");
        let folder = Folder::new();
        let env = folder.write("env", &format!("{app}{}", blocks(&page(name), "env")[0]));
        let mut check = Command::new(BINARY);
        check.args(["check", "--env-file"]).arg(env).env_clear().current_dir(folder.path(""));
        let said = succeed(&mut check);
        assert!(said.contains(expected) && said.matches("[[apps]]").count() == 1, "{name}: {said}");
    }
}

/// Sizes and times of the page's comments are the defaults they are said to be.
#[test]
fn pushers_values_differ_from_the_defaults_named_beside_them() {
    let block = blocks(&page("from-pusher.md"), "toml").swap_remove(0);
    let folder = Folder::new();
    let kept: String =
        block.lines().filter(|line| !line.contains("# Soundpost: ")).map(|l| format!("{l}\n")).collect();
    let said = check(&folder, &folder.write("soundpost.toml", &kept));
    let mut count = 0;
    for (line, default) in block.lines().filter_map(|line| line.split_once("# Soundpost: ")) {
        let key = line.split_once(' ').unwrap().0;
        let default = if default == "no limit" { "0" } else { default };
        let found = said.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        let value = found.split_once(" = ").unwrap().1.split_whitespace().next();
        assert_eq!(value, Some(default), "{key}");
        count += 1;
    }
    assert_eq!(count, 3);
}

#[test]
fn the_pages_wait_as_long_as_the_program_of_deploy() {
    let ours = text("supervisor/soundpost.conf");
    let wait = ours.lines().find(|line| line.starts_with("stopwaitsecs=")).unwrap();
    for name in ["from-reverb.md", "from-soketi.md"] {
        let (before, after) = program_lines(&page(name));
        assert!(before.starts_with("command="), "{before}");
        assert!(after.lines().any(|line| line == wait), "{name}: {after}");
    }
}
