use proptest::prelude::*;

use super::*;
use crate::{
    close::CloseReason,
    websocket::{Opcode, client_frame},
};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MAX: usize = 70_000;

/// A [`Message`] that outlives its decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Message<'_>> for Heard {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_owned()),
            Message::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Message::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Message::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Message::Close(reason) => Self::Close(reason.map(|(code, text)| (code, text.to_owned()))),
        }
    }
}

type Outcome = (Vec<Heard>, Result<(), Violation>);

fn feed(decoder: &mut Decoder, part: &[u8], max: usize, heard: &mut Vec<Heard>) -> Result<(), Violation> {
    let mut part = part.to_vec();
    let mut rest = &mut part[..];
    loop {
        match decoder.next(&mut rest, max) {
            Ok(Some(message)) => heard.push(message.into()),
            Ok(None) => {
                assert!(rest.is_empty(), "all input is used up");
                return Ok(());
            }
            Err(violation) => {
                assert!(rest.is_empty(), "what follows a violation is dropped");
                assert_eq!(decoder.next(&mut rest, max), Err(violation), "a violation stays");
                assert!(decoder.partial.is_none(), "a violation frees what was kept");
                return Err(violation);
            }
        }
    }
}

fn decode<'a>(role: Role, max: usize, parts: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut decoder, mut heard) = (Decoder::new(role), Vec::new());
    for part in parts {
        if let Err(violation) = feed(&mut decoder, part, max, &mut heard) {
            return (heard, Err(violation));
        }
    }
    (heard, Ok(()))
}

/// Decodes the input whole, cut once at every position, and byte by byte: the outcome is one.
fn decode_every_way(role: Role, max: usize, input: &[u8]) -> Outcome {
    let whole = decode(role, max, [input]);
    for cut in (0..input.len()).filter(|cut| *cut < 200 || cut % 9973 == 0) {
        let (first, second) = input.split_at(cut);
        assert_eq!(
            decode(role, max, [first, second]),
            whole,
            "cut at {cut}: {:x?}",
            &input[..input.len().min(40)]
        );
    }
    assert_eq!(
        decode(role, max, input.chunks(1)),
        whole,
        "byte by byte: {:x?}",
        &input[..input.len().min(40)]
    );
    whole
}

fn heard_text(text: &str) -> Heard {
    Heard::Text(text.to_owned())
}

/// A masked frame that is not final.
fn fragment(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = client_frame(opcode, payload, MASK);
    frame[0] &= 0x7f;
    frame
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    client_frame(opcode, payload, MASK)
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(Opcode::Close, &[&code.to_be_bytes(), reason].concat())
}

/// A header alone: two bytes, the length as written, a mask of zeros.
fn header(first: u8, second: u8, length: &[u8]) -> Vec<u8> {
    [&[first, second][..], length, &[0; 4]].concat()
}

#[test]
fn an_idle_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 24, "{}", size_of::<Decoder>());
    assert!(size_of::<Partial>() <= 96, "{}", size_of::<Partial>());
}

