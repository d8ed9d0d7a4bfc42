//! `soundpost webhook-test`, to receivers and a Redis that are really there.

use std::time::Duration;

use crate::{
    authority::Authority,
    receiver::{Act, Nobody, Receiver, say},
    redis::RedisServer,
    run::{Dir, Ended, soundpost},
};

const APP: &str = "[[apps]]\nid = \"shop\"\nkey = \"the-key\"\nsecret = \"hush-b1f7c90a3e5d8264\"\n";

/// Runs it for the app `shop` with these webhooks and arguments.
fn test(webhooks: &str, arguments: &[&str]) -> Ended {
    let dir = Dir::new(&[("soundpost.toml", &format!("{APP}{webhooks}"))]);
    let ended = soundpost(&dir, &[&["webhook-test", "--app", "shop"][..], arguments].concat(), "");
    assert!(!format!("{ended:?}").contains("hush"), "{ended:?}");
    ended
}

fn hook(url: &str) -> String {
    format!("[[apps.webhooks]]\nurl = \"{url}?token=hush\"\n")
}

/// The line below each webhook that says what came of it, without the time it took.
fn came_of_it(ended: &Ended) -> Vec<String> {
    let lines = ended.stdout.lines().filter(|line| line.starts_with("  ") && !line.starts_with("  sending"));
    let timeless = |line: &str| {
        let words = line.split(' ').map(|word| if word.parse::<u64>().is_ok() { "N" } else { word });
        words.collect::<Vec<_>>().join(" ").trim().to_owned()
    };
    lines.map(timeless).collect()
}

