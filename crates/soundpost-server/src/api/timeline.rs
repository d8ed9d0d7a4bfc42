//! What pusher-js reports of itself where an application has switched its statistics on and pointed them here. It is
//! thanked and nothing is kept.
//!
//! Source: pusher-js, `core/timeline` and `runtimes/*/timeline`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, HeaderValue},
};

/// Every path of the timeline begins so.
pub(super) const PREFIX: &str = "/timeline/";

/// `/timeline/v2/jsonp/{n}` calls the script receiver of that number, any other name gets `{}`.
pub(super) fn answer(path: &str) -> Response<Full<Bytes>> {
    let mut parts = path.strip_prefix("/timeline/v2/").unwrap_or_default().split('/');
    let is_number =
        |part: &&str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
    let (body, kind) = match (parts.next(), parts.next().filter(is_number), parts.next()) {
        (Some("jsonp"), Some(number), None) => {
            (format!("Pusher.ScriptReceivers[{number}](null,{{}});"), "application/javascript")
        }
        (Some(name), Some(_), None) if !name.is_empty() => ("{}".to_owned(), "application/json"),
        _ => return super::refusal(StatusCode::NOT_FOUND, "there is nothing at this path"),
    };
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_reach_the_script() {
        for (path, status, kind) in [
            ("/timeline/v2/jsonp/12", 200, "application/javascript"),
            ("/timeline/v2/xhr/2", 200, "application/json"),
            ("/timeline/v2/jsonp/alert(1)", 404, "text/plain; charset=utf-8"),
            ("/timeline/v2/jsonp/1/2", 404, "text/plain; charset=utf-8"),
            ("/timeline/v2/jsonp/", 404, "text/plain; charset=utf-8"),
            ("/timeline/v1/jsonp/1", 404, "text/plain; charset=utf-8"),
        ] {
            let response = answer(path);
            assert_eq!(
                (response.status().as_u16(), &response.headers()[CONTENT_TYPE]),
                (status, &HeaderValue::from_static(kind)),
                "{path}"
            );
        }
    }
}
