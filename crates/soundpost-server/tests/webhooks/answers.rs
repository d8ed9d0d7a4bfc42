//! Receivers that answer badly, or not at all.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use soundpost_protocol::webhook::queue::{Outcome, Verdict};

use crate::{
    hook::Hook,
    receiver::{Act, Nobody, OK, Receiver, say, status},
};

#[test]
fn the_status_is_what_it_is() {
    let receiver = Receiver::start(|request| status(String::from_utf8_lossy(&request.body).parse().unwrap()));
    let sender = Hook::to(&receiver.url("http")).open();
    for (body, verdict) in [
        (&b"200"[..], Verdict::Delivered),
        (b"202", Verdict::Delivered),
        (b"301", Verdict::Refused),
        (b"307", Verdict::Refused),
        (b"400", Verdict::Refused),
        (b"401", Verdict::Refused),
        (b"404", Verdict::Refused),
        (b"408", Verdict::Retry),
        (b"409", Verdict::Retry),
        (b"425", Verdict::Retry),
        (b"429", Verdict::Retry),
        (b"500", Verdict::Retry),
        (b"503", Verdict::Retry),
    ] {
        let answer = sender.post(body).unwrap();
        assert_eq!(answer.status.to_string().as_bytes(), body);
        assert_eq!(Outcome::Status(answer.status).verdict(), verdict, "{answer:?}");
    }
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Receiver::start(|_| say(OK));
    let location = other.url("http");
    let redirect =
        move |_: &_| say(&format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
    let receiver = Receiver::start(redirect);
    assert_eq!(Hook::to(&receiver.url("http")).open().status(), 302);
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_receiver_that_says_nothing_is_given_up_in_time() {
    let silent = Receiver::start(|_| vec![Act::Wait(Duration::from_secs(30))]);
    // Nobody accepts, the system answers.
    let backlog = TcpListener::bind("127.0.0.1:0").unwrap();
    let half = Receiver::start(|_| {
        [say("HTTP/1.1 200 OK\r\nX-"), vec![Act::Wait(Duration::from_secs(30))]].concat()
    });
    for address in [silent.address, backlog.local_addr().unwrap(), half.address] {
        let sender = Hook::to(&format!("http://{address}/")).within(Duration::from_millis(300)).open();
        let begun = Instant::now();
        assert_eq!(
            sender.problem(),
            "it has not answered within 0.3 s; is it overloaded, or behind a firewall?"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "it was waited for");
    }
}

#[test]
fn a_receiver_that_is_not_there_is_named_as_such() {
    let nobody = Nobody::new();
    let problem = Hook::to(&format!("http://{}/", nobody.address)).open().problem();
    assert!(problem.starts_with("it cannot be reached (Connection refused"), "{problem}");
    let problem = Hook::to("http://nobody.invalid/").open().problem();
    assert!(problem.starts_with("its name is not known ("), "{problem}");
}

#[test]
fn what_is_no_answer_is_said_to_be_none() {
    const CLOSED: &str = "it closed the connection without an answer";
    const OTHER: &str =
        "what it answers is no HTTP/1.1; is that the port, and should the url begin with https?";
    const BIG: &str = "the head of its answer is longer than 65536 bytes, or has more than 100 headers";
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(1_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(101));
    for (answer, expected) in [
        ("", CLOSED),
        ("HTTP/1.1 2", CLOSED),
        ("HTTP/1.1 200 OK\r\nContent-", CLOSED),
        ("SSH-2.0-OpenSSH_9.2\r\n", OTHER),
        ("\x15\x03\x01\x00\x02\x02\x46", OTHER),
        ("HTTP/1.1 2000 OK\r\n\r\n", OTHER),
        (&long, BIG),
        (&many, BIG),
    ] {
        let acts = [say(answer), vec![Act::Close]].concat();
        let receiver = Receiver::start(move |_| acts.clone());
        let sender = Hook::to(&receiver.url("http")).open();
        assert_eq!(sender.problem(), expected, "{}", answer.escape_debug());
    }
}

#[test]
fn a_huge_answer_is_left_and_the_next_request_works() {
    let receiver = Receiver::start(|_| {
        let head = say("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        [head, vec![Act::Flood(1_000_000_000)]].concat()
    });
    let sender = Hook::to(&receiver.url("http")).open();
    for _ in 0..3 {
        let answer = sender.post(b"{}").unwrap();
        assert_eq!((answer.status, answer.beginning.len()), (200, 100));
    }
    assert_eq!(receiver.connections(), 3);
}

#[test]
fn an_answer_of_64_kib_leaves_its_connection_in_use() {
    let receiver = Receiver::start(|_| {
        let head = say("HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n");
        [head, vec![Act::Flood(65536)]].concat()
    });
    let sender = Hook::to(&receiver.url("http")).open();
    for _ in 0..3 {
        assert_eq!(sender.status(), 200);
    }
    assert_eq!(receiver.connections(), 1);
}

#[test]
fn the_status_decides_even_if_the_body_never_comes_or_breaks() {
    let begun = Instant::now();
    for acts in [
        [say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), vec![Act::Close]].concat(),
        [say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), vec![Act::Wait(Duration::from_secs(30))]]
            .concat(),
        say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n"),
    ] {
        let receiver = Receiver::start(move |_| acts.clone());
        assert_eq!(Hook::to(&receiver.url("http")).open().status(), 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "the body was waited for");
}

#[test]
fn odd_answers_are_understood_and_do_not_spoil_the_next() {
    for (answer, closes, expected, connections) in [
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            false,
            200,
            1,
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false, 200, 3),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", true, 200, 3),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab", false, 204, 3),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            false,
            200,
            3,
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false, 101, 3),
    ] {
        let acts = if closes { [say(answer), vec![Act::Close]].concat() } else { say(answer) };
        let receiver = Receiver::start(move |_| acts.clone());
        let sender = Hook::to(&receiver.url("http")).open();
        for _ in 0..3 {
            assert_eq!(sender.post(b"{}").map(|answer| answer.status), Ok(expected), "{answer:?}");
        }
        assert_eq!(receiver.connections(), connections, "{answer:?}");
    }
}
