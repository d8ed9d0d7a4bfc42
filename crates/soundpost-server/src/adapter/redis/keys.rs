//! The names of everything in Redis. They are built and never parsed: who hears a topic keeps what it is about. Only of the
//! tags in an index it is read again which channel they are about.
//!
//! `N` is `prefix:database:channel`, for topics know no databases. What belongs to one channel carries the tag
//! `{app/channel}`, so that a Redis Cluster has it on one server and one script can touch all of it; what belongs to a
//! user who signs in, `{app/@user/id}`; to a webhook, `{app/@webhook/id}`. No name of a channel and no id of an app has a
//! slash or a brace in it. A user's id may be any text; behind the last brace of a name stands only its kind, so where the
//! id ends is certain, too.
//!
//! | name | what |
//! |---|---|
//! | `N:TAG:t` | topic |
//! | `N:TAG:s:LIFE` | share of one life: a hash |
//! | `N:TAG:l` | which lives have a share, with their counts: a hash |
//! | `N:TAG:d:LIFE` | tombstone: that life is over |
//! | `N:TAG:k` | kept event: the message |
//! | `N:TAG:u` | for webhooks: how many connections each user of a presence channel has, over all lives: a hash |
//! | `N:TAG:h` | for webhooks: departures that are held, by when they are due: a sorted set |
//! | `N:TAG:n` | for webhooks: the count of subscriptions that was told last, and when |
//! | `N:TAG:o` | for webhooks, on a Redis Cluster: events that are to be carried to the streams: a list |
//! | `N:TAG:b` | for webhooks, on a Redis Cluster: which life carries them |
//! | `N:HOOK:q` | what a webhook is to be sent: a stream |
//! | `N:HOOK:m` | how much of it there is: a hash, `bytes` of JSON in the stream, how many events found no room and were `lost`, how many of these a sender has counted (`told`), and who held the lease `last` |
//! | `N:HOOK:x:CHANNEL` | a cache miss of this channel was told within the last second |
//! | `N:HOOK:o` | lease of the life that sends it |
//! | `N:{nodes}:control` | topic of what concerns all nodes |
//! | `N:{nodes}:lease:LIFE` | lease |
//! | `N:{nodes}:lives` | all lives: a sorted set, by when they were last seen |
//! | `N:{LIFE}:i` | index: the tags in which that life may have a share |
//!
//! A life is 16 hexadecimal digits, and so is the id of a webhook. `HOOK` is a webhook's tag.

use bytes::Bytes;
use soundpost_protocol::{app::AppId, presence::NodeId, webhook::WebhookId};

use crate::{adapter::Subject, apps::UserKey, config::RedisSettings};

/// What the names that concern all nodes have in common.
pub(super) const NODES: &[u8] = b"{nodes}";
/// What stands between an app's id and a user's in a tag.
const USER: &str = "@user/";
/// What stands between an app's id and a webhook's in a tag.
const WEBHOOK: &str = "@webhook/";

/// The names of one deployment.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// `N:`
    base: Box<str>,
}

/// A life as it stands in names.
pub(super) fn hex(life: NodeId) -> String {
    format!("{:016x}", life.0)
}

/// The life that this names; `None` if it is not what [`hex`] writes.
pub(super) fn life(text: &[u8]) -> Option<NodeId> {
    let text = str::from_utf8(text).ok().filter(|text| text.len() == 16)?;
    u64::from_str_radix(text, 16).ok().map(NodeId)
}

/// The tag of a subject of this app.
pub(super) fn tag(app: &AppId, subject: &Subject) -> Bytes {
    match subject {
        Subject::Channel(key) => channel_tag(app, key.name.as_str()),
        Subject::User(user) => user_tag(app, user),
    }
}

/// The tag of a channel, or with a part of a name, and without its last byte, what the tags of all such begin with.
pub(super) fn channel_tag(app: &AppId, channel: &str) -> Bytes {
    format!("{{{}/{channel}}}", app.as_str()).into()
}

/// The app and the channel of a tag that [`channel_tag`] has made; `None` for the others.
pub(super) fn channel_of(tag: &[u8]) -> Option<(&str, &str)> {
    let text = str::from_utf8(tag).ok()?.strip_prefix('{')?.strip_suffix('}')?;
    text.split_once('/').filter(|(_, channel)| !channel.contains('/'))
}

