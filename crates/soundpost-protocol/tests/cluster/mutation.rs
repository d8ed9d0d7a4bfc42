//! Rules broken on purpose, to see that the simulation notices.

use std::cell::Cell;

/// A rule of the adapter's half that is broken. Those of the channel's own half are broken by hand in its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// What is dead may speak again.
    NoTombstones,
    /// A lease that is missing is death, whatever else.
    HastyDeath,
    /// A life goes on though its lease has run out.
    StubbornLife,
    /// Notices that come before the shares were read are thrown away.
    DeafWhileReading,
    /// After an outage everybody is news.
    StormOnReturn,
}

thread_local! {
    static BROKEN: Cell<Option<Mutation>> = const { Cell::new(None) };
}

pub(crate) fn is_broken(mutation: Mutation) -> bool {
    BROKEN.get() == Some(mutation)
}

pub(crate) fn break_rule(mutation: Option<Mutation>) {
    BROKEN.set(mutation);
}
