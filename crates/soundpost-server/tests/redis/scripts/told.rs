//! What webhooks are told of single things that happen.

use soundpost_protocol::{
    app::Limits,
    channel::ChannelName,
    presence::{NodeId, UserId},
    webhook::event::{Event, EventId},
};

use super::bench::{Bench, HOOKS, life};

fn occupied(channel: &str) -> String {
    format!(r#"{{"name":"channel_occupied","channel":"{channel}"}}"#)
}

fn member(name: &str, user: &str) -> String {
    format!(r#"{{"name":"member_{name}","channel":"presence-room","user_id":"{user}"}}"#)
}

fn count(count: u64) -> String {
    format!(r#"{{"name":"subscription_count","channel":"orders","subscription_count":{count}}}"#)
}

fn entries(users: &[&str]) -> Vec<(u64, String)> {
    (1..).zip(users).map(|(socket, user)| (socket, (*user).to_owned())).collect()
}

#[test]
fn ids_of_users_are_written_as_everywhere_else() {
    let mut bench = Bench::presence();
    bench.hold = 0;
    let (channel, one) = (ChannelName::parse("presence-room", &Limits::default()).unwrap(), life(1));
    let long = "x\"\\/é".repeat(10_000);
    let all: String = (0..=0x7f_u8).map(char::from).collect();
    let odd = [
        "\"",
        "/",
        "\\",
        "a\\/b",
        "\u{0}",
        "\u{1f}",
        "\u{7f}",
        "\u{80}",
        "\u{2028}",
        "é",
        "😀",
        "",
        "%s",
        "\r\n\t\u{8}\u{c}",
        "</script>",
        &all,
        &long,
    ];
    for (at, user) in (1..).zip(odd) {
        bench.join(&one, [2 * at, if at == 1 { 0 } else { 2 * at - 1 }], at, user);
        bench.leave(&one, [2 * at + 1, 2 * at], at);
        bench.finish();
        let id = EventId { life: NodeId(1), number: 1 };
        let user_id = UserId::from_text(user);
        let expected = [Event::MemberAdded(&user_id), Event::MemberRemoved(&user_id)]
            .map(|event| String::from_utf8(event.encode(id, &channel).json.to_vec()).unwrap());
        assert_eq!(bench.told()[1], expected, "{user:?}");
    }
}

#[test]
fn a_channel_is_occupied_before_its_member_comes_and_vacated_after_it_went() {
    let mut bench = Bench::presence();
    let one = life(1);
    let said = bench.join(&one, [1, 0], 1, "zoe");
    assert_eq!((said.word.as_str(), said.wait), ("done", Some(-1)));
    assert_eq!(bench.told()[0], [occupied("presence-room"), member("added", "zoe")]);
    let said = bench.leave(&one, [2, 1], 1);
    assert_eq!(said.wait, Some(super::bench::LONG as i64));
    assert!(bench.finish().is_some(), "not yet");
    bench.let_pass();
    assert_eq!(bench.finish(), None);
    let vacated = r#"{"name":"channel_vacated","channel":"presence-room"}"#.to_owned();
    assert_eq!(bench.told(), [vec![member("removed", "zoe"), vacated], vec![member("removed", "zoe")]]);
    let left: Vec<String> = bench.scripts.say("KEYS N:{one/presence-room}:*");
    assert_eq!(left, [bench.key(&format!("s:{one}"))], "the number of an empty share");
}

#[test]
fn a_reload_of_five_hundred_over_two_nodes_is_no_news() {
    let mut bench = Bench::presence();
    let lives = [life(1), life(2)];
    let (mut last, mut sequence) = ([0, 0], 0);
    let mut step = |bench: &mut Bench, socket: u64, node: usize, joins: bool| {
        sequence += 1;
        let numbers = [sequence, last[node]];
        let said = match joins {
            true => bench.join(&lives[node], numbers, socket, &(socket % 1000).to_string()),
            false => bench.leave(&lives[node], numbers, socket),
        };
        assert_eq!(said.word, "done");
        last[node] = sequence;
    };
    (0..500).for_each(|user| step(&mut bench, user, user as usize % 2, true));
    bench.told();
    (0..500).for_each(|user| step(&mut bench, user, user as usize % 2, false));
    // They come back elsewhere.
    (0..500).for_each(|user| step(&mut bench, 1000 + user, (user as usize + 1) % 2, true));
    bench.let_pass();
    assert_eq!(bench.finish(), None);
    assert_eq!(bench.told(), [vec![], vec![]] as [Vec<String>; 2]);
}

/// How much is told by each step, until nothing is held.
fn portions(bench: &mut Bench) -> Vec<usize> {
    let mut portions = Vec::new();
    loop {
        let wait = bench.finish();
        portions.push(bench.told()[0].len());
        match wait {
            Some(wait) => assert_eq!(wait, 0),
            None => return portions,
        }
    }
}

#[test]
fn many_who_go_at_once_are_told_in_portions() {
    let mut bench = Bench::presence();
    let users: Vec<_> = (0..1200).map(|user| (user, format!("u{user}"))).collect();
    bench.replace(&life(1), 1, &[], &users, ("", 0, &[]), None);
    bench.let_pass();
    portions(&mut bench);
    bench.reap(&life(1));
    bench.let_pass();
    // The channel is due with the first of them, and is told last.
    assert_eq!(bench.finish(), Some(0));
    assert_eq!(bench.told()[0].len(), 499);
    assert_eq!(bench.finish(), Some(0));
    assert_eq!(bench.told()[0].len(), 499);
    assert_eq!(bench.finish(), None);
    let last = &bench.told()[0];
    assert_eq!(last.len(), 203);
    assert!(last[202].contains("channel_vacated"));
}

#[test]
fn many_who_come_at_once_are_told_in_portions_and_who_left_before_is_not_told_at_all() {
    let mut bench = Bench::presence();
    let one = life(1);
    let users: Vec<_> = (0..1700).map(|user| (user, format!("u{user}"))).collect();
    let said = bench.replace(&one, 1, &[], &users, ("", 0, &[]), None);
    assert!(said.wait.is_some_and(|wait| wait > 0), "{said:?}");
    assert_eq!(bench.told()[0].len(), 501);
    // Neither coming nor going of the one is told; the other is back in time, and has come once.
    bench.leave(&one, [2, 1], 1600);
    bench.leave(&one, [3, 2], 1650);
    bench.join(&one, [4, 3], 1650, "u1650");
    assert_eq!(bench.told()[0], [member("added", "u1650")]);
    bench.let_pass();
    assert_eq!(portions(&mut bench), [500, 500, 198]);
    bench.leave(&one, [5, 4], 1699);
    bench.let_pass();
    assert_eq!(bench.finish(), None);
    assert_eq!(bench.told()[0], [member("removed", "u1699")]);
}

#[test]
fn when_redis_has_forgotten_all_nobody_who_stayed_is_news() {
    let mut bench = Bench::presence();
    bench.replace(&life(1), 1, &[], &entries(&["zoe", "ben"]), ("", 0, &[]), None);
    assert_eq!(bench.told()[0].len(), 3);
    bench.scripts.say::<()>("FLUSHDB");
    // Zoe was here, ben elsewhere, and dan came meanwhile.
    let users = entries(&["zoe", "ben", "dan"]);
    bench.replace(&life(2), 1, &[life(1)], &users, ("1210", 2, &[]), None);
    assert_eq!(bench.told()[0], [member("added", "dan")]);
    // Where Redis has not forgotten, it knows better who is elsewhere, and that liz has gone long ago.
    bench.replace(&life(3), 1, &[life(2)], &entries(&["zoe", "eve"]), ("121", 2, &["liz"]), None);
    assert_eq!(bench.told()[0], [member("added", "eve")]);
    // What another has taken away is news when it comes back.
    bench.hold = 0;
    bench.reap(&life(3));
    bench.finish();
    bench.told();
    bench.replace(&life(4), 1, &[life(3)], &entries(&["zoe"]), ("12", 1, &[]), None);
    assert_eq!(bench.told()[0], [occupied("presence-room"), member("added", "zoe")]);
}

#[test]
fn who_left_before_redis_came_back_empty_is_told_as_gone_unless_another_brings_the_user() {
    let mut bench = Bench::presence();
    let all = entries(&["zoe", "ben", "dan"]);
    bench.replace(&life(1), 1, &[], &all, ("", 0, &[]), None);
    bench.told();
    bench.scripts.say::<()>("FLUSHDB");
    // Zoe has another connection on another node, which comes back later, and dan has gone there.
    let said = bench.replace(&life(1), 2, &[], &[], ("1", 3, &["ben", "dan", "zoe"]), None);
    assert!(said.wait > Some(0), "the node sees to what is held: {said:?}");
    bench.replace(&life(2), 1, &[], &entries(&["zoe", "dan"]), ("120", 1, &[]), None);
    assert_eq!(bench.told()[0], [] as [String; 0], "nobody is news, nor is the channel");
    bench.let_pass();
    assert_eq!(bench.finish(), None);
    assert_eq!(bench.told()[0], [member("removed", "ben")]);
    // All have gone.
    bench.scripts.say::<()>("FLUSHDB");
    bench.replace(&life(2), 2, &[], &[], ("1", 2, &["dan", "zoe"]), None);
    bench.let_pass();
    bench.finish();
    let vacated = r#"{"name":"channel_vacated","channel":"presence-room"}"#.to_owned();
    assert_eq!(bench.told()[0], [member("removed", "dan"), member("removed", "zoe"), vacated]);
}

#[test]
fn who_leaves_a_share_that_redis_has_forgotten_is_told_as_gone() {
    let mut bench = Bench::counting();
    bench.count(&life(1), 1, 1);
    bench.told();
    bench.scripts.say::<()>("FLUSHDB");
    assert_eq!(bench.change(&life(1), [2, 1], "count", (b"", b"0")).word, "gap");
    bench.replace(&life(1), 3, &[], &[], ("2", 1, &[]), Some(0));
    assert_eq!(bench.told()[0], [] as [String; 0]);
    bench.let_pass();
    assert_eq!(bench.finish(), None);
    let vacated = r#"{"name":"channel_vacated","channel":"orders"}"#.to_owned();
    assert_eq!(bench.told()[0], [count(0), vacated]);
    // A share that was empty for so long that it is forgotten begins again.
    assert_eq!(bench.count(&life(1), 4, 1).word, "done");
}

#[test]
fn counts_are_told_at_once_up_to_a_hundred_and_then_now_and_then() {
    let mut bench = Bench::counting();
    let [one, two] = [life(1), life(2)];
    bench.replace(&one, 1, &[], &[], ("", 0, &[]), Some(1));
    assert_eq!(bench.told(), [vec![occupied("orders"), count(1)], vec![count(1)]]);
    bench.count(&one, 2, 60);
    assert_eq!(bench.count(&one, 3, 60).wait, Some(-1));
    bench.replace(&two, 1, &[], &[], ("", 0, &[]), Some(40));
    assert_eq!(bench.told()[1], [count(60), count(100)]);
    let said = bench.count(&two, 2, 41);
    assert!(said.wait > Some(900_000), "the last was told just now: {said:?}");
    bench.count(&two, 3, 50);
    assert_eq!(bench.told()[1], [] as [String; 0]);
    bench.let_pass();
    assert_eq!(bench.finish(), None);
    assert_eq!(bench.told()[1], [count(110)], "the last value, once");
    bench.count(&two, 4, 60);
    bench.count(&two, 5, 50);
    bench.let_pass();
    bench.finish();
    assert_eq!(bench.told()[1], [] as [String; 0], "it is what was told last");
    bench.count(&two, 6, 55);
    bench.count(&two, 7, 3);
    assert_eq!(bench.told()[1], [count(63)], "a small one at once");
    assert_eq!(bench.finish(), None, "and nothing is put off");
    bench.reap(&two);
    bench.count(&one, 4, 0);
    assert_eq!(bench.told()[1], [count(60), count(0)]);
}

#[test]
fn a_count_that_redis_has_forgotten_is_told_when_all_are_back_if_it_has_changed() {
    let mut bench = Bench::counting();
    for (after, told) in [(40, vec![]), (41, vec![count(101)])] {
        // Two nodes with 60 and 40 come back to an empty Redis.
        bench.scripts.say::<()>("FLUSHDB");
        bench.replace(&life(1), 10, &[], &[], ("1", 100, &[]), Some(60));
        bench.replace(&life(2), 10, &[], &[], ("1", 100, &[]), Some(after));
        assert_eq!(bench.told(), [vec![], vec![]] as [Vec<String>; 2]);
        bench.let_pass();
        bench.finish();
        assert_eq!(bench.told()[1], told);
    }
}

#[test]
fn an_app_that_has_no_webhooks_any_more_leaves_nothing_behind() {
    let mut bench = Bench::presence();
    bench.join(&life(1), [1, 0], 1, "zoe");
    bench.leave(&life(1), [2, 1], 1);
    bench.wants = false;
    assert_eq!(bench.finish(), None);
    bench.join(&life(1), [3, 2], 2, "zoe");
    bench.leave(&life(1), [4, 3], 2);
    let left: Vec<String> = bench.scripts.say("KEYS N:{one/presence-room}:*");
    assert_eq!(left, [bench.key(&format!("s:{}", life(1)))]);
}

#[test]
fn on_a_cluster_one_life_carries_the_events_of_a_channel_at_a_time() {
    let mut bench = Bench::sharded();
    assert_eq!(bench.join(&life(1), [1, 0], 1, "zoe").wait, Some(0), "there is something to be carried");
    let items = bench.finish_as(&life(1), 0).1;
    let json = [occupied("presence-room"), member("added", "zoe"), member("added", "zoe")];
    let lines: Vec<Vec<&str>> = items.iter().map(|item| item.split('\n').collect()).collect();
    assert_eq!(lines.iter().map(|item| item[3]).collect::<Vec<_>>(), json);
    assert_eq!(lines.iter().map(|item| item[0]).collect::<Vec<_>>(), [HOOKS[0], HOOKS[0], HOOKS[1]]);
    let mut ids: Vec<_> = lines.iter().map(|item| EventId::parse(item[2]).unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    // While it carries them, another waits; what comes meanwhile goes with it.
    bench.join(&life(2), [1, 0], 2, "ben");
    let (wait, others) = bench.finish_as(&life(2), 0);
    assert!(others.is_empty() && (1..=2000).contains(&wait.unwrap()), "{wait:?}");
    let rest = bench.finish_as(&life(1), 3).1;
    assert_eq!(rest.len(), 2);
    assert!(rest.iter().all(|item| item.contains("ben")));
    // It dies, and its time is over: another carries them, again.
    let carrier = bench.key("b");
    bench.scripts.say::<()>(&format!("DEL {carrier}"));
    assert_eq!(bench.reap(&life(1)).wait, Some(0));
    assert_eq!(bench.finish_as(&life(2), 0).1, rest);
    // What the first has carried then counts for nothing.
    assert!(bench.finish_as(&life(1), 2).1.is_empty());
    assert!(bench.finish_as(&life(2), 2).1.is_empty());
    let left: Vec<String> = bench.scripts.say("KEYS N:{one/presence-room}:[bo]");
    assert_eq!(left, [] as [String; 0]);
}
