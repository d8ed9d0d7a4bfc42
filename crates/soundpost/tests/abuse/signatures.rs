//! Forged requests.

use std::thread;

use soundpost_protocol::{
    api::{Query, verify_head},
    app::{App, AppId, AppKey, AppSecret},
};

use crate::{
    http::{self, SHOP, event},
    random::Random,
    server::{Server, Setup},
};

/// One character replaced, inserted, taken away or swapped with the next.
fn mutate(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let (at, byte) = (random.below(bytes.len()), u8::try_from(random.below(128)).unwrap());
    match random.below(4) {
        0 => bytes[at] = byte,
        1 => bytes.insert(at, byte),
        2 => drop(bytes.remove(at)),
        _ => bytes.swap(at, (at + 1) % text.len()),
    }
    String::from_utf8(bytes).unwrap()
}

/// Whether two queries say the same; a `#` ends what is sent.
fn same(one: &str, other: &str) -> bool {
    let said = |query: &'_ str| query.split('#').next().unwrap_or_default().to_owned();
    let (one, other) = (said(one), said(other));
    Query::parse(&one).is_ok() && Query::parse(&one) == Query::parse(&other)
}

#[test]
fn no_mutation_of_a_signed_head_verifies() {
    const MUTATIONS: usize = 50_000;
    let check = |seed: u64| {
        let app = App::new(
            AppId::parse(SHOP.id).unwrap(),
            AppKey::parse(SHOP.key).unwrap(),
            AppSecret::new(SHOP.secret),
        );
        let target = SHOP.target("POST", "events", &[("info", "user_count")], "{}");
        let (path, query) = target.split_once('?').unwrap();
        let now = Query::parse(query).unwrap().value("auth_timestamp").unwrap().parse().unwrap();
        let accepted = |path: &str, text: &str| {
            Query::parse(text).is_ok_and(|query| verify_head(&app, "POST", path, "", &query, now).is_ok())
        };
        assert!(accepted(path, query));
        let mut random = Random(seed);
        let mut tried = 0;
        while tried < MUTATIONS {
            let in_query = random.below(target.len()) > path.len();
            let mutated = mutate(if in_query { query } else { path }, &mut random);
            if mutated == path || (in_query && Query::parse(&mutated) == Query::parse(query)) {
                continue;
            }
            let accepted = if in_query { accepted(path, &mutated) } else { accepted(&mutated, query) };
            assert!(!accepted, "seed {seed}, {tried}: {mutated:?}");
            tried += 1;
        }
        tried
    };
    let tried: usize = thread::scope(|scope| {
        let other = scope.spawn(|| check(2));
        check(1) + other.join().unwrap()
    });
    println!("{tried} mutations, 0 accepted");
    assert_eq!(tried, 100_000);
}

#[test]
fn no_mutation_of_a_request_is_accepted_over_the_wire() {
    let server = Server::start(&Setup::default());
    let body = event("news", "tick", "x");
    let target = SHOP.target("POST", "events", &[], &body);
    assert_eq!(http::exchange(server.address, &http::request("POST", &target, &body)).status, 200);
    let (path, query) = target.split_once('?').unwrap();
    let mut random = Random(3);
    let mut statuses = std::collections::BTreeMap::new();
    let mut tried = 0;
    while tried < 200 {
        let (mut forged_target, mut forged_body) = (target.clone(), body.clone());
        if random.below(4) == 0 {
            forged_body = mutate(&body, &mut random);
        } else {
            forged_target = mutate(&target, &mut random);
        }
        let (forged_path, forged_query) = forged_target.split_once('?').unwrap_or((&forged_target, ""));
        if (path, &body) == (forged_path, &forged_body) && same(query, forged_query) {
            continue;
        }
        let request = http::request("POST", &forged_target, &forged_body);
        let reply = http::exchange(server.address, &request);
        // 426 is `/app/…`, where WebSockets are.
        assert!(matches!(reply.status, 400 | 401 | 404 | 426), "{request}\n{reply:?}");
        *statuses.entry(reply.status).or_insert(0) += 1;
        tried += 1;
    }
    println!("statuses {statuses:?}");
    assert_eq!(server.metric(r#"soundpost_triggers_total{app="shop",result="accepted"}"#), 1);
}
