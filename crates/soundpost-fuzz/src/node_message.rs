//! What other nodes say: nobody else should be on their topics, but whoever is must not be able to harm a node.

use soundpost_protocol::cluster::{
    message::{Body, HEARTBEAT_APPS_MAX, Message, Notice, PREDECESSORS_MAX},
    share::{Change, Entry, field},
};

use crate::Outcome;

/// The input is one message.
pub fn node_message(data: &[u8]) -> Outcome {
    let message = match Message::decode(data) {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error:?}");
            return Outcome::Refused;
        }
    };
    match &message.body {
        Body::Unknown { version, kind } => {
            assert_eq!(data.get(..2), Some(&[*version, *kind][..]));
            return Outcome::Refused;
        }
        Body::Event { frame, .. } => {
            assert!(frame.is_empty() || data.as_ptr_range().contains(&frame.as_ptr()), "copied");
        }
        Body::Notice(notice) => check_notice(notice),
        Body::Heartbeat(apps) => assert!(apps.len() <= HEARTBEAT_APPS_MAX, "{}", apps.len()),
        Body::Terminate { .. } | Body::Farewell => {}
    }
    assert_eq!(message.encode(), data, "{message:?}");
    Outcome::Accepted
}

fn check_notice(notice: &Notice) {
    match notice {
        Notice::Change { change: Change::Join(entry) | Change::Describe(entry), .. } => check_entry(entry),
        Notice::Change { change: Change::Leave { .. } | Change::Count(_), .. } | Notice::Gone(_) => {}
        Notice::Replace { predecessors, entries, .. } => {
            assert!(predecessors.len() <= PREDECESSORS_MAX, "{predecessors:?}");
            entries.iter().flatten().for_each(check_entry);
            assert!(notice.weight() > entries.as_ref().map_or(0, Vec::len), "{notice:?}");
        }
    }
}

/// What travels in a message is stored in the same form.
fn check_entry(entry: &Entry) {
    let read = Entry::read(&field(entry.socket_id), &entry.value());
    assert_eq!(read.as_ref(), Ok(entry));
}