#[test]
fn messages_come_out_whole() {
    use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
    let long = "é".repeat(35_000);
    for (frames, expected) in [
        (vec![frame(Text, b"Hello")], vec![heard_text("Hello")]),
        (vec![frame(Text, b"")], vec![heard_text("")]),
        (vec![frame(Binary, &[0, 255])], vec![Heard::Binary(vec![0, 255])]),
        (vec![frame(Text, b"a"), frame(Text, b"b")], vec![heard_text("a"), heard_text("b")]),
        (vec![frame(Text, &[b'x'; 125])], vec![heard_text(&"x".repeat(125))]),
        (vec![frame(Text, &[b'x'; 126])], vec![heard_text(&"x".repeat(126))]),
        (vec![frame(Text, long.as_bytes()), frame(Text, b"b")], vec![heard_text(&long), heard_text("b")]),
        (vec![fragment(Text, b"Hel"), frame(Continuation, b"lo")], vec![heard_text("Hello")]),
        (
            vec![fragment(Text, b""), fragment(Continuation, b""), frame(Continuation, b"")],
            vec![heard_text("")],
        ),
        (
            vec![
                fragment(Binary, &[1]),
                fragment(Continuation, &[2]),
                frame(Continuation, &[]),
                frame(Text, b"t"),
            ],
            vec![Heard::Binary(vec![1, 2]), heard_text("t")],
        ),
        (
            // A code point over four fragments, with a ping inside it.
            vec![
                fragment(Text, &[0xf0]),
                fragment(Continuation, &[0x9f]),
                frame(Ping, b"in between"),
                fragment(Continuation, &[0x98]),
                frame(Pong, b""),
                frame(Continuation, &[0x80]),
                frame(Ping, b"after"),
            ],
            vec![
                Heard::Ping(b"in between".to_vec()),
                Heard::Pong(vec![]),
                heard_text("😀"),
                Heard::Ping(b"after".to_vec()),
            ],
        ),
        (vec![frame(Ping, &[7; 125])], vec![Heard::Ping(vec![7; 125])]),
        (vec![frame(Pong, &[0xff])], vec![Heard::Pong(vec![0xff])]),
        (vec![frame(Close, b"")], vec![Heard::Close(None)]),
        (vec![close(1000, b"")], vec![Heard::Close(Some((1000, String::new())))]),
        (vec![close(4200, "bé".as_bytes())], vec![Heard::Close(Some((4200, "bé".to_owned())))]),
        // What follows a close is ignored, be it broken.
        (
            vec![close(1000, b"x"), frame(Text, b"t"), vec![0xff; 20]],
            vec![Heard::Close(Some((1000, "x".to_owned())))],
        ),
        (vec![fragment(Text, b"a"), frame(Close, b""), frame(Continuation, b"b")], vec![Heard::Close(None)]),
    ] {
        let input = frames.concat();
        assert_eq!(
            decode_every_way(Role::Server, MAX, &input),
            (expected, Ok(())),
            "{:x?}",
            &input[..input.len().min(40)]
        );
    }
}

