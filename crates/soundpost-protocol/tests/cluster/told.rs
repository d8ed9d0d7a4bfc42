//! What the store tells an app's webhooks, as the adapter's scripts will: arrivals at once, departures once they have lasted
//! for 3 s, neither if both belong together.

use std::collections::{BTreeMap, BTreeSet};

use soundpost_protocol::{
    cluster::channel::{Confirmed, KnownUser},
    presence::UserId,
};

use crate::mutation::{Mutation, is_broken};

const HOLD: u64 = 3000;

/// The departures that are held, by when they are due. They are as old as the data of the store.
pub(crate) type Held = BTreeMap<String, u64>;

/// What the app was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Who is there.
    pub(crate) present: BTreeSet<String>,
    /// Of these it was told again what it knew.
    pub(crate) repeated: BTreeSet<(String, bool)>,
    /// Who was there before the store went away and when it came back: of them nothing is news.
    pub(crate) settled: BTreeSet<String>,
    pub(crate) count: u64,
}

impl Told {
    fn tell(&mut self, user: &str, is_added: bool) {
        self.count += 1;
        let is_news = if is_added { self.present.insert(user.to_owned()) } else { self.present.remove(user) };
        assert!(is_news || !is_added || !self.settled.contains(user), "{user} has come, but was there");
        if !is_news {
            self.repeated.insert((user.to_owned(), is_added));
        }
    }

    /// What is due is told.
    pub(crate) fn finish(&mut self, now: u64, held: &mut Held) {
        let due: Vec<_> = held.iter().filter(|(_, due)| **due <= now).map(|(user, _)| user.clone()).collect();
        for user in due {
            held.remove(&user);
            self.tell(&user, false);
        }
    }

    /// A script has made these of those. `quiet`: who is no news.
    pub(crate) fn change(
        &mut self,
        now: u64,
        held: &mut Held,
        [before, after]: [&[UserId]; 2],
        quiet: &BTreeSet<String>,
    ) {
        for user in before.iter().filter(|user| !after.contains(user)) {
            held.insert(user.as_str().to_owned(), now + HOLD);
        }
        for user in after.iter().filter(|user| !before.contains(user)) {
            let user = user.as_str();
            if held.remove(user).is_none() && !quiet.contains(user) {
                self.tell(user, true);
            }
        }
    }
}

/// Who is no news when a share is replaced: what the cluster had confirmed, unless another node has taken it away since.
pub(crate) fn quiet(
    confirmed: Option<&Confirmed>,
    users: &[UserId],
    is_forgotten: bool,
    was_reaped: bool,
) -> BTreeSet<String> {
    let Some(confirmed) = confirmed.filter(|_| !was_reaped && !is_broken(Mutation::StormOnReturn)) else {
        return BTreeSet::new();
    };
    let is_quiet = |known: &KnownUser| match known {
        KnownUser::No => false,
        KnownUser::Elsewhere => is_forgotten,
        KnownUser::Here => true,
    };
    let known = users.iter().zip(&confirmed.users).filter(|(_, known)| is_quiet(known));
    known.map(|(user, _)| user.as_str().to_owned()).collect()
}
