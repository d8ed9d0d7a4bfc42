//! The webhooks of other servers as ours.

use soundpost_protocol::webhook::{Carrier, event::EventKind};

use super::{
    fixtures::{SOCKUDO, SOKETI},
    import,
    tests::{imported, line, settings},
};

#[test]
fn webhooks_become_tables() {
    let apps = settings(SOKETI).apps;
    let shop = apps.iter().find(|app| app.id.as_str() == "7").unwrap();
    let [hook] = &shop.webhooks[..] else { panic!("{:?}", shop.webhooks) };
    let Carrier::Http(http) = &hook.carrier else { panic!("{hook:?}") };
    assert_eq!(http.url.path_and_query(), "/all?t=hush");
    assert_eq!(http.headers.iter().collect::<Vec<_>>(), [("X-Auth", "hush"), ("X.Y", "7")]);
}

#[test]
fn webhooks_of_sockudos_have_its_defaults() {
    let apps = settings(SOCKUDO).apps;
    let new = apps.iter().find(|app| app.id.as_str() == "new").unwrap();
    let [hook] = &new.webhooks[..] else { panic!("{:?}", new.webhooks) };
    let target = &hook.target;
    assert_eq!(target.events.iter().map(EventKind::word).collect::<Vec<_>>(), ["member_added"]);
    assert_eq!((target.filter.suffix(), target.batching.events_max()), ("-x", 200));
    assert_eq!(target.batching.wait().as_millis(), 50);
}

#[test]
fn what_soketis_webhooks_say_has_its_origin_behind_it() {
    let imported = imported("soketi.json", SOKETI);
    for expected in [
        "# This webhook is not told: apps.0.webhooks.0.url: holds a user name before its '@'; give an Authorization under \
         headers instead",
        "# url = \"https://(hidden)@app.test/hook\" # from appManager.array.apps.0.webhooks.0.url",
        "# events = [\"client_event\", \"channel_occupied\"] # from appManager.array.apps.0.webhooks.0.event_types",
        "# filter.prefix = \"beta-\" # from appManager.array.apps.0.webhooks.0.filter.channel_name_starts_with",
        "# headers = { X-Auth = \"\" } # from appManager.array.apps.0.webhooks.0.headers",
        "events = [\"cache_miss\"] # from appManager.array.apps.0.webhooks.2.event_types",
        "batch_milliseconds = 70 # from webhooks.batching.duration",
        "# - app_manager.array.apps.0.webhooks.2: no such events are told here: \"warp\"",
        "# - appManager.array.apps.0.webhooks.2.headers.Content-Type: Content-Type is set by Soundpost and cannot be another's",
    ] {
        assert_eq!(line(&imported, expected.split(" #").next().unwrap()), expected);
    }
}

#[test]
fn what_sockudos_webhooks_ask_for_and_we_lack_is_said() {
    let imported = imported("config.toml", SOCKUDO);
    for expected in [
        "# This webhook is not told: filter.channel_pattern has no counterpart, and without it more would be told; fill in \
         filter, then take away the # of its lines",
        "# url = \"https://app.test/some?\" # from app_manager.array.apps.0.policy.webhooks.1.url",
        "# headers = { Authorization = \"\" } # from app_manager.array.apps.0.policy.webhooks.1.headers",
        "batch_milliseconds = 50 # Sockudo's default",
        "batch_events = 200 # from webhooks.batching.size, which is 500",
        "# - app_manager.array.apps.0.policy.webhooks.0: no such events are told here: \"message_version_created\"",
        "# - app_manager.array.apps.0.policy.webhooks.0: an event is tried again for 5 minutes, with 10 s for each attempt",
        "# - app_manager.array.apps.0.policy.webhooks.2: a webhook that is told of none of our events is left out",
    ] {
        assert_eq!(line(&imported, expected.split(" #").next().unwrap()), expected);
    }
    let token = SOCKUDO.replace("^a\" }", "\" }").replace("Bearer hush", "Bearer ${TOKEN}");
    let lacking = import("config.toml", &token.replace("channel_pattern", "channel_prefix"), None).unwrap();
    line(
        &lacking,
        "# This webhook is not told: fill in the header Authorization, from TOKEN, which stands in no .env",
    );
}
