//! Who counts on other nodes, and for how long.

use std::{num::NonZeroU32, time::Duration};

use soundpost_protocol::app::{App, AppId, AppKey, AppSecret};

use super::*;
use crate::apps::Apps;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn apps(count: usize) -> Apps {
    let app = |n: usize| {
        let mut app = App::new(
            AppId::parse(&format!("a{n}")).unwrap(),
            AppKey::parse(&format!("k{n}")).unwrap(),
            AppSecret::new("s"),
        );
        app.connections_max = NonZeroU32::new(10);
        app
    };
    Apps::new((0..count).map(app).collect(), 1)
}

/// What is heard of the apps `a0` and `a1`, one step after the other, and the sums after each.
#[test]
fn each_message_replaces_what_it_names() {
    let apps = apps(2);
    let table = apps.table();
    let index = |n: usize| table.all()[n].index;
    let now = Instant::now();
    let mut census = Census::default();
    for (step, (life, beat, said, expected)) in [
        (A, 1, vec![(0, 3), (1, 2)], [3, 2]),
        (B, 7, vec![(0, 4)], [7, 2]),
        (A, 2, vec![(0, 1)], [5, 2]), // perhaps the rest of the beat comes in another message
        (A, 2, vec![(1, 1)], [5, 1]), // so it does
        (A, 3, vec![(1, 5)], [5, 5]), // a0 was named in beat 2
        (A, 4, vec![(1, 5)], [4, 5]), // but not in beat 3
        (A, 3, vec![(0, 9)], [4, 5]), // old
        (A, 5, vec![(1, 0)], [4, 0]), // none any more
        (B, 8, vec![], [4, 0]),       // beat 7 has named a0
        (B, 9, vec![], [0, 0]),       // beat 8 has not
        (B, 10, vec![(0, u32::MAX)], [u32::MAX, 0]),
        (A, 6, vec![(0, 1)], [u32::MAX, 0]), // more than can be counted
    ]
    .into_iter()
    .enumerate()
    {
        census.heard(life, beat, said.into_iter().map(|(app, count)| (index(app), count)), now);
        let sums = census.sums();
        assert_eq!([0, 1].map(|n| sums.get(&index(n)).copied().unwrap_or(0)), expected, "step {step}");
    }
}

#[test]
fn who_is_over_or_silent_does_not_count() {
    let apps = apps(1);
    let table = apps.table();
    let (app, quota) = (table.all()[0].index, &table.all()[0].quota);
    let now = Instant::now();
    let seconds = |seconds: u64| now + Duration::from_secs(seconds);
    let mut census = Census::default();
    let elsewhere = |census: &mut Census| {
        census.settle(&table);
        quota.open_anywhere()
    };
    census.heard(A, 1, [(app, 3)], seconds(0));
    census.heard(B, 1, [(app, 4)], seconds(2));
    assert_eq!(elsewhere(&mut census), 7);
    census.tick(seconds(5));
    assert_eq!(elsewhere(&mut census), 7, "as last known, for as long as a lease holds");
    census.tick(seconds(6));
    assert_eq!(elsewhere(&mut census), 4);
    census.forget(B);
    assert_eq!(elsewhere(&mut census), 0);
    census.heard(A, 2, [(app, 5)], seconds(9));
    census.heard(B, 2, [(app, 5)], seconds(9));
    assert_eq!(elsewhere(&mut census), 10);
    assert!(quota.admit().is_none());
    census.forget_all();
    assert_eq!(elsewhere(&mut census), 0);
}

#[test]
fn a_beat_names_who_has_connections_and_once_who_has_none_any_more() {
    let apps = apps(3);
    let table = apps.table();
    let quota = |n: usize| &table.all()[n].quota;
    assert_eq!(next_beat(&table), [[]]);
    let place = quota(0).admit().unwrap();
    let _stays = [quota(2).admit(), quota(2).admit()];
    assert!(wants_beat(&table));
    assert_eq!(next_beat(&table), [[("a0", 1), ("a2", 2)]]);
    assert!(!wants_beat(&table));
    drop(place);
    assert_eq!(next_beat(&table), [[("a0", 0), ("a2", 2)]]);
    assert_eq!(next_beat(&table), [[("a2", 2)]]);
}

#[test]
fn a_beat_of_many_apps_takes_several_messages() {
    let apps = apps(HEARTBEAT_APPS_MAX + 1);
    let table = apps.table();
    let places: Vec<_> = table.all().iter().map(|app| app.quota.admit().unwrap()).collect();
    let beat = next_beat(&table);
    assert_eq!(beat.iter().map(Vec::len).collect::<Vec<_>>(), [HEARTBEAT_APPS_MAX, 1]);
    let mut census = Census::default();
    for message in beat {
        let known = |(id, count): (&str, u32)| Some((apps.by_id(id)?.index, count));
        census.heard(A, 1, message.into_iter().filter_map(known), Instant::now());
    }
    assert_eq!(census.sums().len(), places.len());
}