fn user_tag(app: &AppId, user: &UserKey) -> Bytes {
    format!("{{{}/{USER}{}}}", app.as_str(), user.id.as_str()).into()
}

/// What belongs to one webhook in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebhookKeys {
    /// Says on a Redis Cluster where it all is.
    pub(super) tag: Bytes,
    /// What the names begin with, for the scripts.
    pub(super) base: Bytes,
    /// The stream of what it is to be sent.
    pub(super) stream: Bytes,
    /// How much that is, and more about it: a hash.
    pub(super) fill: Bytes,
    /// The lease of the life that sends it.
    pub(super) lease: Bytes,
}

/// The tag of a webhook of this app.
fn webhook_tag(app: &AppId, webhook: WebhookId) -> Bytes {
    format!("{{{}/{WEBHOOK}{webhook}}}", app.as_str()).into()
}

impl Names {
    /// For these settings.
    pub(super) fn new(settings: &RedisSettings) -> Self {
        let RedisSettings { prefix, database, channel, .. } = settings;
        Self { base: format!("{prefix}:{database}:{channel}:").into() }
    }

    fn of(&self, tag: &[u8], kind: &[u8], life: Option<NodeId>) -> Bytes {
        let mut name = Vec::with_capacity(self.base.len() + tag.len() + kind.len() + 17);
        name.extend_from_slice(self.base.as_bytes());
        name.extend_from_slice(tag);
        name.extend_from_slice(kind);
        if let Some(life) = life {
            name.push(b':');
            name.extend_from_slice(hex(life).as_bytes());
        }
        name.into()
    }

    /// The topic of a subject.
    pub(super) fn topic(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":t", None)
    }

    /// The share of a life.
    pub(super) fn share(&self, tag: &[u8], life: NodeId) -> Bytes {
        self.of(tag, b":s", Some(life))
    }

    /// What the names of all shares of a subject begin with.
    pub(super) fn shares(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":s:", None)
    }

    /// Which lives have a share.
    pub(super) fn sharers(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":l", None)
    }

    /// The tombstone of a life.
    pub(super) fn tombstone(&self, tag: &[u8], life: NodeId) -> Bytes {
        self.of(tag, b":d", Some(life))
    }

    /// What the names of all tombstones of a subject begin with.
    pub(super) fn tombstones(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":d:", None)
    }

    /// The kept event of a cache channel.
    pub(super) fn kept(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":k", None)
    }

    /// What the names of all that belongs to a tag begin with. Scripts put the kind behind it.
    pub(super) fn base(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":", None)
    }

    /// How many connections each user has.
    pub(super) fn users(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":u", None)
    }

    /// What is held for webhooks.
    pub(super) fn held(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":h", None)
    }

    /// What is to be carried to the streams of webhooks.
    pub(super) fn outgoing(&self, tag: &[u8]) -> Bytes {
        self.of(tag, b":o", None)
    }

    /// What belongs to a webhook.
    pub(super) fn webhook(&self, app: &AppId, webhook: WebhookId) -> WebhookKeys {
        let tag = webhook_tag(app, webhook);
        let of = |kind: &[u8]| self.of(&tag, kind, None);
        let (stream, fill, lease) = (of(b":q"), of(b":m"), of(b":o"));
        WebhookKeys { base: self.base(&tag), stream, fill, lease, tag }
    }

    /// The topic of what concerns all nodes.
    pub(super) fn control(&self) -> Bytes {
        self.of(NODES, b":control", None)
    }

    /// The lease of a life.
    pub(super) fn lease(&self, life: NodeId) -> Bytes {
        self.of(NODES, b":lease", Some(life))
    }

    /// What the names of all leases begin with.
    pub(super) fn leases(&self) -> Bytes {
        self.of(NODES, b":lease:", None)
    }

    /// All lives.
    pub(super) fn lives(&self) -> Bytes {
        self.of(NODES, b":lives", None)
    }

    /// The index of a life.
    pub(super) fn index(&self, life: NodeId) -> Bytes {
        self.of(index_tag(life).as_bytes(), b":i", None)
    }
}

