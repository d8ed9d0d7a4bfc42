//! What else may answer, said by a server of the test: what a real one says too seldom, and in pieces.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread::JoinHandle,
};

use soundpost_server::config::{RedisServers, RedisSettings};

use super::{block_on, connect, redis::local, refusal};

/// Answers every command on two connections with what `answer` makes of its first word, byte for byte in a write of
/// its own.
fn serve(answer: fn(&str) -> Vec<u8>) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve_one = move |listener: TcpListener| {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        std::thread::spawn(move || {
            let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                heard.extend_from_slice(&buffer[..bytes]);
                for word in ["CLIENT", "INFO", "ROLE", "PING"] {
                    let needle = format!("${}\r\n{word}\r\n", word.len());
                    let Some(at) = heard.windows(needle.len()).position(|part| part == needle.as_bytes())
                    else {
                        continue;
                    };
                    heard.drain(..at + needle.len());
                    for byte in answer(word) {
                        if stream.write_all(&[byte]).is_err() {
                            return;
                        }
                    }
                }
            }
        });
        listener
    };
    let thread = std::thread::spawn(move || drop(serve_one(serve_one(listener))));
    (port, thread)
}

fn info(version: &str, run: &str) -> Vec<u8> {
    let text = format!("# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\nrun_id:{run}\r\n");
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// As a good master does.
fn good(word: &str) -> Vec<u8> {
    match word {
        "INFO" => info("7.0.0", "run"),
        "ROLE" => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    }
}

fn refused(answer: fn(&str) -> Vec<u8>, expected: &str) {
    let (port, thread) = serve(answer);
    let error = refusal(&RedisSettings::new(RedisServers::Standalone(local(port))));
    assert!(error.starts_with(&format!("redis at 127.0.0.1:{port}: {expected}")), "{error}");
    // It may still wait for the second connection, which was dropped before it came.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)));
    drop(thread.join());
}

#[test]
fn replies_that_come_byte_by_byte_are_understood() {
    let (port, thread) = serve(good);
    let masters = block_on(connect(&RedisSettings::new(RedisServers::Standalone(local(port))))).unwrap();
    assert_eq!(masters[0].run_id, "run");
    thread.join().unwrap();
}

#[test]
fn what_is_wrong_is_said_with_what_to_change() {
    refused(
        |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        "not the protocol of Redis: a reply begins with",
    );
    refused(
        |_| b"\x15\x03\x01\0\x02\x02\x46".to_vec(),
        "it speaks TLS; write rediss:// in front of its address",
    );
    refused(
        |_| b"-DENIED Redis is running in protected mode because ...\r\n".to_vec(),
        "it is in protected mode and lets in its own host alone",
    );
    refused(
        |word| if word == "INFO" { info("6.0.16", "run") } else { good(word) },
        "it is version 6.0.16; 6.2 or newer is needed for its scripts and ACL rules of topics",
    );
    refused(
        |word| if word == "PING" { b"-LOADING Redis is loading\r\n".to_vec() } else { good(word) },
        "it is still loading its data",
    );
    refused(
        |word| if word == "PING" { b"-MASTERDOWN Link with MASTER is down\r\n".to_vec() } else { good(word) },
        "it is a replica of another server",
    );
    refused(
        |word| if word == "ROLE" { b"-ERR unknown command 'ROLE'\r\n".to_vec() } else { good(word) },
        r#"it says "ERR unknown command 'ROLE'" to ROLE"#,
    );
    refused(|word| if word == "INFO" { b"$-1\r\n".to_vec() } else { good(word) }, "its reply to INFO cannot");
}

#[test]
fn two_servers_behind_one_address_are_noticed() {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static RUN: AtomicU32 = AtomicU32::new(0);
    refused(
        |word| {
            if word == "INFO" { info("7.0.0", &RUN.fetch_add(1, Relaxed).to_string()) } else { good(word) }
        },
        "two connections lead to two servers",
    );
}
