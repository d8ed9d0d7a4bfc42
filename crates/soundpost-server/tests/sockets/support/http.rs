//! An HTTP/1.1 client over one connection that it keeps.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::{DEADLINE, Wire};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

pub(crate) struct Http {
    stream: Wire,
    input: Vec<u8>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::on(stream)
    }

    /// On a socket of any kind that is connected already.
    pub(crate) fn on(stream: impl Into<Wire>) -> Self {
        let stream = stream.into();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream, input: Vec::new() }
    }

    /// The socket, to go on with in another protocol.
    pub(crate) fn into_stream(self) -> Wire {
        self.stream
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.request("GET", target, b"")
    }

    pub(crate) fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Reply {
        self.request_with(method, target, "", body)
    }

    /// With further lines of the head.
    pub(crate) fn request_with(&mut self, method: &str, target: &str, headers: &str, body: &[u8]) -> Reply {
        let length = match body.len() {
            0 => String::new(),
            length => format!("content-length: {length}\r\n"),
        };
        let head = format!("{method} {target} HTTP/1.1\r\nhost: test\r\n{headers}{length}\r\n");
        self.send_raw(&[head.as_bytes(), body].concat());
        self.reply(method == "HEAD")
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends as much as the server takes: it may answer before it has read all.
    pub(crate) fn send_while_taken(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next reply; one to a `HEAD` has no body, whatever its length says.
    #[track_caller]
    pub(crate) fn reply(&mut self, to_head: bool) -> Reply {
        let end = loop {
            match self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(end) => break end,
                None => assert!(self.fill(), "the server closed without a reply"),
            }
        };
        let head = String::from_utf8(self.input[..end].to_vec()).unwrap();
        self.input.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        let headers = lines.map(header).collect();
        let mut reply = Reply { status, headers, body: String::new() };
        if !to_head {
            let length = reply.header("content-length").expect("every reply says its length");
            let length: usize = length.parse().unwrap();
            while self.input.len() < length {
                assert!(self.fill(), "the server closed inside a reply");
            }
            reply.body = String::from_utf8(self.input.drain(..length).collect()).unwrap();
        }
        reply
    }

    /// Takes the leave to send a body that `expect: 100-continue` asks for.
    #[track_caller]
    pub(crate) fn expect_continue(&mut self) {
        let expected = b"HTTP/1.1 100 Continue\r\n\r\n";
        while self.input.len() < expected.len() {
            assert!(self.fill(), "the server closed without leave to send");
        }
        assert_eq!(self.input.drain(..expected.len()).collect::<Vec<_>>(), expected);
    }

    /// Reads more; false at the end.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut bytes = vec![0; 64 << 10];
        let count = self.stream.read(&mut bytes).unwrap();
        self.input.extend_from_slice(&bytes[..count]);
        count > 0
    }

    /// The server closes of its own accord and says nothing more.
    pub(crate) fn expect_end(&mut self) {
        assert!(!self.fill(), "the server says more");
        assert_eq!(self.input, b"");
    }
}
