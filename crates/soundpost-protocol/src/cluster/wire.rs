//! Numbers and texts in the binary form that nodes use among themselves: big-endian, lengths in front.

use super::message::MessageError;
use crate::{presence::NodeId, socket_id::SocketId};

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn array<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], MessageError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(MessageError::Truncated)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, MessageError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, MessageError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn node(&mut self) -> Result<NodeId, MessageError> {
        self.u64().map(NodeId)
    }

    pub(super) fn socket_id(&mut self) -> Result<SocketId, MessageError> {
        Ok(SocketId { left: self.u64()?, right: self.u64()? })
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], MessageError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(MessageError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// So many bytes of UTF-8.
    pub(super) fn text(&mut self, count: usize) -> Result<&'a str, MessageError> {
        str::from_utf8(self.bytes(count)?).map_err(|_| MessageError::NotText)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Nothing may be left.
    pub(super) const fn end(self) -> Result<(), MessageError> {
        if self.0.is_empty() { Ok(()) } else { Err(MessageError::TooLong) }
    }
}

pub(super) fn push_socket_id(out: &mut Vec<u8>, socket_id: SocketId) {
    out.extend_from_slice(&socket_id.left.to_be_bytes());
    out.extend_from_slice(&socket_id.right.to_be_bytes());
}

/// Appends a text of at most 65,535 bytes with its length; a longer one is cut at a character.
pub(super) fn push_text(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
