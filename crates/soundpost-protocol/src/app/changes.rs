//! In what two versions of an app differ, by the configuration's names.

use super::{App, Limits};

impl App {
    /// The settings that are others in `new`, in the order of the configuration's page; none if nothing has changed.
    /// Values are not told: some are secrets.
    pub fn changes(&self, new: &Self) -> Vec<&'static str> {
        // No `..`: a new field does not compile without its line.
        let Self {
            id,
            key,
            secret,
            previous_secret,
            enabled,
            tls_only,
            client_events,
            client_events_per_second,
            client_events_on_public,
            message_rate,
            allowed_origins,
            requests_per_second,
            connections_max,
            activity_timeout,
            ping_interval,
            pong_timeout,
            authorized_timeout,
            watchlists,
            subscription_count,
            terminate_presence,
            presence_leave_hold,
            cache_ttl,
            cache_bytes_max,
            timestamp_window,
            strict_info,
            webhooks,
            limits,
        } = self;
        let same_previous = match (previous_secret, &new.previous_secret) {
            (Some(old), Some(new)) => old.is_same(new),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let all = [
            ("id", *id == new.id),
            ("key", *key == new.key),
            ("secret", secret.is_same(&new.secret)),
            ("previous_secret", same_previous),
            ("enabled", *enabled == new.enabled),
            ("tls_only", *tls_only == new.tls_only),
            ("client_events", *client_events == new.client_events),
            ("client_events_per_second", *client_events_per_second == new.client_events_per_second),
            ("client_events_on_public", *client_events_on_public == new.client_events_on_public),
            ("messages_per_window", *message_rate == new.message_rate),
            ("allowed_origins", *allowed_origins == new.allowed_origins),
            ("connections_max", *connections_max == new.connections_max),
            ("requests_per_second", *requests_per_second == new.requests_per_second),
            ("activity_timeout_seconds", *activity_timeout == new.activity_timeout),
            ("ping_interval_seconds", *ping_interval == new.ping_interval),
            ("pong_timeout_seconds", *pong_timeout == new.pong_timeout),
            ("presence_leave_hold_milliseconds", *presence_leave_hold == new.presence_leave_hold),
            ("authorized_timeout_seconds", *authorized_timeout == new.authorized_timeout),
            ("watchlists", *watchlists == new.watchlists),
            ("terminate_presence", *terminate_presence == new.terminate_presence),
            ("subscription_count", *subscription_count == new.subscription_count),
            ("cache_ttl_seconds", *cache_ttl == new.cache_ttl),
            ("cache_bytes_max", *cache_bytes_max == new.cache_bytes_max),
            ("timestamp_window_seconds", *timestamp_window == new.timestamp_window),
            ("strict_info", *strict_info == new.strict_info),
            ("webhooks", *webhooks == new.webhooks),
        ];
        named(all).chain(limits.changes(&new.limits)).collect()
    }
}

impl Limits {
    fn changes(&self, new: &Self) -> impl Iterator<Item = &'static str> {
        let Self {
            message_bytes_max,
            event_data_bytes_max,
            channel_name_chars_max,
            event_name_chars_max,
            user_id_chars_max,
            user_info_bytes_max,
            presence_members_max,
            channels_per_connection_max,
        } = self;
        named([
            ("channels_per_connection_max", *channels_per_connection_max == new.channels_per_connection_max),
            ("message_bytes_max", *message_bytes_max == new.message_bytes_max),
            ("event_data_bytes_max", *event_data_bytes_max == new.event_data_bytes_max),
            ("channel_name_chars_max", *channel_name_chars_max == new.channel_name_chars_max),
            ("event_name_chars_max", *event_name_chars_max == new.event_name_chars_max),
            ("user_id_chars_max", *user_id_chars_max == new.user_id_chars_max),
            ("user_info_bytes_max", *user_info_bytes_max == new.user_info_bytes_max),
            ("presence_members_max", *presence_members_max == new.presence_members_max),
        ])
    }
}

fn named<const N: usize>(all: [(&'static str, bool); N]) -> impl Iterator<Item = &'static str> {
    all.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::app::{AppId, AppKey, AppSecret};

    #[test]
    fn changes_are_named_and_nothing_else_is() {
        let app = |secret| {
            App::new(AppId::parse("a").unwrap(), AppKey::parse("k").unwrap(), AppSecret::new(secret))
        };
        let old = app("the-secret-before");
        assert_eq!(old.changes(&app("the-secret-before")), [""; 0]);
        let mut new = app("the-secret-now");
        new.previous_secret = Some(old.secret.clone());
        new.enabled = false;
        new.limits.presence_members_max = NonZeroU32::new(5);
        let names = ["secret", "previous_secret", "enabled", "presence_members_max"];
        assert_eq!((old.changes(&new), new.changes(&old)), (names.to_vec(), names.to_vec()));
        let mut later = new.clone();
        later.previous_secret = Some(AppSecret::new("another"));
        assert_eq!(new.changes(&later), ["previous_secret"]);
    }
}
