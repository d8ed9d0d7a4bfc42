//! Requests that two parties could read in two ways, and what is no request at all.

use crate::{
    client::{Client, handshake},
    http::{self, SHOP, event},
    server::{Server, Setup},
};

/// A request hidden in another; were it read as one of its own, `/up` would answer.
const HIDDEN: &str = "GET /up HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";

/// How many answers came, and the status of the first.
fn answers(text: &str) -> (usize, u16) {
    (text.matches("HTTP/1.").count(), http::Reply::parse(text).status)
}

/// Each of `requests` must get a 4xx or a close, and nothing behind it; then the next client is served.
fn are_refused(requests: &[(&str, String)]) {
    let mut server = Server::start(&Setup::default());
    for (what, request) in requests {
        let text = http::exchange_bytes(server.address, request.as_bytes());
        let (count, status) = answers(&text);
        println!("{what}: {count} answers, status {status}");
        assert!(count <= 1, "{what}: {text}");
        assert!(matches!(status, 0 | 400..=499), "{what}: {text}");
        assert_eq!(http::get(server.address, "/up").status, 200, "after {what}");
    }
    assert!(server.is_alive());
    Client::connect(server.address, &SHOP).ping();
}

#[test]
fn ambiguous_lengths_and_lines_are_refused() {
    let get = "GET /up HTTP/1.1\r\nHost: s\r\n";
    let post = format!("POST {} HTTP/1.1\r\nHost: s\r\n", SHOP.target("POST", "events", &[], "{}"));
    are_refused(&[
        ("two lengths", format!("{post}Content-Length: 2\r\nContent-Length: 60\r\n\r\n{{}}{HIDDEN}")),
        ("two lengths in one", format!("{post}Content-Length: 2, 60\r\n\r\n{{}}{HIDDEN}")),
        ("a signed length", format!("{post}Content-Length: +2\r\n\r\n{{}}{HIDDEN}")),
        ("a negative length", format!("{post}Content-Length: -2\r\n\r\n{{}}{HIDDEN}")),
        ("a huge length", format!("{post}Content-Length: 99999999999999999999\r\n\r\n{{}}{HIDDEN}")),
        ("chunked not last", format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n{HIDDEN}")),
        ("an unknown coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}")),
        (
            "chunked in HTTP/1.0",
            format!("{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", post.replace("1.1", "1.0")),
        ),
        ("a folded line", format!("{get}X-A: b\r\n c: d\r\n\r\n{HIDDEN}")),
        ("a folded length", format!("{get}Content-Length:\r\n 60\r\n\r\n{HIDDEN}")),
        ("a space before the colon", format!("{get}Content-Length : 60\r\n\r\n{HIDDEN}")),
        ("a line without a colon", format!("{get}Content-Length\r\n\r\n{HIDDEN}")),
        ("a bare CR", format!("{get}X-A: b\rContent-Length: 60\r\n\r\n{HIDDEN}")),
        ("a NUL in a header", format!("{get}X-A: b\0c\r\n\r\n{HIDDEN}")),
    ]);
}

#[test]
fn chunks_that_are_none_are_refused() {
    let body = event("news", "smuggled", "x");
    let target = SHOP.target("POST", "events", &[], &body);
    let post = format!("POST {target} HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n");
    let length = body.len();
    are_refused(&[
        ("letters", format!("{post}zz\r\n{body}\r\n0\r\n\r\n{HIDDEN}")),
        ("no size", format!("{post}\r\n{body}\r\n0\r\n\r\n{HIDDEN}")),
        ("a negative size", format!("{post}-{length:x}\r\n{body}\r\n0\r\n\r\n{HIDDEN}")),
        ("a size beyond 64 bits", format!("{post}fffffffffffffffff\r\n{body}\r\n0\r\n\r\n{HIDDEN}")),
        ("the largest size", format!("{post}ffffffffffffffff\r\n{}", "x".repeat(2 << 20))),
        ("0x", format!("{post}0x{length:x}\r\n{body}\r\n0\r\n\r\n{HIDDEN}")),
        ("a size too small", format!("{post}{:x}\r\n{body}\r\n0\r\n\r\n{HIDDEN}", length - 1)),
        ("a bare LF behind the size", format!("{post}{length:x}\n{body}\r\n0\r\n\r\n{HIDDEN}")),
    ]);
}

