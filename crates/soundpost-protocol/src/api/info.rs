//! `info`, the counts a caller wants with the answer, and the queries about channels.

use super::{ApiError, Query, error::excerpt, percent_decode};
use crate::{
    app::App,
    channel::{ChannelKind, ChannelName},
};

/// Something that `info` can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Distinct users; presence channels only.
    UserCount,
    /// Subscribed connections of the whole cluster; every channel.
    SubscriptionCount,
    /// The cached event; cache channels only.
    Cache,
}

impl Attribute {
    /// As it stands in `info`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserCount => "user_count",
            Self::SubscriptionCount => "subscription_count",
            Self::Cache => "cache",
        }
    }

    /// Who has it, in words.
    pub(super) const fn holders(self) -> &'static str {
        match self {
            Self::UserCount => "presence channels",
            Self::SubscriptionCount => "channels",
            Self::Cache => "cache channels",
        }
    }

    const fn applies_to(self, kind: ChannelKind) -> bool {
        match self {
            Self::UserCount => kind.is_presence(),
            Self::SubscriptionCount => true,
            Self::Cache => kind.is_cache(),
        }
    }
}

/// What `info` asks for. Shape: `"user_count,subscription_count"`, spaces and empty items ignored.
/// Source: Pusher docs, "HTTP API reference", `info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Distinct users of a presence channel.
    pub user_count: bool,
    /// Subscribed connections.
    pub subscription_count: bool,
    /// The cached event.
    pub cache: bool,
}

impl Info {
    /// Reads the list. Errors: [`ApiError::InfoUnknown`].
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut info = Self::default();
        for attribute in text.split(',').map(str::trim).filter(|attribute| !attribute.is_empty()) {
            match attribute {
                "user_count" => info.user_count = true,
                "subscription_count" => info.subscription_count = true,
                "cache" => info.cache = true,
                other => return Err(ApiError::InfoUnknown { attribute: excerpt(other, 60) }),
            }
        }
        Ok(info)
    }

    /// Whether nothing is asked for.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What of it a channel of this kind has; `user_count` is for presence channels, `cache` for cache channels.
    #[must_use]
    pub fn applicable_to(self, kind: ChannelKind) -> Self {
        Self {
            user_count: self.user_count && Attribute::UserCount.applies_to(kind),
            subscription_count: self.subscription_count && Attribute::SubscriptionCount.applies_to(kind),
            cache: self.cache && Attribute::Cache.applies_to(kind),
        }
    }

    fn of_query(query: &Query<'_>) -> Result<Self, ApiError> {
        query.value("info").map_or(Ok(Self::default()), Self::parse)
    }
}

/// `GET /channels`: which channels, and what of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelsQuery<'q> {
    /// Only channels whose name starts with this; any text, also one that starts no channel name.
    pub filter_by_prefix: Option<&'q str>,
    /// Never `cache`. `user_count` is still only for the presence channels among them.
    pub info: Info,
}

impl<'q> ChannelsQuery<'q> {
    /// Reads `filter_by_prefix` and `info`; other parameters are ignored.
    ///
    /// Errors: [`ApiError::InfoUnknown`]; with [`App::strict_info`] also [`ApiError::InfoNotApplicable`] for
    /// `user_count` without a prefix that starts with `presence-`, and [`ApiError::InfoNotListed`] for `cache`.
    /// Without it, what does not apply is left out, as Reverb does.
    pub fn parse(query: &'q Query<'_>, app: &App) -> Result<Self, ApiError> {
        let filter_by_prefix = query.value("filter_by_prefix").filter(|prefix| !prefix.is_empty());
        let info = Info::of_query(query)?;
        if app.strict_info {
            let presence_only = filter_by_prefix.is_some_and(|prefix| prefix.starts_with("presence-"));
            if info.user_count && !presence_only {
                return Err(ApiError::InfoNotApplicable { attribute: Attribute::UserCount });
            }
            if info.cache {
                return Err(ApiError::InfoNotListed);
            }
        }
        Ok(Self { filter_by_prefix, info: Info { cache: false, ..info } })
    }
}

/// `info` of `GET /channels/{name}`: what of it `channel` has.
///
/// Errors: [`ApiError::InfoUnknown`]; with [`App::strict_info`], [`ApiError::InfoNotApplicable`] for what it has not.
pub fn channel_info(query: &Query<'_>, app: &App, channel: &ChannelName) -> Result<Info, ApiError> {
    let asked = Info::of_query(query)?;
    let applicable = asked.applicable_to(channel.kind());
    if app.strict_info && applicable != asked {
        let attribute =
            if applicable.user_count == asked.user_count { Attribute::Cache } else { Attribute::UserCount };
        return Err(ApiError::InfoNotApplicable { attribute });
    }
    Ok(applicable)
}

/// The channel in `/channels/{name}`, `segment` still escaped. Errors: [`ApiError::Path`], [`ApiError::Channel`].
pub fn parse_channel(segment: &str, app: &App) -> Result<ChannelName, ApiError> {
    let text = percent_decode(segment).ok_or(ApiError::Path)?;
    ChannelName::parse(&text, &app.limits).map_err(|error| ApiError::Channel { index: None, error })
}

