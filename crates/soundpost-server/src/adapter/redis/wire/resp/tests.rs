use proptest::prelude::*;

use super::*;

/// All replies in `bytes`, which come in pieces that end at `cuts`; then what is left in the buffer.
fn read(bytes: &[u8], cuts: &[usize]) -> Result<(Vec<Reply>, usize), RespError> {
    let (mut decoder, mut buffer, mut replies) = (Decoder::new(), BytesMut::new(), Vec::new());
    let mut begin = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let end = end.clamp(begin, bytes.len());
        buffer.extend_from_slice(&bytes[begin..end]);
        begin = end;
        while let Some(reply) = decoder.next(&mut buffer)? {
            assert!(decoder.is_between_replies());
            replies.push(reply);
        }
    }
    Ok((replies, buffer.len()))
}

fn write(reply: &Reply, out: &mut Vec<u8>) {
    let line = |kind: char, text: &[u8], out: &mut Vec<u8>| {
        out.push(kind as u8);
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
    };
    match reply {
        Reply::Simple(text) => line('+', text, out),
        Reply::Error(text) => line('-', text, out),
        Reply::Integer(number) => line(':', number.to_string().as_bytes(), out),
        Reply::Nil => line('$', b"-1", out),
        Reply::Bulk(text) => {
            line('$', text.len().to_string().as_bytes(), out);
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Array(items) => {
            line('*', items.len().to_string().as_bytes(), out);
            items.iter().for_each(|item| write(item, out));
        }
    }
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn each_kind_is_read() {
    let rows: Vec<(&[u8], Reply)> = vec![
        (b"+OK\r\n", Reply::Simple(Bytes::from_static(b"OK"))),
        (b"+\r\n", Reply::Simple(Bytes::new())),
        (b"-ERR unknown\r\n", Reply::Error(Bytes::from_static(b"ERR unknown"))),
        (b":0\r\n", Reply::Integer(0)),
        (b":-12\r\n", Reply::Integer(-12)),
        (b":+12\r\n", Reply::Integer(12)),
        (b":-9223372036854775808\r\n", Reply::Integer(i64::MIN)),
        (b":9223372036854775807\r\n", Reply::Integer(i64::MAX)),
        (b"$0\r\n\r\n", bulk("")),
        (b"$5\r\nhello\r\n", bulk("hello")),
        (b"$4\r\n\r\n\r\n\r\n", bulk("\r\n\r\n")),
        (b"$-1\r\n", Reply::Nil),
        (b"*-1\r\n", Reply::Nil),
        (b"*0\r\n", Reply::Array(vec![])),
        (b"*2\r\n:1\r\n$-1\r\n", Reply::Array(vec![Reply::Integer(1), Reply::Nil])),
        (b"*2\r\n*1\r\n*0\r\n+a\r\n", {
            let inner = Reply::Array(vec![Reply::Array(vec![])]);
            Reply::Array(vec![inner, Reply::Simple(Bytes::from_static(b"a"))])
        }),
        (
            b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$2\r\nhi\r\n",
            Reply::Array(vec![bulk("message"), bulk("t"), bulk("hi")]),
        ),
    ];
    for (bytes, reply) in rows {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(read(bytes, &[]), Ok((vec![reply.clone()], 0)), "{shown:?}");
        for cut in 1..bytes.len() {
            assert_eq!(read(&bytes[..cut], &[]).unwrap().0, [], "{shown:?} {cut}");
            assert_eq!(read(bytes, &[cut]), Ok((vec![reply.clone()], 0)), "{shown:?} {cut}");
        }
        assert_eq!(read(&bytes.repeat(3), &[]), Ok((vec![reply; 3], 0)), "{shown:?}");
    }
}

#[test]
fn what_is_no_reply_is_refused() {
    let long_line = format!("+{}\r\n", "a".repeat(LINE_BYTES_MAX));
    let endless = format!("-{}", "a".repeat(LINE_BYTES_MAX));
    let deep = "*1\r\n".repeat(DEPTH_MAX + 1);
    let rows: Vec<(&[u8], RespError)> = vec![
        (b"HTTP/1.1 400 Bad Request\r\n", RespError::Kind { found: b'H' }),
        (b"\x15\x03\x03\0\x02", RespError::Kind { found: 0x15 }),
        (b"\r\n", RespError::Kind { found: b'\r' }),
        (b"+OK\n", RespError::Ending),
        (b"+\n", RespError::Ending),
        (b"$2\r\nabc\r\n", RespError::Ending),
        (b"$2\r\nab\n\r", RespError::Ending),
        (b":\r\n", RespError::Number),
        (b":1.5\r\n", RespError::Number),
        (b":-\r\n", RespError::Number),
        (b":--1\r\n", RespError::Number),
        (b":9223372036854775808\r\n", RespError::Number),
        (b"$\xff\r\n", RespError::Number),
        (b"$-2\r\n", RespError::LongBulk { bytes: -2 }),
        (b"$536870913\r\n", RespError::LongBulk { bytes: 536_870_913 }),
        (b"*-2\r\n", RespError::LongArray { length: -2 }),
        (b"*16777217\r\n", RespError::LongArray { length: 16_777_217 }),
        (long_line.as_bytes(), RespError::LongLine),
        (endless.as_bytes(), RespError::LongLine),
        (deep.as_bytes(), RespError::Deep),
    ];
    for (bytes, expected) in rows {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert_eq!(read(bytes, &[]), Err(expected), "{shown:?}");
        assert!(!expected.to_string().contains('\n'));
    }
    assert!(read(format!("+{}\r\n", "a".repeat(LINE_BYTES_MAX - 2)).as_bytes(), &[]).is_ok());
    assert!(read(&deep.as_bytes()[..deep.len() - 4], &[]).is_ok());
}

/// The counter stands for what came before in the same reply.
#[test]
fn a_reply_that_takes_too_much_is_refused_when_its_next_part_is_announced() {
    let text = 1000;
    for (before, is_refused) in
        [(0, false), (REPLY_BYTES_MAX - text - size_of::<Reply>(), false), (REPLY_BYTES_MAX - text, true)]
    {
        let mut decoder = Decoder { taken: before, ..Decoder::new() };
        let result = decoder.next(&mut BytesMut::from("$1000\r\n"));
        assert_eq!(result, if is_refused { Err(RespError::LongReply) } else { Ok(None) }, "{before}");
    }
}

#[test]
fn what_is_only_announced_takes_no_memory() {
    let mut decoder = Decoder::new();
    let mut buffer = BytesMut::from("*16777216\r\n*16777216\r\n$536870912\r\nabc");
    assert_eq!(decoder.next(&mut buffer), Ok(None));
    assert!(buffer.is_empty(), "what came is taken out");
    assert!(decoder.open.iter().all(|open| open.items.capacity() <= ELEMENTS_FORESEEN));
    assert!(decoder.bulk.unwrap().gathered.capacity() <= BYTES_FORESEEN);
}

#[test]
fn a_long_text_in_pieces_gets_memory_of_its_own_and_no_more_than_it_needs() {
    let text = vec![b'x'; 3_000_001];
    let mut whole = format!("${}\r\n", text.len()).into_bytes();
    whole.extend_from_slice(&text);
    whole.extend_from_slice(b"\r\n");
    let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::new());
    let mut pieces = whole.chunks(16 << 10).peekable();
    while let Some(piece) = pieces.next() {
        buffer.extend_from_slice(piece);
        let reply = decoder.next(&mut buffer).unwrap();
        assert!(buffer.len() <= 2);
        if let Some(bulk) = &decoder.bulk {
            assert!(bulk.gathered.capacity() <= text.len());
        }
        assert_eq!(reply.is_some(), pieces.peek().is_none());
        assert!(reply.is_none_or(|reply| reply == Reply::Bulk(Bytes::from(text.clone()))));
    }
}

#[test]
fn a_short_text_does_not_hold_the_buffer_and_a_long_one_is_not_copied() {
    for (bytes, is_copied) in [(1, true), (COPIED_BELOW - 1, true), (COPIED_BELOW, false), (10_000, false)] {
        let mut buffer = BytesMut::with_capacity(16 << 10);
        buffer.extend_from_slice(format!("${bytes}\r\n{}\r\n", "x".repeat(bytes)).as_bytes());
        let read = buffer.as_ptr_range();
        let Ok(Some(Reply::Bulk(text))) = Decoder::new().next(&mut buffer) else { panic!("{bytes}") };
        assert_eq!(read.contains(&text.as_ptr()), !is_copied, "{bytes}");
    }
}

/// Were it quadratic, this would take minutes.
#[test]
fn a_line_and_a_text_that_come_byte_by_byte_are_looked_at_once() {
    let mut bytes = format!("+{}\r\n", "a".repeat(LINE_BYTES_MAX - 2)).into_bytes();
    bytes.extend_from_slice(format!("$1000000\r\n{}\r\n", "b".repeat(1_000_000)).as_bytes());
    let cuts: Vec<_> = (0..bytes.len()).collect();
    let (replies, left) = read(&bytes, &cuts).unwrap();
    assert_eq!((replies.len(), left), (2, 0));
}

#[test]
fn a_command_is_an_array_of_texts() {
    let rows: [(&[&[u8]], &[u8]); 3] = [
        (&[b"PING"], b"*1\r\n$4\r\nPING\r\n"),
        (&[b"SET", b"k", b""], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n"),
        (
            &[b"ECHO", b"a\r\n\0", b"1234567890"],
            b"*3\r\n$4\r\nECHO\r\n$4\r\na\r\n\0\r\n$10\r\n1234567890\r\n",
        ),
    ];
    for (words, expected) in rows {
        let mut out = BytesMut::from("before");
        pack(&mut out, words);
        assert_eq!(&out[6..], expected, "{words:?}");
    }
}

#[test]
fn lengths_are_written_in_full() {
    for length in [0, 9, 10, 99, 100, 65_535, usize::MAX] {
        let mut out = BytesMut::new();
        announce(&mut out, b'*', length);
        assert_eq!(out, format!("*{length}\r\n"));
    }
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let text = || {
        let short = proptest::collection::vec(any::<u8>(), 0..20);
        let long = (COPIED_BELOW - 3..3 * COPIED_BELOW, any::<u8>()).prop_map(|(n, byte)| vec![byte; n]);
        prop_oneof![8 => short, 1 => long].prop_map(Bytes::from)
    };
    let line = || "[A-Za-z0-9 ]{0,30}".prop_map(Bytes::from);
    let leaf = prop_oneof![
        line().prop_map(Reply::Simple),
        line().prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Integer),
        text().prop_map(Reply::Bulk),
        Just(Reply::Nil),
    ];
    // An array in the innermost place would be one too deep.
    leaf.prop_recursive(DEPTH_MAX as u32, 60, 5, |inner| {
        proptest::collection::vec(inner, 0..5).prop_map(Reply::Array)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        replies in proptest::collection::vec(any_reply(), 0..6),
        mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        replies.iter().for_each(|reply| write(reply, &mut bytes));
        let mut cuts: Vec<_> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(read(&bytes, &[]), Ok((replies.clone(), 0)));
        prop_assert_eq!(read(&bytes, &cuts), Ok((replies, 0)));
    }

    #[test]
    fn packed_words_come_back(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 1..9)) {
        let mut out = BytesMut::new();
        pack(&mut out, &words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let words = words.into_iter().map(|word| Reply::Bulk(Bytes::from(word))).collect();
        prop_assert_eq!(read(&out, &[]), Ok((vec![Reply::Array(words)], 0)));
    }

    #[test]
    fn no_bytes_are_too_much(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'),
        Just(b'*'), Just(b'$'), Just(b'1'), Just(b'-')], 0..200), cut in 0_usize..200) {
        let whole = read(&bytes, &[]);
        prop_assert_eq!(whole, read(&bytes, &[cut]));
    }
}
