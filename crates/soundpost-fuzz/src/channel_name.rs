//! Channel names, held to the rule as the protocol words it.

use soundpost_protocol::{
    app::Limits,
    channel::{ChannelKind, ChannelName},
};

use crate::Outcome;

const USER: &str = "#server-to-user-";

/// The input is a name.
pub fn channel_name(data: &[u8]) -> Outcome {
    let Ok(text) = str::from_utf8(data) else { return Outcome::Refused };
    for chars_max in [1, 20, 4096] {
        let limits = Limits { channel_name_chars_max: chars_max, ..Limits::default() };
        let name = ChannelName::parse(text, &limits);
        assert_eq!(name.is_ok(), is_name(text) && text.len() <= chars_max, "{text:?} {chars_max} {name:?}");
        match name {
            Ok(name) => check(text, &name),
            Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
        }
    }
    Outcome::of(&ChannelName::parse(text, &Limits::default()))
}

fn check(text: &str, name: &ChannelName) {
    assert_eq!(name.as_str(), text);
    assert_eq!(name.user_id(), text.strip_prefix(USER));
    let (kind, word) = (name.kind(), name.kind().word());
    match kind {
        ChannelKind::Public => {
            let prefixes = ["private-", "presence-", "cache-", "#"];
            assert!(!prefixes.iter().any(|prefix| text.starts_with(prefix)), "{text}");
        }
        ChannelKind::ServerToUser => assert!(text.starts_with(USER), "{text}"),
        ChannelKind::Cache
        | ChannelKind::Private
        | ChannelKind::PrivateCache
        | ChannelKind::PrivateEncrypted
        | ChannelKind::PrivateEncryptedCache
        | ChannelKind::Presence
        | ChannelKind::PresenceCache => {
            let rest = text.strip_prefix(word).and_then(|rest| rest.strip_prefix('-'));
            // Of two prefixes that fit, the longer one.
            assert!(rest.is_some_and(|rest| kind.is_cache() || !rest.starts_with("cache-")), "{text} {word}");
            assert!(kind != ChannelKind::Private || !text.starts_with("private-encrypted-"), "{text}");
        }
    }
    assert_eq!(kind.needs_auth(), text.starts_with("private-") || text.starts_with("presence-"), "{text}");
    assert_eq!(kind.is_presence(), text.starts_with("presence-"), "{text}");
}

/// `^#?[-a-zA-Z0-9_=@,.;]+$`, the `#` for the channel of a user only.
fn is_name(text: &str) -> bool {
    let body = text.strip_prefix(USER).unwrap_or(text);
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'=' | b'@' | b',' | b'.' | b';');
    !body.is_empty() && body.bytes().all(allowed)
}
