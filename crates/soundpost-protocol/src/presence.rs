//! Who is on a presence channel: users as the app described them, and the rosters they stand in.

mod roster;

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::value::RawValue;

pub(crate) use roster::Holder;
pub use roster::{NodeId, Roster};

use crate::{app::Limits, json};

/// The id of a user on a presence channel. Two ids are equal if their string forms are: `10` and `"10"` are one user.
/// Source: Pusher docs, "Presence channels"; Laravel always sends strings.
#[derive(Clone, Debug)]
pub struct UserId {
    text: Arc<str>,
    /// It came as a JSON number and goes back as one.
    is_number: bool,
}

impl UserId {
    /// An id that is a JSON string.
    pub fn from_text(text: &str) -> Self {
        Self { text: text.into(), is_number: false }
    }

    /// An id that came as a JSON number of this text, or as a string.
    pub(crate) fn from_parts(text: &str, is_number: bool) -> Self {
        Self { text: text.into(), is_number }
    }

    /// Whether it came as a JSON number.
    pub(crate) const fn is_number(&self) -> bool {
        self.is_number
    }

    /// The string form, which is what identifies the user.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn parse(raw: &RawValue) -> Option<Self> {
        let raw = raw.get();
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(raw).ok().map(|text| Self::from_text(&text)),
            b'-' | b'0'..=b'9' => Some(Self { text: raw.into(), is_number: true }),
            _ => None,
        }
    }

    /// Appends the id in the JSON type it was given in.
    pub(crate) fn push_json(&self, out: &mut Vec<u8>) {
        if self.is_number {
            out.extend_from_slice(self.text.as_bytes());
        } else {
            json::push_string(out, &self.text);
        }
    }
}

impl PartialEq for UserId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for UserId {}

impl Hash for UserId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One user as the app's auth endpoint described it: `{"user_id":"42","user_info":{"name":"Zoe"}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user_id: UserId,
    /// Any JSON text, as it was signed; `None` if there was none.
    pub user_info: Option<Box<str>>,
}

/// Why `channel_data` describes no member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Not a JSON object, or without a `user_id` that is a string or a number.
    #[error("channel_data must be a JSON object with a user_id that is a string or a number")]
    Malformed,
    /// The id is empty.
    #[error("user_id is empty")]
    EmptyUserId,
    /// The id is longer than the limit.
    #[error("user_id has {chars} characters, more than {chars_max} (user_id_chars_max)")]
    UserIdTooLong {
        /// Characters found.
        chars: usize,
        /// Characters allowed.
        chars_max: usize,
    },
    /// The info is longer than the limit.
    #[error("user_info has {bytes} bytes, more than {bytes_max} (user_info_bytes_max)")]
    UserInfoTooBig {
        /// Bytes found.
        bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// The info is nested deeper than any JSON may be.
    #[error("user_info is nested too deeply")]
    UserInfoTooDeep,
}

impl Member {
    /// Reads the `channel_data` of a subscription. Call it only after the signature was found good.
    pub fn parse(channel_data: &str, limits: &Limits) -> Result<Self, MemberError> {
        #[derive(Deserialize)]
        struct ChannelData<'a> {
            #[serde(borrow)]
            user_id: &'a RawValue,
            #[serde(borrow, default)]
            user_info: Option<&'a RawValue>,
        }
        if !channel_data.trim_start().starts_with('{') {
            return Err(MemberError::Malformed);
        }
        let data: ChannelData<'_> = serde_json::from_str(channel_data).map_err(|_| MemberError::Malformed)?;
        let user_id = UserId::parse(data.user_id).ok_or(MemberError::Malformed)?;
        let (chars, chars_max) = (user_id.as_str().chars().count(), limits.user_id_chars_max);
        if chars == 0 {
            return Err(MemberError::EmptyUserId);
        }
        if chars > chars_max {
            return Err(MemberError::UserIdTooLong { chars, chars_max });
        }
        let user_info = data.user_info.map(RawValue::get).filter(|info| *info != "null");
        let (bytes, bytes_max) = (user_info.map_or(0, str::len), limits.user_info_bytes_max);
        if bytes > bytes_max {
            return Err(MemberError::UserInfoTooBig { bytes, bytes_max });
        }
        if user_info.is_some_and(|info| json::is_deeper_than(info, crate::app::JSON_DEPTH_MAX)) {
            return Err(MemberError::UserInfoTooDeep);
        }
        Ok(Self { user_id, user_info: user_info.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_data_describes_a_member_or_says_what_is_wrong() {
        let parse = |data: &str| Member::parse(data, &Limits::default());
        for (data, user_id, user_info) in [
            (r#"{"user_id":"42"}"#, "42", None),
            (r#"{"user_id":42,"user_info":{"a": [1]}}"#, "42", Some(r#"{"a": [1]}"#)),
            (r#" {"user_info":true,"user_id":"é","x":1}"#, "é", Some("true")),
            (r#"{"user_id":"1","user_info":null}"#, "1", None),
            (r#"{"user_id":12345678901234567890123}"#, "12345678901234567890123", None),
        ] {
            let member = parse(data).unwrap();
            assert_eq!((member.user_id.as_str(), member.user_info.as_deref()), (user_id, user_info));
        }
        for data in [
            "",
            "null",
            "[]",
            "{}",
            r#"["42"]"#,
            r#"{"user_id":null}"#,
            r#"{"user_id":true}"#,
            r#"{"user_id":{}}"#,
        ] {
            assert_eq!(parse(data), Err(MemberError::Malformed), "{data}");
        }
        assert_eq!(parse(r#"{"user_id":""}"#), Err(MemberError::EmptyUserId));
        let long = format!(r#"{{"user_id":"{}"}}"#, "é".repeat(129));
        assert_eq!(parse(&long), Err(MemberError::UserIdTooLong { chars: 129, chars_max: 128 }));
        let big = format!(r#"{{"user_id":"1","user_info":"{}"}}"#, "x".repeat(2047));
        assert_eq!(parse(&big), Err(MemberError::UserInfoTooBig { bytes: 2049, bytes_max: 2048 }));
        let deep = format!(r#"{{"user_id":"1","user_info":{}{}}}"#, "[".repeat(129), "]".repeat(129));
        assert_eq!(parse(&deep), Err(MemberError::UserInfoTooDeep));
    }
}
