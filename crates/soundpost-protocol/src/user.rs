//! The user a connection is signed in as, and whom that user watches.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    app::{JSON_DEPTH_MAX, Limits},
    json,
    presence::{Member, UserId},
};

/// Users one watchlist holds. Source: Pusher docs, "Watchlist events".
pub const WATCHLIST_MAX: usize = 100;

/// Who is signed in: `{"id":"42","user_info":{"name":"Zoe"},"watchlist":["7","8"]}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// Any JSON text, as it was signed.
    pub user_info: Option<Box<str>>,
    /// Whom this user watches, at most [`WATCHLIST_MAX`], nobody twice.
    pub watchlist: Vec<UserId>,
    /// There were more; the rest is not watched.
    pub watchlist_was_longer: bool,
}

impl User {
    /// Reads the `user_data` of a sign-in. Call it only after the signature was found good.
    ///
    /// `None` for what is no JSON object with an `id` that is a string of 1 to `user_id_chars_max` characters, or has
    /// user info beyond its limit. pusher-js gives up on any other `id`, too.
    pub fn parse(user_data: &str, limits: &Limits) -> Option<Self> {
        #[derive(Deserialize)]
        struct UserData<'a> {
            id: String,
            #[serde(borrow, default)]
            user_info: Option<&'a RawValue>,
            #[serde(default)]
            watchlist: Option<Vec<String>>,
        }
        if !user_data.trim_start().starts_with('{') {
            return None;
        }
        let data: UserData<'_> = serde_json::from_str(user_data).ok()?;
        let is_id = |id: &str| !id.is_empty() && id.chars().count() <= limits.user_id_chars_max;
        let user_info = data.user_info.map(RawValue::get).filter(|info| *info != "null");
        let fits = |info: &str| {
            info.len() <= limits.user_info_bytes_max && !json::is_deeper_than(info, JSON_DEPTH_MAX)
        };
        if !is_id(&data.id) || !user_info.is_none_or(fits) {
            return None;
        }
        let mut watchlist = Vec::new();
        let mut watchlist_was_longer = false;
        for id in data.watchlist.unwrap_or_default().iter().filter(|id| is_id(id) && **id != data.id) {
            let id = UserId::from_text(id);
            if watchlist.contains(&id) {
                continue;
            }
            if watchlist.len() == WATCHLIST_MAX {
                watchlist_was_longer = true;
                break;
            }
            watchlist.push(id);
        }
        Some(Self {
            id: UserId::from_text(&data.id),
            user_info: user_info.map(Into::into),
            watchlist,
            watchlist_was_longer,
        })
    }

    /// The user as a member of a presence channel.
    pub fn member(&self) -> Member {
        Member { user_id: self.id.clone(), user_info: self.user_info.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_names_a_user_or_nobody() {
        let parse = |data: &str| User::parse(data, &Limits::default());
        let user = parse(r#"{"id":"42","user_info":{"a": 1},"watchlist":["7","8","7","42",""]}"#).unwrap();
        assert_eq!((user.id.as_str(), user.user_info.as_deref()), ("42", Some(r#"{"a": 1}"#)));
        assert_eq!(user.watchlist, [UserId::from_text("7"), UserId::from_text("8")]);
        for data in ["", "null", "[]", r#"["42"]"#, "{}", r#"{"id":42}"#, r#"{"id":""}"#, r#"{"id":null}"#] {
            assert_eq!(parse(data), None, "{data}");
        }
        assert_eq!(parse(&format!(r#"{{"id":"{}"}}"#, "x".repeat(129))), None);
        assert_eq!(parse(&format!(r#"{{"id":"1","user_info":"{}"}}"#, "x".repeat(2047))), None);
    }

    #[test]
    fn a_watchlist_keeps_its_first_hundred() {
        let watchlist = |length: usize| {
            let ids: Vec<_> = (0..length).map(|n| format!(r#""u{n}""#)).collect();
            let data = format!(r#"{{"id":"42","watchlist":[{}]}}"#, ids.join(","));
            let user = User::parse(&data, &Limits::default()).unwrap();
            (user.watchlist.len(), user.watchlist_was_longer)
        };
        assert_eq!(watchlist(100), (100, false));
        assert_eq!(watchlist(101), (100, true));
    }
}