#[test]
fn odd_paths_and_garbage_are_refused() {
    let headers = "Host: s\r\nConnection: close";
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n{headers}\r\n\r\n");
    let signed = |rest: &str| get(&SHOP.target("GET", rest, &[], ""));
    are_refused(&[
        ("an encoded slash in the app id", get("/apps/sh%2Fop/channels")),
        (
            "an encoded slash behind the app id",
            get(&SHOP.target("GET", "channels", &[], "").replacen("p/c", "p%2Fc", 1)),
        ),
        ("an encoded slash in a channel", signed("channels/a%2Fb")),
        ("dot-dot", signed("channels/a/../b")),
        ("an encoded NUL", signed("channels/a%00")),
        ("a broken escape", signed("channels/a%2")),
        ("a NUL in the path", get("/u\0p")),
        ("a space in the path", get("/u p")),
        (
            "a head of 17 KB",
            format!("GET /up HTTP/1.1\r\n{headers}\r\nX-Long: {}\r\n\r\n", "x".repeat(17_000)),
        ),
        ("a path of 17 KB", get(&format!("/up?{}", "x".repeat(17_000)))),
        (
            "more headers than anyone sends",
            format!("GET /up HTTP/1.1\r\n{}{headers}\r\n\r\n", "X-A: b\r\n".repeat(1500)),
        ),
        ("HTTP/0.9", "GET /up\r\n".to_owned()),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("HTTP/3.7", format!("GET /up HTTP/3.7\r\n{headers}\r\n\r\n")),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned()),
        ("garbage", "}{!\u{7f}\u{0}\u{1}\r\n\r\n".to_owned()),
        ("a method with a space", format!("GE T /up HTTP/1.1\r\n{headers}\r\n\r\n")),
    ]);
}

/// RFC 9112 (6.3) lets a server go by the chunks of a request that has both, if it then closes: what follows is a
/// request to us, and part of the same one to whoever went by the length.
#[test]
fn behind_a_length_and_chunks_nothing_is_answered() {
    let server = Server::start(&Setup::default());
    let two = format!("GET /ready HTTP/1.1\r\nHost: s\r\n\r\n{HIDDEN}");
    assert_eq!(
        answers(&http::exchange_bytes(server.address, two.as_bytes())),
        (2, 200),
        "two requests in one go"
    );
    let body = event("news", "tick", "x");
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let length = format!("Content-Length: {}\r\n", chunks.len() + HIDDEN.len());
    let coding = "Transfer-Encoding: chunked\r\n";
    for headers in [format!("{length}{coding}"), format!("{coding}{length}")] {
        let target = SHOP.target("POST", "events", &[], &body);
        let request = format!("POST {target} HTTP/1.1\r\nHost: s\r\n{headers}\r\n{chunks}{HIDDEN}");
        let text = http::exchange_bytes(server.address, request.as_bytes());
        println!("{headers:?}: {} answers, status {}", answers(&text).0, answers(&text).1);
        assert!(matches!(answers(&text), (0 | 1, 0 | 200 | 400..=499)), "{request}\n{text}");
    }
}

/// What is refused by its head alone still has a body, and that body is never the next request.
#[test]
fn a_body_that_was_not_wanted_is_not_read_as_a_request() {
    let server = Server::start(&Setup::default());
    let length = format!("Host: s\r\nContent-Length: {}\r\n", HIDDEN.len());
    let next = "GET /ready HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";
    for (head, status) in [
        ("POST /apps/shop/events?auth_key=x", 401),
        ("POST /apps/nobody/events", 404),
        ("POST /nothing", 404),
        ("DELETE /apps/shop/events", 405),
        ("GET /app/shop-key", 426),
        ("GET /ready", 200),
    ] {
        let request = format!("{head} HTTP/1.1\r\n{length}\r\n{HIDDEN}{next}");
        let text = http::exchange_bytes(server.address, request.as_bytes());
        println!("{head}: {} answers, status {}", answers(&text).0, answers(&text).1);
        assert_eq!(answers(&text).1, status, "{text}");
        assert!(answers(&text).0 <= 2 && !text.contains("health"), "{text}");
    }
}

#[test]
fn behind_a_handshake_nothing_is_a_request() {
    let server = Server::start(&Setup::default());
    let body = format!("Content-Length: {}\r\n\r\n", HIDDEN.len());
    for handshake in
        [handshake(SHOP.key), handshake(SHOP.key).replacen("\r\n\r\n", &format!("\r\n{body}"), 1)]
    {
        let text = http::exchange_bytes(server.address, format!("{handshake}{HIDDEN}{HIDDEN}").as_bytes());
        println!("{} answers, status {}", answers(&text).0, answers(&text).1);
        assert!(answers(&text).0 <= 1, "{text}");
    }
}

/// RFC 9112 lets a server take a bare LF as the end of a line (2.2) and demands that it takes the absolute form (3.2.2);
/// neither makes two requests of one.
#[test]
fn bare_lf_and_absolute_form_are_one_request() {
    let server = Server::start(&Setup::default());
    for request in [
        "GET /up HTTP/1.1\nHost: s\nConnection: close\n\n".to_owned(),
        format!("GET /up HTTP/1.1\nHost: s\nContent-Length: {}\nConnection: close\n\n{HIDDEN}", HIDDEN.len()),
        "GET http://elsewhere.test/up HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let text = http::exchange_bytes(server.address, request.as_bytes());
        assert!(matches!(answers(&text), (1, 200 | 400..=499)), "{request}: {text}");
    }
}
