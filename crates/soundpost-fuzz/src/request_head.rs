//! Who may call the HTTP API: signatures over heads that strangers wrote.

use std::{collections::BTreeMap, sync::LazyLock};

use soundpost_protocol::{
    api::{ApiError, BodyDigest, Query, percent_decode, verify_head},
    app::{App, AppId, AppKey, AppSecret},
    auth,
};

use crate::Outcome;

const NOW: u64 = 1_700_000_000;
const SECRET: &str = "soundpost-secret";
const PREFIX: &str = "/ws";

static APP: LazyLock<Option<App>> = LazyLock::new(|| {
    let (id, key) = (AppId::parse("soundpost-app").ok()?, AppKey::parse("soundpost-key").ok()?);
    Some(App::new(id, key, AppSecret::new(SECRET)))
});

/// A request, and a signature that its sender hopes for.
#[derive(Clone, Copy)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    body: &'a str,
    forged: &'a str,
}

/// The input is lines: method, path, query, body, forged signature.
pub fn request_head(data: &[u8]) -> Outcome {
    let (Ok(text), Some(app)) = (str::from_utf8(data), APP.as_ref()) else { return Outcome::Refused };
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let request = Request { method: line(), path: line(), query: line(), body: line(), forged: line() };
    let as_sent = verify(app, request, request.query);
    if as_sent.is_ok() {
        let right = signatures(app, request, request.query);
        let parsed = Query::parse(request.query).ok();
        let sent = parsed.as_ref().and_then(|query| query.value("auth_signature"));
        assert!(sent.is_some_and(|sent| right.iter().any(|right| right == sent)), "{text:?}");
    }
    let Some(unsigned) = unsigned(request.query) else { return Outcome::of(&as_sent) };
    for signature in signatures(app, request, &unsigned) {
        let verified = verify(app, request, &format!("{unsigned}&auth_signature={signature}"));
        assert!(verified.is_ok(), "{unsigned}: {verified:?}");
        forge(app, request, &unsigned, &signature);
        if let Ok(digest) = verified {
            check_body(digest, request.body);
        }
    }
    Outcome::Accepted
}

fn verify(app: &App, request: Request<'_>, query: &str) -> Result<BodyDigest, ApiError> {
    let parsed = Query::parse(query).inspect_err(check_error)?;
    let verified = verify_head(app, request.method, request.path, PREFIX, &parsed, NOW);
    verified.inspect_err(check_error)
}

/// Refusals are one line of a bounded length; an excerpt of 500 characters may be ten times as long once escaped.
fn check_error(error: &ApiError) {
    let text = error.to_string();
    assert!(!text.contains(['\n', '\r']) && text.len() < 6000, "{text:?}");
    assert!(matches!(error.status(), 400 | 401), "{text}");
}

/// The query with everything a signed request needs but the signature; `None` if it cannot be read as one.
fn unsigned(query: &str) -> Option<String> {
    let kept = query.split('&').filter(|pair| !pair.to_ascii_lowercase().starts_with("auth_"));
    let auth = format!("auth_key=soundpost-key&auth_timestamp={NOW}&auth_version=1.0");
    let all = kept.chain([&*auth]).collect::<Vec<_>>().join("&");
    // What was escaped may still be one of the four, twice now or wrong.
    let parsed = Query::parse(&all).ok()?;
    let is = |key, value: &str| parsed.value(key) == Some(value);
    let complete = is("auth_key", "soundpost-key")
        && is("auth_version", "1.0")
        && is("auth_timestamp", &NOW.to_string());
    let has_room = Query::parse(&format!("{all}&auth_signature=")).is_ok();
    (complete && has_room).then_some(all)
}

/// The signatures of every path that may have been signed, the query put in order without the code under test.
fn signatures(app: &App, request: Request<'_>, query: &str) -> Vec<String> {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (form(key).to_ascii_lowercase(), form(value));
        let index = key.rfind('[').filter(|_| key.ends_with(']'));
        let is_list =
            index.is_some_and(|at| key.bytes().skip(at + 1).rev().skip(1).all(|byte| byte.is_ascii_digit()));
        let name = index.filter(|_| is_list).and_then(|at| key.get(..at)).unwrap_or(&key).to_owned();
        let values = parameters.entry(name);
        values.and_modify(|values| values.extend([",", &*value])).or_insert(value);
    }
    parameters.remove("auth_signature");
    let query: Vec<_> = parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let decoded = percent_decode(request.path).map(String::from);
    let paths = [Some(request.path), decoded.as_deref()].into_iter().flatten();
    let short =
        |path: &str| path.strip_prefix(PREFIX).filter(|rest| rest.starts_with('/')).map(str::to_owned);
    let paths: Vec<_> = paths.flat_map(|path| [Some(path.to_owned()), short(path)]).flatten().collect();
    let sign = |path: &String| {
        let text = format!("{}\n{path}\n{}", request.method, query.join("&"));
        auth::sign(&app.secret, &[text.as_bytes()])
    };
    paths.iter().map(sign).collect()
}

/// Decodes `%XX` and `+`, anything else as it is.
fn form(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex =
            after.first_chunk::<2>().filter(|hex| *byte == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let code = hex.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(if *byte == b'+' { b' ' } else { *byte }));
        rest = if code.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nothing but the very signature over the very request verifies.
fn forge(app: &App, request: Request<'_>, unsigned: &str, signature: &str) {
    let refuse = |request: Request<'_>, query: &str| {
        let verified = verify(app, request, query);
        assert!(verified.is_err(), "{} {} {query}", request.method, request.path);
    };
    let forged = request.forged.trim_end_matches('\r');
    if !signatures(app, request, unsigned).iter().any(|right| *right == form(forged))
        && !forged.contains(['&', '='])
    {
        refuse(request, &format!("{unsigned}&auth_signature={forged}"));
    }
    let (start, end) = signature.split_at_checked(forged.len() % 64).unwrap_or((signature, ""));
    let other = if end.starts_with('0') { '1' } else { '0' };
    let end = end.get(1..).unwrap_or_default();
    refuse(request, &format!("{unsigned}&auth_signature={start}{other}{end}"));
    let good = format!("{unsigned}&auth_signature={signature}");
    let method = format!("{}X", request.method);
    refuse(Request { method: &method, ..request }, &good);
    let path = format!("{}/x", request.path);
    refuse(Request { path: &path, ..request }, &good);
    if Query::parse(&format!("{good}&zzzz=1")).is_ok() {
        refuse(request, &format!("{good}&zzzz=1"));
    }
}

/// A digest that fits one body fits no other.
fn check_body(digest: BodyDigest, body: &str) {
    let fits = digest.check(body.as_bytes());
    if let Err(error) = &fits {
        check_error(error);
    }
    if fits.is_ok() && !body.is_empty() {
        assert!(digest.check(format!("{body} ").as_bytes()).is_err(), "{body:?}");
    }
    assert!(digest.check(b"").is_ok());
}
