//! Who may call the HTTP API: the signature of a request's head, and the digest that ties the body to it.
//!
//! `auth_signature` is the lowercase hex HMAC-SHA256 over `METHOD\nPATH\nQUERY`, the query decoded, sorted and
//! without `auth_signature`. Source: Pusher docs, "HTTP API reference", "Authentication".

use std::time::Duration;

use md5::{Digest, Md5};

use super::{ApiError, Query, error::excerpt, percent_decode};
use crate::{app::App, auth};

/// What the head of a verified request says about its body.
#[must_use = "the body is not verified before `check`"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyDigest(Written);

/// The parameter `body_md5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Missing,
    /// Not 32 lowercase hex digits.
    Malformed,
    Md5([u8; 16]),
}

impl BodyDigest {
    fn of(query: &Query<'_>) -> Self {
        let lowercase = |text: &&str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
        Self(match query.value("body_md5") {
            None => Written::Missing,
            Some(text) => {
                Some(text).filter(lowercase).and_then(auth::unhex).map_or(Written::Malformed, Written::Md5)
            }
        })
    }

    /// Whether `body`, the raw bytes, is what was signed. An empty body needs no digest and may have any: some SDKs
    /// send one with every request.
    ///
    /// Errors: [`ApiError::BodyDigestMissing`], [`ApiError::BodyDigest`].
    pub fn check(&self, body: &[u8]) -> Result<(), ApiError> {
        if body.is_empty() {
            return Ok(());
        }
        match self.0 {
            Written::Missing => Err(ApiError::BodyDigestMissing),
            Written::Md5(md5) if Md5::digest(body).as_slice() == md5 => Ok(()),
            Written::Md5(_) | Written::Malformed => Err(ApiError::BodyDigest),
        }
    }
}

/// Verifies the head of a request: key, version, timestamp, signature, in this order; then that the app is enabled,
/// which only those who hold the secret hear. The body comes after, with what this gives back.
///
/// `raw_path` is the path as requested, without the query; `path_prefix` the server's own (`""`, or like `/ws`),
/// which the PHP SDK does not sign. SDKs sign the path they composed, not what became of it on the way: the raw path
/// is tried first, then the percent-decoded one, then each without the prefix. `unix_now` is in seconds.
///
/// Errors: the 401s of [`ApiError`], [`ApiError::AppDisabled`].
pub fn verify_head(
    app: &App,
    method: &str,
    raw_path: &str,
    path_prefix: &str,
    query: &Query<'_>,
    unix_now: u64,
) -> Result<BodyDigest, ApiError> {
    let required = |parameter| query.value(parameter).ok_or(ApiError::AuthMissing { parameter });
    if required("auth_key")? != app.key.as_str() {
        return Err(ApiError::AuthKey { app: app.id.clone() });
    }
    if required("auth_version")? != "1.0" {
        return Err(ApiError::AuthVersion);
    }
    if let Some(window) = app.timestamp_window {
        check_timestamp(required("auth_timestamp")?, window, unix_now)?;
    }
    let signature = required("auth_signature")?;
    let signs = |path: &str| auth::verify_for(app, &signed_parts(method, path, query), signature);
    if !signs(raw_path) && !other_paths(raw_path, path_prefix).iter().any(|path| signs(path)) {
        let signed = signed_parts(method, raw_path, query).concat();
        return Err(ApiError::Signature { signed: excerpt(&String::from_utf8_lossy(&signed), 500) });
    }
    if !app.enabled {
        return Err(ApiError::AppDisabled { app: app.id.clone() });
    }
    Ok(BodyDigest::of(query))
}

fn check_timestamp(text: &str, window: Duration, unix_now: u64) -> Result<(), ApiError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let signed_at: u64 = digits.then(|| text.parse().ok()).flatten().ok_or(ApiError::TimestampFormat)?;
    let seconds = signed_at.abs_diff(unix_now);
    if Duration::from_secs(seconds) <= window {
        return Ok(());
    }
    let side = if signed_at < unix_now { "behind" } else { "ahead of" };
    Err(ApiError::TimestampWindow { seconds, side, window_seconds: window.as_secs() })
}

