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