#[test]
fn a_client_takes_unmasked_frames_only() {
    for (input, expected) in [
        (&[0x81, 2, b'h', b'i', 0x89, 0][..], (vec![heard_text("hi"), Heard::Ping(vec![])], Ok(()))),
        (&[0x01, 1, b'h', 0x80, 1, b'i'], (vec![heard_text("hi")], Ok(()))),
        (&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'], (vec![], Err(Violation::Masked))),
    ] {
        assert_eq!(decode_every_way(Role::Client, MAX, input), expected);
    }
}

#[test]
fn every_rule_of_framing_is_kept() {
    use Opcode::{Close, Continuation, Text};
    let not_minimal = |bytes| Violation::LengthNotMinimal { bytes };
    for (input, violation) in [
        (vec![0x81, 2, b'h', b'i'], Violation::Unmasked),
        (header(0xc1, 0x80, &[]), Violation::ReservedBits { bits: 0b100 }),
        (header(0xa9, 0x80, &[]), Violation::ReservedBits { bits: 0b010 }),
        (header(0x91, 0x80, &[]), Violation::ReservedBits { bits: 0b001 }),
        (header(0x83, 0x80, &[]), Violation::ReservedOpcode { bits: 3 }),
        (header(0x87, 0x80, &[]), Violation::ReservedOpcode { bits: 7 }),
        (header(0x8b, 0x80, &[]), Violation::ReservedOpcode { bits: 11 }),
        (header(0x8f, 0x80, &[]), Violation::ReservedOpcode { bits: 15 }),
        (header(0x08, 0x80, &[]), Violation::FragmentedControl),
        (header(0x09, 0x80, &[]), Violation::FragmentedControl),
        (header(0x0a, 0x80, &[]), Violation::FragmentedControl),
        (frame(Opcode::Ping, &[0; 126]), Violation::LongControl),
        (frame(Opcode::Pong, &[0; 126]), Violation::LongControl),
        (frame(Close, &[0; 126]), Violation::LongControl),
        (header(0x89, 0xff, &[0; 8]), Violation::LongControl),
        (frame(Continuation, b""), Violation::ContinuationWithoutStart),
        (fragment(Continuation, b"x"), Violation::ContinuationWithoutStart),
        ([fragment(Text, b"a"), frame(Text, b"b")].concat(), Violation::StartInsideMessage),
        ([fragment(Text, b"a"), fragment(Opcode::Binary, b"")].concat(), Violation::StartInsideMessage),
        (header(0x81, 0xfe, &[0, 0]), not_minimal(0)),
        (header(0x81, 0xfe, &[0, 125]), not_minimal(125)),
        (header(0x81, 0xff, &[0, 0, 0, 0, 0, 0, 0, 5]), not_minimal(5)),
        (header(0x81, 0xff, &[0, 0, 0, 0, 0, 0, 0xff, 0xff]), not_minimal(0xffff)),
        (header(0x81, 0xff, &[0x80, 0, 0, 0, 0, 0, 0, 0]), Violation::LengthTopBit),
        (header(0x81, 0xff, &[0xff; 8]), Violation::LengthTopBit),
        (frame(Close, &[3]), Violation::HalfCloseCode),
        (close(1000, &[0xff]), Violation::NotUtf8),
        (close(1000, &[0xc3]), Violation::NotUtf8),
    ] {
        let outcome = decode_every_way(Role::Server, MAX, &input);
        assert_eq!(outcome, (vec![], Err(violation)), "{:x?}", &input[..input.len().min(40)]);
        // The same after a message.
        let later = [frame(Text, b"first"), input].concat();
        assert_eq!(decode_every_way(Role::Server, MAX, &later), (vec![heard_text("first")], Err(violation)));
    }
}

#[test]
fn a_header_fails_with_the_byte_that_breaks_it() {
    for (input, violation) in [
        (&[0xc1, 0x80][..], Violation::ReservedBits { bits: 0b100 }),
        (&[0x81, 0], Violation::Unmasked),
        (&[0x89, 0xfe], Violation::LongControl),
        (&[0x88, 0x81], Violation::HalfCloseCode),
        (&[0x81, 0xfe, 0, 9], Violation::LengthNotMinimal { bytes: 9 }),
        (
            &[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255],
            Violation::TooBig { bytes: i64::MAX as u64 },
        ),
    ] {
        assert_eq!(decode_every_way(Role::Server, MAX, input), (vec![], Err(violation)), "{input:x?}");
        let short = &input[..input.len() - 1];
        assert_eq!(decode_every_way(Role::Server, MAX, short), (vec![], Ok(())), "{input:x?}");
    }
}

#[test]
fn close_codes_are_those_that_may_stand_in_a_frame() {
    for (codes, valid) in [
        (0..=999, false),
        (1000..=1003, true),
        (1004..=1006, false),
        (1007..=1014, true),
        (1015..=2999, false),
        (3000..=4999, true),
        (5000..=u16::MAX, false),
    ] {
        for code in codes {
            let expected = match valid {
                true => (vec![Heard::Close(Some((code, "why".to_owned())))], Ok(())),
                false => (vec![], Err(Violation::CloseCode { code })),
            };
            assert_eq!(decode(Role::Server, MAX, [&close(code, b"why")[..]]), expected);
        }
    }
    let cut = decode_every_way(Role::Server, MAX, &close(1006, b"why"));
    assert_eq!(cut, (vec![], Err(Violation::CloseCode { code: 1006 })));
}

#[test]
fn text_fails_with_its_first_wrong_byte() {
    // Autobahn 6.3 and 6.4: good text, then the first bytes of what no continuation can make a character.
    for wrong in [&[0xf4, 0x90][..], &[0xed, 0xa0], &[0xc0], &[0xff], &[0xe0, 0x80], &[0x80], &[0xc3, b'x']] {
        let payload = ["κόσμε".as_bytes(), wrong, b"unseen"].concat();
        let seen = "κόσμε".len() + wrong.len();
        // In one frame, and with every fragmentation into two.
        for cut in 0..=payload.len() {
            let (first, second) = payload.split_at(cut);
            let (first, second) = (fragment(Opcode::Text, first), frame(Opcode::Continuation, second));
            let end = if cut >= seen { 6 + seen } else { 6 + cut + 6 + seen - cut };
            let input = [first, second].concat();
            assert_eq!(decode_every_way(Role::Server, MAX, &input), (vec![], Err(Violation::NotUtf8)));
            assert_eq!(decode_every_way(Role::Server, MAX, &input[..end]), (vec![], Err(Violation::NotUtf8)));
            assert_eq!(
                decode_every_way(Role::Server, MAX, &input[..end - 1]),
                (vec![], Ok(())),
                "{wrong:x?} {cut}"
            );
        }
        let input = frame(Opcode::Text, &payload);
        assert_eq!(decode_every_way(Role::Server, MAX, &input), (vec![], Err(Violation::NotUtf8)));
        assert_eq!(
            decode_every_way(Role::Server, MAX, &input[..6 + seen]),
            (vec![], Err(Violation::NotUtf8))
        );
        assert_eq!(
            decode_every_way(Role::Server, MAX, &input[..6 + seen - 1]),
            (vec![], Ok(())),
            "{wrong:x?}"
        );
    }
}

#[test]
fn text_that_ends_inside_a_character_is_refused() {
    use Opcode::{Continuation, Text};
    for input in [
        frame(Text, &[b'a', 0xe2, 0x82]),
        [fragment(Text, &[0xe2, 0x82]), frame(Continuation, b"")].concat(),
        [fragment(Text, b"a"), fragment(Continuation, &[0xe2]), frame(Continuation, &[0x82])].concat(),
    ] {
        assert_eq!(
            decode_every_way(Role::Server, MAX, &input),
            (vec![], Err(Violation::NotUtf8)),
            "{input:x?}"
        );
    }
}

#[test]
fn the_size_of_a_message_counts_over_its_fragments() {
    use Opcode::{Binary, Continuation, Ping, Text};
    let max = 200;
    for (frames, expected) in [
        (vec![frame(Text, &[b'x'; 200])], (vec![heard_text(&"x".repeat(200))], Ok(()))),
        (vec![frame(Text, &[b'x'; 201])], (vec![], Err(Violation::TooBig { bytes: 201 }))),
        (
            vec![fragment(Binary, &[1; 100]), frame(Ping, &[0; 125]), frame(Continuation, &[1; 100])],
            (vec![Heard::Ping(vec![0; 125]), Heard::Binary(vec![1; 200])], Ok(())),
        ),
        (
            vec![fragment(Binary, &[1; 200]), fragment(Continuation, &[]), frame(Continuation, &[1])],
            (vec![], Err(Violation::TooBig { bytes: 201 })),
        ),
        (
            vec![fragment(Text, b"x"), header(0x80, 0xff, &[0x7f, 255, 255, 255, 255, 255, 255, 255])],
            (vec![], Err(Violation::TooBig { bytes: 1 << 63 })),
        ),
    ] {
        assert_eq!(decode_every_way(Role::Server, max, &frames.concat()), expected);
    }
    // Control frames have their own bound.
    assert_eq!(
        decode_every_way(Role::Server, 0, &frame(Ping, b"x")),
        (vec![Heard::Ping(vec![b'x'])], Ok(()))
    );
}

#[test]
fn empty_fragments_are_counted() {
    let empty = fragment(Opcode::Continuation, b"");
    let with = |empties: u16| {
        let start = fragment(Opcode::Text, b"x");
        [start, empty.repeat(empties.into()), frame(Opcode::Continuation, b"")].concat()
    };
    // A new message counts anew.
    let allowed = [with(EMPTY_FRAGMENTS_MAX), with(EMPTY_FRAGMENTS_MAX)].concat();
    assert_eq!(
        decode_every_way(Role::Server, MAX, &allowed),
        (vec![heard_text("x"), heard_text("x")], Ok(()))
    );
    let refused = with(EMPTY_FRAGMENTS_MAX + 1);
    assert_eq!(decode_every_way(Role::Server, MAX, &refused), (vec![], Err(Violation::EmptyFragments)));
}

#[test]
fn memory_follows_what_arrived_and_not_what_was_announced() {
    let announced = (i64::MAX as u64).to_be_bytes();
    let mut decoder = Decoder::new(Role::Server);
    let mut heard = Vec::new();
    feed(&mut decoder, &header(0x82, 0xff, &announced), usize::MAX, &mut heard).unwrap();
    for _ in 0..100 {
        feed(&mut decoder, &[7; 1000], usize::MAX, &mut heard).unwrap();
    }
    let kept = decoder.kept_bytes();
    assert!((100_000..=200_000).contains(&kept), "{kept}");
    assert_eq!(heard, []);
}

#[test]
fn nothing_is_kept_between_messages() {
    use Opcode::{Continuation, Ping, Text};
    let mut decoder = Decoder::new(Role::Server);
    let mut heard = Vec::new();
    for (part, kept) in [
        (frame(Text, b"whole"), false),
        (frame(Text, b"cut")[..1].to_vec(), true),
        (frame(Text, b"cut")[1..].to_vec(), false),
        (frame(Text, b"cut")[..7].to_vec(), true),
        (frame(Text, b"cut")[7..].to_vec(), false),
        (frame(Ping, b"cut")[..7].to_vec(), true),
        (frame(Ping, b"cut")[7..].to_vec(), false),
        (fragment(Text, b"a"), true),
        (frame(Ping, b"whole"), true),
        (frame(Continuation, b"b"), false),
        (fragment(Text, b"a"), true),
        (frame(Opcode::Close, b""), false),
        (fragment(Text, b"a"), false),
    ] {
        feed(&mut decoder, &part, MAX, &mut heard).unwrap();
        assert_eq!(decoder.partial.is_some(), kept, "{part:x?}");
    }
    assert_eq!(heard.len(), 7);
}

#[test]
fn a_whole_frame_is_decoded_where_it_lies() {
    // The second stands inside a fragmented message.
    for (before, opcode) in [(vec![], Opcode::Text), (fragment(Opcode::Text, b"a"), Opcode::Ping)] {
        let mut input = [before, frame(opcode, b"Hello")].concat();
        let lies = input.as_ptr_range();
        let mut rest = &mut input[..];
        let mut decoder = Decoder::new(Role::Server);
        let payload = match decoder.next(&mut rest, MAX) {
            Ok(Some(Message::Text(text))) => text.as_bytes(),
            Ok(Some(Message::Ping(bytes))) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(payload, b"Hello");
        assert!(lies.contains(&payload.as_ptr()), "{opcode:?}");
    }
}

#[test]
fn each_violation_has_its_close_code() {
    for (violation, reason) in [
        (Violation::Unmasked, CloseReason::ProtocolViolation),
        (Violation::CloseCode { code: 1005 }, CloseReason::ProtocolViolation),
        (Violation::EmptyFragments, CloseReason::ProtocolViolation),
        (Violation::NotUtf8, CloseReason::NotUtf8),
        (Violation::TooBig { bytes: 1 << 40 }, CloseReason::MessageTooBig),
    ] {
        assert_eq!(violation.close_reason(), reason, "{violation}");
    }
}

/// One message as a client may send it: where it is cut into fragments, and the pings before each of them.
#[derive(Clone, Debug)]
struct Sent {
    message: Heard,
    mask: [u8; 4],
    cuts: Vec<prop::sample::Index>,
    pings: Vec<Option<Vec<u8>>>,
}

impl Sent {
    fn any() -> impl Strategy<Value = Self> {
        let control = || prop::collection::vec(any::<u8>(), 0..=125);
        let message = prop_oneof![
            4 => ".{0,300}".prop_map(Heard::Text),
            2 => prop::collection::vec(any::<u8>(), 0..700).prop_map(Heard::Binary),
            1 => (65_530..65_540_usize).prop_map(|bytes| Heard::Binary(vec![0xa5; bytes])),
            1 => control().prop_map(Heard::Ping),
            1 => control().prop_map(Heard::Pong),
        ];
        let pings = prop::collection::vec(prop::option::weighted(0.3, control()), 6);
        (message, any::<[u8; 4]>(), prop::collection::vec(any::<prop::sample::Index>(), 0..5), pings)
            .prop_map(|(message, mask, cuts, pings)| Self { message, mask, cuts, pings })
    }

    /// Appends its frames to `wire` and what they mean to `heard`.
    fn encode(&self, wire: &mut Vec<u8>, heard: &mut Vec<Heard>) {
        let (opcode, payload) = match &self.message {
            Heard::Text(text) => (Opcode::Text, text.as_bytes()),
            Heard::Binary(bytes) => (Opcode::Binary, &bytes[..]),
            Heard::Ping(bytes) => (Opcode::Ping, &bytes[..]),
            Heard::Pong(bytes) => (Opcode::Pong, &bytes[..]),
            Heard::Close(_) => unreachable!("not generated"),
        };
        let mut ends: Vec<usize> = match self.message {
            Heard::Text(_) | Heard::Binary(_) => {
                self.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect()
            }
            Heard::Ping(_) | Heard::Pong(_) | Heard::Close(_) => Vec::new(),
        };
        ends.sort_unstable();
        ends.push(payload.len());
        let mut start = 0;
        for (at, end) in ends.iter().enumerate() {
            if let Some(ping) = &self.pings[at] {
                wire.extend(client_frame(Opcode::Ping, ping, self.mask));
                heard.push(Heard::Ping(ping.clone()));
            }
            let opcode = if at == 0 { opcode } else { Opcode::Continuation };
            let mut frame = client_frame(opcode, &payload[start..*end], self.mask);
            if at + 1 < ends.len() {
                frame[0] &= 0x7f;
            }
            wire.extend(frame);
            start = *end;
        }
        heard.push(self.message.clone());
    }
}

/// Cuts `wire` where the indices say.
fn cut<'a>(wire: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(wire.len());
    let mut start = 0;
    ends.iter().map(|end| &wire[std::mem::replace(&mut start, *end)..*end]).collect()
}

/// A frame that may break any rule: likely first bytes, any payload, sometimes the wrong length.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81_u8, 0x01, 0x80, 0x00, 0x82, 0x02, 0x89, 0x8a]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        3 => ".{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    (first, payload, any::<[u8; 4]>(), prop::option::weighted(0.05, any::<u8>())).prop_map(
        |(first, payload, mask, second)| {
            let mut frame = client_frame(Opcode::Text, &payload, mask);
            frame[0] = first;
            frame[1] = second.unwrap_or(frame[1]);
            frame
        },
    )
}

