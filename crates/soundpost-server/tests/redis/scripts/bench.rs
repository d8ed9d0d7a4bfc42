//! A channel, the lives that have shares of it, and the webhooks that want to know.

use redis_client::{Value, cmd};
use soundpost_protocol::{
    cluster::share::{Entry, field},
    presence::{Member, UserId},
    socket_id::SocketId,
};
use soundpost_server::adapter::redis::Script;

use super::{Entries, Scripts, Store};

/// A webhook that wants all, and one that wants members alone.
pub(super) const HOOKS: [&str; 2] = ["N:{one/@webhook/a}:", "N:{one/@webhook/b}:"];
/// So long that it is never over while a test runs.
pub(super) const LONG: u64 = 1_000_000;

/// One channel in a store of its own.
pub(super) struct Bench {
    pub(super) scripts: Scripts,
    pub(super) base: String,
    channel: &'static str,
    flags: &'static str,
    letters: [&'static str; 2],
    pub(super) hold: u64,
    pub(super) pause: u64,
    /// The app has webhooks.
    pub(super) wants: bool,
    is_sharded: bool,
    _store: Store,
}

pub(super) fn life(number: u64) -> String {
    format!("{number:016x}")
}

pub(super) fn entry(socket: u64, user: &str) -> (Vec<u8>, Vec<u8>) {
    let socket_id = SocketId { left: socket, right: 1 };
    let member = Member { user_id: UserId::from_text(user), user_info: Some("{}".into()) };
    let entry = Entry { socket_id, joined_at: 1, member: member.into() };
    (field(socket_id).to_vec(), entry.value())
}

/// What a script has answered: its first word, and the first number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) word: String,
    pub(super) wait: Option<i64>,
}

impl Bench {
    pub(super) fn presence() -> Self {
        Self::new("presence-room", "cm", ["ovar", "ar"], false)
    }

    pub(super) fn counting() -> Self {
        Self::new("orders", "cn", ["ovn", "n"], false)
    }

    pub(super) fn sharded() -> Self {
        Self::new("presence-room", "cm", ["ovar", "ar"], true)
    }