fn answer(status: &str, body: &str) -> Vec<Act> {
    say(&format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

#[test]
fn a_webhook_that_takes_it_is_shown_with_what_was_sent() {
    // It says back what it was sent in secret.
    let receiver = Receiver::start(|request| {
        let said = request.header("Authorization").unwrap_or_default();
        let asked = request.head.split(' ').nth(1).unwrap();
        let signature = request.header("X-Pusher-Signature").unwrap();
        answer("200 OK", &format!("taken: {said} {signature} {asked}"))
    });
    let url = receiver.url("http");
    let webhooks = format!(
        "{}headers = {{ Authorization = \"Bearer hush\" }}\n{}events = [\"member_removed\"]\nfilter = {{ suffix = \".x\" }}\n",
        hook(&url),
        hook(&url)
    );
    let ended = test(&webhooks, &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 7, "{ended:?}");
    assert_eq!(lines[0], format!("webhook 0 of app shop: {url}"));
    let sent =
        "  sending channel_occupied of channel soundpost-webhook-test, signed with the secret of the app";
    assert_eq!(lines[1], sent);
    let sent = "  sending member_removed of channel presence-soundpost-webhook-test.x, signed with the secret of the app";
    assert_eq!(
        (lines[3].starts_with("webhook 1 of app shop: "), lines[4], lines[6]),
        (true, sent, "2 of 2 took it")
    );
    assert_eq!(came_of_it(&ended)[0], "answered N in N ms: taken: (hidden) (hidden) /hook?(hidden)");
    let request = receiver.next();
    assert_eq!(request.header("X-Pusher-Key"), Some("the-key"));
    assert_eq!(request.header("Content-Type"), Some("application/json"));
    assert!(request.head.starts_with("POST /hook?token=hush HTTP/1.1\r\n"), "{}", request.head);
    let event = serde_json::json!({ "name": "channel_occupied", "channel": "soundpost-webhook-test" });
    assert_eq!(request.events(), [event]);
    let removed = &receiver.next().events()[0];
    assert_eq!(
        (&removed["name"], &removed["user_id"]),
        (&"member_removed".into(), &"soundpost-webhook-test".into())
    );
}

#[test]
fn what_goes_wrong_is_said_in_words_that_say_what_to_change() {
    let missing = Receiver::start(|_| answer("404 Not Found", "<h1>no\u{1b}[31m such\npage</h1>"));
    let moved =
        Receiver::start(|_| say("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"));
    let broken = Receiver::start(|_| answer("500 Internal Server Error", &"x".repeat(400)));
    let strange = Receiver::start(|_| say("what?\r\n\r\n"));
    let nobody = Nobody::new();
    let urls = [
        missing.url("http"),
        moved.url("http"),
        broken.url("http"),
        strange.url("http"),
        format!("http://{}/", nobody.address),
    ];
    let ended = test(&urls.map(|url| hook(&url)).concat(), &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""));
    assert!(ended.stdout.ends_with("0 of 5 took it\n"), "{}", ended.stdout);
    let said = came_of_it(&ended);
    assert_eq!(
        said[..2],
        [
            "answered N in N ms (there is nothing at this path; see url): <h1>no\\u{1b}[31m such\\npage</h1>",
            "answered N in N ms (redirects are not followed: write in url where it leads to): nothing else",
        ]
    );
    let failed = "answered N in N ms (it failed: the server would try again, for N minutes): ";
    assert_eq!(said[2], format!("{failed}{} ..", "x".repeat(300)));
    assert!(said[3].starts_with("failed after N ms: what it answers is no HTTP/1.1"), "{}", said[3]);
    assert!(said[4].starts_with("failed after N ms: it cannot be reached"), "{}", said[4]);
}

#[test]
fn a_receiver_that_hangs_is_waited_for_no_longer_than_asked() {
    let hanging = Receiver::start(|_| vec![Act::Wait(Duration::from_secs(60))]);
    let ended = test(&hook(&hanging.url("http")), &["--timeout", "1"]);
    assert_eq!(ended.code, 1);
    let said = came_of_it(&ended);
    assert!(said[0].starts_with("failed after N ms: it has not answered within N s"), "{said:?}");
}

#[test]
fn a_receiver_of_another_authority_is_not_told() {
    let (authority, other) = (Authority::new(), Authority::new());
    let receiver = Receiver::secured(authority.serve("127.0.0.1", true), |_| answer("200 OK", "ok"));
    let with = |ca: &Authority| format!("{}ca = {:?}\n", hook(&receiver.url("https")), ca.file());
    let ended = test(&with(&other), &[]);
    assert_eq!(ended.code, 1);
    let said = came_of_it(&ended);
    assert!(said[0].ends_with("of no authority that is trusted here; see apps.webhooks.ca"), "{said:?}");
    assert!(receiver.try_next().is_none());
    let ended = test(&with(&authority), &[]);
    assert_eq!((ended.code, came_of_it(&ended)), (0, vec!["answered N in N ms: ok".to_owned()]));
}

#[test]
fn a_queue_of_laravels_gets_a_job() {
    let redis = RedisServer::start(&["--requirepass", "hush-redis"]);
    let url = format!("redis://:hush-redis@127.0.0.1:{}", redis.port);
    let queue = |url: &str| {
        format!(
            "[[apps.webhooks]]\nlaravel_queue = {{ job = 'App\\Jobs\\Hook@handle', prefix = \"shop_\", redis = \"{url}\" }}\n"
        )
    };
    let ended = test(&queue(&url), &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let place = format!(
        "webhook 0 of app shop: the list shop_queues:default of Redis at 127.0.0.1:{}, database 0, for the job \
         App\\Jobs\\Hook@handle\n  sending channel_occupied of channel soundpost-webhook-test, as a job: a worker of the \
         app runs it like any other\n  pushed in ",
        redis.port
    );
    assert!(ended.stdout.starts_with(&place), "{}", ended.stdout);
    let mut redis = redis;
    redis.cli_options = ["-a", "hush-redis", "--no-auth-warning"].map(str::to_owned).into();
    assert_eq!(redis.ask(&["LLEN", "shop_queues:default"]).trim(), "1");
    let guessed = test(&queue(&url).replace(", prefix = \"shop_\"", ""), &[]);
    let warning = "apps.0.webhooks.0.laravel_queue.prefix is not written";
    assert!(guessed.code == 0 && guessed.stderr.contains(warning), "it may be nobody's list: {guessed:?}");
    let ended = test(&queue(&url.replace("hush-redis", "hush")), &[]);
    let said = came_of_it(&ended);
    assert!(ended.code == 1 && said[0].contains("it refuses the password"), "{ended:?}");
}

#[test]
fn one_webhook_alone_can_be_told() {
    let receiver = Receiver::start(|_| answer("204 No Content", ""));
    let (first, second) =
        (hook(&format!("http://{}/a", receiver.address)), hook(&format!("http://{}/b", receiver.address)));
    let ended = test(&format!("{first}{second}"), &["--webhook", "1"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.starts_with("webhook 1 of app shop: "), "{}", ended.stdout);
    assert!(receiver.next().head.starts_with("POST /b?"));
    assert!(receiver.try_next().is_none());
}

#[test]
fn what_is_not_there_is_named() {
    let url = "http://127.0.0.1:1/";
    let never = format!("{}events = [\"member_added\"]\nfilter = {{ prefix = \"private-\" }}\n", hook(url));
    let ended = test(&never, &[]);
    let line = "  nothing sent: no channel that its filter lets through can have one of its events\n0 of 1 took it\n";
    assert!(ended.code == 1 && ended.stdout.ends_with(line), "{ended:?}");
    for (webhooks, arguments, expected) in [
        ("", &[][..], "soundpost: app shop has no webhooks; write them as [[apps.webhooks]]\n"),
        (&hook(url), &["--webhook", "1"], "soundpost: app shop has no webhook 1; the last is 0\n"),
        ("webhooks = [5]\n", &[], "soundpost: apps.0.webhooks (soundpost.toml): expected tables with keys"),
    ] {
        let ended = test(webhooks, arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
        assert!(ended.stderr.starts_with(expected), "{}", ended.stderr);
    }
    let dir = Dir::new(&[(
        "soundpost.toml",
        &format!("{APP}{}", APP.replace("shop", "blog").replace("the-key", "k")),
    )]);
    let ended = soundpost(&dir, &["webhook-test", "--app", "shpo"], "");
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (1, "soundpost: there is no app \"shpo\"; there is shop, blog\n")
    );
}
