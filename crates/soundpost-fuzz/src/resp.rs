//! What Redis answers: bytes of a peer that is trusted, but may be something else than Redis.

use bytes::BytesMut;
use soundpost_server::adapter::redis::wire::resp::{Decoder, Reply, RespError, pack};

use crate::Outcome;

/// The first byte says how long the pieces are that the rest comes in.
pub fn resp(data: &[u8]) -> Outcome {
    let Some((piece, bytes)) = data.split_first() else { return Outcome::Refused };
    let whole = read(bytes, bytes.len());
    assert_eq!(whole, read(bytes, usize::from(*piece)), "{data:x?}");
    let error = match whole {
        Ok(replies) => {
            replies.iter().for_each(again);
            return if replies.is_empty() { Outcome::Refused } else { Outcome::Accepted };
        }
        Err(error) => error,
    };
    assert!(!error.to_string().contains('\n'), "{error:?}");
    Outcome::Refused
}

/// All replies, from pieces of this length.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Reply>, RespError> {
    let (mut decoder, mut buffer, mut replies) = (Decoder::new(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        while let Some(reply) = decoder.next(&mut buffer)? {
            replies.push(reply);
        }
        assert!(buffer.len() <= bytes.len(), "{bytes:x?}");
    }
    Ok(replies)
}

/// Texts that came as a command does come back from the command that is packed of them.
fn again(reply: &Reply) {
    let Reply::Array(items) = reply else { return };
    let words: Option<Vec<&[u8]>> =
        items.iter().map(|item| if let Reply::Bulk(text) = item { Some(&**text) } else { None }).collect();
    let Some(words) = words else { return };
    let mut packed = BytesMut::new();
    pack(&mut packed, &words);
    assert_eq!(read(&packed, packed.len()).as_deref(), Ok(std::slice::from_ref(reply)));
}