    fn new(channel: &'static str, flags: &'static str, letters: [&'static str; 2], is_sharded: bool) -> Self {
        let store = Store::start();
        let scripts = Scripts::load_for(&store, is_sharded);
        let base = format!("N:{{one/{channel}}}:");
        let (hold, pause) = (LONG, LONG);
        Self { scripts, base, channel, flags, letters, hold, pause, wants: true, is_sharded, _store: store }
    }

    pub(super) fn key(&self, kind: &str) -> String {
        format!("{}{kind}", self.base)
    }

    pub(super) fn wanted(&self) -> String {
        if !self.wants {
            return String::new();
        }
        let Self { flags, hold, pause, channel, letters, .. } = self;
        let [a, b] = letters;
        format!("{flags} {hold} {pause} {channel}\n{a} {}\n{b} {}", HOOKS[0], HOOKS[1])
    }

    fn keys(&self, life: &str) -> [String; 5] {
        [format!("s:{life}"), "l".into(), format!("d:{life}"), "t".into(), "u".into()]
            .map(|kind| self.key(&kind))
    }

    fn run(&mut self, script: Script, keys: &[String], arguments: &[&[u8]]) -> Said {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let answer: Vec<Value> = self.scripts.run(script, &keys, arguments);
        let word = redis_client::from_redis_value(answer[0].clone()).unwrap();
        let is_change = matches!(script, Script::Change);
        let number = |part: &Value| if let Value::Int(number) = part { Some(*number) } else { None };
        let mut numbers = answer.iter().filter_map(number);
        Said { word, wait: numbers.nth(usize::from(is_change)) }
    }

    /// `set`, `del` or `count`.
    pub(super) fn change(
        &mut self,
        life: &str,
        [sequence, follows]: [u64; 2],
        verb: &str,
        (field, value): (&[u8], &[u8]),
    ) -> Said {
        let (base, wants) = (self.base.clone(), self.wanted());
        let numbers = [sequence, follows].map(|number| format!("{number:016x}"));
        let [sequence, follows] = numbers.each_ref().map(String::as_bytes);
        let arguments: [&[u8]; 10] = [
            life.as_bytes(),
            sequence,
            follows,
            verb.as_bytes(),
            field,
            value,
            b"",
            b"60000",
            base.as_bytes(),
            wants.as_bytes(),
        ];
        self.run(Script::Change, &self.keys(life), &arguments)
    }

    pub(super) fn join(&mut self, life: &str, numbers: [u64; 2], socket: u64, user: &str) -> Said {
        let (field, value) = entry(socket, user);
        self.change(life, numbers, "set", (&field, &value))
    }

    pub(super) fn leave(&mut self, life: &str, numbers: [u64; 2], socket: u64) -> Said {
        let (field, _) = entry(socket, "");
        self.change(life, numbers, "del", (&field, b""))
    }

    pub(super) fn count(&mut self, life: &str, sequence: u64, count: u64) -> Said {
        self.change(life, [sequence, 0], "count", (b"", count.to_string().as_bytes()))
    }

    /// `entries`: socket and user of each. `confirmed`: what was, how many connections, who has gone. `count`: where
    /// there are no members.
    pub(super) fn replace(
        &mut self,
        life: &str,
        sequence: u64,
        predecessors: &[String],
        entries: &[(u64, String)],
        confirmed: (&str, u64, &[&str]),
        count: Option<u64>,
    ) -> Said {
        let (base, wants) = (self.base.clone(), self.wanted());
        let texts = [
            format!("{sequence:016x}"),
            confirmed.1.to_string(),
            count.map(|count| count.to_string()).unwrap_or_default(),
            predecessors.len().to_string(),
            confirmed.2.len().to_string(),
        ];
        let [sequence, confirmed_count, count, lives, gone] = texts.each_ref().map(String::as_bytes);
        let mut arguments: Vec<&[u8]> = vec![life.as_bytes(), sequence, b"", b"60000", b"600000"];
        arguments.extend([base.as_bytes(), wants.as_bytes(), confirmed.0.as_bytes(), confirmed_count]);
        arguments.extend([count, lives, b"0", gone]);
        arguments.extend(predecessors.iter().map(String::as_bytes));
        arguments.extend(confirmed.2.iter().map(|user| user.as_bytes()));
        let entries: Vec<_> = entries.iter().map(|(socket, user)| entry(*socket, user)).collect();
        arguments.extend(entries.iter().flat_map(|(field, value)| [&field[..], &value[..]]));
        self.run(Script::Replace, &self.keys(life), &arguments)
    }

    pub(super) fn reap(&mut self, life: &str) -> Said {
        let (base, wants) = (self.base.clone(), self.wanted());
        let arguments: [&[u8]; 5] = [life.as_bytes(), b"", b"600000", base.as_bytes(), wants.as_bytes()];
        self.run(Script::Reap, &self.keys(life), &arguments)
    }

    pub(super) fn finish(&mut self) -> Option<i64> {
        self.finish_as("1", 0).0
    }

    /// What is still held, and what is to be carried by this life.
    pub(super) fn finish_as(&mut self, life: &str, carried: usize) -> (Option<i64>, Vec<String>) {
        let keys = ["h", "l", "o"].map(|kind| self.key(kind));
        let keys = keys.each_ref().map(String::as_str);
        let (base, wants, carried) = (self.base.clone(), self.wanted(), carried.to_string());
        let arguments: [&[u8]; 5] =
            [base.as_bytes(), wants.as_bytes(), life.as_bytes(), carried.as_bytes(), b"2000"];
        let answer: Vec<Value> = self.scripts.run(Script::Finish, &keys, &arguments);
        assert!(self.is_sharded || answer.len() == 1);
        let wait = redis_client::from_redis_value::<i64>(answer[0].clone()).unwrap();
        let items = answer.get(1).map(|items| redis_client::from_redis_value(items.clone()).unwrap());
        (Some(wait).filter(|wait| *wait >= 0), items.unwrap_or_default())
    }

    /// Time passes until all that is held is due.
    pub(super) fn let_pass(&mut self) {
        let held = self.key("h");
        for what in self.scripts.query::<Vec<Vec<u8>>>(cmd("ZRANGE").arg(&held).arg(0).arg(-1)) {
            let mut earlier = cmd("ZINCRBY");
            self.scripts.query::<()>(earlier.arg(&held).arg(-10_000_000_i64).arg(what));
        }
    }

    /// The events of both webhooks that were told since the last call.
    pub(super) fn told(&mut self) -> [Vec<String>; 2] {
        HOOKS.map(|hook| {
            let entries: Entries = self.scripts.say(&format!("XRANGE {hook}q - +"));
            self.scripts.say::<()>(&format!("DEL {hook}q {hook}m"));
            let mut told = Vec::new();
            for (_, fields) in entries {
                let [k, kind, c, channel, j, json] = fields.try_into().unwrap();
                assert_eq!([&k, &c, &j, &channel], ["k", "c", "j", self.channel]);
                assert!(json.starts_with(&format!(r#"{{"name":"{kind}","channel":"{channel}""#)));
                told.push(json);
            }
            told
        })
    }
}

impl Scripts {
    pub(super) fn query<T: redis_client::FromRedisValue>(&mut self, command: &redis_client::Cmd) -> T {
        command.query(&mut self.connection).unwrap()
    }
}