proptest! {
    #[test]
    fn what_is_sent_is_heard_however_it_is_cut(
        sent in prop::collection::vec(Sent::any(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (mut wire, mut expected) = (Vec::new(), Vec::new());
        for sent in &sent {
            sent.encode(&mut wire, &mut expected);
        }
        prop_assert_eq!(decode(Role::Server, MAX, cut(&wire, &cuts)), (expected, Ok(())));
    }

    #[test]
    fn broken_streams_fail_alike_however_they_are_cut(
        frames in prop::collection::vec(any_frame(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        max in 0..400_usize,
    ) {
        let wire = frames.concat();
        let whole = decode(Role::Server, max, [&wire[..]]);
        prop_assert_eq!(&decode(Role::Server, max, cut(&wire, &cuts)), &whole);
        prop_assert_eq!(&decode(Role::Server, max, wire.chunks(1)), &whole);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), max in any::<usize>()) {
        for role in [Role::Server, Role::Client] {
            let whole = decode(role, max, [&bytes[..]]);
            prop_assert_eq!(&decode(role, max, bytes.chunks(1)), &whole);
        }
    }

    #[test]
    fn a_decoder_keeps_no_more_than_twice_what_arrived(
        frames in prop::collection::vec(any_frame(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let wire = frames.concat();
        let mut decoder = Decoder::new(Role::Server);
        let mut arrived = 0;
        for part in cut(&wire, &cuts) {
            arrived += part.len();
            if feed(&mut decoder, part, usize::MAX, &mut Vec::new()).is_err() {
                break;
            }
            let kept = decoder.partial.as_ref().map_or(0, |partial| partial.buffer.capacity());
            prop_assert!(kept <= (2 * arrived).max(8), "{kept} bytes kept of {arrived}");
        }
    }
}