/// The channel in `/channels/{name}/users`. Errors: those of [`parse_channel`], and [`ApiError::NotPresence`].
pub fn parse_presence_channel(segment: &str, app: &App) -> Result<ChannelName, ApiError> {
    let channel = parse_channel(segment, app)?;
    match channel.kind() {
        kind if kind.is_presence() => Ok(channel),
        kind => Err(ApiError::NotPresence { kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppId, AppKey, AppSecret};

    fn app(strict_info: bool) -> App {
        let mut app = App::new(AppId::parse("1").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new("s"));
        app.strict_info = strict_info;
        app
    }

    fn info(letters: &str) -> Info {
        Info {
            user_count: letters.contains('u'),
            subscription_count: letters.contains('s'),
            cache: letters.contains('c'),
        }
    }

    #[test]
    fn info_is_a_list_of_known_attributes() {
        for (text, letters) in [
            ("", ""),
            ("user_count", "u"),
            ("user_count,subscription_count", "us"),
            ("cache, subscription_count,", "cs"),
            (",,user_count,user_count", "u"),
        ] {
            assert_eq!(Info::parse(text), Ok(info(letters)), "{text}");
        }
        assert!(Info::default().is_empty() && !info("c").is_empty());
        for (text, unknown) in
            [("user_count,members", "members"), ("USER_COUNT", "USER_COUNT"), ("a b", "a b")]
        {
            let error = Info::parse(text).unwrap_err();
            let expected =
                format!("info asks for \"{unknown}\"; there are user_count, subscription_count and cache");
            assert_eq!((error.status(), error.to_string()), (400, expected));
        }
        let long = Info::parse(&"x".repeat(10_000)).unwrap_err().to_string();
        assert!(long.len() < 200 && long.contains("xxx…"), "{long}");
    }

    #[test]
    fn what_a_channel_does_not_have_is_left_out_or_refused() {
        let refused = |attribute| Err(ApiError::InfoNotApplicable { attribute });
        for (channel, asked, kept, strict) in [
            ("orders", "user_count,subscription_count,cache", "s", refused(Attribute::UserCount)),
            ("orders", "subscription_count,cache", "s", refused(Attribute::Cache)),
            ("orders", "subscription_count", "s", Ok(info("s"))),
            ("private-x", "user_count", "", refused(Attribute::UserCount)),
            ("cache-x", "cache,subscription_count", "cs", Ok(info("cs"))),
            ("presence-x", "user_count,subscription_count", "us", Ok(info("us"))),
            ("presence-x", "user_count,cache", "u", refused(Attribute::Cache)),
            ("presence-cache-x", "user_count,cache", "uc", Ok(info("uc"))),
            ("presence-x", "", "", Ok(info(""))),
        ] {
            let raw = format!("info={asked}");
            let query = Query::parse(&raw).unwrap();
            let channel = parse_channel(channel, &app(false)).unwrap();
            assert_eq!(channel_info(&query, &app(false), &channel), Ok(info(kept)), "{channel} {asked}");
            assert_eq!(channel_info(&query, &app(true), &channel), strict, "{channel} {asked}");
        }
        let query = Query::parse("info=x").unwrap();
        let channel = parse_channel("orders", &app(false)).unwrap();
        assert_eq!(channel_info(&query, &app(false), &channel).unwrap_err().status(), 400);
    }

    #[test]
    fn the_list_of_channels_takes_a_prefix_and_counts() {
        let user_count = || Err(ApiError::InfoNotApplicable { attribute: Attribute::UserCount });
        for (raw, prefix, kept, strict) in [
            ("", None, "", Ok(())),
            ("filter_by_prefix=", None, "", Ok(())),
            ("filter_by_prefix=presence-&info=user_count", Some("presence-"), "u", Ok(())),
            ("filter_by_prefix=presence-a&info=user_count", Some("presence-a"), "u", Ok(())),
            ("filter_by_prefix=pres&info=user_count", Some("pres"), "u", user_count()),
            ("info=user_count,subscription_count", None, "us", user_count()),
            ("info=subscription_count", None, "s", Ok(())),
            ("filter_by_prefix=cache-&info=cache", Some("cache-"), "", Err(ApiError::InfoNotListed)),
        ] {
            let query = Query::parse(raw).unwrap();
            let expected = ChannelsQuery { filter_by_prefix: prefix, info: info(kept) };
            assert_eq!(ChannelsQuery::parse(&query, &app(false)), Ok(expected), "{raw}");
            assert_eq!(ChannelsQuery::parse(&query, &app(true)).map(|_| ()), strict, "{raw}");
        }
    }

    #[test]
    fn channels_in_paths_are_decoded_and_only_presence_has_users() {
        let app = app(false);
        assert_eq!(parse_channel("%23server-to-user-1", &app).unwrap().as_str(), "#server-to-user-1");
        assert!(parse_presence_channel("presence-room%2E7", &app).is_ok());
        assert!(parse_presence_channel("presence-cache-x", &app).is_ok());
        for (segment, text) in [
            ("%zz", "path is not UTF-8 with well-formed %XX escapes"),
            ("a%20b", "channel name contains ' '; allowed are A-Z a-z 0-9 and _ - = @ , . ;"),
            ("", "channel name is empty"),
            ("private-x", "a private channel has no users; only presence channels have"),
            ("presence", "a public channel has no users; only presence channels have"),
        ] {
            let error = parse_presence_channel(segment, &app).unwrap_err();
            assert_eq!((error.status(), error.to_string().as_str()), (400, text), "{segment}");
        }
    }
}
