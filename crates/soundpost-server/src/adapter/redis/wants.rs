//! What the webhooks of an app want to know of a channel, as scripts read it.

use bytes::Bytes;
use soundpost_protocol::{
    app::App,
    channel::ChannelName,
    webhook::{event::EventKind, hold::HOLD},
};

use super::keys::Names;

/// Between two counts of one channel, beyond the first hundred connections, milliseconds.
const PAUSE_MILLISECONDS: u32 = 5000;

/// The kinds that follow from shares, with their letters. Client events and cache misses do not.
const LETTERS: [(EventKind, char); 5] = [
    (EventKind::ChannelOccupied, 'o'),
    (EventKind::ChannelVacated, 'v'),
    (EventKind::MemberAdded, 'a'),
    (EventKind::MemberRemoved, 'r'),
    (EventKind::SubscriptionCount, 'n'),
];

/// What the webhooks of `app` want to know of a channel, as the scripts take it. Empty: nothing.
///
/// `FLAGS HOLD PAUSE CHANNEL`, then of each webhook that wants anything a line `LETTERS NAME`, where `NAME` is what the names
/// of all that belongs to it begin with. Flags: `c` who cares about the channel, `m` about its members, `n` about counts.
/// Letters: `o` occupied, `v` vacated, `a` added, `r` removed, `n` count.
pub(super) fn wants(names: &Names, app: &App, channel: &ChannelName) -> Bytes {
    if app.webhooks.is_empty() {
        return Bytes::new();
    }
    let is_presence = channel.kind().is_presence();
    let has = |kind: EventKind| match kind {
        EventKind::MemberAdded | EventKind::MemberRemoved => is_presence,
        EventKind::SubscriptionCount => app.subscription_count && !is_presence,
        EventKind::ChannelOccupied
        | EventKind::ChannelVacated
        | EventKind::ClientEvent
        | EventKind::CacheMiss => true,
    };
    let (mut all, mut lines) = (String::new(), String::new());
    for webhook in &app.webhooks {
        let wanted = LETTERS.iter().filter(|(kind, _)| has(*kind) && webhook.target.wants(*kind, channel));
        let letters: String = wanted.map(|(_, letter)| letter).collect();
        if !letters.is_empty() {
            let base = names.webhook(&app.id, webhook.id).base;
            lines.extend(["\n", &letters, " ", &String::from_utf8_lossy(&base)]);
            all.push_str(&letters);
        }
    }
    let flags = [("ov", 'c'), ("ar", 'm'), ("n", 'n')];
    let flags = flags.iter().filter(|(letters, _)| all.contains(|c| letters.contains(c)));
    let flags: String = flags.map(|(_, flag)| flag).collect();
    if flags.is_empty() {
        return Bytes::new();
    }
    let (hold, channel) = (HOLD.as_millis(), channel.as_str());
    format!("{flags} {hold} {PAUSE_MILLISECONDS} {channel}{lines}").into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use soundpost_protocol::{
        app::{AppId, AppKey, AppSecret, Limits},
        webhook::{
            Carrier, HttpTarget, Webhook,
            target::{EventKinds, ExtraHeaders, Filter, Target, TargetUrl},
        },
    };

    use super::*;
    use crate::config::{RedisAddress, RedisServers, RedisSettings};

    fn webhook(host: &str, events: &[&str], prefix: &str) -> Arc<Webhook> {
        let events = EventKinds::parse(events.iter().copied()).unwrap();
        let target = Target { events, filter: Filter::new(prefix, "").unwrap(), ..Target::default() };
        let http = HttpTarget {
            url: TargetUrl::parse(&format!("http://{host}/")).unwrap(),
            headers: ExtraHeaders::default(),
            ca: None,
            refuses_private: false,
        };
        Arc::new(Webhook::new(target, Carrier::Http(http)))
    }

    #[test]
    fn each_webhook_is_named_with_what_it_wants_of_the_channel() {
        let address = RedisAddress::Tcp("127.0.0.1".to_owned(), 6379);
        let names = Names::new(&RedisSettings::new(RedisServers::Standalone(address)));
        let (id, key) = (AppId::parse("one").unwrap(), AppKey::parse("key").unwrap());
        let mut app = App::new(id, key, AppSecret::new("secret"));
        let wants = |app: &App, name: &str| {
            let channel = ChannelName::parse(name, &Limits::default()).unwrap();
            String::from_utf8(wants(&names, app, &channel).to_vec()).unwrap()
        };
        assert_eq!(wants(&app, "orders"), "");
        let all = ["channel_occupied", "channel_vacated", "member_added", "member_removed"];
        let everything = webhook("a", &[&all[..], &["subscription_count", "cache_miss"]].concat(), "");
        let counts = webhook("b", &["subscription_count"], "");
        let rooms = webhook("c", &["member_removed", "client_event"], "presence-");
        let at = |webhook: &Webhook| format!("soundpost:0:reverb:{{one/@webhook/{}}}:", webhook.id);
        let [all_at, counts_at, rooms_at] = [&everything, &counts, &rooms].map(|webhook| at(webhook));
        app.webhooks = vec![everything, counts, rooms];
        assert_eq!(wants(&app, "orders"), format!("c 3000 5000 orders\nov {all_at}"));
        let expected = format!("cm 3000 5000 presence-a\novar {all_at}\nr {rooms_at}");
        assert_eq!(wants(&app, "presence-a"), expected);
        assert_eq!(wants(&app, "#server-to-user-1"), "", "nobody is told of these");
        app.subscription_count = true;
        let expected = format!("cn 3000 5000 orders\novn {all_at}\nn {counts_at}");
        assert_eq!(wants(&app, "orders"), expected);
        app.webhooks.truncate(0);
        app.webhooks.push(webhook("d", &["cache_miss", "client_event"], ""));
        assert_eq!(wants(&app, "presence-a"), "", "workers say these");
    }
}
