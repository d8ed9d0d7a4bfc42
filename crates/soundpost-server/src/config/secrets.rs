//! Which secrets are too weak to sign with. Every subscriber of a private channel holds signatures to try guesses on, so
//! a secret that can be guessed is no secret.

use std::collections::BTreeSet;

/// Characters below which a secret is called short. Pusher's and Reverb's own have 20.
const CHARS_MIN: usize = 16;
/// Different characters below which it is called monotonous.
const DIFFERENT_MIN: usize = 6;

/// Secrets that stand in documentation, in examples and in everybody's first attempt, in lower case. Sources: the docs
/// and `.env.example` of Laravel and Reverb, soketi, Sockudo and Pusher, and our own.
const PUBLISHED: &[&str] = &[
    // Ours, of the development app.
    "soundpost-secret",
    // Laravel, Reverb.
    "my-app-secret",
    "laravel-herd",
    "reverb-secret",
    "laravel-reverb-secret",
    // soketi, Sockudo, laravel-websockets.
    "app-secret",
    "demo-secret",
    "test-secret",
    "some-secret",
    "some-app-secret",
    "your-app-secret",
    "your-secret",
    "your-secret-key",
    "replace-with-a-secret",
    "websockets-secret",
    "sockudo-secret",
    "soketi-secret",
    // Pusher.
    "7ad3773142a6692b25b8",
    "your-pusher-secret",
    "your-pusher-app-secret",
    "your_app_secret",
    "your_secret",
    "app_secret",
    // Everybody.
    "secret",
    "my-secret",
    "mysecret",
    "secret-key",
    "supersecret",
    "super-secret",
    "topsecret",
    "local-secret",
    "dev-secret",
    "changeme",
    "change-me",
    "change_me",
    "password",
    "example",
    "example-secret",
];

/// What is wrong with a secret, after its place: the worst of it. The text itself is never in the answer.
pub(super) fn weakness(secret: &str, key: Option<&str>) -> Option<&'static str> {
    let lower = secret.to_lowercase();
    let different: BTreeSet<char> = secret.chars().collect();
    if PUBLISHED.contains(&lower.as_str()) {
        Some(
            "is an example that everybody can read; choose one of your own, such as `openssl rand -hex 20` makes",
        )
    } else if key == Some(secret) {
        Some("is the same as the key, which every browser is told")
    } else if secret.chars().count() < CHARS_MIN {
        Some("is shorter than 16 characters")
    } else if different.len() < DIFFERENT_MIN {
        Some("has fewer than 6 different characters")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_weak_if_it_is_known_or_can_be_guessed() {
        for (secret, expected) in [
            ("app-secret", "is an example"),
            ("App-Secret", "is an example"),
            ("7ad3773142a6692b25b8", "is an example"),
            ("the-key-of-this-app", "is the same as the key"),
            ("k3Jd8sKq", "is shorter"),
            ("fifteen-charact", "is shorter"),
            ("abababababababababab", "has fewer than 6"),
            ("b1f7c90a3e5d8264f7c1", ""),
            ("zażółć-gęślą-jaźń", ""),
        ] {
            let found = weakness(secret, Some("the-key-of-this-app")).unwrap_or_default();
            assert!(
                found.starts_with(expected) && found.is_empty() == expected.is_empty(),
                "{secret}: {found}"
            );
        }
    }

    #[test]
    fn the_list_is_in_lower_case_and_names_each_once() {
        let unique: BTreeSet<_> = PUBLISHED.iter().map(|secret| secret.to_lowercase()).collect();
        assert_eq!(unique.len(), PUBLISHED.len());
        assert!(PUBLISHED.iter().all(|secret| unique.contains(*secret)));
    }
}
