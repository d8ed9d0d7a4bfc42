//! The scripts by themselves: what they do to a real Redis.

mod bench;
mod history;
mod told;

use redis_client::{Connection, cmd};
use soundpost_server::adapter::redis::Script;

use super::Store;

const HOOK: &str = "soundpost:0:reverb:{one/@webhook/00000000000000ff}:";

/// One connection, on which each script is loaded once.
struct Scripts {
    connection: Connection,
    digests: Vec<String>,
}

impl Scripts {
    fn load(store: &Store) -> Self {
        Self::load_for(store, false)
    }

    fn load_for(store: &Store, is_sharded: bool) -> Self {
        let mut connection = store.connect();
        let mut load = |script: Script| {
            cmd("SCRIPT").arg("LOAD").arg(script.text(is_sharded)).query(&mut connection).unwrap()
        };
        let digests = Script::ALL.into_iter().map(&mut load).collect();
        Self { connection, digests }
    }

    fn run<T: redis_client::FromRedisValue>(
        &mut self,
        script: Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> T {
        let mut command = cmd("EVALSHA");
        command.arg(&self.digests[script as usize]).arg(keys.len()).arg(keys).arg(arguments);
        command.query(&mut self.connection).unwrap()
    }

    fn say<T: redis_client::FromRedisValue>(&mut self, words: &str) -> T {
        let mut words = words.split(' ');
        cmd(words.next().unwrap()).arg(words.collect::<Vec<_>>()).query(&mut self.connection).unwrap()
    }

    fn add(&mut self, events: &[[&[u8]; 4]]) {
        let arguments: Vec<&[u8]> =
            [HOOK.as_bytes()].into_iter().chain(events.iter().flatten().copied()).collect();
        self.run::<()>(Script::Add, &[&format!("{HOOK}q")], &arguments);
    }
}

type Entries = Vec<(String, Vec<String>)>;

#[test]
fn the_oldest_events_of_a_webhook_make_room() {
    let store = Store::start();
    let mut scripts = Scripts::load(&store);
    for chunk in (0..10_003).collect::<Vec<_>>().chunks(500) {
        let numbers: Vec<_> = chunk.iter().map(|number| format!("{number:05}")).collect();
        let event = |number: &'_ String| -> [Vec<u8>; 4] {
            ["cache_miss", "c", number, ""].map(|text| text.as_bytes().to_vec())
        };
        let events: Vec<_> = numbers.iter().map(event).collect();
        let events: Vec<[&[u8]; 4]> =
            events.iter().map(|event| event.each_ref().map(Vec::as_slice)).collect();
        scripts.add(&events);
    }
    let fill = format!("HGETALL {HOOK}m");
    assert_eq!(scripts.say::<u64>(&format!("XLEN {HOOK}q")), 10_000);
    let mut filled: Vec<String> = scripts.say(&fill);
    filled.sort();
    assert_eq!(filled, ["3", "50000", "bytes", "lost"]);
    let first: Entries = scripts.say(&format!("XRANGE {HOOK}q - + COUNT 1"));
    assert_eq!(first[0].1, ["k", "cache_miss", "c", "c", "j", "00003"]);
    scripts.say::<()>(&format!("DEL {HOOK}q"));
    let large = "x".repeat(3 << 20);
    for number in 0..7 {
        let id = format!("2f.{number}");
        scripts.add(&[[b"client_event", b"c", large.as_bytes(), id.as_bytes()]]);
    }
    let kept: Entries = scripts.say(&format!("XRANGE {HOOK}q - +"));
    let ids: Vec<_> = kept.iter().map(|(_, fields)| fields[7].as_str()).collect();
    assert_eq!(ids, ["2f.2", "2f.3", "2f.4", "2f.5", "2f.6"]);
    let mut filled: Vec<String> = scripts.say(&fill);
    filled.sort();
    assert_eq!(filled, ["15728640", "5", "bytes", "lost"], "a stream that was empty had no bytes");
    scripts.add(&[[b"client_event", b"c", "x".repeat(17 << 20).as_bytes(), b""]]);
    assert_eq!(scripts.say::<u64>(&format!("XLEN {HOOK}q")), 1, "one that is too large is alone");
    for kind in ["q", "m"] {
        let milliseconds: u64 = scripts.say(&format!("PTTL {HOOK}{kind}"));
        assert!((86_300_000..=86_400_000).contains(&milliseconds), "{milliseconds}");
    }
}
