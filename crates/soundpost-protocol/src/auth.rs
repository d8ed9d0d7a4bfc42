//! Signatures: who may join a channel, and (in [`crate::api::signature`]) who may call the HTTP API.
//!
//! Source: Pusher docs, "Authentication signatures". Every comparison is constant in time.

use hmac::Mac;

use crate::{
    app::{App, AppSecret},
    channel::ChannelName,
    socket_id::SocketId,
};

/// Lowercase hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes of lowercase or uppercase hex; `None` unless `text` is exactly `N` bytes of it.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let nibble = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

/// Lowercase hex HMAC-SHA256 over the parts, one after the other.
pub fn sign(secret: &AppSecret, parts: &[&[u8]]) -> String {
    hex(&secret.mac(parts).finalize().into_bytes())
}

/// Whether `signature` is the lowercase hex HMAC-SHA256 over the parts; constant in time.
pub fn verify(secret: &AppSecret, parts: &[&[u8]], signature: &str) -> bool {
    let lowercase = !signature.bytes().any(|byte| byte.is_ascii_uppercase());
    let Some(signature) = unhex::<32>(signature).filter(|_| lowercase) else { return false };
    secret.mac(parts).verify_slice(&signature).is_ok()
}

/// Whether `signature` is that of the app's secret or, while one is being replaced, of the one before it.
pub fn verify_for(app: &App, parts: &[&[u8]], signature: &str) -> bool {
    verify(&app.secret, parts, signature)
        || app.previous_secret.as_ref().is_some_and(|previous| verify(previous, parts, signature))
}

/// The auth string that lets `socket_id` join `channel`: `KEY:hex(hmac(socket_id:channel[:channel_data]))`.
pub fn channel_auth(
    app: &App,
    socket_id: SocketId,
    channel: &ChannelName,
    channel_data: Option<&str>,
) -> String {
    let signed = channel_string(socket_id, channel, channel_data);
    format!("{}:{}", app.key, sign(&app.secret, &[signed.as_bytes()]))
}

/// Whether `auth` lets `socket_id` join `channel`. `channel_data` is taken byte for byte as it was received.
pub fn channel_auth_is_valid(
    app: &App,
    socket_id: SocketId,
    channel: &ChannelName,
    channel_data: Option<&str>,
    auth: &str,
) -> bool {
    is_valid(app, &channel_string(socket_id, channel, channel_data), auth)
}

/// The auth string that signs `socket_id` in: `KEY:hex(hmac(socket_id::user::user_data))`.
pub fn user_auth(app: &App, socket_id: SocketId, user_data: &str) -> String {
    let signed = format!("{socket_id}::user::{user_data}");
    format!("{}:{}", app.key, sign(&app.secret, &[signed.as_bytes()]))
}

/// Whether `auth` signs `socket_id` in. `user_data` is taken byte for byte as it was received.
pub fn user_auth_is_valid(app: &App, socket_id: SocketId, user_data: &str, auth: &str) -> bool {
    let signed = format!("{socket_id}::user::{user_data}");
    is_valid(app, &signed, auth)
}

fn is_valid(app: &App, signed: &str, auth: &str) -> bool {
    auth.split_once(':')
        .is_some_and(|(key, mac)| key == app.key.as_str() && verify_for(app, &[signed.as_bytes()], mac))
}

