//! Each kind with its exact bytes: nodes of two versions meet during every update.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{app::Limits, presence::Member};

const LIFE: NodeId = NodeId(0x0102_0304_0506_0708);
const SOCKET: SocketId = SocketId { left: 0x11, right: 0x22 };

/// Version, kind, flags, life, sequence 9, app `a`.
fn head(kind: u8, flags: u8) -> Vec<u8> {
    let mut head = vec![1, kind, flags, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9];
    head.extend_from_slice(b"\x01a");
    head
}

fn message(body: Body<'_>) -> Message<'_> {
    Message { app: "a", life: LIFE, sequence: 9, body }
}

fn change(change: Change) -> Body<'static> {
    Body::Notice(Notice::Change { follows: 8, change })
}

fn entry(data: &str) -> Entry {
    let member = Arc::new(Member::parse(data, &Limits::default()).unwrap());
    Entry { socket_id: SOCKET, joined_at: 0x33, member }
}

const EIGHT: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 8];
const SOCKET_BYTES: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0, 0x22];
const ENTRY_BYTES: &[u8] = b"\0\0\0\0\0\0\0\x11\0\0\0\0\0\0\0\x22\0\0\0\0\0\0\0\x33\x03\0\x0242\0\x04true";

#[test]
fn every_kind_has_these_bytes() {
    let number = r#"{"user_id":42,"user_info":true}"#;
    let text = r#"{"user_id":"42"}"#;
    let user_id = || entry(text).member.user_id.clone();
    let frame = b"\x81\x02{}";
    let leave = Change::Leave { socket_id: SOCKET, user_id: user_id() };
    let replace = |entries| Notice::Replace { predecessors: vec![NodeId(8)], count: 1, entries };
    let rows: Vec<(Body<'_>, u8, u8, Vec<&[u8]>)> = vec![
        (Body::Event { exclude: None, keep: None, frame }, 1, 0, vec![frame]),
        (Body::Event { exclude: Some(SOCKET), keep: None, frame }, 1, 1, vec![SOCKET_BYTES, frame]),
        (
            Body::Event { exclude: Some(SOCKET), keep: Some(7), frame },
            1,
            3,
            vec![SOCKET_BYTES, &[0, 0, 0, 7], frame],
        ),
        (change(Change::Join(entry(number))), 2, 0, vec![EIGHT, ENTRY_BYTES]),
        (change(leave), 3, 0, vec![EIGHT, SOCKET_BYTES, b"\0\x0242"]),
        (change(Change::Describe(entry(number))), 4, 0, vec![EIGHT, ENTRY_BYTES]),
        (Body::Notice(Notice::Change { follows: 0, change: Change::Count(5) }), 5, 0, vec![&[0, 0, 0, 5]]),
        (
            Body::Notice(replace(Some(vec![entry(number)]))),
            6,
            0,
            vec![&[1], EIGHT, &[0, 0, 0, 1], ENTRY_BYTES],
        ),
        (Body::Notice(replace(None)), 6, 1, vec![&[1], EIGHT, &[0, 0, 0, 1]]),
        (Body::Notice(Notice::Gone(NodeId(8))), 7, 0, vec![EIGHT]),
        (Body::Heartbeat(vec![("a", 3), ("bc", 0)]), 8, 0, vec![b"\x01a\0\0\0\x03\x02bc\0\0\0\0"]),
        (Body::Terminate { user_id: user_id(), present: true }, 9, 2, vec![b"\0\x0242"]),
        (
            Body::Terminate { user_id: entry(number).member.user_id.clone(), present: false },
            9,
            1,
            vec![b"\0\x0242"],
        ),
        (Body::Farewell, 10, 0, vec![]),
    ];
    for (body, kind, flags, rest) in rows {
        let bytes = [head(kind, flags), rest.concat()].concat();
        let message = message(body);
        assert_eq!(message.encode(), bytes, "{message:?}");
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        if !matches!(
            message.body,
            Body::Event { .. } | Body::Heartbeat(_) | Body::Notice(Notice::Replace { .. })
        ) {
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Message::decode(&longer), Err(MessageError::TooLong), "{message:?}");
        }
        for length in 0..head(kind, flags).len() + rest.concat().len() {
            let cut = Message::decode(&bytes[..length]);
            let whole_parts = matches!(message.body, Body::Event { .. } | Body::Heartbeat(_))
                || matches!(message.body, Body::Notice(Notice::Replace { .. }));
            assert!(
                cut == Err(MessageError::Truncated) || (whole_parts && cut.is_ok()),
                "{message:?} {length}"
            );
        }
    }
}

#[test]
fn what_a_later_version_says_is_unknown_and_not_an_error() {
    fn unknown(bytes: &[u8]) -> Result<Body<'_>, MessageError> {
        Message::decode(bytes).map(|message| message.body)
    }
    assert_eq!(unknown(&[2, 77]), Ok(Body::Unknown { version: 2, kind: 77 }));
    assert_eq!(unknown(&[0, 1, 9, 9, 9]), Ok(Body::Unknown { version: 0, kind: 1 }));
    let later = [head(11, 0xff), b"anything".to_vec()].concat();
    assert_eq!(unknown(&later), Ok(Body::Unknown { version: 1, kind: 11 }));
}

