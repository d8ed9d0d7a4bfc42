//! Channel names and what follows from their prefix.

use std::{fmt, sync::Arc};

use crate::app::Limits;

/// The name of a channel, prefix included: `A-Z a-z 0-9 _ - = @ , . ;`, at most `channel_name_chars_max` of them.
/// Source: Pusher docs, "Channel Naming Conventions"; a leading `#` only as `#server-to-user-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a channel name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelNameError {
    /// Nothing was given.
    #[error("channel name is empty")]
    Empty,
    /// A character outside the class.
    #[error("channel name contains {found:?}; allowed are A-Z a-z 0-9 and _ - = @ , . ;")]
    Character {
        /// The first such character.
        found: char,
    },
    /// Longer than the limit.
    #[error("channel name has {chars} characters, more than {chars_max} (channel_name_chars_max)")]
    TooLong {
        /// Characters found.
        chars: usize,
        /// Characters allowed.
        chars_max: usize,
    },
}

/// What the prefix of a channel's name asks for. Source: Pusher docs, "Channels" and "Cache channels".
///
/// A prefix counts only at the start and only with its hyphen; the longest that fits decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChannelKind {
    /// No prefix.
    Public,
    /// `cache-`
    Cache,
    /// `private-`
    Private,
    /// `private-cache-`
    PrivateCache,
    /// `private-encrypted-`
    PrivateEncrypted,
    /// `private-encrypted-cache-`
    PrivateEncryptedCache,
    /// `presence-`
    Presence,
    /// `presence-cache-`
    PresenceCache,
    /// `#server-to-user-`
    ServerToUser,
}

const SERVER_TO_USER: &str = "#server-to-user-";

impl ChannelName {
    /// Checks `text` once; whoever holds a `ChannelName` never checks again. Errors: [`ChannelNameError`].
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, ChannelNameError> {
        let chars_max = limits.channel_name_chars_max;
        let body = text.strip_prefix(SERVER_TO_USER).unwrap_or(text);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-=@,.;".contains(c);
        match body.chars().find(|c| !allowed(*c)) {
            Some(found) => Err(ChannelNameError::Character { found }),
            None if body.is_empty() => Err(ChannelNameError::Empty),
            // Only ASCII is left, so bytes count characters.
            None if text.len() > chars_max => Err(ChannelNameError::TooLong { chars: text.len(), chars_max }),
            None => Ok(Self(text.into())),
        }
    }

    /// The whole name. Holds nothing that JSON or a URL path would escape, but for the `#`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user whose events a `#server-to-user-` channel carries.
    pub fn user_id(&self) -> Option<&str> {
        self.0.strip_prefix(SERVER_TO_USER)
    }

    /// What the prefix asks for.
    pub fn kind(&self) -> ChannelKind {
        use ChannelKind::*;
        [
            ("private-encrypted-cache-", PrivateEncryptedCache),
            ("private-encrypted-", PrivateEncrypted),
            ("private-cache-", PrivateCache),
            ("private-", Private),
            ("presence-cache-", PresenceCache),
            ("presence-", Presence),
            ("cache-", Cache),
            (SERVER_TO_USER, ServerToUser),
        ]
        .into_iter()
        .find(|(prefix, _)| self.0.starts_with(prefix))
        .map_or(Public, |(_, kind)| kind)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ChannelKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Public,
        Self::Cache,
        Self::Private,
        Self::PrivateCache,
        Self::PrivateEncrypted,
        Self::PrivateEncryptedCache,
        Self::Presence,
        Self::PresenceCache,
        Self::ServerToUser,
    ];

    /// The prefix without its hyphen; the word used in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Cache => "cache",
            Self::Private => "private",
            Self::PrivateCache => "private-cache",
            Self::PrivateEncrypted => "private-encrypted",
            Self::PrivateEncryptedCache => "private-encrypted-cache",
            Self::Presence => "presence",
            Self::PresenceCache => "presence-cache",
            Self::ServerToUser => "server-to-user",
        }
    }

    /// Whether a subscription needs a signature.
    pub const fn needs_auth(self) -> bool {
        match self {
            Self::Private
            | Self::PrivateCache
            | Self::PrivateEncrypted
            | Self::PrivateEncryptedCache
            | Self::Presence
            | Self::PresenceCache => true,
            Self::Public | Self::Cache | Self::ServerToUser => false,
        }
    }

    /// Whether subscribers are members with a user id that others see.
    pub const fn is_presence(self) -> bool {
        matches!(self, Self::Presence | Self::PresenceCache)
    }

    /// Whether the last event is kept for newcomers.
    pub const fn is_cache(self) -> bool {
        matches!(self, Self::Cache | Self::PrivateCache | Self::PrivateEncryptedCache | Self::PresenceCache)
    }

    /// Whether client events are allowed without the app's switch for public channels.
    pub const fn takes_client_events(self) -> bool {
        self.needs_auth()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_counts_only_at_the_start_and_with_its_hyphen() {
        use ChannelKind::*;
        for (name, expected) in [
            ("orders", Public),
            ("cache-orders", Cache),
            ("private-orders", Private),
            ("private-cache-orders", PrivateCache),
            ("private-encrypted-orders", PrivateEncrypted),
            ("private-encrypted-cache-orders", PrivateEncryptedCache),
            ("presence-room", Presence),
            ("presence-cache-room", PresenceCache),
            ("#server-to-user-42", ServerToUser),
            ("privateer", Public),
            ("private", Public),
            ("cached-x", Public),
            ("my-cache-x", Public),
            ("orders-private-1", Public),
            ("Private-x", Public),
            ("private-encryptedx", Private),
            ("presence-encrypted-x", Presence),
        ] {
            assert_eq!(ChannelName::parse(name, &Limits::default()).unwrap().kind(), expected, "{name}");
        }
    }

    #[test]
    fn names_outside_the_class_or_the_length_are_refused() {
        let parse = |text: &str| ChannelName::parse(text, &Limits::default()).map(|_| ());
        assert_eq!(parse("A-z_0=@,.;"), Ok(()));
        assert_eq!(parse(""), Err(ChannelNameError::Empty));
        assert_eq!(parse("#server-to-user-"), Err(ChannelNameError::Empty));
        for (name, found) in
            [("a b", ' '), ("#x", '#'), ("a#server-to-user-1", '#'), ("a/b", '/'), ("é", 'é')]
        {
            assert_eq!(parse(name), Err(ChannelNameError::Character { found }), "{name}");
        }
        assert_eq!(parse(&"x".repeat(200)), Ok(()));
        let expected = ChannelNameError::TooLong { chars: 201, chars_max: 200 };
        assert_eq!(parse(&"x".repeat(201)), Err(expected));
    }

    proptest! {
        #[test]
        fn parse_gives_back_its_input_or_refuses(text in "\\PC{0,220}|[-a-zA-Z0-9_=@,.;#]{0,220}") {
            if let Ok(name) = ChannelName::parse(&text, &Limits::default()) {
                prop_assert_eq!(name.as_str(), text);
            }
        }
    }
}