fn channel_string(socket_id: SocketId, channel: &ChannelName, channel_data: Option<&str>) -> String {
    match channel_data {
        Some(data) => format!("{socket_id}:{channel}:{data}"),
        None => format!("{socket_id}:{channel}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppId, AppKey, Limits};

    fn app(key: &str, secret: &str) -> App {
        App::new(AppId::parse("3").unwrap(), AppKey::parse(key).unwrap(), AppSecret::new(secret))
    }

    #[test]
    fn channel_signatures_match_the_published_vectors() {
        let pusher = app("278d425bdf160c739803", "7ad3773142a6692b25b8");
        let ours = app("soundpost-key", "soundpost-secret");
        let zoe = r#"{"user_id":"42","user_info":{"name":"Zoë","admin":true}}"#;
        let zoe_by_php = r#"{"user_id":"42","user_info":{"name":"Zo\u00eb","admin":true}}"#;
        for (app, socket_id, channel, data, mac) in [
            (
                &pusher,
                "1234.1234",
                "private-foobar",
                None,
                "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
            ),
            (
                &pusher,
                "1234.1234",
                "presence-foobar",
                Some(r#"{"user_id":10,"user_info":{"name":"Mr. Channels"}}"#),
                "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
            ),
            (
                &pusher,
                "1234.1234",
                "presence-foobar",
                Some(r#"{"user_id":10,"user_info":{"name":"Mr. Pusher"}}"#),
                "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c",
            ),
            (
                &ours,
                "123456789.987654321",
                "private-orders.1",
                None,
                "9ac02caecbee230c6ac3535b5659be6be67a5681b765cb4097de0bb639e19d75",
            ),
            (
                &ours,
                "123456789.987654321",
                "private-encrypted-orders.1",
                None,
                "397d8c95507a7f364ccc9c80bfaefcae1ece677080d392e3d5ebb91796e14b02",
            ),
            (
                &ours,
                "123456789.987654321",
                "presence-room.7",
                Some(zoe),
                "f1284efe6c5b96d6fb957d4beff55975efaeaa216c78f02c2aaaaac44fa77a73",
            ),
            (
                &ours,
                "123456789.987654321",
                "presence-room.7",
                Some(zoe_by_php),
                "e5aa1b083462a0816722dcaf44ab71d94dfa3d394dd4894ae8c84a6f654dbbf0",
            ),
        ] {
            let socket_id = SocketId::parse(socket_id).unwrap();
            let name = ChannelName::parse(channel, &Limits::default()).unwrap();
            let auth = format!("{}:{mac}", app.key);
            assert_eq!(channel_auth(app, socket_id, &name, data), auth);
            assert!(channel_auth_is_valid(app, socket_id, &name, data, &auth), "{channel}");
        }
    }

    #[test]
    fn sign_in_signatures_match_the_published_vectors() {
        for (app, socket_id, data, mac) in [
            (
                app("278d425bdf160c739803", "7ad3773142a6692b25b8"),
                "1234.1234",
                r#"{"id":"12345"}"#,
                "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba",
            ),
            (
                app("soundpost-key", "soundpost-secret"),
                "123456789.987654321",
                r#"{"id":"42","user_info":{"name":"Zoe"},"watchlist":["7","8"]}"#,
                "90eb543f31597b9c185b5ddc5ca0d3d479d9eacab9c38792f03bc136434f981d",
            ),
        ] {
            let socket_id = SocketId::parse(socket_id).unwrap();
            let auth = format!("{}:{mac}", app.key);
            assert_eq!(user_auth(&app, socket_id, data), auth);
            assert!(user_auth_is_valid(&app, socket_id, data, &auth));
            assert!(!user_auth_is_valid(&app, socket_id, "{}", &auth));
        }
    }

    #[test]
    fn the_secret_before_is_as_good_while_it_is_named_and_signs_nothing() {
        let before = app("k", "the-secret-before");
        let mut now = app("k", "the-secret-now");
        let socket_id = SocketId::parse("1234.1234").unwrap();
        let name = ChannelName::parse("private-orders", &Limits::default()).unwrap();
        let of = |app: &App| (channel_auth(app, socket_id, &name, None), user_auth(app, socket_id, "{}"));
        let is_valid = |app: &App, (channel, user): &(String, String)| {
            [
                channel_auth_is_valid(app, socket_id, &name, None, channel),
                user_auth_is_valid(app, socket_id, "{}", user),
            ]
        };
        let (old, new) = (of(&before), of(&now));
        assert_eq!([is_valid(&now, &old), is_valid(&now, &new)], [[false; 2], [true; 2]]);
        now.previous_secret = Some(before.secret.clone());
        assert_eq!([is_valid(&now, &old), is_valid(&now, &new)], [[true; 2], [true; 2]]);
        assert_eq!(of(&now), new);
        let other = of(&app("k", "another-secret"));
        assert_eq!(is_valid(&now, &other), [false; 2]);
    }

    #[test]
    fn an_auth_string_off_by_anything_is_refused() {
        let app = app("soundpost-key", "soundpost-secret");
        let socket_id = SocketId::parse("123456789.987654321").unwrap();
        let name = ChannelName::parse("private-orders.1", &Limits::default()).unwrap();
        let mac = "9ac02caecbee230c6ac3535b5659be6be67a5681b765cb4097de0bb639e19d75";
        for auth in [
            String::new(),
            ":".to_owned(),
            mac.to_owned(),
            format!("other-key:{mac}"),
            format!("soundpost-key:{}", mac.to_uppercase()),
            format!("soundpost-key:{}", &mac[..63]),
            format!("soundpost-key:{mac}0"),
            format!("soundpost-key:{}f", &mac[..63]),
            format!("soundpost-key::{mac}"),
            format!("soundpost-key:{}", "ë".repeat(32)),
        ] {
            assert!(!channel_auth_is_valid(&app, socket_id, &name, None, &auth), "{auth}");
        }
        let auth = format!("soundpost-key:{mac}");
        assert!(!channel_auth_is_valid(&app, socket_id, &name, Some(""), &auth));
    }
}