/// The tag of a life's index.
pub(super) fn index_tag(life: NodeId) -> String {
    format!("{{{}}}", hex(life))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use soundpost_protocol::{
        app::{App, AppKey, AppSecret, Limits},
        channel::ChannelName,
        presence::UserId,
    };

    use super::*;
    use crate::{
        apps::{Apps, ChannelKey},
        config::{RedisAddress, RedisServers},
    };

    fn names() -> Names {
        Names::new(&RedisSettings::new(RedisServers::Standalone(RedisAddress::Tcp(
            "127.0.0.1".to_owned(),
            6379,
        ))))
    }

    #[test]
    fn what_holds_a_tag_together_is_in_no_id_of_an_app_and_no_name_of_a_channel() {
        for odd in ["/", "{", "}"] {
            assert!(AppId::parse(&format!("a{odd}b")).is_err(), "{odd}");
            for begin in ["a", "private-", "presence-", "#server-to-user-"] {
                let name = format!("{begin}{odd}b");
                assert!(ChannelName::parse(&name, &Limits::default()).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn a_tag_says_which_channel_it_is_about() {
        let app = AppId::parse("one").unwrap();
        assert_eq!(channel_of(&channel_tag(&app, "presence-@user")), Some(("one", "presence-@user")));
        assert_eq!(channel_of(&webhook_tag(&app, WebhookId(1))), None);
        for other in ["{one/@user/1}", "{one/@user/}", "{nodes}", "one/a", "{one/a", "", "{one/\u{e9}/}"] {
            assert_eq!(channel_of(other.as_bytes()), None, "{other}");
        }
        assert_eq!(channel_of(b"{one/\xff}"), None);
    }

    #[test]
    fn no_two_things_share_a_name() {
        let app = |id: &str| {
            App::new(AppId::parse(id).unwrap(), AppKey::parse(id).unwrap(), AppSecret::new("secret"))
        };
        let apps = Apps::new(vec![app("a"), app("nodes"), app("0000000000000001")], 1);
        let names = names();
        let (mut all, mut count) = (HashSet::new(), 0);
        let mut add = |name: Bytes| {
            count += 1;
            assert!(all.insert(name.clone()), "{name:?} twice");
        };
        let lives = [NodeId(1), NodeId(u64::MAX)];
        for app in apps.table().all() {
            let channels =
                ["@user", "@user,1", "@webhook", "nodes", "control", "0000000000000001", "#server-to-user-1"];
            let channels = channels.map(|name| {
                let name = ChannelName::parse(name, &Limits::default()).unwrap();
                Subject::Channel(ChannelKey { app: app.index, name }.into())
            });
            let users = [
                "1",
                "}",
                "1}:t",
                "1}:s",
                "1}:s:0000000000000001",
                "1}:d",
                "/",
                "@user/1",
                "@webhook/1",
                "{a/1}",
            ];
            let users = users.map(|id| Subject::User(UserKey { app: app.index, id: UserId::from_text(id) }));
            for subject in channels.iter().chain(&users) {
                let tag = tag(&app.app.id, subject);
                [names.topic(&tag), names.sharers(&tag), names.kept(&tag)].into_iter().for_each(&mut add);
                [names.users(&tag), names.held(&tag), names.outgoing(&tag)].into_iter().for_each(&mut add);
                // Scripts build these.
                let base = names.base(&tag);
                ["n", "b"].into_iter().for_each(|kind| add([&base, kind.as_bytes()].concat().into()));
                for life in lives {
                    [names.share(&tag, life), names.tombstone(&tag, life)].into_iter().for_each(&mut add);
                }
            }
            for webhook in [WebhookId(1), WebhookId(u64::MAX)] {
                let keys = names.webhook(&app.app.id, webhook);
                [keys.stream, keys.fill, keys.lease].into_iter().for_each(&mut add);
            }
        }
        [names.control(), names.lives()].into_iter().for_each(&mut add);
        for life in lives {
            [names.lease(life), names.index(life)].into_iter().for_each(&mut add);
        }
        assert_eq!(count, 3 * (17 * 12 + 2 * 3) + 6);
    }
}
