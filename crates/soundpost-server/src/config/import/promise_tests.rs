//! What holds whatever text comes.

use std::path::Path;

use proptest::prelude::*;

use super::{super::layers, fixtures::ALL, import, render::tried};

/// Holds of any text: an answer and no panic; one line if it is an error; TOML if it is not, which starts unless the
/// answer says why not; and no secret in a comment.
fn promises(text: &str) -> Result<(), TestCaseError> {
    match import("file", text, Some("A=1\nREVERB_APP_ID=1\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\n")) {
        Err(error) => prop_assert!(!error.to_string().contains(['\n', '\r']), "{error}"),
        Ok(imported) => {
            let toml = layers::parse_toml(&imported.text, Path::new("soundpost.toml"));
            prop_assert!(toml.is_ok(), "{toml:?}\n{}", imported.text);
            let starts = tried(&imported.text);
            prop_assert_eq!(
                starts.is_ok(),
                imported.problem.is_none(),
                "{:?}\n{}",
                starts.err(),
                imported.text
            );
        }
    }
    Ok(())
}

/// One of the files with some of it cut out, doubled, or replaced by what means something somewhere.
fn mutated() -> impl Strategy<Value = String> {
    let pieces = [
        "\"", "{", "}", "[", "]", "\n", "=", ",", "-1", "1e308", "null", "true", "${A}", "\u{7f}", "é", "''",
        "#",
    ];
    let edit =
        (any::<proptest::sample::Index>(), 0_usize..12, proptest::sample::select(pieces.to_vec()), 0_u8..3);
    (proptest::sample::select(ALL.to_vec()), proptest::collection::vec(edit, 1..6)).prop_map(
        |((_, text), edits)| {
            let mut chars: Vec<char> = text.chars().collect();
            for (at, length, piece, kind) in edits {
                let at = at.index(chars.len());
                let end = (at + length).min(chars.len());
                let cut: Vec<char> = chars[at..end].to_vec();
                match kind {
                    0 => drop(chars.splice(at..end, piece.chars())),
                    1 => drop(chars.splice(at..at, cut)),
                    _ => drop(chars.drain(at..end)),
                }
            }
            chars.into_iter().collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        promises(&text)?;
        promises(&format!("{{\"appManager\":{{}},{text}}}"))?;
        promises(&format!("SOKETI_A={text}"))?;
        promises(&format!("<?php return ['servers' => [], 'apps' => [{text}]];"))?;
    }

    #[test]
    fn files_with_mistakes_are_answered(text in mutated()) {
        promises(&text)?;
    }

    /// Whatever stands in a value, and wherever.
    #[test]
    fn any_value_is_answered(name in any::<String>(), value in any::<String>(), number in any::<f64>()) {
        for value in [serde_json::json!(value), serde_json::json!(number), serde_json::json!({ (name): value })] {
            let app = serde_json::json!({ "id": value, "key": value, "secret": value, "maxConnections": value,
                "webhooks": [{ "url": value, "headers": { "a": value } }], "extra": value });
            let document = serde_json::json!({ "host": value, "port": value, "pathPrefix": value, "extra": value,
                "appManager": { "array": { "apps": [app.clone(), app] } } });
            promises(&document.to_string())?;
        }
    }
}
