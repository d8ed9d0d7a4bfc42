//! Which topics this node hears, what each is about, and which events of each have come.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::quality::RandomState;
use soundpost_protocol::presence::NodeId;

use crate::adapter::Subject;

/// Lives whose events are counted on one topic. With more, those not heard from for longest are forgotten.
const LIVES_MAX: usize = 64;

/// The topics of one connected stretch.
#[derive(Debug, Default)]
pub(super) struct Topics(HashMap<Bytes, Topic, RandomState>);

#[derive(Debug)]
struct Topic {
    subject: Subject,
    /// Of the last request; `None`: nobody wants it any more.
    ticket: Option<u64>,
    /// Requests that are not acknowledged yet.
    under_way: u32,
    /// Who has published, the last one first, and the number of the last event of each.
    lasts: Vec<(NodeId, u64)>,
}

/// What the number of an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// It is the next one, or the first that is heard.
    Fine,
    /// So many before it are missing.
    Gap(u64),
    /// It was here before.
    Duplicate,
}

impl Topics {
    /// The topic is asked for.
    pub(super) fn subscribe(&mut self, name: Bytes, subject: Subject, ticket: u64) {
        let fresh = || Topic { subject, ticket: None, under_way: 0, lasts: Vec::new() };
        let topic = self.0.entry(name).or_insert_with(fresh);
        topic.ticket = Some(ticket);
        topic.under_way += 1;
    }

    /// The topic is given up.
    pub(super) fn unsubscribe(&mut self, name: &Bytes) {
        let Some(topic) = self.0.get_mut(name) else { return };
        (topic.ticket, topic.lasts) = (None, Vec::new());
        // What is still to be acknowledged must not be taken for the answer to a later request.
        if topic.under_way == 0 {
            self.0.remove(name);
        }
    }

    /// A request was acknowledged: what to tell whom, if it was the last one.
    pub(super) fn acknowledged(&mut self, name: &Bytes) -> Option<(&Subject, u64)> {
        let topic = self.0.get_mut(name)?;
        topic.under_way = topic.under_way.saturating_sub(1);
        if topic.under_way > 0 {
            return None;
        }
        if topic.ticket.is_none() {
            self.0.remove(name);
            return None;
        }
        let topic = self.0.get(name)?;
        topic.ticket.map(|ticket| (&topic.subject, ticket))
    }

    /// What a topic that is heard is about.
    pub(super) fn subject(&self, name: &Bytes) -> Option<&Subject> {
        let topic = self.0.get(name)?;
        // Also while it is asked for once more, as under a new life: it is heard all the time.
        topic.ticket.is_some().then_some(&topic.subject)
    }

    /// Whether a topic is wanted, and every request for it was acknowledged.
    pub(super) fn is_settled(&self, name: &Bytes) -> bool {
        self.0.get(name).is_some_and(|topic| topic.under_way == 0 && topic.ticket.is_some())
    }

    /// An event has come: what the topic is about, and what the event's number says; `None` if the topic is not heard.
    pub(super) fn count(&mut self, name: &Bytes, life: NodeId, sequence: u64) -> Option<(&Subject, Number)> {
        let Topic { subject, lasts, .. } = self.0.get_mut(name).filter(|topic| topic.ticket.is_some())?;
        Some((subject, number(lasts, life, sequence)))
    }

    /// The number of the last event of this life that was heard.
    pub(super) fn last(&self, name: &Bytes, life: NodeId) -> Option<u64> {
        let lasts = &self.0.get(name)?.lasts;
        lasts.iter().find(|(known, _)| *known == life).map(|(_, last)| *last)
    }
}

/// What the number of an event says, which is noted.
fn number(lasts: &mut Vec<(NodeId, u64)>, life: NodeId, sequence: u64) -> Number {
    let Some(at) = lasts.iter().position(|(known, _)| *known == life) else {
        lasts.truncate(LIVES_MAX - 1);
        lasts.insert(0, (life, sequence));
        return Number::Fine;
    };
    lasts.get_mut(..=at).unwrap_or_default().rotate_right(1);
    let Some((_, last)) = lasts.first_mut() else { return Number::Fine };
    let before = *last;
    if sequence <= before && sequence != 1 {
        return Number::Duplicate;
    }
    *last = sequence;
    // Whoever starts at 1 has forgotten the topic, or nothing was heard of it for long.
    if sequence == 1 || sequence == before + 1 { Number::Fine } else { Number::Gap(sequence - before - 1) }
}

#[cfg(test)]
mod tests {
    use soundpost_protocol::{
        app::{App, AppId, AppKey, AppSecret},
        presence::UserId,
    };

    use super::*;
    use crate::apps::{Apps, UserKey};

    const NAME: Bytes = Bytes::from_static(b"topic");
    const LIFE: NodeId = NodeId(1);

    fn subject() -> Subject {
        let (id, key) = (AppId::parse("a").unwrap(), AppKey::parse("k").unwrap());
        let apps = Apps::new(vec![App::new(id, key, AppSecret::new("s"))], 1);
        let app = apps.table().all()[0].index;
        Subject::User(UserKey { app, id: UserId::from_text("u") })
    }

    #[test]
    fn only_the_last_request_of_a_topic_is_answered() {
        let mut topics = Topics::default();
        topics.subscribe(NAME, subject(), 1);
        topics.unsubscribe(&NAME);
        topics.subscribe(NAME, subject(), 2);
        assert_eq!(topics.acknowledged(&NAME), None);
        assert_eq!(topics.acknowledged(&NAME), Some((&subject(), 2)));
        assert_eq!(topics.subject(&NAME), Some(&subject()));
        topics.subscribe(NAME, subject(), 9);
        assert_eq!(topics.subject(&NAME), Some(&subject()), "asking once more interrupts nothing");
        assert!(!topics.is_settled(&NAME));
        assert_eq!(topics.acknowledged(&NAME), Some((&subject(), 9)));
        topics.unsubscribe(&NAME);
        assert!(topics.0.is_empty());
        topics.subscribe(NAME, subject(), 3);
        topics.unsubscribe(&NAME);
        assert_eq!(topics.acknowledged(&NAME), None);
        assert!(topics.0.is_empty());
    }

    #[test]
    fn numbers_tell_gaps_and_duplicates() {
        let mut topics = Topics::default();
        topics.subscribe(NAME, subject(), 1);
        topics.acknowledged(&NAME);
        for (sequence, expected) in [
            (5, Number::Fine),
            (6, Number::Fine),
            (6, Number::Duplicate),
            (5, Number::Duplicate),
            (9, Number::Gap(2)),
            (10, Number::Fine),
            (1, Number::Fine),
            (2, Number::Fine),
        ] {
            assert_eq!(topics.count(&NAME, LIFE, sequence).unwrap().1, expected, "{sequence}");
        }
        assert_eq!(topics.count(&NAME, NodeId(2), 4).unwrap().1, Number::Fine, "each life counts for itself");
        assert_eq!(topics.last(&NAME, LIFE), Some(2));
        for life in 3..200 {
            topics.count(&NAME, NodeId(life), 1);
        }
        assert!(topics.0.get(&NAME).unwrap().lasts.len() <= LIVES_MAX);
    }
}
