//! The apps of a node, and what a replacement leaves of them.

use soundpost_protocol::app::{AppId, AppKey, AppSecret};

use super::*;

#[test]
fn a_quota_admits_as_many_as_it_may() {
    let quota = Quota::new(NonZeroU32::new(2));
    let first = quota.admit().unwrap();
    let second = quota.admit().unwrap();
    assert!(quota.admit().is_none());
    drop(first);
    assert_eq!(quota.open(), 1);
    assert!(quota.admit().is_some());
    drop(second);
    assert_eq!((quota.open(), quota.max()), (0, Some(2)));
    assert_eq!(Quota::new(None).max(), None);
}

#[test]
fn a_lowered_quota_takes_no_place_away() {
    let quota = Quota::new(None);
    let places: Vec<_> = (0..3).map(|_| quota.admit().unwrap()).collect();
    quota.set_max(NonZeroU32::new(2));
    assert!(quota.admit().is_none() && quota.open() == 3);
    drop(places);
    assert!(quota.admit().is_some());
    quota.set_max(None);
    let [_one, _two, _three] = [(); 3].map(|()| quota.admit().unwrap());
}

#[test]
fn connections_on_other_nodes_take_places_too() {
    let quota = Quota::new(NonZeroU32::new(3));
    quota.set_elsewhere(2);
    let place = quota.admit().unwrap();
    assert!(quota.admit().is_none());
    assert_eq!((quota.open(), quota.open_anywhere()), (1, 3));
    quota.set_elsewhere(7);
    assert!(quota.admit().is_none() && quota.open() == 1, "who has a place keeps it");
    quota.set_elsewhere(1);
    drop((place, quota.admit().unwrap()));
    let unlimited = Quota::new(None);
    unlimited.set_elsewhere(u32::MAX - 1);
    assert!(unlimited.admit().is_some());
    assert_eq!(unlimited.open_anywhere(), u64::from(u32::MAX - 1));
}

#[test]
fn the_less_is_left_the_sooner_others_hear() {
    for (max, elsewhere, told, open, expected) in [
        (None, 0, 0, 1000, false), // no limit, no hurry
        (Some(100), 0, 0, 0, false),
        (Some(100), 0, 0, 11, false), // 89 are left
        (Some(100), 0, 0, 12, true),
        (Some(100), 60, 0, 5, true),   // 35 are left
        (Some(100), 60, 5, 5, false),  // they know
        (Some(100), 99, 0, 1, true),   // the last place
        (Some(100), 60, 40, 39, true), // and the first that is free again
        (Some(100), 0, 50, 49, false), // of which there were enough
    ] {
        let quota = Quota::new(max.and_then(NonZeroU32::new));
        let mut places: Vec<_> = (0..told).map(|_| quota.admit().unwrap()).collect();
        quota.tell();
        places.resize_with(open.max(told), || quota.admit().unwrap());
        places.truncate(open);
        quota.set_elsewhere(elsewhere);
        assert_eq!(quota.is_news(), expected, "{max:?} {elsewhere} {told} {open}");
    }
}

fn app(id: &str, key: &str) -> App {
    App::new(AppId::parse(id).unwrap(), AppKey::parse(key).unwrap(), AppSecret::new("s"))
}

#[test]
fn an_app_is_found_by_key_and_by_id() {
    let apps = Apps::new(vec![app("a", "k")], 1);
    assert!(apps.by_key("k").is_some() && apps.by_id("a").is_some());
    assert!(apps.by_key("a").is_none() && apps.by_id("k").is_none());
}

#[test]
fn an_app_keeps_what_it_has_under_new_settings() {
    let apps = Apps::new(vec![app("a", "k"), app("b", "l")], 2);
    let (old, other) = (apps.by_id("a").unwrap(), apps.by_id("b").unwrap());
    old.counters(WorkerId(1)).deliveries.add(7);
    let place = old.quota.admit().unwrap();
    let mut changed = app("a", "k");
    changed.connections_max = NonZeroU32::new(1);
    let mut heard = apps.replacements();
    let changes = apps.replace(vec![app("b", "l"), changed, app("c", "m")]);
    assert!(heard.has_changed().unwrap());
    heard.mark_unchanged();
    let id = |text| AppId::parse(text).unwrap();
    let changed = vec![(id("a"), vec!["connections_max"])];
    assert_eq!(changes, AppChanges { added: vec![id("c")], changed, removed: vec![] });
    let new = apps.by_key("k").unwrap();
    assert_eq!((new.index, new.counters(WorkerId(1)).deliveries.value()), (old.index, 7));
    assert!(new.quota.admit().is_none(), "the new limit, and the old place");
    assert!(Arc::ptr_eq(&apps.by_id("b").unwrap(), &other), "what did not change is the same");
    assert!(Arc::ptr_eq(&apps.successor(&old).unwrap(), &new));
    drop(place);
    assert!(new.quota.admit().is_some());
}

#[test]
fn who_cannot_stay_is_told_why() {
    let apps = Apps::new(vec![app("a", "k"), app("b", "l"), app("c", "m"), app("d", "n")], 1);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| apps.by_id(id).unwrap());
    let mut disabled = app("c", "m");
    disabled.enabled = false;
    // The key of the one is now the other's, which does not make its connections the other's.
    let changes = apps.replace(vec![app("b", "k"), disabled, app("d", "n")]);
    assert_eq!(changes.removed, [AppId::parse("a").unwrap()]);
    let fates = [&a, &b, &c, &d].map(|app| apps.successor(app).map(|_| ()));
    let [gone, off] = [CloseReason::UnknownApp, CloseReason::AppDisabled];
    assert_eq!(fates, [Err(gone), Err(gone), Err(off), Ok(())]);
    assert_eq!([&a, &b].map(|app| apps.table().has_lost(app)), [true, false]);
    apps.replace(vec![app("a", "k")]);
    let again = apps.by_id("a").unwrap();
    assert_ne!(again.index, a.index, "what comes back is another");
    assert_eq!(apps.successor(&a).map(|_| ()), Err(gone));
}

#[test]
fn nothing_grows_over_ten_thousand_replacements() {
    let apps = Apps::new(vec![app("a", "k")], 2);
    let kept = apps.by_id("a").unwrap();
    let removed = apps.table();
    for round in 0..10_000 {
        let mut changed = app("a", "k");
        changed.connections_max = NonZeroU32::new(round);
        apps.replace(vec![changed, app(&format!("b{round}"), &format!("l{round}"))]);
    }
    let table = apps.table();
    assert_eq!((table.all.len(), table.by_id.len(), table.by_key.len()), (2, 2, 2));
    // Held by this test and the present moment alone: no moment in between has survived.
    assert_eq!((Arc::strong_count(&kept.quota), Arc::strong_count(&kept.counters)), (2, 2));
    assert_eq!(Arc::strong_count(&removed), 1);
}
