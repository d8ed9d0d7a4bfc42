//! The scripts by themselves: what they do to a real Redis.

mod bench;
mod history;
mod queue;
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
fn an_event_stands_in_the_streams_as_soon_as_it_is_heard() {
    let store = Store::start();
    let mut scripts = Scripts::load(&store);
    let other = HOOK.replace("ff}", "ee}");
    let [stream, spoilt] = [HOOK, &other].map(|base| format!("{base}q"));
    let words: [&[u8]; 5] = [b"message", b"client_event", b"private-c", b"{}", b"2f.1"];
    let tell = |scripts: &mut Scripts, hooks: &[&str]| -> u64 {
        let hooks = hooks.iter().map(|base| base.as_bytes());
        scripts.run(Script::Tell, &["topic"], &words.into_iter().chain(hooks).collect::<Vec<_>>())
    };
    assert_eq!(tell(&mut scripts, &[HOOK, &other]), 1);
    let entry = ["k", "client_event", "c", "private-c", "j", "{}", "i", "2f.1"];
    for stream in [&stream, &spoilt] {
        let entries: Entries = scripts.say(&format!("XRANGE {stream} - +"));
        assert_eq!((entries.len(), &entries[0].1[..]), (1, &entry.map(str::to_owned)[..]));
    }
    // A stream that does not take it is no reason not to publish it, nor not to tell the others.
    scripts.say::<()>(&format!("SET {spoilt} x"));
    let mut ear = store.connect();
    let mut ear = ear.as_pubsub();
    ear.subscribe("topic").unwrap();
    assert_eq!(tell(&mut scripts, &[HOOK, &other]), 0);
    assert_eq!(ear.get_message().unwrap().get_payload::<String>().unwrap(), "message");
    assert_eq!(scripts.say::<u64>(&format!("XLEN {stream}")), 2);
}