/// What is signed, in pieces, so that nothing is copied.
fn signed_parts<'p>(method: &'p str, path: &'p str, query: &'p Query<'_>) -> Vec<&'p [u8]> {
    // Five parameters take 21.
    let mut parts = Vec::with_capacity(24);
    parts.extend([method.as_bytes(), b"\n", path.as_bytes(), b"\n"]);
    query.push_signed(&mut parts);
    parts
}

/// The paths that may have been signed other than the raw one, each once; none for an ordinary request.
fn other_paths(raw_path: &str, path_prefix: &str) -> Vec<String> {
    let decoded = percent_decode(raw_path).filter(|decoded| decoded != raw_path);
    let prefix = Some(path_prefix.trim_end_matches('/')).filter(|prefix| !prefix.is_empty());
    let without_prefix =
        |path: &str| path.strip_prefix(prefix?).filter(|rest| rest.starts_with('/')).map(str::to_owned);
    let short = without_prefix(raw_path);
    let short_decoded = decoded.as_deref().and_then(without_prefix);
    decoded.map(String::from).into_iter().chain(short).chain(short_decoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{AppId, AppKey, AppSecret};

    const NOW: u64 = 1_700_000_000;
    const SECRET: &str = "soundpost-secret";

    fn app() -> App {
        app_of("soundpost-app", "soundpost-key", SECRET)
    }

    fn app_of(id: &str, key: &str, secret: &str) -> App {
        App::new(AppId::parse(id).unwrap(), AppKey::parse(key).unwrap(), AppSecret::new(secret))
    }

    fn verify(
        app: &App,
        method: &str,
        path: &str,
        raw_query: &str,
        now: u64,
    ) -> Result<BodyDigest, ApiError> {
        verify_head(app, method, path, "/ws", &Query::parse(raw_query)?, now)
    }

    /// Head and body: what the door does.
    fn verify_all(method: &str, path: &str, raw_query: &str, body: &[u8]) -> Result<(), ApiError> {
        verify(&app(), method, path, raw_query, NOW)?.check(body)
    }

    /// The query as sent, signed over `path` and `signed_query`.
    fn signed(method: &str, path: &str, signed_query: &str, sent_query: &str) -> String {
        let text = format!("{method}\n{path}\n{signed_query}");
        format!("{sent_query}&auth_signature={}", auth::sign(&AppSecret::new(SECRET), &[text.as_bytes()]))
    }

    /// A valid query for `path`, with `more` sorted behind the parameters of every request.
    fn query_for(method: &str, path: &str, more: &str) -> String {
        let query = format!("auth_key=soundpost-key&auth_timestamp={NOW}&auth_version=1.0{more}");
        signed(method, path, &query, &query)
    }

    #[test]
    fn a_request_may_be_signed_with_the_secret_before() {
        let query = query_for("GET", "/apps/soundpost-app/channels", "");
        let verified = |app: &App| verify(app, "GET", "/apps/soundpost-app/channels", &query, NOW).is_ok();
        let mut app = app_of("soundpost-app", "soundpost-key", "another-secret");
        assert!(!verified(&app));
        app.previous_secret = Some(AppSecret::new(SECRET));
        assert!(verified(&app));
    }

    #[test]
    fn request_signatures_match_the_published_vectors() {
        let pusher = app_of("3", "278d425bdf160c739803", "7ad3773142a6692b25b8");
        let ours = app();
        let auth = |key, time| format!("auth_key={key}&auth_timestamp={time}&auth_version=1.0");
        let (theirs, own) = (auth("278d425bdf160c739803", 1_353_088_179), auth("soundpost-key", NOW));
        for (app, now, method, path, query, mac, body) in [
            (
                &pusher,
                1_353_088_179,
                "POST",
                "/apps/3/events",
                format!("{theirs}&body_md5=ec365a775a4cd0599faeb73354201b6f"),
                "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
                r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#,
            ),
            (
                &ours,
                NOW,
                "POST",
                "/apps/soundpost-app/events",
                format!("{own}&body_md5=f5fc3ab37fab8b4e1dce24c77cce2104"),
                "543f7c80a6a5883d4a4d23d742f00da0d2a0be5571cb81aa6320309cdc8a0c1b",
                r#"{"name":"order.updated","channel":"private-orders.1","data":"{\"id\":1}"}"#,
            ),
            (
                &ours,
                NOW,
                "GET",
                "/apps/soundpost-app/channels",
                format!("{own}&filter_by_prefix=presence-&info=user_count%2Csubscription_count"),
                "f00ac2ac10f2f7b2855df4641b74f5722cad77e0cd738e12fad7fbc07841ab89",
                "",
            ),
            (
                &ours,
                NOW,
                "POST",
                "/apps/soundpost-app/users/42/terminate_connections",
                format!("{own}&body_md5=99914b932bd37a50b983c5e7c90ae93b"),
                "772fc30f3d978f67912ee5db66575153ed15082a8b8e1c20bc28827be20922e0",
                "{}",
            ),
        ] {
            let query = format!("{query}&auth_signature={mac}");
            let digest = verify(app, method, path, &query, now);
            assert_eq!(digest.and_then(|digest| digest.check(body.as_bytes())), Ok(()), "{path}");
        }
    }

    #[test]
    fn every_way_the_sdks_write_what_they_signed_is_understood() {
        let path = "/apps/soundpost-app/channels";
        let auth = format!("auth_key=soundpost-key&auth_timestamp={NOW}&auth_version=1.0");
        for (signed_more, sent_more) in [
            ("&info=user_count,subscription_count", "&info=user_count,subscription_count"), // Node
            ("&info=user_count,subscription_count", "&info=user_count%2Csubscription_count"), // PHP
            ("&k=a,b", "&k[]=a&k[]=b"),
            ("&k=a,b", "&k%5B0%5D=a&k%5B1%5D=b"), // PHP, a list
            ("&filter_by_prefix=a b", "&filter_by_prefix=a+b"),
            ("&info=cache", "&INFO=cache"),
            ("&body_md5=99914b932bd37a50b983c5e7c90ae93b", "&body_md5=99914b932bd37a50b983c5e7c90ae93b"),
            ("&body_md5=", "&body_md5="), // tolerated without a body
        ] {
            let query = signed("GET", path, &format!("{auth}{signed_more}"), &format!("{auth}{sent_more}"));
            assert_eq!(verify_all("GET", path, &query, b""), Ok(()), "{sent_more}");
            let (head, mac) = query.rsplit_once('&').unwrap();
            assert_eq!(verify_all("GET", path, &format!("{mac}&{head}"), b""), Ok(()), "{sent_more}");
        }
    }

    #[test]
    fn the_path_may_be_signed_decoded_and_without_the_prefix() {
        let users = |uid: &str| format!("/apps/soundpost-app/users/{uid}/terminate_connections");
        for (signed_path, sent_path, fits) in [
            (users("42"), users("42"), true),
            (users("a b"), users("a%20b"), true),
            (users("a%20b"), users("a%20b"), true),
            (users("42"), format!("/ws{}", users("42")), true),
            (format!("/ws{}", users("42")), format!("/ws{}", users("42")), true),
            (users("a b"), format!("/ws{}", users("a%20b")), true),
            (users("a%20b"), format!("/ws{}", users("a%20b")), true),
            (format!("/ws{}", users("a b")), format!("/ws{}", users("a%20b")), true),
            (format!("/ws{}", users("a%20b")), format!("/ws{}", users("a%20b")), true),
            (users("zoë@x"), format!("/ws{}", users("zo%C3%AB@x")), true),
            (users("zoë@x"), users("zo%C3%AB%40x"), true),
            (format!("/ws{}", users("42")), users("42"), false),
            (users("42"), format!("/w{}", users("42")), false),
            (users("42"), format!("/ws/ws{}", users("42")), false),
            (users("42"), users("43"), false),
            (users("a b"), users("a+b"), false),
            (users("%zz"), users("%zz"), true),
            (users("42"), "apps".to_owned(), false),
        ] {
            let query = query_for("POST", &signed_path, "&body_md5=99914b932bd37a50b983c5e7c90ae93b");
            let verified = verify_all("POST", &sent_path, &query, b"{}");
            assert_eq!(verified.is_ok(), fits, "{signed_path} {sent_path}");
        }
        let query = query_for("GET", "/xapps", "");
        assert!(verify_all("GET", "/ws/xapps", "", b"").is_err());
        assert!(verify_all("GET", "/wsxapps", &query, b"").is_err());
    }

    #[test]
    fn each_refusal_of_the_head_says_what_to_change() {
        let path = "/apps/soundpost-app/channels";
        let good = query_for("GET", path, "");
        let with = |from: &str, to: &str| good.replace(from, to);
        for (query, now, text) in [
            (
                with("auth_key=soundpost-key&", ""),
                NOW,
                "auth_key is missing from the query string; sign the request with the app's key and secret",
            ),
            (
                with("soundpost-key", "other-key"),
                NOW,
                "auth_key is not the key of app \"soundpost-app\"; check the app's id and key",
            ),
            (
                with("&auth_version=1.0", ""),
                NOW,
                "auth_version is missing from the query string; sign the request with the app's key and secret",
            ),
            (with("auth_version=1.0", "auth_version=1.1"), NOW, "auth_version must be 1.0"),
            (
                with(&format!("&auth_timestamp={NOW}"), ""),
                NOW,
                "auth_timestamp is missing from the query string; sign the request with the app's key and secret",
            ),
            (
                with(&NOW.to_string(), "+17"),
                NOW,
                "auth_timestamp must be a whole number of seconds since 1970",
            ),
            (
                good.clone(),
                NOW + 601,
                "auth_timestamp is 601 s behind the server's clock, more than 600 s; \
                 set the clock of the machine that signs",
            ),
            (
                good.clone(),
                NOW - 601,
                "auth_timestamp is 601 s ahead of the server's clock, more than 600 s; \
                 set the clock of the machine that signs",
            ),
            (
                good.split("&auth_signature").next().unwrap().to_owned(),
                NOW,
                "auth_signature is missing from the query string; sign the request with the app's key and secret",
            ),
            (
                with("auth_signature=", "auth_signature=0"),
                NOW,
                "auth_signature is not the HMAC-SHA256 hex of \"GET\\n/apps/soundpost-app/channels\\n\
                 auth_key=soundpost-key&auth_timestamp=1700000000&auth_version=1.0\" under the app's secret",
            ),
        ] {
            let error = verify(&app(), "GET", path, &query, now).unwrap_err();
            assert_eq!((error.status(), error.to_string().as_str()), (401, text), "{query}");
        }
        for now in [NOW - 600, NOW, NOW + 600] {
            assert!(verify(&app(), "GET", path, &good, now).is_ok(), "{now}");
        }
    }

    #[test]
    fn the_window_can_be_switched_off_and_the_timestamp_is_still_signed() {
        let mut app = app();
        app.timestamp_window = None;
        let query = query_for("GET", "/p", "");
        assert!(verify(&app, "GET", "/p", &query, 0).is_ok());
        assert!(verify(&app, "GET", "/p", &query.replace(&NOW.to_string(), "1"), 0).is_err());
    }

    #[test]
    fn only_who_holds_the_secret_hears_that_an_app_is_disabled() {
        let mut app = app();
        app.enabled = false;
        let query = query_for("GET", "/p", "");
        let error = verify(&app, "GET", "/p", &query, NOW).unwrap_err();
        assert_eq!((error.status(), error.to_string().as_str()), (403, "app \"soundpost-app\" is disabled"));
        let forged = query.replace("auth_signature=", "auth_signature=0");
        assert_eq!(verify(&app, "GET", "/p", &forged, NOW).unwrap_err().status(), 401);
    }

    #[test]
    fn a_body_needs_its_digest() {
        let digest = |more: &str| verify(&app(), "POST", "/p", &query_for("POST", "/p", more), NOW).unwrap();
        for (more, body, expected) in [
            ("&body_md5=99914b932bd37a50b983c5e7c90ae93b", "{}", Ok(())),
            ("&body_md5=99914b932bd37a50b983c5e7c90ae93b", "{ }", Err(ApiError::BodyDigest)),
            ("&body_md5=99914B932BD37A50B983C5E7C90AE93B", "{}", Err(ApiError::BodyDigest)),
            ("&body_md5=99914b", "{}", Err(ApiError::BodyDigest)),
            ("&body_md5=", "{}", Err(ApiError::BodyDigest)),
            ("", "{}", Err(ApiError::BodyDigestMissing)),
            ("", "", Ok(())),
            ("&body_md5=99914b932bd37a50b983c5e7c90ae93b", "", Ok(())),
            ("&body_md5=x", "", Ok(())),
        ] {
            assert_eq!(digest(more).check(body.as_bytes()), expected, "{more} {body}");
        }
        for (error, text) in [
            (ApiError::BodyDigestMissing, "body_md5 is missing from the query string; it signs the body"),
            (ApiError::BodyDigest, "body_md5 is not the lowercase hex MD5 of the body"),
        ] {
            assert_eq!((error.status(), error.to_string().as_str()), (401, text));
        }
    }

    /// A small generator, so that a failure comes back with the next run.
    fn random(state: &mut u64, below: usize) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*state >> 33).unwrap() % below
    }

    /// One byte replaced, inserted, taken away or swapped with the next.
    fn mutate(text: &str, state: &mut u64) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let (at, byte) = (random(state, bytes.len()), u8::try_from(random(state, 128)).unwrap());
        match random(state, 4) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            _ => bytes.swap(at, (at + 1) % text.len()),
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_single_mutation_of_a_valid_request_verifies() {
        let (path, body) = ("/apps/soundpost-app/users/a%20b/terminate_connections", "{}");
        let sent = "&body_md5=99914b932bd37a50b983c5e7c90ae93b&info=user_count%2Ccache&k[]=a&k[]=b";
        let decoded = "&body_md5=99914b932bd37a50b983c5e7c90ae93b&info=user_count,cache&k=a,b";
        let auth = format!("auth_key=soundpost-key&auth_timestamp={NOW}&auth_version=1.0");
        let query = signed("POST", path, &format!("{auth}{decoded}"), &format!("{auth}{sent}"));
        let request = ["POST", path, &query, body];
        assert_eq!(verify_all(request[0], request[1], request[2], request[3].as_bytes()), Ok(()));
        let (mut state, mut refused) = (7, 0);
        while refused < 10_000 {
            // Each byte is as likely as any other.
            let whole = request.concat().len();
            let mut at = random(&mut state, whole);
            let part = request.iter().position(|part| {
                let here = at < part.len();
                at = at.saturating_sub(part.len());
                here
            });
            let part = part.unwrap();
            let mutated = mutate(request[part], &mut state);
            // Another way to write the same query is no mutation of the request.
            let same = part == 2 && Query::parse(&mutated) == Query::parse(&query);
            if mutated == request[part] || same {
                continue;
            }
            let mut forged = request;
            forged[part] = &mutated;
            let verified = verify_all(forged[0], forged[1], forged[2], forged[3].as_bytes());
            assert!(verified.is_err(), "{forged:?}");
            refused += 1;
        }
    }

    #[test]
    fn no_refusal_gives_away_the_secret_or_a_signature_that_fits() {
        let path = "/apps/soundpost-app/channels";
        let good = query_for("GET", path, "");
        let mac = good.rsplit_once('=').unwrap().1.to_owned();
        let mut state = 3;
        for _ in 0..1000 {
            if let Err(error) = verify(&app(), "GET", path, &mutate(&good, &mut state), NOW) {
                let text = format!("{error} {error:?}");
                assert!(!text.contains(&mac) && !text.contains(SECRET), "{text}");
                assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