#[test]
fn what_no_node_says_is_refused() {
    let rows: &[(u8, u8, &[u8], MessageError)] = &[
        (1, 4, b"", MessageError::Flags),
        (7, 1, EIGHT, MessageError::Flags),
        (6, 0, &[5], MessageError::TooLong),
        (6, 0, &[0, 0, 0, 0, 0, 1], MessageError::Truncated),
        (8, 0, b"\x02a", MessageError::Truncated),
        (8, 0, b"\x01\xff\0\0\0\0", MessageError::NotText),
        (9, 0, b"\0\x01\xff", MessageError::NotText),
    ];
    for (kind, flags, rest, error) in rows {
        let bytes = [&head(*kind, *flags)[..], rest].concat();
        assert_eq!(Message::decode(&bytes), Err(*error), "{kind} {flags} {rest:?}");
    }
    let mut unknown_flag = ENTRY_BYTES[16..].to_vec();
    unknown_flag[8] = 4;
    assert_eq!(Entry::read(&ENTRY_BYTES[..16], &unknown_flag), Err(MessageError::Flags));
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    let deep = [&ENTRY_BYTES[16..29], &[1, 2], deep.as_bytes()].concat();
    assert_eq!(Entry::read(&ENTRY_BYTES[..16], &deep), Err(MessageError::NotText));
    let apps = b"\x01a\0\0\0\0".repeat(HEARTBEAT_APPS_MAX + 1);
    assert_eq!(Message::decode(&[head(8, 0), apps].concat()), Err(MessageError::TooLong));
}

#[test]
fn a_share_in_the_store_is_read_as_it_was_written() {
    let entry = entry(r#"{"user_id":42,"user_info":true}"#);
    assert_eq!(entry.value(), &ENTRY_BYTES[16..]);
    assert_eq!(super::super::share::field(SOCKET), ENTRY_BYTES[..16]);
    assert_eq!(Entry::read(&ENTRY_BYTES[..16], &entry.value()), Ok(entry.clone()));
    assert_eq!(Entry::read(&ENTRY_BYTES[..15], &entry.value()), Err(MessageError::Truncated));
    assert_eq!(Entry::read(&ENTRY_BYTES[..17], &entry.value()), Err(MessageError::TooLong));
}

fn entries() -> impl Strategy<Value = Entry> {
    let parts = (any::<(u64, u64, u64, bool)>(), "\\PC{1,20}", proptest::option::of("\\PC{0,30}"));
    parts.prop_filter_map("deep", |((left, right, joined_at, is_number), user_id, info)| {
        let user_id = UserId::from_parts(&user_id, is_number);
        let user_info = info.filter(|info| !crate::json::is_deeper_than(info, 128)).map(Into::into);
        let member = Arc::new(Member { user_id, user_info });
        Some(Entry { socket_id: SocketId { left, right }, joined_at, member })
    })
}

fn notices() -> impl Strategy<Value = Notice> {
    let changes = prop_oneof![
        entries().prop_map(Change::Join),
        entries().prop_map(Change::Describe),
        entries().prop_map(|entry| Change::Leave {
            socket_id: entry.socket_id,
            user_id: entry.member.user_id.clone()
        }),
    ];
    let lives = || any::<u64>().prop_map(NodeId);
    let replace = (
        proptest::collection::vec(lives(), 0..=PREDECESSORS_MAX),
        any::<u32>(),
        proptest::option::of(proptest::collection::vec(entries(), 0..5)),
    );
    prop_oneof![
        (any::<u64>(), changes).prop_map(|(follows, change)| Notice::Change { follows, change }),
        any::<u32>().prop_map(|count| Notice::Change { follows: 0, change: Change::Count(count) }),
        replace.prop_map(|(predecessors, count, entries)| Notice::Replace { predecessors, count, entries }),
        lives().prop_map(Notice::Gone),
    ]
}

proptest! {
    #[test]
    fn a_notice_is_read_as_it_was_written(notice in notices(), app in "[a-z]{0,9}", life: u64, sequence: u64) {
        let message = Message { app: &app, life: NodeId(life), sequence, body: Body::Notice(notice) };
        let bytes = message.encode();
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn an_event_is_a_slice_of_its_message(
        frame: Vec<u8>, exclude: Option<(u64, u64)>, keep: Option<u32>, app in "[a-z]{0,9}",
    ) {
        let exclude = exclude.map(|(left, right)| SocketId { left, right });
        let body = Body::Event { exclude, keep, frame: &frame };
        let bytes = Message { app: &app, life: LIFE, sequence: 1, body }.encode();
        let Body::Event { frame: read, .. } = Message::decode(&bytes).unwrap().body else { panic!("an event") };
        prop_assert_eq!(read, &frame[..]);
        prop_assert!(read.is_empty() || bytes.as_ptr_range().contains(&read.as_ptr()), "copied");
    }

    #[test]
    fn no_bytes_panic_and_what_is_read_is_written_alike(bytes: Vec<u8>, kind in 0_u8..12, flags in 0_u8..4) {
        let known = [&head(kind, flags)[..], &bytes].concat();
        for bytes in [&bytes, &known] {
            if let Ok(message) = Message::decode(bytes)
                && !matches!(message.body, Body::Unknown { .. })
            {
                prop_assert_eq!(&message.encode(), bytes);
            }
        }
    }
}

#[test]
fn the_length_of_an_event_and_the_place_of_its_stamp_are_known_before() {
    let frame = b"\x81\x02{}";
    for (exclude, keep) in [(None, None), (Some(SOCKET), None), (None, Some(7)), (Some(SOCKET), Some(7))] {
        let bytes = message(Body::Event { exclude, keep, frame }).encode();
        let expected = Message::event_bytes("a", exclude.is_some(), keep.is_some(), frame.len());
        assert_eq!(bytes.len(), expected);
        let stamp = [LIFE.0.to_be_bytes(), 9_u64.to_be_bytes()].concat();
        assert_eq!(bytes[STAMP], stamp);
    }
}
